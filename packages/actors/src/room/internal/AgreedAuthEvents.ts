/**
 * The events that are in the auth chains of all of several states, from the edges of auth chains. What all states agree on is not read:
 * the current state counts how often its events are named as auth events. Used by `RoomResolution`.
 *
 * Source: "State resolution" of the room versions, "auth difference".
 */
import type { EventId } from "@greenroom/protocol/Identifiers"
import { type StateConflict, stateKeyOf } from "@greenroom/room/RoomVersion"
import { AuthChainStore } from "@greenroom/store/AuthChainStore"
import { Effect } from "effect"
import type { RoomEvents } from "./RoomEvents.ts"
import type { RoomState } from "./RoomState.ts"
import type { Comparison } from "./StateComparison.ts"

export const makeAgreedAuthEvents = Effect.fnUntraced(function* (roomEvents: RoomEvents) {
  const { bodiesOf, edgesOf, flush, loadEdges } = roomEvents
  const chains = yield* AuthChainStore

  /** How many of the state events that all states agree on name each event among their auth events. */
  const citations = (room: RoomState, { agreed, conflicted }: Comparison) => {
    const corrections = new Map<EventId, number>()
    const correct = (id: EventId | undefined, by: number) => {
      if (id === undefined) return
      for (const auth of edgesOf(id)) corrections.set(auth, (corrections.get(auth) ?? 0) + by)
    }
    for (const [key, value] of agreed) {
      const current = room.current.valueOf(key)?.id
      if (current === value?.id) continue
      correct(current, -1)
      correct(value?.id, 1)
    }
    for (const key of conflicted.keys()) correct(room.current.valueOf(key)?.id, -1)
    return (id: EventId): number => room.current.citations(id) + (corrections.get(id) ?? 0)
  }

  /** The events, among the given, in the auth chains of the events on which all states agree. */
  const agreedAmong = Effect.fnUntraced(function* (
    room: RoomState,
    candidates: ReadonlySet<EventId>,
    comparison: Comparison,
    unconflicted: StateConflict["unconflicted"]
  ) {
    if (candidates.size === 0) return candidates
    const { agreed, conflicted } = comparison
    yield* loadEdges(
      room,
      [...agreed, ...Array.from(conflicted.keys(), (key) => [key, undefined] as const)].flatMap(([key, value]) =>
        [room.current.valueOf(key)?.id, value?.id].filter((id) => id !== undefined)
      )
    )
    const bodies = yield* bodiesOf(room, candidates)
    const timesCited = citations(room, comparison)
    const isAgreed = (id: EventId): boolean => {
      const event = bodies.get(id)
      const own = event?.state_key === undefined ? undefined : unconflicted(stateKeyOf(event.type, event.state_key))
      return own === id || timesCited(id) > 0
    }
    const found = new Set<EventId>([...candidates].filter(isAgreed))
    const names = yield* restingOn(
      room,
      [...candidates].filter((id) => !found.has(id)),
      isAgreed,
      found
    )
    // The auth events of a relevant event are relevant too.
    for (const id of found) for (const auth of names.get(id) ?? edgesOf(id)) found.add(auth)
    return found
  })

  /** The events that rest on the given ones, up to those that are agreed on, which are added to `found`. */
  const restingOn = Effect.fnUntraced(function* (
    room: RoomState,
    ids: ReadonlyArray<EventId>,
    isAgreed: (id: EventId) => boolean,
    found: Set<EventId>
  ) {
    const names = new Map<EventId, ReadonlyArray<EventId>>()
    const seen = new Set(ids)
    let frontier = ids
    if (frontier.length > 0) yield* flush(room)
    while (frontier.length > 0) {
      const next: Array<EventId> = []
      for (const [id, named] of yield* chains.restingOn(frontier)) {
        names.set(id, [...(names.get(id) ?? []), ...named])
        if (isAgreed(id)) found.add(id)
        else if (!seen.has(id)) next.push(id)
        seen.add(id)
      }
      frontier = next
    }
    return names
  })

  return agreedAmong
})
