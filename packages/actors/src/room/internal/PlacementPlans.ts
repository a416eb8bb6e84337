/**
 * The plan for placing an event of another server: the state before it, whether the rules allow it, and its changes. A
 * plan is made beside other work of the room, and holds only for the generation of the room at which it began.
 *
 * Source: docs/federation.md, "Receiving a PDU".
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { isRecommended, needsRecommendation } from "@greenroom/room/RoomPolicy"
import type { AuthContext, Refusal, StateLookup } from "@greenroom/room/RoomVersion"
import { EventStatus } from "@greenroom/store/EventLog"
import { Effect } from "effect"
import { authContextOf, authIdsOf } from "./AuthContext.ts"
import type { EventStates, IdMap, PlannedChange } from "./EventStates.ts"
import type { NamingRedactions, ReceivedRedactions, RedactionEffects } from "./ReceivedRedactions.ts"
import { withReplaced } from "./ReplacedState.ts"
import type { FoundEvents, LookedUp, RoomEvents } from "./RoomEvents.ts"
import type { RoomResolution } from "./RoomResolution.ts"
import type { Extremity, KnownEvent, RoomState } from "./RoomState.ts"
import type { PointState } from "./StateComparison.ts"

/** A withheld redaction that is placed behind the event that it strips. */
interface ReleasedRedaction {
  readonly redaction: KnownEvent
  /** Whether some of its predecessors are not here. */
  readonly afterGap: boolean
}

export interface PlacementPlan {
  /** The generation of the room at which the plan was begun. */
  readonly generation: number
  /** The event with what it replaces. */
  readonly event: Event
  readonly status: EventStatus
  readonly before: PointState
  /** The other extremities after it. */
  readonly others: ReadonlyArray<Extremity>
  readonly changes: ReadonlyArray<PlannedChange>
  /** Whether the event joins the forward extremities. */
  readonly follows: boolean
  /** The events that redactions strip, in their redacted form. */
  readonly redactions: ReadonlyArray<Event>
  readonly released: ReadonlyArray<ReleasedRedaction>
  /** The event, where it was known as an outlier or as rejected. */
  readonly outlier: KnownEvent | undefined
  /** The numbers of a state event's auth events. */
  readonly authNids: ReadonlyArray<number>
  /** Whether some of the event's predecessors are not here. */
  readonly afterGap: boolean
}

/** How the plan of a received event differs from that of the next one. */
export interface PlanOptions {
  /** The state before it, where its predecessors are not known. */
  readonly given?: IdMap
  /** The number of a back-filled event: it is before all others, and does not change them. */
  readonly historyNid?: number
  /** Whether the event is shown without the signature of the room's policy server. */
  readonly sendAnyway?: boolean
  /** The rows that were read for this event and the others of its chunk. */
  readonly surveyed?: Survey
}

/** The rows of the store that placing events needs, read for all events together. `refresh` keeps it up to date. */
export interface Survey {
  /** Events that are named, and those themselves. */
  readonly events: LookedUp
  /** The redactions that strip each of the events. */
  readonly redactions: NamingRedactions
}

export const makePlacementPlans = (
  roomEvents: RoomEvents,
  { ensure }: RoomResolution,
  states: EventStates,
  { earlierRedactions, misdirected, redactionsBy }: ReceivedRedactions
) => {
  const { flush, knownOrQueued } = roomEvents
  const { currentChanges, currentFor, lookupIn, replacedBy, stateBefore, stateByOther } = states

  /** Reads what placing the events needs, which would otherwise be read for each of them. */
  const survey = Effect.fnUntraced(function* (room: RoomState, placed: ReadonlyArray<Event>) {
    const ids = placed.flatMap((event) => idsAround(room, event))
    const placedIds = placed.map(({ event_id }) => event_id)
    const reads = { events: roomEvents.lookUp(room, ids), redactions: earlierRedactions(room, placedIds) }
    return (yield* Effect.all(reads, { concurrency: 2 })) satisfies Survey
  })

  /** A redaction that was placed strips events that follow it in the survey; what it has stripped is to be read again. */
  const refresh = (
    { events, redactions }: Survey,
    { redactions: stripped, released }: PlacementPlan,
    placed: KnownEvent
  ) => {
    for (const { event_id } of stripped) events.events.delete(event_id)
    for (const { redaction } of released) events.events.delete(redaction.event.event_id)
    const { redacts, type } = placed.event
    const named = type === "m.room.redaction" && mayStrip.has(placed.status) ? redacts : undefined
    const known = named === undefined ? undefined : redactions.get(named)
    if (known !== undefined) redactions.set(named!, [...known, placed])
  }

  /** The rule that an event breaks whose auth events are of another room. */
  const citesForeign = ({ auth_events }: Event, { foreign }: FoundEvents): Refusal | undefined =>
    auth_events.some((id) => foreign.has(id)) ? { rule: "The auth events of an event belong to its room" } : undefined

  /**
   * The forward extremities that an event does not follow. Refused events are none themselves: one that follows these follows what
   * they follow.
   */
  const besideIt = Effect.fnUntraced(function* (room: RoomState, { prev_events }: Event, around: FoundEvents) {
    const followed = new Set(prev_events)
    const beside = () => room.extremities.filter((extremity) => !followed.has(extremity.event_id))
    let refused = prev_events.flatMap((id) => around.get(id) ?? []).filter(isRefused)
    for (let round = 0; round < maxRefused && refused.length > 0 && beside().length > 0; round++) {
      const before = new Set(refused.flatMap(({ event }) => event.prev_events)).difference(followed)
      for (const id of before) followed.add(id)
      refused = [...(yield* roomEvents.known(room, [...before].slice(0, refusedPerRound))).values()].filter(isRefused)
    }
    return beside()
  })

  /** Redactions that are placed behind an event. The gaps before them go with them: from there they are filled. */
  const releasedBehind = Effect.fnUntraced(function* (
    room: RoomState,
    { event_id }: Event,
    redactions: ReadonlyArray<KnownEvent>
  ) {
    if (redactions.length === 0) return []
    yield* flush(room)
    const before = yield* roomEvents.known(
      room,
      redactions.flatMap(({ event }) => event.prev_events)
    )
    return redactions.map((redaction): ReleasedRedaction => {
      const others = redaction.event.prev_events.filter((id) => id !== event_id)
      return { redaction, afterGap: isAfterGap({ prev_events: others }, before) }
    })
  })

  /** The plan for an event; the status of an event that is placed already; or the reason why it cannot be placed. */
  const plan = Effect.fnUntraced(function* (
    room: RoomState,
    event: Event,
    { given, historyNid, sendAnyway = false, surveyed }: PlanOptions
  ) {
    const { generation } = room
    const needed = [...event.prev_events, ...event.auth_events]
    const around = yield* knownOrQueued(room, idsAround(room, event), needed, surveyed?.events)
    const own = around.get(event.event_id)
    // A rejection may rest on the state that one server gave: another server's state can lift it.
    const wasRejected = own?.status === EventStatus.rejected
    const isOpen = own === undefined || own.status === EventStatus.outlier || (wasRejected && given !== undefined)
    if (!isOpen) return own.status
    if (around.foreign.has(event.event_id)) return "its ID is that of an event in another room" as const
    // The event gets another number: queued states that contain the old one are written first.
    if (own !== undefined && event.state_key !== undefined) yield* flush(room)
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
    const current = yield* currentFor(room, event, given === undefined ? undefined : before)
    const refusal = misplaced ?? refusalBefore(room, event, authEvents, authContextOf(room, event, around), lookup)
    const judgement = judge(refusal, historyNid !== undefined, () =>
      softRefusal(room, event, current, around, sendAnyway)
    )
    const isTaken = judgement.status === EventStatus.timeline
    if (wasRejected && !isTaken) return own.status
    const effects =
      isTaken || judgement.status === EventStatus.backfilled
        ? yield* redactionsBy(room, event, lookup, surveyed?.redactions)
        : noEffects
    // Of history clients see what the redactions have left, with these beside it: they are not placed again.
    const released = isTaken ? yield* releasedBehind(room, event, effects.released) : []
    const others = yield* besideIt(room, event, around)
    const planned: PlacementPlan = {
      generation,
      event: withReplaced(room.version, event, yield* replacedBy(room, event, before)),
      status: effects.isIdle && isWithheld(room, event) ? EventStatus.withheld : judgement.status,
      follows: isTaken,
      before,
      changes: isTaken ? yield* currentChanges(room, event, before, others) : [],
      others,
      redactions: effects.stripped,
      released,
      outlier: own,
      authNids: event.state_key === undefined ? [] : authEvents.map(({ nid }) => nid),
      afterGap: given !== undefined && isAfterGap(event, around)
    }
    return { planned, refusal: judgement.refusal }
  })

  /** The rule by which the event is not shown, although the state before it allows it. */
  const softRefusal = (
    room: RoomState,
    event: Event,
    current: StateLookup,
    around: FoundEvents,
    sendAnyway: boolean
  ): Refusal | undefined =>
    room.version.authorise(event, current) ??
    (sendAnyway ? undefined : unrecommended(room, event)) ??
    misdirected(event, around)

  return { survey, refresh, citesForeign, plan }
}

/** How many refused events in a row are passed on the way to forward extremities, and how many predecessors of them are read in a round. */
const maxRefused = 20
const refusedPerRound = 1_000

const isRefused = ({ status }: KnownEvent): boolean =>
  status === EventStatus.softFailed || status === EventStatus.rejected

const noEffects: RedactionEffects = { stripped: [], isIdle: false, released: [] }

/** The redactions that strip events which arrive later. */
const mayStrip: ReadonlySet<EventStatus> = new Set([EventStatus.timeline, EventStatus.backfilled, EventStatus.withheld])

/** Whether clients do not receive a redaction that strips nothing. Those who redact events that only other servers have see that they did. */
export const isWithheld = ({ ours, version }: RoomState, { origin }: Event): boolean =>
  version.withholdsRedactions && origin !== ours

/** The rule that the event breaks by its auth events, or in the state before it. */
const refusalBefore = (
  room: RoomState,
  event: Event,
  authEvents: ReadonlyArray<KnownEvent>,
  context: AuthContext,
  lookup: StateLookup
): Refusal | undefined =>
  room.version.authoriseByAuthEvents(
    event,
    authEvents.map((authEvent) => authEvent.event),
    context
  ) ?? room.version.authorise(event, lookup)

/** What becomes of an event, and the rule that it breaks. Back-filled history is not held against the current state. */
const judge = (
  refusal: Refusal | undefined,
  isHistory: boolean,
  softRefusal: () => Refusal | undefined
): { readonly status: EventStatus; readonly refusal: Refusal | undefined } => {
  if (refusal !== undefined) return { status: EventStatus.rejected, refusal }
  if (isHistory) return { status: EventStatus.backfilled, refusal: undefined }
  const soft = softRefusal()
  return { status: soft === undefined ? EventStatus.timeline : EventStatus.softFailed, refusal: soft }
}

/** Whether some of the event's predecessors have no place here. */
export const isAfterGap = (
  { prev_events }: Pick<Event, "prev_events">,
  known: ReadonlyMap<EventId, KnownEvent>
): boolean => prev_events.some((id) => (known.get(id)?.status ?? EventStatus.outlier) === EventStatus.outlier)

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
