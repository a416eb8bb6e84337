/**
 * Events of other servers on their way into a room: the state before each, the rules, and what the room's current state
 * becomes. An event that follows all that we know costs no more than one of our own; where the graph forks, the states are
 * resolved at a cost that follows what the forks have changed.
 *
 * Source: docs/federation.md, "Receiving a PDU".
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, ServerName } from "@greenroom/protocol/Identifiers"
import { isRecommended, needsRecommendation } from "@greenroom/room/RoomPolicy"
import {
  type EventProposal,
  type PduProblem,
  type Refusal,
  type StateLookup,
  stateKeyOf
} from "@greenroom/room/RoomVersion"
import type { SigningKey } from "@greenroom/room/Signing"
import { type ClientTransaction, type CommitFailed, EventStatus, type StaleWriter } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import type { StateId, StateRef } from "@greenroom/store/StateStore"
import { Effect, Result } from "effect"
import type { KnownEvents } from "../RemoteRooms.ts"
import { authContextOf, authIdsOf } from "./AuthContext.ts"
import { withReplaced } from "./ReplacedState.ts"
import { makeRoomEvents } from "./RoomEvents.ts"
import { makeRoomResolution, type PointState } from "./RoomResolution.ts"
import type { CurrentChange, Extremity, KnownEvent, RoomState, Step } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"
import { nameOf, noChanges, type StateChanges, type StateValue, sameRef } from "./StateBranches.ts"

/** A state: IDs and numbers of its events. */
export type IdMap = ReadonlyMap<string, StateId>

/** The plan for placing a received event, made at some generation of the room. */
interface Plan {
  readonly generation: number
  /** The event with what it replaces. */
  readonly event: Event
  readonly status: EventStatus
  readonly before: PointState
  /** The other extremities after it. */
  readonly others: ReadonlyArray<Extremity>
  /** The change of the current state; the number of the event itself is not known yet. */
  readonly changes: ReadonlyArray<{ readonly key: string; readonly known: KnownEvent | "itself" | undefined }>
  readonly redactions: ReadonlyArray<Event>
  readonly outlier: KnownEvent | undefined
  readonly authNids: ReadonlyArray<number>
  readonly afterGap: boolean
}

/** How an event other than a newly received one is placed. */
export interface PlaceOptions {
  /** The state before it, where its predecessors are not known. */
  readonly given?: IdMap
  /** The number of a back-filled event: it is before all others, and does not change them. */
  readonly historyNid?: number
  /** The servers to which this server sends it. */
  readonly relayTo?: (room: RoomState) => Iterable<ServerName>
  /** The request that it answers, if it is accepted. */
  readonly answers?: ClientTransaction | undefined
  /** The rows that were read for this event and the others of its chunk. */
  readonly surveyed?: Survey
}

/** The rows of the store that placing events needs, read for all events together: `survey` makes it, `place` keeps it up to date. */
export interface Survey {
  /** Events that are named, and those themselves. */
  readonly events: Map<EventId, KnownEvent | undefined>
  /** The redactions that strip each of the events. */
  readonly redactions: Map<EventId, ReadonlyArray<Event>>
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

/** How often the room may change while a received event is planned, before other work waits for the event. */
const attemptsBesideOthers = 3

export const makeRoomGraph = Effect.fnUntraced(function* (writer: RoomWriter) {
  const { log, nextChain, nextNid, withNids } = writer
  const events = yield* EventStore
  const roomEvents = yield* makeRoomEvents(writer)
  const { isForeign, known, knownOrInLine, settled } = roomEvents
  const { ensure, resolve, valueAt } = yield* makeRoomResolution(writer, roomEvents)

  // Finding out where an event goes

  const pointOf = (ref: StateRef): PointState => ({ ref, changes: noChanges })

  /** A state from another server, as changes of the current one. */
  const pointOfGiven = (room: RoomState, given: IdMap): PointState => {
    const changes = new Map<string, StateValue>()
    for (const [key, value] of given) if (room.currentValue(key)?.id !== value.id) changes.set(key, value)
    for (const key of room.current.keys()) if (!given.has(key)) changes.set(key, undefined)
    return { ref: room.ref!, changes }
  }

  /** The state that follows from the states after several events: the current one, where these are all that there are. */
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
      if (room.valueAt(ref, key)?.id !== value?.id) changes.set(key, value)
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
  ): Effect.fn.Return<Plan["changes"], StaleWriter | CommitFailed> {
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
    const differing = [...resolved].filter(([key, value]) => room.currentValue(key)?.id !== value?.id)
    const found = yield* known(
      room,
      differing.flatMap(([, value]) => (value === undefined || value.id === itself ? [] : [value.id]))
    )
    return differing.map(([key, value]) => ({
      key,
      known: value?.id === itself ? ("itself" as const) : value === undefined ? undefined : found.get(value.id)
    }))
  })

  /** The state events that replaced a redacted one, without the copy of its content. */
  const replacementsOf = Effect.fnUntraced(function* (room: RoomState, target: Event) {
    if (target.state_key === undefined) return []
    const [stored] = yield* events.byIds([target.event_id])
    const inLine = [...room.recent.values()].filter((knownEvent) => knownEvent.event.replaces_state === target.event_id)
    const replacements = [
      ...(stored === undefined ? [] : yield* events.replacementsOf(stored)),
      ...inLine.map((knownEvent) => knownEvent.event)
    ]
    const prev_content = room.version.redact(target).content
    return replacements
      .filter((replacement) => replacement.unsigned?.prev_content !== undefined)
      .map((replacement): Event => ({ ...replacement, unsigned: { ...replacement.unsigned, prev_content } }))
  })

  /** The redactions in the room that name the events. */
  const earlierRedactions = Effect.fnUntraced(function* (room: RoomState, ids: ReadonlyArray<EventId>) {
    const found = new Map<EventId, Array<Event>>(ids.map((id) => [id, []]))
    for (const { event, roomNid } of yield* events.redactionsOf(ids)) {
      if (roomNid === room.roomNid && event.redacts !== undefined) found.get(event.redacts)?.push(event)
    }
    return found
  })

  /** Reads what placing the events needs, which would otherwise be read for each of them. */
  const survey = Effect.fnUntraced(function* (room: RoomState, placed: ReadonlyArray<Event>) {
    const ids = placed.flatMap((event) => idsAround(room, event))
    return {
      events: yield* roomEvents.lookUp(room, ids),
      redactions: yield* earlierRedactions(
        room,
        placed.map(({ event_id }) => event_id)
      )
    } satisfies Survey
  })

  /** A redaction that was placed strips events that follow it in the survey; what it has stripped is to be read again. */
  const refresh = ({ events, redactions }: Survey, { event, redactions: stripped, status }: Plan) => {
    for (const { event_id } of stripped) events.delete(event_id)
    const { redacts, type } = event
    const named = type === "m.room.redaction" && status <= EventStatus.backfilled ? redacts : undefined
    const known = named === undefined ? undefined : redactions.get(named)
    if (known !== undefined) redactions.set(named!, [...known, event])
  }

  /** The events that a redaction strips, and the earlier redactions that strip this event. */
  const redactionsBy = Effect.fnUntraced(function* (
    room: RoomState,
    event: Event,
    lookup: StateLookup,
    surveyed: Survey["redactions"] | undefined
  ) {
    const strip = (target: Event, redaction: Event): Event => ({
      ...room.version.redact(target),
      unsigned: { redacted_because: redaction.event_id }
    })
    const stripped: Array<Event> = []
    if (event.type === "m.room.redaction" && event.redacts !== undefined) {
      const target = (yield* known(room, [event.redacts])).get(event.redacts)?.event
      if (target !== undefined && room.version.authoriseRedaction(event, target, lookup) === undefined) {
        stripped.push(strip(target, event), ...(yield* replacementsOf(room, target)))
      }
    }
    const earlier = surveyed ?? (yield* earlierRedactions(room, [event.event_id]))
    for (const redaction of earlier.get(event.event_id) ?? []) {
      if (room.version.authoriseRedaction(redaction, event, lookup) === undefined)
        stripped.push(strip(event, redaction))
    }
    return stripped
  })

  /**
   * The current state that decides about an event. Where it does not know the sender, but the state that another server
   * gave does, the two are resolved first: a membership may be missing here whose signature could not be checked before.
   */
  const currentFor = Effect.fnUntraced(function* (room: RoomState, event: Event, given: PointState | undefined) {
    if (given === undefined || room.lookup("m.room.member", event.sender) !== undefined) return room.lookup
    const changes = new Map<string, StateValue>()
    for (const [key, value] of yield* resolve(room, [given, pointOf(room.ref!)])) {
      if (room.currentValue(key)?.id !== value?.id) changes.set(key, value)
    }
    return yield* lookupIn(room, event, { ref: room.ref!, changes })
  })

  /** A redaction that names an event of another room: it never has an effect, and is not shown. */
  const misdirected = ({ redacts, type }: Event): Refusal | undefined =>
    type === "m.room.redaction" && redacts !== undefined && isForeign(redacts)
      ? { rule: "The redacted event is of another room" }
      : undefined

  /** The rule that an event breaks whose auth events are of another room. */
  const citesForeign = ({ auth_events }: Event, around: ReadonlyMap<EventId, KnownEvent>): Refusal | undefined =>
    auth_events.some((id) => !around.has(id) && isForeign(id))
      ? { rule: "The auth events of an event belong to its room" }
      : undefined

  const plan = Effect.fnUntraced(function* (
    room: RoomState,
    event: Event,
    { given, historyNid, surveyed }: PlaceOptions
  ) {
    const { generation } = room
    const ids = idsAround(room, event)
    const needed = [...event.prev_events, ...event.auth_events]
    const around = yield* knownOrInLine(room, ids, needed, surveyed?.events)
    const own = around.get(event.event_id)
    if (own !== undefined && own.status !== EventStatus.outlier) return own.status
    if (own === undefined && isForeign(event.event_id)) return "its ID is that of an event in another room" as const
    // The event gets another number: queued states that contain the old one are written first.
    if (own !== undefined && event.state_key !== undefined) yield* settled(room)
    const authEvents = event.auth_events.flatMap((id) => around.get(id) ?? [])
    const misplaced = citesForeign(event, around)
    if (misplaced === undefined && authEvents.length < event.auth_events.length)
      return "its auth events are unknown" as const
    const before: PointState | undefined =
      given === undefined ? yield* stateBefore(room, event, around) : yield* stateByOther(room, event, around, given)
    if (before === undefined) return "its predecessors are unknown" as const
    const lookup = yield* lookupIn(room, event, before)
    // A chain that cannot be continued is followed by one that holds all of the state.
    if (event.state_key !== undefined || before.changes.size > 0) yield* ensure(room, [before.ref])
    const bodies = authEvents.map((authEvent) => authEvent.event)
    const refusal =
      misplaced ??
      room.version.authoriseByAuthEvents(event, bodies, authContextOf(room, event, around)) ??
      room.version.authorise(event, lookup)
    const isHistory = historyNid !== undefined
    const current = yield* currentFor(room, event, given === undefined ? undefined : before)
    const softly =
      refusal === undefined && !isHistory
        ? (room.version.authorise(event, current) ?? unrecommended(room, event) ?? misdirected(event))
        : undefined
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
    const others = room.extremities.filter((extremity) => !followed.has(extremity.event_id))
    const changes = isTaken ? yield* currentChanges(room, event, before, others) : []
    const planned: Plan = {
      generation,
      event: withReplaced(room.version, event, yield* replacedBy(room, event, before)),
      status,
      before,
      changes,
      others,
      redactions:
        isTaken || status === EventStatus.backfilled
          ? yield* redactionsBy(room, event, lookup, surveyed?.redactions)
          : [],
      outlier: own,
      authNids: event.state_key === undefined ? [] : authEvents.map(({ nid }) => nid),
      afterGap: given !== undefined && isAfterGap(event, around)
    }
    return { planned, refusal: refusal ?? softly }
  })

  // Placing it

  /** Writes a resolved state as changes of a stored one. */
  const write = (room: RoomState, step: Step, { changes, ref }: PointState): StateRef =>
    changes.size === 0 ? ref : room.advance(step, ref, [...changes], nextChain)

  /** Synchronous but for its type: it decides the order of the room. */
  const placeNow = (room: RoomState, planned: Plan, options: PlaceOptions) => {
    const { event } = planned
    const { answers, historyNid, relayTo = () => [] } = options
    const step = room.beginStep()
    const nid = planned.status === EventStatus.backfilled ? historyNid! : nextNid()
    const before = write(room, step, planned.before)
    const itself: KnownEvent = { event, nid, status: planned.status, before, after: undefined }
    const after = afterIt(room, step, event, nid, before, planned)
    room.log(
      step,
      { ...itself, after },
      { outlierNid: planned.outlier?.nid, authNids: planned.authNids, afterGap: planned.afterGap }
    )
    const changes = planned.changes.map(
      ({ key, known: entry }): CurrentChange => ({ key, entry: entry === "itself" ? itself : entry })
    )
    // The state after an event that follows the current state is the new current state.
    if (!(changes.length === 1 && changes[0]!.entry === itself && sameRef(after, room.ref))) {
      room.changeCurrent(step, changes, nid, nextChain)
    }
    if (planned.status === EventStatus.timeline) {
      room.extremities = [...planned.others, room.extremityOf(event, after)]
      if (planned.others.length === 0) room.branches.clear()
      else room.branches.retain([room.ref!, ...room.extremities.map((extremity) => extremity.after)])
    }
    room.sendTo(step, nid, relayTo(room))
    for (const redacted of planned.redactions) room.applyRedaction(redacted)
    if (options.surveyed !== undefined) refresh(options.surveyed, planned)
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
    return room.advance(step, before, [[key, { id: event.event_id, nid }]], nextChain)
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
              durable: placeNow(room, planned, options)
            }
          : undefined
      )
    })
    const again = (left: number): Effect.Effect<Placed, StaleWriter | CommitFailed> =>
      Effect.flatMap(left > 0 ? attempt : writer.alone(attempt), (placed) =>
        placed === undefined ? again(left - 1) : Effect.succeed(placed)
      )
    return again(attemptsBesideOthers)
  }

  // Proposals of our own where the graph has forked

  /**
   * The extremities in the order in which an event names them, where it cannot name all: those whose state agrees with
   * the current one about what decides, of each different state one, then the deepest.
   */
  const preferred = (room: RoomState, proposal: EventProposal): ReadonlyArray<Extremity> => {
    const deciding = room.version.decidingKeys(proposal).map(([type, stateKey]) => stateKeyOf(type, stateKey))
    const agreement = (ref: StateRef): number =>
      deciding.filter((key) => room.valueAt(ref, key)?.id === room.currentValue(key)?.id).length
    const states = new Map(room.extremities.map(({ after }) => [nameOf(after), agreement(after)]))
    const byDepth = [...room.extremities].sort((a, b) => b.depth - a.depth)
    const firsts = new Set(
      new Map(byDepth.toReversed().map((extremity) => [nameOf(extremity.after), extremity])).values()
    )
    return byDepth.sort(
      (a, b) =>
        Number(firsts.has(b)) - Number(firsts.has(a)) || states.get(nameOf(b.after))! - states.get(nameOf(a.after))!
    )
  }

  /**
   * The event that a proposal makes, and the state before it. It names all forward extremities if they are not too many
   * and leave room for what it says; otherwise some, and the others stay.
   */
  const build = Effect.fnUntraced(function* (
    room: RoomState,
    proposal: EventProposal,
    now: number,
    origin: ServerName,
    key: SigningKey | undefined
  ) {
    const { maxPrevEvents, tryBuild } = room.version
    const attempt = Effect.fnUntraced(function* (named: ReadonlyArray<Extremity>) {
      const before = yield* stateAfter(
        room,
        named.map(({ after }) => after)
      )
      const state = yield* lookupIn(room, proposal, before)
      return { built: tryBuild(proposal, { prevEvents: named, state, now }, origin, key), state }
    })
    const all = room.extremities
    const whole = all.length > maxPrevEvents ? undefined : yield* attempt(all)
    if (whole !== undefined && !isCrowded(whole.built, all.length)) return whole
    yield* ensure(
      room,
      all.map(({ after }) => after)
    )
    const order = preferred(room, proposal)
    for (let count = whole === undefined ? maxPrevEvents : all.length >> 1; ; count >>= 1) {
      const some = yield* attempt(order.slice(0, count))
      if (!isCrowded(some.built, count)) return some
    }
  })

  /** The events that the room knows, for a request to another server for the rest. */
  const knownBodies =
    (room: RoomState): KnownEvents =>
    (ids) =>
      Effect.map(known(room, ids), (found) => new Map([...found].map(([id, { event }]) => [id, event])))

  return { known, isForeign, citesForeign, knownBodies, survey, place, build, settled }
})

export type RoomGraph = Effect.Success<ReturnType<typeof makeRoomGraph>>

/** Whether some of the event's predecessors have no place here. */
export const isAfterGap = (event: Event, known: ReadonlyMap<EventId, KnownEvent>): boolean =>
  event.prev_events.some((id) => (known.get(id)?.status ?? EventStatus.outlier) === EventStatus.outlier)

/** The event, those that it follows, those that authorise it, and the one that it redacts. */
const idsAround = (room: RoomState, event: Event): ReadonlyArray<EventId> => [
  event.event_id,
  ...event.prev_events,
  ...authIdsOf(room, event),
  ...(event.redacts === undefined ? [] : [event.redacts])
]

/** The reason why an event without the policy server's signature is not shown. The graph does not ask the policy server. */
const unrecommended = (room: RoomState, event: Event): Refusal | undefined => {
  const { policy } = room
  if (policy === undefined || !needsRecommendation(event) || isRecommended(room.version, event, policy))
    return undefined
  return { rule: `The policy server ${policy.via} of the room has not signed the event` }
}

/** Whether an event that names so many predecessors might fit if it named fewer. */
const isCrowded = (built: Result.Result<Event, PduProblem>, named: number): boolean =>
  named > 1 && Result.isFailure(built) && built.failure._tag === "TooLarge"

/** Whether the states are those after all forward extremities, from which the current state follows. */
const isCurrent = (room: RoomState, refs: ReadonlyArray<StateRef>): boolean => {
  const names = new Set(refs.map(nameOf))
  const all = new Set(room.extremities.map(({ after }) => nameOf(after)))
  return names.size === all.size && [...names].every((name) => all.has(name))
}
