/**
 * The history of a room that other servers have and this one does not: it is fetched on demand (`HistoryFetches`), from one server after
 * the other, and put before what there is.
 *
 * Source: "Backfilling" of the draft, "Backfilling and retrieving missing events" of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, ServerName } from "@greenroom/protocol/Identifiers"
import { setNewest } from "@greenroom/store/BoundedMap"
import { EventStatus } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { type Cause, Deferred, Effect, Option, Result } from "effect"
import { answerMillis, answersTimeoutOption, withAnswerBudget } from "../../runtime/AnswerBudget.ts"
import { mayPass } from "../../runtime/ItemFailure.ts"
import type { Caution } from "../RoomProtocol.ts"
import { authContextOf, authIdsOf } from "./AuthContext.ts"
import { type FetchedHistory, makeHistoryFetches } from "./HistoryFetches.ts"
import { makeHistoryRedactions } from "./HistoryRedactions.ts"
import { isAccepted, makeHistoryStates, visibilityBefore } from "./HistoryStates.ts"
import { isAfterGap } from "./PlacementPlans.ts"
import { type Failure, outlier, type RoomIntake } from "./RoomIntake.ts"
import type { KnownEvent, RoomState } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"

/** How many servers are asked, one after the other. */
const maxServers = 10
/** How long servers are asked for one piece of history, in ms, and how long each of them that is asked before another one at least. */
const fetchTimeout = 20_000
const leastTimeout = 2_000
/** How many bytes the answers may have together, those of all servers that are asked. */
const fetchBytes = 16 * 1024 * 1024
/** How long a gap that no server could fill is left alone, in ms, and how many such gaps are remembered. */
const fruitlessFor = 60_000
const maxFruitless = 1_000

export const makeRoomHistory = Effect.fnUntraced(function* (writer: RoomWriter, intake: RoomIntake) {
  const { log, roomId, serverName } = writer
  const { blaming, graph, historyNids, loadOurs, intakeLock, storeOutliers, unhandled } = intake
  const events = yield* EventStore
  const historyStates = yield* makeHistoryStates(writer, intake)
  const { endsOfHistory, fetchHistory, hasOlder } = yield* makeHistoryFetches(writer, intake, historyStates)
  const redactionsOf = makeHistoryRedactions(graph)
  /** Set by a failure: history is stored event by event from then on, so that one which cannot be is left out. */
  let caution: Caution | undefined

  const noteFault = (cause: Cause.Cause<unknown>) =>
    Effect.sync(() => {
      if (!mayPass(cause)) caution = "faults"
    })

  /** Fetches in progress, by their first event: all requests for the same history share one fetch. */
  const underWay = new Map<EventId | undefined, Deferred.Deferred<boolean, Failure>>()

  /** Servers that did not answer in time, and have not given history since: they are asked last. */
  const slow = new Set<ServerName>()
  /** The server that gave history last, which is asked first. */
  let giver: ServerName | undefined

  const rankOf = (server: ServerName): number => (server === giver ? 0 : slow.has(server) ? 2 : 1)

  /** When gaps were tried that no server could fill. */
  const fruitless = new Map<EventId, number>()

  const noteFruitless = (at: EventId, now: number) => setNewest(fruitless, at, now, maxFruitless)

  const noteSlow = (server: ServerName) => {
    if (server === giver) giver = undefined
    slow.add(server)
    if (slow.size > maxServers) slow.delete(slow.values().next().value!)
  }

  /** Fetches what precedes an event, or the oldest events that we have; true if there is more of it now. */
  const backfill = (limit: number, at: EventId | undefined): Effect.Effect<boolean, Failure> =>
    Effect.suspend(() => {
      const running = underWay.get(at)
      if (running !== undefined) return Deferred.await(running)
      const done = Deferred.makeUnsafe<boolean, Failure>()
      underWay.set(at, done)
      return Effect.onExit(
        Effect.tapCause(withAnswerBudget(fetchBytes, roomId, fetchAndStore(limit, at)), noteFault),
        (exit) => {
          underWay.delete(at)
          return Deferred.done(done, exit)
        }
      )
    })

  const fetchAndStore = Effect.fnUntraced(function* (
    limit: number,
    at: EventId | undefined
  ): Effect.fn.Return<boolean, Failure> {
    const now = yield* monotonicMillis
    if (at !== undefined && now - (fruitless.get(at) ?? Number.NEGATIVE_INFINITY) < fruitlessFor) return false
    const room = yield* loadOurs
    const end = at === undefined ? [] : (yield* events.byIds([at])).filter(({ roomNid }) => roomNid === room.roomNid)
    const ends = at === undefined ? yield* endsOfHistory(room) : end
    const starts = ends.length > 1 ? [ends, ends.slice(0, 1)] : [ends]
    const others = [...room.servers.keys()].filter((key) => key !== serverName)
    const servers = others.toSorted((a, b) => rankOf(a) - rankOf(b)).slice(0, maxServers)
    const attempts = starts.flatMap((from) => servers.map((server) => ({ from, server })))
    const isInside = end[0] !== undefined && (yield* hasOlder(room, end[0]))
    const until = (yield* answerMillis) + fetchTimeout
    for (const [index, { from, server }] of attempts.entries()) {
      const left = until - (yield* answerMillis)
      if (left <= 0) break
      // A silent server leaves time for the next one.
      const timeout = index === attempts.length - 1 ? left : Math.min(left, Math.max(left / 2, leastTimeout))
      const fetching = fetchHistory(room, server, from, limit, isInside)
      const fetched = yield* Effect.result(answersTimeoutOption(fetching, timeout))
      if (Result.isFailure(fetched)) {
        // A limit of this server says nothing about the others, nor about the gap.
        if (fetched.failure.isOwnLimit === true) return false
        continue
      }
      if (Option.isNone(fetched.success)) noteSlow(server)
      const found = Option.getOrUndefined(fetched.success)
      if (found === undefined || found.events.length === 0) continue
      slow.delete(server)
      if (yield* intakeLock.withPermits(1)(Effect.flatMap(loadOurs, (now) => storeHistory(now, found)))) {
        giver = server
        return true
      }
    }
    if (at !== undefined) noteFruitless(at, now)
    return false
  })

  /**
   * History gets falling numbers, so that it is before all known events. Only events that their auth events allow are
   * accepted.
   */
  const storeHistory = Effect.fnUntraced(function* (
    room: RoomState,
    { authEvents, ends, events, positions, states }: FetchedHistory
  ) {
    yield* storeOutliers(room, authEvents, caution)
    const found = yield* graph.known(
      room,
      [...events, ...ends.map(({ event }) => event)].flatMap((event) => [
        ...[event.event_id, ...event.prev_events],
        ...authIdsOf(room, event),
        ...Option.toArray(visibilityBefore(states, event))
      ])
    )
    const allowed = new Map<EventId, KnownEvent>(found)
    /** Whether the visibility before an event counts here. One that does not would show the event to others than may see it. */
    const isVisibilityKnown = (event: Event) =>
      Option.match(visibilityBefore(states, event), { onNone: () => true, onSome: (id) => isAccepted(allowed.get(id)) })
    const taken = events.filter(
      (event) => !unhandled.has(event.event_id) && isVisibilityKnown(event) && isNewHistory(room, event, allowed)
    )
    const { others, stripped, withheld } = yield* redactionsOf(room, taken)
    for (const redacted of others) room.applyRedaction(redacted)
    // Events that were known without a place get other numbers: queued states that contain the old ones are written first.
    if (others.length > 0 || taken.some(({ event_id }) => found.has(event_id))) {
      yield* log.append(room.commit(room.beginStep(), { redactions: others }))
    }
    const nids = yield* historyNids(taken)
    const placed = new Map(found)
    for (const event of taken)
      placed.set(event.event_id, outlier(event, nids.get(event.event_id)!, EventStatus.backfilled))
    const first = room.beginStep()
    const refs = yield* historyStates.addTo(first, room, taken, states, nids)
    // The states must not fail with one of the events.
    if (caution !== undefined) yield* log.append(room.commit(first))
    const closedGaps = ends.filter(({ event }) => !isAfterGap(event, placed)).map(({ position }) => position.nid)
    for (const together of caution === undefined ? [taken] : taken.map((event) => [event])) {
      const step = caution === undefined ? first : room.beginStep()
      for (const event of together) {
        const id = event.event_id
        const status = withheld.has(id) ? EventStatus.withheld : EventStatus.backfilled
        const entry = { event: stripped.get(id) ?? event, status, before: undefined, after: undefined }
        const authNids = event.auth_events.map((auth) => nids.get(auth) ?? found.get(auth)!.nid)
        room.log(
          step,
          { ...entry, nid: nids.get(id)! },
          {
            outlierNid: found.get(id)?.nid,
            historyXid: positions.get(id),
            historyState: refs.get(id),
            authNids: event.state_key === undefined ? [] : authNids,
            afterGap: isAfterGap(event, placed)
          }
        )
      }
      yield* blaming(caution, together[0], log.append(room.commit(step, { closedGaps })))
    }
    return taken.length > 0
  })

  const isNewHistory = (room: RoomState, event: Event, known: Map<EventId, KnownEvent>): boolean => {
    const own = known.get(event.event_id)
    if (own !== undefined && own.status !== EventStatus.outlier) return false
    const authEvents = event.auth_events.flatMap((id) => known.get(id) ?? [])
    const bodies = authEvents.map((authEvent) => authEvent.event)
    const isAllowed = room.version.authoriseByAuthEvents(event, bodies, authContextOf(room, event, known)) === undefined
    // History authorises the events after it.
    if (isAllowed) known.set(event.event_id, own ?? outlier(event, Number.NaN))
    return isAllowed
  }

  return { backfill }
})
