/**
 * Adds the events of other servers to a room: events that have passed the checks of form, signature and hash are placed in
 * the graph, those that only authorise others are kept as outliers. Changes that other servers cause run under the intake's
 * lock; events of our own users are handled between them.
 *
 * Source: docs/federation.md, "Receiving a PDU".
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { isDraft } from "@greenroom/room/DraftRoomVersion"
import { topologicalSteps } from "@greenroom/room/EventGraph"
import { stateKeyOf } from "@greenroom/room/RoomVersion"
import { type CommitFailed, EventStatus, type StaleWriter } from "@greenroom/store/EventLog"
import type { StateId } from "@greenroom/store/StateStore"
import { Array as Arr, Effect, Semaphore, type Types } from "effect"
import { mayPass } from "../../runtime/ItemFailure.ts"
import { sliced } from "../../runtime/Slices.ts"
import type { RemoteState } from "../RemoteRooms.ts"
import type { Caution, Outcome } from "../RoomProtocol.ts"
import { authContextOf, authIdsOf } from "./AuthContext.ts"
import { makeCommitsInFlight } from "./CommitsInFlight.ts"
import type { IdMap } from "./EventStates.ts"
import { type ClosedGap, makeRoomGaps } from "./RoomGaps.ts"
import { makeRoomGraph, type Placed } from "./RoomGraph.ts"
import type { KnownEvent, RoomState } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"

/** The failure of a request of another server, or to one. */
export type Failure = MatrixError | StaleWriter | CommitFailed

/** How many outliers are written at once. They have no place in the graph, so other work may run in between. */
const outliersAtOnce = 250

/** How many events are placed before those are durable. */
const placedAtOnce = 50

/** How many events are remembered that cannot be handled. */
const maxUnhandled = 1_000

export const makeRoomIntake = Effect.fnUntraced(function* (writer: RoomWriter) {
  const { load, log, nextNid, roomId, withNids } = writer
  const graph = yield* makeRoomGraph(writer)
  /** Events whose handling failed again on their own: treated as if no server had them. */
  const unhandled = new Set<EventId>()
  const gaps = yield* makeRoomGaps(graph, unhandled)
  const intakeLock = yield* Semaphore.make(1)

  /** Remembers that it was the handling of this event that failed. */
  const blaming = <A, E>(caution: Caution | undefined, event: Event | undefined, handling: Effect.Effect<A, E>) =>
    caution === undefined || event === undefined
      ? handling
      : Effect.tapCause(handling, (cause) => {
          if (mayPass(cause, caution === "failures")) return Effect.void
          unhandled.add(event.event_id)
          if (unhandled.size > maxUnhandled) unhandled.delete(unhandled.values().next().value!)
          return Effect.logError(`${event.event_id} in ${roomId} cannot be handled`, cause)
        })

  const notFound = new NotFound({ error: `There is no room ${roomId}` })
  const loadOurs = Effect.flatMap(load, (room) => (room.isOurs ? Effect.succeed(room) : notFound))

  // Outliers: events that are known, but have no place in the graph

  /**
   * Queues events that authorise others, each judged by its own auth events. Refused ones are stored as rejected, so that
   * events that rest on them are rejected too, and are not fetched again and again. `stored` waits until the last of them are durable.
   */
  const queueOutliers = Effect.fnUntraced(function* (room: RoomState, given: Iterable<Event>, caution?: Caution) {
    const byId = new Map<EventId, Event>()
    const asked = yield* sliced(function* () {
      const ids = new Set<EventId>()
      for (const event of given) {
        if (unhandled.has(event.event_id)) continue
        byId.set(event.event_id, event)
        ids.add(event.event_id)
        for (const id of authIdsOf(room, event)) ids.add(id)
        yield
      }
      return ids
    })
    const found = yield* graph.known(room, asked)
    const unknown = [...byId.values()].filter(({ event_id: id }) => !found.has(id) && !found.foreign.has(id))
    const ordered = yield* sliced(() => topologicalSteps(unknown))
    // In version 12 no event names the m.room.create that authorises it.
    const fresh = [
      ...ordered.filter(({ type }) => type === "m.room.create"),
      ...ordered.filter(({ type }) => type !== "m.room.create")
    ]
    /** Undefined if an auth event is not known. */
    const judge = (event: Event): EventStatus | undefined => {
      if (graph.citesForeign(event, found) !== undefined) return EventStatus.rejected
      if (!authIdsOf(room, event).every((id) => id === event.event_id || found.has(id))) return undefined
      const authEvents = event.auth_events.map((id) => found.get(id)!.event)
      const refusal = room.version.authoriseByAuthEvents(event, authEvents, authContextOf(room, event, found))
      return refusal === undefined ? EventStatus.outlier : EventStatus.rejected
    }
    const judgeAll = (events: ReadonlyArray<Event>) =>
      sliced(function* () {
        const passed: Array<Types.Mutable<KnownEvent>> = []
        for (const event of events) {
          yield
          const status = judge(event)
          if (status === undefined) continue
          // It gets its number with its commit.
          const known = outlier(event, Number.NaN, status)
          found.set(event.event_id, known)
          passed.push(known)
        }
        return passed
      })
    const commits = makeCommitsInFlight()
    for (const chunk of Arr.chunksOf(fresh, caution !== undefined ? 1 : outliersAtOnce)) {
      const judged = yield* judgeAll(chunk)
      if (judged.length === 0) continue
      const durable = yield* withNids(judged.length, () => {
        const step = room.beginStep()
        for (const known of judged) {
          const { event } = known
          known.nid = nextNid()
          const authNids = event.auth_events.flatMap((id) => found.get(id)?.nid ?? [])
          room.log(step, known, event.state_key === undefined ? {} : { authNids })
        }
        return log.append(room.commit(step))
      })
      yield* caution === undefined ? commits.add(durable) : blaming(caution, judged[0]!.event, durable)
    }
    return { found, stored: commits.all }
  })

  /** The same, once they are durable. */
  const storeOutliers = Effect.fnUntraced(function* (room: RoomState, given: Iterable<Event>, caution?: Caution) {
    const { found, stored } = yield* queueOutliers(room, given, caution)
    yield* stored
    return found
  })

  const storeState = Effect.fnUntraced(function* (
    room: RoomState,
    { authChain, state }: RemoteState,
    caution: Caution | undefined
  ) {
    const known = yield* storeOutliers(room, [...authChain, ...state], caution)
    return idMap(state, known)
  })

  // Placing events in the graph

  /** What was read for all events of the gap, if it still holds. */
  const surveyOf = (room: RoomState, { events, surveyed }: ClosedGap) =>
    events.length <= placedAtOnce && surveyed?.room === room && surveyed.generation === room.generation
      ? surveyed.survey
      : undefined

  /** The reason why an event is rejected or soft-failed. Undefined if it is accepted. */
  const refusalOf = (placed: Placed): string | undefined => {
    if (placed._tag === "Unplaceable") return placed.reason
    const isRefused = placed.status === EventStatus.rejected || placed.status === EventStatus.softFailed
    if (!isRefused) return undefined
    return (placed._tag === "Placed" ? placed.refusal?.rule : undefined) ?? "It was refused before"
  }

  /**
   * The outcome of an event. In the draft's dialect an event that does not count has an error. Servers of today expect none:
   * an event that could not be placed is taken when it comes again, or when a later event leads to it.
   */
  const describe = ({ version }: RoomState, { event_id }: Event, placed: Placed): Outcome => {
    const refusal = refusalOf(placed)
    if (refusal === undefined) return { event_id }
    return isDraft(version) ? { event_id, error: refusal } : { event_id, refusal }
  }

  /** Numbers for history: rising, and below those of all known events. */
  const historyNids = Effect.fnUntraced(function* (events: ReadonlyArray<Event>) {
    if (events.length === 0) return new Map<EventId, number>()
    return yield* withNids(
      events.length,
      () => new Map(events.toReversed().map((event): [EventId, number] => [event.event_id, -nextNid()]))
    )
  })

  /**
   * Places events with the missing ones found before them. Returns the outcome of each, when the accepted ones are durable, and those
   * that could not be placed.
   */
  const placeAll = Effect.fnUntraced(function* (room: RoomState, gap: ClosedGap, caution?: Caution) {
    yield* storeOutliers(room, gap.authEvents, caution)
    const given = new Map<EventId, IdMap>()
    for (const [id, state] of gap.states) given.set(id, yield* storeState(room, state, caution))
    const nids = yield* historyNids(gap.events.filter((event) => gap.history.has(event.event_id)))
    const outcomes = new Map<EventId, Outcome>()
    const unplaced = new Map<EventId, Event>()
    for (const chunk of Arr.chunksOf(gap.events, placedAtOnce)) {
      const surveyed = surveyOf(room, gap) ?? (yield* graph.survey(room, chunk))
      const waiting: Array<Effect.Effect<void, StaleWriter | CommitFailed>> = []
      for (const event of chunk) {
        const [state, historyNid] = [given.get(event.event_id), nids.get(event.event_id)]
        const placing = graph.place(room, event, {
          surveyed,
          ...(state === undefined ? {} : { given: state }),
          ...(historyNid === undefined ? {} : { historyNid })
        })
        const placed = yield* blaming(caution, event, placing)
        if (placed._tag === "Placed" && caution !== undefined) yield* blaming(caution, event, placed.durable)
        else if (placed._tag === "Placed") waiting.push(placed.durable)
        if (placed._tag === "Unplaceable") unplaced.set(event.event_id, event)
        outcomes.set(event.event_id, describe(room, event, placed))
      }
      yield* Effect.all(waiting, { discard: true })
    }
    return { outcomes, unplaced }
  })

  return {
    graph,
    gaps,
    intakeLock,
    unhandled,
    blaming,
    notFound,
    loadOurs,
    queueOutliers,
    storeOutliers,
    historyNids,
    placeAll
  }
})

/** Events that were placed in a room, each with its outcome, and those that could not be. */
export type Placement = Effect.Success<ReturnType<RoomIntake["placeAll"]>>

export type RoomIntake = Effect.Success<ReturnType<typeof makeRoomIntake>>

/** An event that is known, but has no place in the graph. */
export const outlier = (event: Event, nid: number, status: EventStatus = EventStatus.outlier): KnownEvent => ({
  event,
  nid,
  status,
  before: undefined,
  after: undefined
})

/** The state that events make, as far as they are known and not rejected. */
const idMap = (state: ReadonlyArray<Event>, known: ReadonlyMap<EventId, KnownEvent>): IdMap => {
  const map = new Map<string, StateId>()
  for (const event of state) {
    const found = known.get(event.event_id)
    if (found === undefined || found.status === EventStatus.rejected || event.state_key === undefined) continue
    map.set(stateKeyOf(event.type, event.state_key), { id: event.event_id, nid: found.nid })
  }
  return map
}
