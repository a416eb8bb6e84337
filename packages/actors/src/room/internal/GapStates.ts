/**
 * Asks another server for the states before events whose predecessors stay missing, or that were judged by a state that may be wrong.
 *
 * Source: "Retrieving state" (`state_ids`, `state`) of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import { topologicalOrder } from "@greenroom/room/EventGraph"
import { EventStatus } from "@greenroom/store/EventLog"
import { Effect, Result } from "effect"
import { isRefusal, type KnownEvents, RemoteRooms } from "../RemoteRooms.ts"
import type { GapPredecessors } from "./GapPredecessors.ts"
import { type GapSearch, isPlaced } from "./GapSearch.ts"
import type { RoomGraph } from "./RoomGraph.ts"

/** At how many events the state is asked for where a gap stays open. */
const maxStates = 10

/**
 * Without its state an event is left out, with the fetched ones that follow it: an origin that has back-filled them knows no
 * state at any of them. What the received events follow is fetched again then, and placed by its own state.
 */
const leaveOut = ({ absent, batch, received, states }: GapSearch, id: EventId) => {
  const receivedIds = new Set(received.map(({ event_id }) => event_id))
  if (receivedIds.has(id)) return
  absent.add(id)
  const left = new Set([id])
  for (const { event_id, prev_events } of topologicalOrder(batch.values())) {
    if (receivedIds.has(event_id) || states.has(event_id)) continue
    if (event_id === id || prev_events.some((prev) => left.has(prev))) left.add(event_id)
  }
  for (const eventId of left) batch.delete(eventId)
}

export const makeGapStates = Effect.fnUntraced(function* (
  graph: RoomGraph,
  unhandled: ReadonlySet<EventId>,
  { borders, connect, fetchOne }: GapPredecessors
) {
  const remote = yield* RemoteRooms

  /** The events of the room, and those of the states that were given so far. */
  const knownByNow =
    ({ given, room }: GapSearch): KnownEvents =>
    (ids) =>
      Effect.map(graph.knownBodies(room)(ids), (found) => {
        const all = new Map(found)
        for (const id of ids) if (!all.has(id) && given.has(id)) all.set(id, given.get(id)!)
        return all
      })

  /** Asks for the state before an event. `refused` is the answer of a server that does not have it. */
  const findState = Effect.fnUntraced(function* (search: GapSearch, at: EventId) {
    const { given, origin, room, states, statesAsked } = search
    if (statesAsked.has(at) || statesAsked.size >= maxStates) return "failed"
    statesAsked.add(at)
    const asked = remote.stateAt(origin, room.version, room.roomId, at, knownByNow(search))
    const result = yield* Effect.result(search.noting(asked))
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
  const findPredecessor = Effect.fnUntraced(function* (search: GapSearch, id: EventId) {
    const { absent, batch, endsHere, room, statesAsked } = search
    if (batch.has(id)) return true
    if (absent.has(id) || unhandled.has(id) || statesAsked.size >= maxStates) return false
    const known = (yield* graph.known(room, [id])).get(id)
    const outcome = endsHere && known === undefined ? yield* findState(search, id) : undefined
    if (outcome === "refused") {
      absent.add(id)
      return false
    }
    yield* connect(search, known === undefined ? yield* fetchOne(search, id) : [known.event])
    const found = batch.get(id)
    if (found === undefined) return false
    if (outcome === "given") return true
    const before = yield* graph.known(room, found.prev_events)
    if (found.prev_events.every((prev) => batch.has(prev) || isPlaced(before.get(prev)))) return true
    const state = yield* findState(search, id)
    // Without its state the event is left out, and so are those that follow it.
    if (state !== "given") {
      batch.delete(id)
      absent.add(id)
    }
    return state !== "refused"
  })

  /** True if all of the predecessors were found. The first that was not ends the search. */
  const findEach = Effect.fnUntraced(function* (search: GapSearch, ids: ReadonlyArray<EventId>) {
    for (const id of ids) if (!(yield* findPredecessor(search, id))) return false
    return true
  })

  /**
   * If a gap stays open, the state is requested at each missing predecessor. The state at the event itself is
   * asked for only if the origin does not have that, and for history, which is not followed further back.
   */
  const findStates = Effect.fnUntraced(function* (search: GapSearch) {
    const { batch, history, room, states, statesAsked, withheld } = search
    const tried = new Set<EventId>()
    while (statesAsked.size < maxStates) {
      const { open } = yield* borders(search)
      const isHopeless = ({ prev_events }: Event) => prev_events.some((id) => withheld.has(id))
      const event = topologicalOrder(open.filter((candidate) => !isHopeless(candidate))).find(
        ({ event_id: id }) => !states.has(id) && !tried.has(id)
      )
      if (event === undefined) return
      tried.add(event.event_id)
      const before = yield* graph.known(room, event.prev_events)
      const missing = event.prev_events.filter((id) => !batch.has(id) && !isPlaced(before.get(id)))
      if (!history.has(event.event_id) && (yield* findEach(search, missing))) continue
      if ((yield* findState(search, event.event_id)) === "refused") leaveOut(search, event.event_id)
    }
  })

  /**
   * Events whose senders are not in the state that we have, but name a verified membership that has no place here: it
   * was left out of the state with which this server joined, since the keys of its server were missing then.
   */
  const findMembers = Effect.fnUntraced(function* (search: GapSearch) {
    const { authEvents, batch, history, room, states } = search
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
    for (const event of [...strangers.values()].filter(cites)) yield* findState(search, event.event_id)
  })

  /**
   * Rejected events that were received again, or that received events follow. The server that gave the state by which they
   * were rejected may have lied: they are judged again by the state that this origin gives.
   */
  const findRejected = Effect.fnUntraced(function* (search: GapSearch) {
    const { batch, room, states } = search
    const around = yield* graph.known(
      room,
      [...batch.values()].flatMap(({ event_id, prev_events }) => [event_id, ...prev_events])
    )
    const rejected = [...around.values()].filter(({ status }) => status === EventStatus.rejected)
    for (const event of topologicalOrder(rejected.map((known) => known.event))) {
      const { event_id: id } = event
      if (states.has(id) || (yield* findState(search, id)) === "given") batch.set(id, event)
    }
  })

  return { findStates, findMembers, findRejected }
})
