/**
 * The states at an event of a room: the one before it, the part of it that decides about the event, and what the current
 * state becomes when the event joins the forward extremities. An event that follows the current state costs no reads.
 *
 * Source: docs/federation.md, "Receiving a PDU".
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { type EventProposal, type StateLookup, stateKeyOf } from "@greenroom/room/RoomVersion"
import type { CommitFailed, StaleWriter } from "@greenroom/store/EventLog"
import type { StateId, StateRef } from "@greenroom/store/StateStore"
import { Effect } from "effect"
import type { RoomEvents } from "./RoomEvents.ts"
import type { RoomResolution } from "./RoomResolution.ts"
import type { Extremity, KnownEvent, RoomState } from "./RoomState.ts"
import { nameOf, noChanges, type StateChanges, type StateValue, sameRef } from "./StateBranches.ts"
import { type PointState, valueAt } from "./StateComparison.ts"

/** A state: IDs and numbers of its events. */
export type IdMap = ReadonlyMap<string, StateId>

/** The change of one key of the current state. The number of the event itself is not known before it is placed. */
export interface PlannedChange {
  readonly key: string
  readonly known: KnownEvent | "itself" | undefined
}

export const makeEventStates = (roomEvents: RoomEvents, { ensure, resolve }: RoomResolution) => {
  const pointOf = (ref: StateRef): PointState => ({ ref, changes: noChanges })

  /** A state from another server, as changes of the current one. */
  const pointOfGiven = (room: RoomState, given: IdMap): PointState => {
    const changes = new Map<string, StateValue>()
    for (const [key, value] of given) if (room.current.valueOf(key)?.id !== value.id) changes.set(key, value)
    for (const key of room.current.keys()) if (!given.has(key)) changes.set(key, undefined)
    return { ref: room.ref!, changes }
  }

  /** The state that follows from the states after several events: the current one if these are all forward extremities. */
  const stateAfter = Effect.fnUntraced(function* (room: RoomState, afters: ReadonlyArray<StateRef>) {
    const refs = [...new Map(afters.map((ref) => [nameOf(ref), ref])).values()]
    if (refs.length === 1) return pointOf(refs[0]!)
    if (isCurrent(room, refs)) return pointOf(room.ref!)
    return yield* resolvedFrom(room, refs[0]!, refs.slice(1).map(pointOf))
  })

  /** Resolves a stored state with others, as changes of the stored one. */
  const resolvedFrom = Effect.fnUntraced(function* (room: RoomState, ref: StateRef, others: ReadonlyArray<PointState>) {
    const changes = new Map<string, StateValue>()
    for (const [key, value] of yield* resolve(room, [pointOf(ref), ...others])) {
      if (room.chains.valueAt(ref, key)?.id !== value?.id) changes.set(key, value)
    }
    return { ref, changes } satisfies PointState
  })

  /**
   * The state before an event by what another server says, resolved with what follows from those of its predecessors that are
   * known: the other server does not decide alone, since the event may be the only forward extremity then.
   */
  const stateByOther = Effect.fnUntraced(function* (
    room: RoomState,
    event: Event,
    around: ReadonlyMap<EventId, KnownEvent>,
    given: IdMap
  ) {
    const said = pointOfGiven(room, given)
    const afters = event.prev_events.flatMap((id) => around.get(id)?.after ?? [])
    const [first, ...others] = [...new Map(afters.map((ref) => [nameOf(ref), ref])).values()]
    return first === undefined ? said : yield* resolvedFrom(room, first, [said, ...others.map(pointOf)])
  })

  const stateBefore = Effect.fnUntraced(function* (room: RoomState, event: Event, around: Map<EventId, KnownEvent>) {
    const afters = event.prev_events.map((id) => around.get(id)?.after)
    return afters.length === 0 || afters.includes(undefined)
      ? undefined
      : yield* stateAfter(room, afters as ReadonlyArray<StateRef>)
  })

  /** Looks up the part of a state that decides about an event. */
  const lookupIn = Effect.fnUntraced(function* (room: RoomState, event: EventProposal, point: PointState) {
    if (point.changes.size === 0 && sameRef(point.ref, room.ref)) return room.lookup
    yield* ensure(room, [point.ref])
    const ids = new Map<string, EventId>()
    for (const [type, stateKey] of room.version.decidingKeys(event)) {
      const id = valueAt(room, point, stateKeyOf(type, stateKey))?.id
      if (id !== undefined) ids.set(stateKeyOf(type, stateKey), id)
    }
    const found = yield* roomEvents.bodiesOf(room, ids.values())
    const lookup: StateLookup = (type, stateKey) => found.get(ids.get(stateKeyOf(type, stateKey))!)
    return lookup
  })

  /** The state event that an event replaces. */
  const replacedBy = Effect.fnUntraced(function* (room: RoomState, event: Event, before: PointState) {
    const { state_key, type } = event
    if (state_key === undefined) return undefined
    if (before.changes.size === 0 && sameRef(before.ref, room.ref)) return room.lookup(type, state_key)
    yield* ensure(room, [before.ref])
    const id = valueAt(room, before, stateKeyOf(type, state_key))?.id
    return id === undefined ? undefined : (yield* roomEvents.bodiesOf(room, [id])).get(id)
  })

  /** The change of the current state when the event joins the forward extremities. */
  const currentChanges = Effect.fnUntraced(function* (
    room: RoomState,
    event: Event,
    before: PointState,
    others: ReadonlyArray<Extremity>
  ): Effect.fn.Return<ReadonlyArray<PlannedChange>, StaleWriter | CommitFailed> {
    const key = event.state_key === undefined ? undefined : stateKeyOf(event.type, event.state_key)
    const isFromCurrent = before.changes.size === 0 && sameRef(before.ref, room.ref)
    if (isFromCurrent && others.length === 0) return key === undefined ? [] : [{ key, known: "itself" }]
    const afters = others.map(({ after }) => after)
    if (key === undefined && before.changes.size === 0 && isCurrent(room, [before.ref, ...afters])) return []
    const changes: StateChanges =
      key === undefined ? before.changes : new Map([...before.changes, [key, { id: event.event_id, nid: Number.NaN }]])
    const resolved = yield* resolve(room, [{ ref: before.ref, changes }, ...afters.map(pointOf)], event)
    return yield* difference(room, resolved, event.event_id)
  })

  const difference = Effect.fnUntraced(function* (room: RoomState, resolved: StateChanges, itself: EventId) {
    const differing = [...resolved].filter(([key, value]) => room.current.valueOf(key)?.id !== value?.id)
    const found = yield* roomEvents.known(
      room,
      differing.flatMap(([, value]) => (value === undefined || value.id === itself ? [] : [value.id]))
    )
    return differing.map(([key, value]) => ({
      key,
      known: value?.id === itself ? ("itself" as const) : value === undefined ? undefined : found.get(value.id)
    }))
  })

  /**
   * The current state that decides about an event. Where it does not know the sender, but the state that another server
   * gave does, the two are resolved first: a membership may be missing here whose signature could not be checked before.
   */
  const currentFor = Effect.fnUntraced(function* (room: RoomState, event: Event, given: PointState | undefined) {
    if (given === undefined || room.lookup("m.room.member", event.sender) !== undefined) return room.lookup
    return yield* lookupIn(room, event, yield* resolvedFrom(room, room.ref!, [given]))
  })

  return { stateAfter, stateBefore, stateByOther, lookupIn, replacedBy, currentChanges, currentFor }
}

export type EventStates = ReturnType<typeof makeEventStates>

/** Whether the states are those after all forward extremities, from which the current state follows. */
const isCurrent = (room: RoomState, refs: ReadonlyArray<StateRef>): boolean => {
  const names = new Set(refs.map(nameOf))
  const all = new Set(room.extremities.map(({ after }) => nameOf(after)))
  return names.size === all.size && [...names].every((name) => all.has(name))
}
