/**
 * Finds the events between those of another server and those that a room knows: predecessors, their auth events, and the
 * state if the way back is too long. This module stores nothing, so a server that answers slowly delays only itself. The
 * fetches of one request are bounded in count, depth and time.
 *
 * A room begins for this server with the event by which it joined. Of the events before that only the direct predecessors
 * are fetched, as history; the rest is back-filled on demand.
 *
 * Source: docs/federation.md, "Receiving a PDU".
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { topologicalOrder } from "@greenroom/room/EventGraph"
import { EventStatus } from "@greenroom/store/EventLog"
import { Effect, Result } from "effect"
import { withAnswerBudget } from "../../runtime/AnswerBudget.ts"
import { isRefusal, type KnownEvents, type RemoteFailure, RemoteRooms, type RemoteState } from "../RemoteRooms.ts"
import type { RoomGraph } from "./RoomGraph.ts"
import type { KnownEvent, RoomState } from "./RoomState.ts"

/** How many events one request may make us fetch, and in how many rounds. */
const maxRounds = 5
const eventsPerRound = 100
/** Up to how many missing predecessors are asked for one by one. */
const fewMissing = 5
/** How many events, and after how many, one question names. */
const maxNamed = 20
/** An answer of fewer events is whole: servers cut longer ones, Synapse at 20. */
const wholeAnswer = 10
/** At how many events the state is asked for where a gap stays open. */
const maxStates = 10
/** How many missing auth events are fetched one by one. */
const maxAuthEvents = 30
/** How many bytes all answers may have together: the whole state of a large room, and what else is missing. */
const maxBytes = 64 * 1024 * 1024
/** How long all of it may take. */
const gapTimeout = "20 seconds"

/** Events with the missing ones found before them. */
export interface ClosedGap {
  /** The events and their missing predecessors, none before one that it follows. */
  readonly events: ReadonlyArray<Event>
  /** The events that are history for this server. */
  readonly history: ReadonlySet<EventId>
  /** The state before events whose predecessors were not found. */
  readonly states: ReadonlyMap<EventId, RemoteState>
  /** The auth events of the events that were not known. */
  readonly authEvents: ReadonlyArray<Event>
  /** Predecessors are missing. */
  readonly isOpen: boolean
  /** The server neither gave something nor said that it does not have it. */
  readonly hasFailed: boolean
}

const isPlaced = (known: KnownEvent | undefined): boolean => known?.after !== undefined

/** `unhandled` are events that could not be handled: they are not fetched, their successors are placed by their state. */
export const makeRoomGaps = Effect.fnUntraced(function* (graph: RoomGraph, unhandled: ReadonlySet<EventId>) {
  const remote = yield* RemoteRooms

  /** Fetches the events that authorise others and are neither known nor given, and theirs in turn. */
  const fetchAuthEvents = Effect.fnUntraced(function* (
    room: RoomState,
    origin: ServerName,
    events: ReadonlyArray<Event>,
    given: ReadonlyMap<EventId, Event>,
    fetched: Map<EventId, Event>
  ) {
    const batch = new Set(events.map((event) => event.event_id))
    let wanted = events.flatMap((event) => event.auth_events)
    while (wanted.length > 0 && fetched.size < maxAuthEvents) {
      const candidates = [...new Set(wanted.filter((id) => !batch.has(id) && !given.has(id) && !fetched.has(id)))]
      const found = yield* graph.known(room, candidates)
      const missing = candidates.filter((id) => !found.has(id)).slice(0, maxAuthEvents - fetched.size)
      const answers = yield* Effect.forEach(
        missing,
        (id) => Effect.option(remote.event(origin, room.version, room.roomId, id)),
        { concurrency: 4 }
      )
      const received = answers.flatMap((answer) => (answer._tag === "Some" ? [answer.value] : []))
      for (const event of received) fetched.set(event.event_id, event)
      wanted = received.flatMap((event) => event.auth_events)
    }
  })

  /** `isSender`: the server has sent the events, and so has what they follow. Another one may have none of them. */
  const close = Effect.fnUntraced(function* (
    room: RoomState,
    origin: ServerName,
    events: ReadonlyArray<Event>,
    isSender = true
  ) {
    const { roomId, version } = room
    const batch = new Map(events.map((event) => [event.event_id, event]))
    const history = new Set<EventId>()
    const states = new Map<EventId, RemoteState>()
    const authEvents = new Map<EventId, Event>()
    /** The events that the origin did not give when it was asked for them. */
    const absent = new Set<EventId>()
    /**
     * Predecessors of the received events that the origin did not give when it was asked for what is missing before those. It
     * has them, so its events are not placed without them: a state that it names instead could be invented.
     */
    const withheld = new Set<EventId>()
    /** The origin gave events whose predecessors are missing, and no more: it is asked for the state at those, as Synapse does. */
    let endsHere = false
    /** The origin did not answer a question, or failed. */
    let failed = false
    const noting = <A>(answer: Effect.Effect<A, RemoteFailure>) =>
      Effect.tapError(answer, (failure) =>
        Effect.sync(() => {
          failed ||= !isRefusal(failure)
        })
      )
    /** The events of `states`. */
    const given = new Map<EventId, Event>()
    const statesAsked = new Set<EventId>()

    /** Predecessors that are neither known nor fetched, with the events that follow them. */
    const borders = Effect.fnUntraced(function* () {
      const outside = [...batch.values()].flatMap((event) => event.prev_events.filter((id) => !batch.has(id)))
      const found = yield* graph.known(room, outside)
      const isMissing = (id: EventId) => !batch.has(id) && !isPlaced(found.get(id))
      const open = [...batch.values()].filter((event) => event.prev_events.some(isMissing))
      const toFetch = open.filter((event) => !history.has(event.event_id))
      const missing = new Set(toFetch.flatMap((event) => event.prev_events.filter(isMissing)))
      return { open, toFetch, missing: [...missing].filter((id) => !unhandled.has(id) && !withheld.has(id)) }
    })

    /** The events between the forward extremities and the received events, as far as the origin gives them. */
    const between = Effect.fnUntraced(function* (followers: ReadonlyArray<Event>, missing: ReadonlyArray<EventId>) {
      const answer = yield* Effect.option(
        remote.missingEvents(
          origin,
          version,
          roomId,
          room.extremities.slice(0, maxNamed).map((extremity) => extremity.event_id),
          followers.slice(0, maxNamed).map((event) => event.event_id),
          eventsPerRound
        )
      )
      if (answer._tag === "None") return { given: [], isWhole: false }
      const found = new Set(answer.value.map((event) => event.event_id))
      const isWhole = followers.length <= maxNamed && found.size < wholeAnswer
      const known = isWhole ? yield* graph.known(room, missing) : undefined
      for (const id of missing) if (known !== undefined && !found.has(id) && !known.has(id)) withheld.add(id)
      return { given: answer.value, isWhole }
    })

    const single = Effect.fnUntraced(function* (id: EventId) {
      const found = yield* Effect.option(noting(remote.event(origin, version, roomId, id)))
      if (found._tag === "Some") return [found.value]
      absent.add(id)
      return []
    })

    const fetch = (missing: ReadonlyArray<EventId>, followers: ReadonlyArray<Event>, singly: boolean) =>
      singly
        ? Effect.map(Effect.forEach(missing, single, { concurrency: fewMissing }), (found) => found.flat())
        : Effect.orElseSucceed(
            noting(
              remote.backfill(
                origin,
                version,
                roomId,
                followers.slice(0, maxNamed).map((event) => event.event_id),
                eventsPerRound
              )
            ),
            (): ReadonlyArray<Event> => []
          )

    /** Selects the fetched events that the given ones follow, directly or indirectly. */
    const connect = Effect.fnUntraced(function* (fetched: ReadonlyArray<Event>) {
      const byId = new Map(fetched.map((event) => [event.event_id, event]))
      const found = yield* graph.known(
        room,
        fetched.flatMap((event) => [event.event_id, ...event.prev_events])
      )
      const isNew = (id: EventId) => (found.get(id)?.status ?? EventStatus.outlier) === EventStatus.outlier
      const isHistory = (event: Event) =>
        event.depth < room.joinedDepth && !event.prev_events.some((id) => isPlaced(found.get(id)))
      const queue = [...batch.values()]
      let taken = 0
      for (let event = queue.pop(); event !== undefined; event = queue.pop()) {
        if (history.has(event.event_id)) continue
        for (const id of event.prev_events) {
          const before = batch.has(id) || unhandled.has(id) || !isNew(id) ? undefined : byId.get(id)
          if (before === undefined) continue
          batch.set(id, before)
          if (isHistory(before)) history.add(id)
          queue.push(before)
          taken++
        }
      }
      return taken
    })

    const findPredecessors = Effect.gen(function* () {
      for (let round = 0; round < maxRounds; round++) {
        const { missing, toFetch } = yield* borders()
        if (missing.length === 0) return
        // If single events lead to further missing ones, whole pages are requested.
        if (round === 0 && isSender) {
          const { given, isWhole } = yield* between(toFetch, missing)
          const taken = yield* connect(given)
          if (isWhole && taken > 0) {
            endsHere = true
            return
          }
          if (taken > 0) continue
        }
        const left = missing.filter((id) => !withheld.has(id))
        if (left.length === 0) return
        const fetched = yield* fetch(left, toFetch, round === 0 && left.length <= fewMissing)
        if ((yield* connect(fetched)) === 0) return
      }
    })

    /** The events of the room, and those of the states that were given so far. */
    const knownByNow: KnownEvents = (ids) =>
      Effect.map(graph.knownBodies(room)(ids), (found) => {
        const all = new Map(found)
        for (const id of ids) if (!all.has(id) && given.has(id)) all.set(id, given.get(id)!)
        return all
      })

    /** Asks for the state before an event. `refused` is the answer of a server that does not have it. */
    const findState = Effect.fnUntraced(function* (at: EventId) {
      if (statesAsked.has(at) || statesAsked.size >= maxStates) return "failed"
      statesAsked.add(at)
      const result = yield* Effect.result(noting(remote.stateAt(origin, version, roomId, at, knownByNow)))
      if (Result.isFailure(result)) return isRefusal(result.failure) ? "refused" : "failed"
      states.set(at, result.success)
      for (const event of result.success.authChain) given.set(event.event_id, event)
      for (const event of result.success.state) given.set(event.event_id, event)
      return "given"
    })

    /**
     * Fetches a predecessor that is missing, and the state before it if its own predecessors are missing too. True if the
     * origin has the event and its state, whether or not all of that could be fetched.
     */
    const findPredecessor = Effect.fnUntraced(function* (id: EventId) {
      if (batch.has(id)) return true
      if (absent.has(id) || unhandled.has(id) || statesAsked.size >= maxStates) return false
      const known = (yield* graph.known(room, [id])).get(id)
      const outcome = endsHere && known === undefined ? yield* findState(id) : undefined
      if (outcome === "refused") {
        absent.add(id)
        return false
      }
      yield* connect(known === undefined ? yield* single(id) : [known.event])
      const found = batch.get(id)
      if (found === undefined) return false
      if (outcome === "given") return true
      const before = yield* graph.known(room, found.prev_events)
      if (found.prev_events.every((prev) => batch.has(prev) || isPlaced(before.get(prev)))) return true
      const state = yield* findState(id)
      // Without its state the event is left out, and so are those that follow it.
      if (state !== "given") {
        batch.delete(id)
        absent.add(id)
      }
      return state !== "refused"
    })

    /** True if all of the predecessors were found. The first that was not ends the search. */
    const findEach = Effect.fnUntraced(function* (ids: ReadonlyArray<EventId>) {
      for (const id of ids) if (!(yield* findPredecessor(id))) return false
      return true
    })

    /**
     * Without its state an event is left out, with the fetched ones that follow it: an origin that has back-filled them knows no
     * state at any of them. What the received events follow is fetched again then, and placed by its own state.
     */
    const leaveOut = (id: EventId) => {
      const received = new Set(events.map(({ event_id }) => event_id))
      if (received.has(id)) return
      absent.add(id)
      const left = new Set([id])
      for (const { event_id, prev_events } of topologicalOrder(batch.values())) {
        if (received.has(event_id) || states.has(event_id)) continue
        if (event_id === id || prev_events.some((prev) => left.has(prev))) left.add(event_id)
      }
      for (const eventId of left) batch.delete(eventId)
    }

    /**
     * If a gap stays open, the state is requested at each missing predecessor. The state at the event itself is
     * asked for only if the origin does not have that, and for history, which is not followed further back.
     */
    const findStates = Effect.gen(function* () {
      const tried = new Set<EventId>()
      while (statesAsked.size < maxStates) {
        const { open } = yield* borders()
        const isHopeless = ({ prev_events }: Event) => prev_events.some((id) => withheld.has(id))
        const event = topologicalOrder(open.filter((candidate) => !isHopeless(candidate))).find(
          ({ event_id: id }) => !states.has(id) && !tried.has(id)
        )
        if (event === undefined) return
        tried.add(event.event_id)
        const before = yield* graph.known(room, event.prev_events)
        const missing = event.prev_events.filter((id) => !batch.has(id) && !isPlaced(before.get(id)))
        if (!history.has(event.event_id) && (yield* findEach(missing))) continue
        if ((yield* findState(event.event_id)) === "refused") leaveOut(event.event_id)
      }
    })

    const findAuthEvents = Effect.suspend(() => fetchAuthEvents(room, origin, [...batch.values()], given, authEvents))

    /**
     * Events whose senders are not in the state that we have, but name a verified membership that has no place here: it
     * was left out of the state with which this server joined, since the keys of its server were missing then.
     */
    const findMembers = Effect.gen(function* () {
      const isHere = (sender: UserId) => room.lookup("m.room.member", sender) !== undefined
      const strangers = new Map(
        topologicalOrder(batch.values())
          .filter(({ event_id, sender }) => !history.has(event_id) && !states.has(event_id) && !isHere(sender))
          .toReversed()
          .map((event) => [event.sender, event])
      )
      const found = yield* graph.known(
        room,
        [...strangers.values()].flatMap((event) => event.auth_events)
      )
      const cites = ({ auth_events, sender }: Event) =>
        auth_events.some((id) => {
          const known = found.get(id)
          const cited = authEvents.get(id) ?? (known?.status === EventStatus.outlier ? known.event : undefined)
          return cited?.type === "m.room.member" && cited.state_key === sender && cited.content.membership === "join"
        })
      for (const event of [...strangers.values()].filter(cites)) yield* findState(event.event_id)
    })

    /**
     * Rejected events that were received again, or that received events follow. The server that gave the state by which they
     * were rejected may have lied: they are judged again by the state that this origin gives.
     */
    const findRejected = Effect.gen(function* () {
      const around = yield* graph.known(
        room,
        [...batch.values()].flatMap(({ event_id, prev_events }) => [event_id, ...prev_events])
      )
      const rejected = [...around.values()].filter(({ status }) => status === EventStatus.rejected)
      for (const event of topologicalOrder(rejected.map((known) => known.event))) {
        const { event_id: id } = event
        if (states.has(id) || (yield* findState(id)) === "given") batch.set(id, event)
      }
    })

    const isWhole = yield* Effect.timeoutOption(
      withAnswerBudget(
        maxBytes,
        Effect.all([findPredecessors, findStates, findAuthEvents, findMembers, findRejected], { discard: true })
      ),
      gapTimeout
    )
    const isOpen = (yield* borders()).toFetch.some(({ event_id }) => !states.has(event_id))
    return {
      isOpen,
      hasFailed: failed || isWhole._tag === "None",
      events: topologicalOrder(batch.values()),
      history,
      states,
      authEvents: [...authEvents.values()]
    } satisfies ClosedGap
  })

  /** The unknown auth events of events. */
  const authEventsOf = Effect.fnUntraced(function* (room: RoomState, origin: ServerName, events: ReadonlyArray<Event>) {
    const fetched = new Map<EventId, Event>()
    yield* Effect.timeoutOption(fetchAuthEvents(room, origin, events, new Map(), fetched), gapTimeout)
    return [...fetched.values()]
  })

  return { close, authEventsOf }
})

export type RoomGaps = Effect.Success<ReturnType<typeof makeRoomGaps>>
