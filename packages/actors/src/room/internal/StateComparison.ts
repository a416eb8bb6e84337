/**
 * Several states of a room as changes of one that all of them come from, and the keys in which they agree and differ. The cost is in
 * proportion to the changes and not to the room. Used by `RoomResolution`.
 */
import type { EventId } from "@greenroom/protocol/Identifiers"
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
 * The agreements and conflicts of several states, among the keys in which one of them, or the current state, differs from the base.
 */
export interface Comparison {
  readonly agreed: Map<string, StateValue>
  readonly conflicted: ReadonlyMap<string, ReadonlyArray<EventId>>
  /** The states that hold each event in conflict: bit `n` stands for the state number `n`. */
  readonly heldBy: ReadonlyMap<EventId, bigint>
  readonly ids: ReadonlyMap<EventId, StateId>
}

export const valueAt = (room: RoomState, { changes, ref }: PointState, key: string): StateValue =>
  changes.has(key) ? changes.get(key) : room.chains.valueAt(ref, key)

/** The changes of each state against the base. */
const changesOf = (room: RoomState, { changes, ref }: PointState): StateChanges => {
  const ofRef = room.chains.branches.of(ref)!
  return changes.size === 0 ? ofRef : new Map([...ofRef, ...changes])
}

export const compareStates = (room: RoomState, points: ReadonlyArray<PointState>): Comparison => {
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

export const makeStatesInMemory = ({ states }: RoomWriter, { flush }: RoomEvents) => {
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
    yield* flush(room)
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

  return { ensure }
}
