/**
 * Events of other servers on their way into a room: the state before each, the rules, and what the room's current state
 * becomes. An event that follows all that we know costs no more than one of our own; where the graph forks, states are
 * read and resolved.
 *
 * Source: `federation`, "What happens to a PDU that arrives".
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, ServerName } from "@greenroom/protocol/Identifiers"
import { type Refusal, type StateLookup, stateKeyOf } from "@greenroom/room/RoomVersion"
import { resolveStates } from "@greenroom/room/StateConflict"
import { type ClientTransaction, type CommitFailed, EventStatus, type StaleWriter } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import type { StateId, StateRef } from "@greenroom/store/StateStore"
import { Effect } from "effect"
import type { CurrentChange, KnownEvent, RoomState, Step } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"

/** A state by the IDs and numbers of its events. */
export type IdMap = ReadonlyMap<string, StateId>

/** A state at a point of the graph: one that is stored, or one that was resolved and has still to be written. */
type PointState = { readonly ref: StateRef } | { readonly map: IdMap; readonly near: StateRef | undefined }

/** How a received event is to be placed, found out at some generation of the room. */
interface Plan {
  readonly generation: number
  readonly status: EventStatus
  readonly before: PointState
  readonly extremities: RoomState["extremities"]
  /** What becomes of the current state; the number of the event itself stands open as `undefined`. */
  readonly changes: ReadonlyArray<{ readonly key: string; readonly known: KnownEvent | "itself" | undefined }>
  readonly redactions: ReadonlyArray<Event>
  readonly outlier: KnownEvent | undefined
}

/** How an event is placed otherwise than as one that just came. */
export interface PlaceOptions {
  /** The state before it, where its predecessors are not known. */
  readonly given?: IdMap
  /** The number of an event that is history: it stands before what is there, and changes nothing of it. */
  readonly historyNid?: number
  /** The servers that are told of it by us. */
  readonly relayTo?: (room: RoomState) => Iterable<ServerName>
  /** The request that it answers, if it is accepted. */
  readonly answers?: ClientTransaction | undefined
}

export type Placed =
  | { readonly _tag: "Known"; readonly status: EventStatus }
  | { readonly _tag: "Unplaceable"; readonly reason: string }
  | {
      readonly _tag: "Placed"
      readonly status: EventStatus
      readonly refusal: Refusal | undefined
      readonly durable: Effect.Effect<void, StaleWriter | CommitFailed>
    }

const sameRef = (a: StateRef | undefined, b: StateRef | undefined): boolean =>
  a?.chain === b?.chain && a?.seq === b?.seq

/** How many states are kept at hand, for events that fork at the same place. */
const keptStates = 16
/** How often a room may move on under a received event until others have to wait for it. */
const patience = 3

export const makeRoomGraph = Effect.fnUntraced(function* (writer: RoomWriter) {
  const { log, nextChain, nextNid, states, withNids } = writer
  const events = yield* EventStore
  const maps = new Map<string, IdMap>()

  // What is known

  const known = Effect.fnUntraced(function* (room: RoomState, ids: Iterable<EventId>) {
    const found = new Map<EventId, KnownEvent>()
    const wanted: Array<EventId> = []
    for (const id of new Set(ids)) {
      const recent = room.recent.get(id)
      if (recent === undefined) wanted.push(id)
      else found.set(id, recent)
    }
    for (const stored of yield* events.byIds(wanted)) {
      if (stored.roomNid !== room.roomNid) continue
      const { event, status, stateAfter: after, stateBefore: before } = stored
      found.set(event.event_id, { event, nid: stored.position.nid, status, before, after })
    }
    return found
  })

  /** An event and those that it names. Needed ones that are neither at hand nor stored may be in line still. */
  const knownAround = Effect.fnUntraced(function* (room: RoomState, event: Event, needed: ReadonlyArray<EventId>) {
    const ids = [event.event_id, ...event.prev_events, ...event.auth_events]
    const found = yield* known(room, ids)
    if (needed.every((id) => found.has(id))) return found
    yield* log.append(room.commit(room.beginStep()))
    return yield* known(room, ids)
  })

  /** A stored state. What is still in line is waited for, or the read would miss it. */
  const mapOf = Effect.fnUntraced(function* (room: RoomState, ref: StateRef) {
    const name = nameOf(room, ref)
    const kept = maps.get(name)
    if (kept !== undefined) return kept
    yield* log.append(room.commit(room.beginStep()))
    const map: IdMap = yield* states.readIds(ref)
    maps.set(name, map)
    if (maps.size > keptStates) maps.delete(maps.keys().next().value!)
    return map
  })

  const currentMap = (room: RoomState): IdMap =>
    new Map(Array.from(room.current, ([key, { event, nid }]) => [key, { id: event.event_id, nid }]))

  const mapOfPoint = (room: RoomState, point: PointState): Effect.Effect<IdMap, StaleWriter | CommitFailed> =>
    "map" in point
      ? Effect.succeed(point.map)
      : sameRef(point.ref, room.ref)
        ? Effect.succeed(currentMap(room))
        : mapOf(room, point.ref)

  /** The state that follows from several. Events that the resolution asks for are read until it has all of them. */
  const resolve = Effect.fnUntraced(function* (room: RoomState, given: ReadonlyArray<IdMap>, itself?: Event) {
    const [first, ...rest] = given
    if (rest.every((map) => sameIds(first!, map))) return first!
    const byId = new Map<EventId, StateId>()
    const idMaps = given.map((map) => {
      for (const each of map.values()) byId.set(each.id, each)
      return new Map(Array.from(map, ([key, { id }]) => [key, id]))
    })
    const cache = new Map<EventId, Event | undefined>()
    if (itself !== undefined) cache.set(itself.event_id, itself)
    for (;;) {
      const missing = new Set<EventId>()
      const resolved = resolveStates(room.version.stateResolution, idMaps, (id) => {
        if (!cache.has(id)) missing.add(id)
        return cache.get(id)
      })
      if (missing.size === 0) return new Map(Array.from(resolved, ([key, id]) => [key, byId.get(id)!]))
      const found = yield* known(room, missing)
      for (const id of missing) cache.set(id, found.get(id)?.event)
      yield* Effect.yieldNow
    }
  })

  // Finding out where an event goes

  const stateBefore = Effect.fnUntraced(function* (room: RoomState, event: Event, around: Map<EventId, KnownEvent>) {
    const refs: Array<StateRef> = []
    for (const id of event.prev_events) {
      const after = around.get(id)?.after
      if (after === undefined) return undefined
      if (!refs.some((ref) => sameRef(ref, after))) refs.push(after)
    }
    if (refs.length === 1) return { ref: refs[0]! } satisfies PointState
    if (followsAll(room, event)) return { ref: room.ref! } satisfies PointState
    const read = yield* Effect.forEach(refs, (ref) => mapOf(room, ref))
    return { map: yield* resolve(room, read.length === 0 ? [new Map()] : read), near: refs[0] } satisfies PointState
  })

  /** Looks up the part of a state that decides about an event. */
  const lookupIn = Effect.fnUntraced(function* (room: RoomState, event: Event, point: PointState) {
    if ("ref" in point && sameRef(point.ref, room.ref)) return room.lookup
    const map = yield* mapOfPoint(room, point)
    const ids = room.version.authEventKeys(event).flatMap(([type, key]) => map.get(stateKeyOf(type, key))?.id ?? [])
    const found = yield* known(room, ids)
    const lookup: StateLookup = (type, stateKey) => {
      const id = map.get(stateKeyOf(type, stateKey))?.id
      return id === undefined ? undefined : found.get(id)?.event
    }
    return lookup
  })

  /** What the current state becomes when the event joins the forward extremities. */
  const currentChanges = Effect.fnUntraced(function* (
    room: RoomState,
    event: Event,
    before: PointState,
    others: ReadonlyArray<EventId>
  ): Effect.fn.Return<Plan["changes"], StaleWriter | CommitFailed> {
    const key = event.state_key === undefined ? undefined : stateKeyOf(event.type, event.state_key)
    const isFromCurrent = "ref" in before && sameRef(before.ref, room.ref)
    if (isFromCurrent && others.length === 0) return key === undefined ? [] : [{ key, known: "itself" }]
    const afters = [...(yield* known(room, others)).values()].flatMap((each) => each.after ?? [])
    if (key === undefined && isFromCurrent && afters.every((after) => sameRef(after, room.ref))) return []
    const own = new Map(yield* mapOfPoint(room, before))
    if (key !== undefined) own.set(key, { id: event.event_id, nid: Number.NaN })
    const rest = yield* Effect.forEach(afters, (ref) => mapOfPoint(room, { ref }))
    const resolved = yield* resolve(room, [own, ...rest], event)
    return yield* difference(room, resolved, event.event_id)
  })

  const difference = Effect.fnUntraced(function* (room: RoomState, resolved: IdMap, itself: EventId) {
    const differing: Array<readonly [string, EventId | undefined]> = []
    for (const [key, { id }] of resolved) if (room.current.get(key)?.event.event_id !== id) differing.push([key, id])
    for (const key of room.current.keys()) if (!resolved.has(key)) differing.push([key, undefined])
    const found = yield* known(
      room,
      differing.flatMap(([, id]) => (id === undefined || id === itself ? [] : [id]))
    )
    return differing.map(([key, id]) => ({
      key,
      known: id === itself ? ("itself" as const) : id === undefined ? undefined : found.get(id)
    }))
  })

  /** The state events that replaced a redacted one, without what they tell of its content. */
  const toldOf = Effect.fnUntraced(function* (room: RoomState, target: Event) {
    if (target.state_key === undefined) return []
    const [stored] = yield* events.byIds([target.event_id])
    const inLine = [...room.recent.values()].filter((each) => each.event.replaces_state === target.event_id)
    const replacements = [
      ...(stored === undefined ? [] : yield* events.replacementsOf(stored)),
      ...inLine.map((each) => each.event)
    ]
    const prev_content = room.version.redact(target).content
    return replacements
      .filter((each) => each.unsigned?.prev_content !== undefined)
      .map((each): Event => ({ ...each, unsigned: { ...each.unsigned, prev_content } }))
  })

  /** What a redaction strips, and what strips the event because its redaction came first. */
  const redactionsBy = Effect.fnUntraced(function* (room: RoomState, event: Event, lookup: StateLookup) {
    const strip = (target: Event, redaction: Event): Event => ({
      ...room.version.redact(target),
      unsigned: { redacted_because: redaction.event_id }
    })
    const stripped: Array<Event> = []
    if (event.type === "m.room.redaction" && event.redacts !== undefined) {
      const target = (yield* known(room, [event.redacts])).get(event.redacts)?.event
      if (target !== undefined && room.version.authoriseRedaction(event, target, lookup) === undefined) {
        stripped.push(strip(target, event), ...(yield* toldOf(room, target)))
      }
    }
    for (const { event: redaction, roomNid } of yield* events.redactionsOf([event.event_id])) {
      if (roomNid === room.roomNid && room.version.authoriseRedaction(redaction, event, lookup) === undefined) {
        stripped.push(strip(event, redaction))
      }
    }
    return stripped
  })

  const plan = Effect.fnUntraced(function* (room: RoomState, event: Event, { given, historyNid }: PlaceOptions) {
    const { generation } = room
    const needed = given === undefined ? [...event.prev_events, ...event.auth_events] : event.auth_events
    const around = yield* knownAround(room, event, needed)
    const own = around.get(event.event_id)
    if (own !== undefined && own.status !== EventStatus.outlier) return own.status
    // It gets another number: states in line that name it by the old one are written first.
    if (own !== undefined && event.state_key !== undefined) yield* log.append(room.commit(room.beginStep()))
    const authEvents = event.auth_events.flatMap((id) => around.get(id) ?? [])
    if (authEvents.length < event.auth_events.length) return "its auth events are unknown" as const
    const before: PointState | undefined =
      given === undefined ? yield* stateBefore(room, event, around) : { map: given, near: undefined }
    if (before === undefined) return "its predecessors are unknown" as const
    const lookup = yield* lookupIn(room, event, before)
    // A chain that cannot be continued is followed by one that holds all of the state.
    if (event.state_key !== undefined) yield* mapOfPoint(room, before)
    const refusal = authEvents.some((each) => each.status === EventStatus.rejected)
      ? { rule: "An event must not rest on rejected events" }
      : (room.version.authoriseByAuthEvents(
          event,
          authEvents.map((each) => each.event)
        ) ?? room.version.authorise(event, lookup))
    const isHistory = historyNid !== undefined
    const softly = refusal === undefined && !isHistory ? room.version.authorise(event, room.lookup) : undefined
    const status =
      refusal !== undefined
        ? EventStatus.rejected
        : softly !== undefined
          ? EventStatus.softFailed
          : isHistory
            ? EventStatus.backfilled
            : EventStatus.timeline
    const isTaken = status === EventStatus.timeline
    const followed = new Set(event.prev_events)
    const others = room.extremities.filter((each) => !followed.has(each.event_id))
    const changes = isTaken
      ? yield* currentChanges(
          room,
          event,
          before,
          others.map((each) => each.event_id)
        )
      : []
    const planned: Plan = {
      generation,
      status,
      before,
      changes,
      extremities: isTaken ? [...others, { event_id: event.event_id, depth: event.depth }] : room.extremities,
      redactions: isTaken || status === EventStatus.backfilled ? yield* redactionsBy(room, event, lookup) : [],
      outlier: own
    }
    return { planned, refusal: refusal ?? softly }
  })

  // Placing it

  /** Writes a resolved state as changes of the state that it is near to, or whole. */
  const write = (room: RoomState, step: Step, point: PointState): StateRef => {
    if ("ref" in point) return point.ref
    const near = point.near === undefined ? undefined : maps.get(nameOf(room, point.near))
    if (point.near === undefined || near === undefined) return room.beginChain(step, nextChain(), nidsOf(point.map))
    const changes = differences(near, point.map)
    return changes.length === 0
      ? point.near
      : room.advance(step, point.near, changes, nextChain, () => nidsOf(point.map))
  }

  /** The state before the event, as its plan has left it at hand. */
  const mapBefore = (room: RoomState, before: PointState): IdMap =>
    "map" in before ? before.map : (maps.get(nameOf(room, before.ref)) ?? currentMap(room))

  /** Synchronous but for its type: the place of the event in the order of the room. */
  const placeNow = (room: RoomState, event: Event, planned: Plan, options: PlaceOptions) => {
    const { answers, historyNid, relayTo = () => [] } = options
    const step = room.beginStep()
    const nid = planned.status === EventStatus.backfilled ? historyNid! : nextNid()
    const before = write(room, step, planned.before)
    const itself: KnownEvent = { event, nid, status: planned.status, before, after: undefined }
    const after = afterIt(room, step, event, nid, before, planned)
    room.log(step, { ...itself, after }, planned.outlier?.nid)
    const changes = planned.changes.map(
      ({ key, known: entry }): CurrentChange => ({ key, entry: entry === "itself" ? itself : entry })
    )
    // Where the event follows the current state, the state after it is the current state that it makes.
    if (!(changes.length === 1 && changes[0]!.entry === itself && sameRef(after, room.ref))) {
      room.changeCurrent(step, changes, nid, nextChain)
    }
    room.extremities = planned.extremities
    room.sendTo(step, nid, relayTo(room))
    for (const redacted of planned.redactions) room.applyRedaction(redacted)
    const isAnswer = answers !== undefined && planned.status === EventStatus.timeline
    return log.append(room.commit(step, { redactions: planned.redactions, transactions: isAnswer ? [answers] : [] }))
  }

  const afterIt = (
    room: RoomState,
    step: Step,
    event: Event,
    nid: number,
    before: StateRef,
    planned: Plan
  ): StateRef => {
    if (event.state_key === undefined || planned.status === EventStatus.rejected) return before
    const key = stateKeyOf(event.type, event.state_key)
    const entry: KnownEvent = { event, nid, status: planned.status, before, after: undefined }
    if (sameRef(before, room.ref) && planned.changes.length === 1 && planned.changes[0]!.known === "itself") {
      room.changeCurrent(step, [{ key, entry }], nid, nextChain)
      return room.ref!
    }
    const whole = () => nidsOf(mapBefore(room, planned.before)).set(key, nid)
    return room.advance(step, before, [{ key, eventNid: nid }], nextChain, whole)
  }

  /**
   * Places an event that has passed form, signature and hash, and whose predecessors are known (or the state before it
   * is `given`). The room may move on while the plan is made; then it is made again, and in the end others wait.
   */
  const place = (
    room: RoomState,
    event: Event,
    options: PlaceOptions = {}
  ): Effect.Effect<Placed, StaleWriter | CommitFailed> => {
    const attempt: Effect.Effect<Placed | undefined, StaleWriter | CommitFailed> = Effect.gen(function* () {
      const found = yield* plan(room, event, options)
      if (typeof found === "number") return { _tag: "Known", status: found }
      if (typeof found === "string") return { _tag: "Unplaceable", reason: found }
      const { planned, refusal } = found
      const size = planned.changes.length
      return yield* withNids(2 + Math.ceil(size / 1000), () =>
        room.generation === planned.generation
          ? {
              _tag: "Placed" as const,
              status: planned.status,
              refusal,
              durable: placeNow(room, event, planned, options)
            }
          : undefined
      )
    })
    const again = (left: number): Effect.Effect<Placed, StaleWriter | CommitFailed> =>
      Effect.flatMap(left > 0 ? attempt : writer.alone(attempt), (placed) =>
        placed === undefined ? again(left - 1) : Effect.succeed(placed)
      )
    return again(patience)
  }

  return { known, place, mapOf }
})

export type RoomGraph = Effect.Success<ReturnType<typeof makeRoomGraph>>

const followsAll = (room: RoomState, event: Event): boolean =>
  event.prev_events.length === room.extremities.length &&
  room.extremities.every((each) => event.prev_events.includes(each.event_id))

const sameIds = (a: IdMap, b: IdMap): boolean => {
  if (a === b) return true
  if (a.size !== b.size) return false
  for (const [key, { id }] of a) if (b.get(key)?.id !== id) return false
  return true
}

const nidsOf = (map: IdMap): Map<string, number> => new Map(Array.from(map, ([key, { nid }]) => [key, nid]))

/** Numbers of chains are used again by a writer whose commit failed, so a state is named together with its writer. */
const nameOf = (room: RoomState, ref: StateRef): string => `${room.fence}/${ref.chain}/${ref.seq}`

const differences = (from: IdMap, to: IdMap): ReadonlyArray<{ key: string; eventNid: number | null }> => {
  const changes: Array<{ key: string; eventNid: number | null }> = []
  for (const [key, { id, nid }] of to) if (from.get(key)?.id !== id) changes.push({ key, eventNid: nid })
  for (const key of from.keys()) if (!to.has(key)) changes.push({ key, eventNid: null })
  return changes
}
