/**
 * Finds the events between those of another server and those that a room knows: predecessors, their auth events, and the
 * state if the way back is too long. This module stores nothing, so a server that answers slowly delays only itself. The
 * fetches of one request are bounded in count, depth and time. `GapPredecessors` and `GapStates` are the steps of the search.
 *
 * A room begins for this server with the event by which it joined. Of the events before that only the direct predecessors
 * are fetched, as history; the rest is back-filled on demand.
 *
 * Source: docs/federation.md, "Receiving a PDU".
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, ServerName } from "@greenroom/protocol/Identifiers"
import { topologicalOrder } from "@greenroom/room/EventGraph"
import { EventStatus } from "@greenroom/store/EventLog"
import { Effect } from "effect"
import { answersTimeoutOption, withAnswerBudget } from "../../runtime/AnswerBudget.ts"
import { RemoteRooms, type RemoteState } from "../RemoteRooms.ts"
import { makeGapPredecessors } from "./GapPredecessors.ts"
import { GapSearch, isPlaced } from "./GapSearch.ts"
import { makeGapStates } from "./GapStates.ts"
import type { Survey } from "./PlacementPlans.ts"
import type { RoomGraph } from "./RoomGraph.ts"
import type { RoomState } from "./RoomState.ts"

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
  /** What the store had for the events when nothing was missing before them; it holds as long as the room stays the same. */
  readonly surveyed?: { readonly room: RoomState; readonly generation: number; readonly survey: Survey }
  /** Predecessors are missing. */
  readonly isOpen: boolean
  /** The server neither gave something nor said that it does not have it. */
  readonly hasFailed: boolean
  /** The server considers this one outside the room. */
  readonly hasRefused: boolean
}

/** `unhandled` are events that could not be handled: they are not fetched, their successors are placed by their state. */
export const makeRoomGaps = Effect.fnUntraced(function* (graph: RoomGraph, unhandled: ReadonlySet<EventId>) {
  const remote = yield* RemoteRooms
  const predecessors = yield* makeGapPredecessors(graph, unhandled)
  const { findMembers, findRejected, findStates } = yield* makeGapStates(graph, unhandled, predecessors)

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

  const findAuthEvents = ({ authEvents, batch, given, origin, room }: GapSearch) =>
    fetchAuthEvents(room, origin, [...batch.values()], given, authEvents)

  /** Whether all that the events name is here, and none of it is to be judged again, as it is for most of them. */
  const isClosed = ({ batch, room }: GapSearch, { events: { events: found } }: Survey) => {
    const isRejected = (id: EventId) => found.get(id)?.status === EventStatus.rejected
    return [...batch.values()].every(
      ({ auth_events, event_id, prev_events, sender }) =>
        ![event_id, ...prev_events].some(isRejected) &&
        prev_events.every((id) => batch.has(id) || isPlaced(found.get(id))) &&
        auth_events.every((id) => batch.has(id) || found.get(id) !== undefined) &&
        room.lookup("m.room.member", sender) !== undefined
    )
  }

  const foundIn = ({ authEvents, batch, history, states }: GapSearch) => ({
    events: topologicalOrder(batch.values()),
    history,
    states,
    authEvents: [...authEvents.values()]
  })

  /**
   * Fetches what is missing before events. `isSender`: the server has sent the events, and so has what they follow. Another one
   * may have none of them. `generation` is one of the room at which all that other servers had sent was durable.
   */
  const close = Effect.fnUntraced(function* (
    room: RoomState,
    origin: ServerName,
    events: ReadonlyArray<Event>,
    { generation, isSender = true }: { readonly generation?: number; readonly isSender?: boolean } = {}
  ) {
    const search = new GapSearch(room, origin, events, isSender)
    const survey = yield* graph.survey(room, [...search.batch.values()])
    if (isClosed(search, survey)) {
      const surveyed = generation === undefined ? {} : { surveyed: { room, generation, survey } }
      return { isOpen: false, hasFailed: false, hasRefused: false, ...surveyed, ...foundIn(search) } satisfies ClosedGap
    }
    const steps = [predecessors.findPredecessors, findStates, findAuthEvents, findMembers, findRejected]
    const taken = Effect.forEach(steps, (step) => step(search), { discard: true })
    const isWhole = yield* withAnswerBudget(maxBytes, origin, answersTimeoutOption(taken, gapTimeout))
    const { toFetch } = yield* predecessors.borders(search)
    return {
      isOpen: toFetch.some(({ event_id }) => !search.states.has(event_id)),
      hasFailed: search.failed || isWhole._tag === "None",
      hasRefused: search.refused,
      ...foundIn(search)
    } satisfies ClosedGap
  })

  /** The unknown auth events of events. */
  const authEventsOf = Effect.fnUntraced(function* (room: RoomState, origin: ServerName, events: ReadonlyArray<Event>) {
    const fetched = new Map<EventId, Event>()
    yield* answersTimeoutOption(fetchAuthEvents(room, origin, events, new Map(), fetched), gapTimeout)
    return [...fetched.values()]
  })

  return { close, authEventsOf }
})

export type RoomGaps = Effect.Success<ReturnType<typeof makeRoomGaps>>
