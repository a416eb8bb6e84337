/**
 * The state that follows from several states of a room. The conflict is found from the changes between the states
 * (`StateComparison`), and its auth difference from the edges of auth chains (`AgreedAuthEvents`), so that the cost is in proportion to the
 * conflict and not to the room.
 *
 * Source: "State resolution" of the room versions.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { authDifference } from "@greenroom/room/AuthChains"
import type { StateConflict } from "@greenroom/room/RoomVersion"
import { fullConflictedSet } from "@greenroom/room/StateConflict"
import type { CommitFailed, StaleWriter } from "@greenroom/store/EventLog"
import { Effect } from "effect"
import { makeAgreedAuthEvents } from "./AgreedAuthEvents.ts"
import type { RoomEvents } from "./RoomEvents.ts"
import type { RoomState } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"
import { nameOf, type StateChanges, sameRef } from "./StateBranches.ts"
import { type Comparison, compareStates, makeStatesInMemory, type PointState } from "./StateComparison.ts"

export const makeRoomResolution = Effect.fnUntraced(function* (writer: RoomWriter, roomEvents: RoomEvents) {
  const { bodiesOf, bodyAt, edgesOf, known, loadEdges, noteEdges, powerLevelsBefore } = roomEvents
  const { ensure } = makeStatesInMemory(writer, roomEvents)
  const agreedAmong = yield* makeAgreedAuthEvents(roomEvents)

  const conflictOf = Effect.fnUntraced(function* (
    room: RoomState,
    points: ReadonlyArray<PointState>,
    comparison: Comparison
  ) {
    const { agreed, conflicted, heldBy } = comparison
    const { extent } = room.version.stateResolution
    const unconflicted = (key: string): EventId | undefined => {
      if (conflicted.has(key)) return undefined
      return (agreed.has(key) ? agreed.get(key) : room.chains.valueAt(points[0]!.ref, key))?.id
    }
    const inConflict = new Set(heldBy.keys())
    if (extent !== "conflicted") yield* loadEdges(room, [...inConflict])
    const candidates: ReadonlySet<EventId> =
      extent === "conflicted" ? new Set() : authDifference(heldBy, points.length, edgesOf)
    const shared = yield* agreedAmong(room, candidates, comparison, unconflicted)
    const difference = candidates.difference(shared)
    const conflict: StateConflict = {
      conflicted,
      fullConflictedSet: fullConflictedSet(extent, inConflict, difference, edgesOf),
      unconflicted
    }
    return conflict
  })

  /** Runs the resolution on the events in memory, and again with the ones that it missed. */
  const run = Effect.fnUntraced(function* (room: RoomState, conflict: StateConflict, itself: Event | undefined) {
    const at = new Map<EventId, Event | undefined>()
    const fetch = Effect.fnUntraced(function* (ids: Iterable<EventId>) {
      const wanted = [...ids].filter((id) => !at.has(id))
      const found = yield* bodiesOf(room, wanted)
      for (const id of wanted) at.set(id, found.get(id))
    })
    if (itself !== undefined) at.set(itself.event_id, itself)
    yield* fetch(conflict.fullConflictedSet)
    yield* fetch([...at.values()].flatMap((event) => event?.auth_events ?? []))
    for (;;) {
      const missing = new Set<EventId>()
      const resolved = room.version.stateResolution.resolve(conflict, (id) => {
        const event = at.get(id) ?? bodyAt(room, id)
        if (event === undefined && !at.has(id)) missing.add(id)
        return event
      })
      if (missing.size === 0) return resolved
      yield* fetch(missing)
      const levels = [...missing].filter((id) => at.get(id)?.type === "m.room.power_levels")
      for (const event of yield* powerLevelsBefore(room, levels)) at.set(event.event_id, event)
      yield* Effect.yieldNow
    }
  })

  /**
   * Resolves several states: the keys on which one of them or the current state differs from the base, and their values.
   * `itself` is an event that is not stored yet. If the room changes meanwhile, the result may be about no state at all, and
   * `room.generation` has risen.
   */
  const resolve = Effect.fnUntraced(function* (
    room: RoomState,
    given: ReadonlyArray<PointState>,
    itself?: Event
  ): Effect.fn.Return<StateChanges, StaleWriter | CommitFailed> {
    const points = distinct(given)
    yield* ensure(
      room,
      points.map(({ ref }) => ref)
    )
    if (room.chains.branches.of(room.ref!) === undefined) room.chains.branches.begin(room.ref!)
    if (points.every(({ changes, ref }) => changes.size === 0 && sameRef(ref, room.ref))) return new Map()
    const comparison = compareStates(room, points)
    if (comparison.conflicted.size === 0) return comparison.agreed
    if (itself !== undefined) noteEdges(itself)
    const conflict = yield* conflictOf(room, points, comparison)
    const resolved = yield* run(room, conflict, itself)
    const result = new Map(comparison.agreed)
    for (const key of comparison.conflicted.keys()) result.set(key, undefined)
    const others = [...resolved.values()].filter((id) => !comparison.ids.has(id))
    const found = yield* known(room, others)
    for (const [key, id] of resolved) {
      const entry = comparison.ids.get(id) ?? (found.has(id) ? { id, nid: found.get(id)!.nid } : undefined)
      result.set(key, entry)
    }
    return result
  })

  return { ensure, resolve }
})

export type RoomResolution = Effect.Success<ReturnType<typeof makeRoomResolution>>

/** The states, each once. */
const distinct = (points: ReadonlyArray<PointState>): ReadonlyArray<PointState> => {
  const names = new Set<string>()
  return points.filter(({ changes, ref }) => {
    if (changes.size > 0) return true
    const isNew = !names.has(nameOf(ref))
    names.add(nameOf(ref))
    return isNew
  })
}
