/**
 * The state that follows from several states of a room. The conflict is found from the changes between the states, and its
 * auth difference from the edges of auth chains, so that the cost is in proportion to the conflict and not to the room.
 *
 * Source: "State resolution" of the room versions.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { authDifference } from "@greenroom/room/AuthChains"
import { type StateConflict, stateKeyOf } from "@greenroom/room/RoomVersion"
import { fullConflictedSet } from "@greenroom/room/StateConflict"
import { AuthChainStore } from "@greenroom/store/AuthChainStore"
import type { CommitFailed, StaleWriter } from "@greenroom/store/EventLog"
import type { StateId, StateRef } from "@greenroom/store/StateStore"
import { Effect, Option } from "effect"
import type { RoomEvents } from "./RoomEvents.ts"
import type { RoomState } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"
import { nameOf, type StateChanges, type StateValue, sameRef } from "./StateBranches.ts"

/** A state at a point of the graph: a stored one with changes that have still to be written. */
export interface PointState {
  readonly ref: StateRef
  readonly changes: StateChanges
}

/**
 * The agreements and conflicts of several states, among the keys that one of them or the current state changes of the base.
 */
interface Comparison {
  readonly agreed: Map<string, StateValue>
  readonly conflicted: ReadonlyMap<string, ReadonlyArray<EventId>>
  /** The states that hold each event in conflict: bit `n` stands for the state number `n`. */
  readonly heldBy: ReadonlyMap<EventId, bigint>
  readonly ids: ReadonlyMap<EventId, StateId>
}

export const makeRoomResolution = Effect.fnUntraced(function* (writer: RoomWriter, roomEvents: RoomEvents) {
  const { states } = writer
  const { bodiesOf, bodyAt, edgesOf, known, loadEdges, noteEdges, powerLevelsBefore, settled } = roomEvents
  const chains = yield* AuthChainStore

  // States in memory

  /** Compares a state whole, where it has no past in common with the others. */
  const compareWhole = Effect.fnUntraced(function* (room: RoomState, ref: StateRef) {
    const whole = yield* states.readIds(ref)
    const changes = new Map<string, StateValue>()
    for (const [key, value] of whole) if (room.chains.valueAtBase(key)?.id !== value.id) changes.set(key, value)
    const changed = room.chains.branches.of(room.ref!)?.keys() ?? []
    for (const key of new Set([...room.current.keys(), ...changed])) {
      if (!whole.has(key) && room.chains.valueAtBase(key) !== undefined) changes.set(key, undefined)
    }
    room.chains.branches.add(ref, changes)
  })

  /** The base's values of the keys that the current state changes. */
  const loadBaseValues = Effect.fnUntraced(function* (room: RoomState, changes: StateChanges) {
    const { branches } = room.chains
    const base = branches.base!
    const keys = [...changes.keys()].filter((key) => !branches.knowsAtBase(key))
    const values = yield* states.readKeys(base, keys)
    for (const key of keys) branches.setAtBase(key, values.get(key))
  })

  /** Brings states into memory, the current one with them, as changes of a base that all of them come from. */
  const load = Effect.fnUntraced(function* (room: RoomState, wanted: ReadonlyArray<StateRef>) {
    const { branches } = room.chains
    const current = room.ref!
    const refs = [...wanted, current]
    const missing = refs.filter((ref) => branches.of(ref) === undefined)
    yield* settled(room)
    const nearer = branches.base === undefined ? Option.none() : yield* states.divergence(missing, branches.base)
    const found = Option.isSome(nearer) ? nearer : yield* states.divergence(refs)
    if (Option.isNone(found)) {
      branches.begin(room.ref!)
      for (const ref of wanted) if (branches.of(ref) === undefined) yield* compareWhole(room, ref)
      return
    }
    const { base, changes } = found.value
    const added = Option.isSome(nearer) ? missing : refs
    if (!sameRef(base, branches.base)) branches.begin(base)
    added.forEach((ref, index) => void branches.add(ref, changes[index]!))
    const ofCurrent = branches.of(current)
    if (ofCurrent !== undefined) yield* loadBaseValues(room, ofCurrent)
  })

  /** Makes sure that the states can be read and continued. The current state may change during this. */
  const ensure = Effect.fnUntraced(function* (
    room: RoomState,
    given: Iterable<StateRef>
  ): Effect.fn.Return<void, StaleWriter | CommitFailed> {
    const refs = [...new Map(Array.from(given, (ref) => [nameOf(ref), ref])).values()]
    if (refs.every((ref) => sameRef(ref, room.ref))) return
    const ends = refs.filter((ref) => !room.chains.knowsEnd(ref)).map(({ chain }) => chain)
    if (ends.length > 0) room.chains.noteEnds(yield* states.ends(ends))
    while ([...refs, room.ref!].some((ref) => room.chains.branches.of(ref) === undefined)) yield* load(room, refs)
  })

  const valueAt = (room: RoomState, { changes, ref }: PointState, key: string): StateValue =>
    changes.has(key) ? changes.get(key) : room.chains.valueAt(ref, key)

  /** The changes of each state against the base. */
  const changesOf = (room: RoomState, { changes, ref }: PointState): StateChanges => {
    const ofRef = room.chains.branches.of(ref)!
    return changes.size === 0 ? ofRef : new Map([...ofRef, ...changes])
  }

  const compare = (room: RoomState, points: ReadonlyArray<PointState>): Comparison => {
    const all = (1n << BigInt(points.length)) - 1n
    const ids = new Map<EventId, StateId>()
    const holders = new Map<string, Map<EventId | undefined, bigint>>()
    const note = (key: string, value: StateValue, states: bigint) => {
      if (value !== undefined) ids.set(value.id, value)
      const ofKey = holders.get(key)
      if (ofKey === undefined) holders.set(key, new Map([[value?.id, states]]))
      else ofKey.set(value?.id, (ofKey.get(value?.id) ?? 0n) | states)
    }
    points.forEach((point, n) => {
      for (const [key, value] of changesOf(room, point)) note(key, value, 1n << BigInt(n))
    })
    for (const key of room.chains.branches.of(room.ref!)!.keys())
      if (!holders.has(key)) note(key, room.chains.valueAtBase(key), all)
    const agreed = new Map<string, StateValue>()
    const conflicted = new Map<string, ReadonlyArray<EventId>>()
    const heldBy = new Map<EventId, bigint>()
    for (const [key, ofKey] of holders) {
      let holding = 0n
      for (const states of ofKey.values()) holding |= states
      if (holding !== all) note(key, room.chains.valueAtBase(key), all & ~holding)
      if (ofKey.size === 1) {
        const [id] = ofKey.keys()
        agreed.set(key, id === undefined ? undefined : ids.get(id))
        continue
      }
      const inConflict: Array<EventId> = []
      for (const [id, states] of ofKey) {
        if (id === undefined) continue
        inConflict.push(id)
        heldBy.set(id, (heldBy.get(id) ?? 0n) | states)
      }
      conflicted.set(key, inConflict)
    }
    return { agreed, conflicted, heldBy, ids }
  }

  // The intersection of the auth chains

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
    if (frontier.length > 0) yield* settled(room)
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

  // Resolving

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
    const comparison = compare(room, points)
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

  return { ensure, valueAt, resolve }
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
