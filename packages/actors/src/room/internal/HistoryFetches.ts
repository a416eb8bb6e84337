/**
 * Fetches a piece of a room's history from one server: the events that precede those at the ends of our history, what authorises them,
 * and the states before them.
 *
 * Source: "Backfilling" of the draft, "Backfilling and retrieving missing events" of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, ServerName } from "@greenroom/protocol/Identifiers"
import { topologicalOrder } from "@greenroom/room/EventGraph"
import { EventStatus, type StreamedEvent } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { beginning, positionBefore, theEnd } from "@greenroom/store/StreamToken"
import { Effect } from "effect"
import { RemoteRooms } from "../RemoteRooms.ts"
import type { HistoryStates } from "./HistoryStates.ts"
import type { RoomIntake } from "./RoomIntake.ts"
import type { KnownEvent, RoomState } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"

/** The number of oldest events that are searched for the ends of our history, and the most ends that are named in a request. */
const oldestEvents = 100
const maxEnds = 20
/** The number of events before a gap that are searched for one with a place in the graph. */
const eventsBeforeGap = 5
/** How many withheld events in a row are passed on the way to an end of our history, and how many events are read for each step. */
const maxWithheld = 20
const eventsPerStep = 1_000

export const makeHistoryFetches = Effect.fnUntraced(function* (
  { roomId }: RoomWriter,
  { gaps, graph }: RoomIntake,
  historyStates: HistoryStates
) {
  const remote = yield* RemoteRooms
  const events = yield* EventStore

  /** Whether the timeline continues before a gap. An invitation from before we were in the room has no place in the graph. */
  const hasOlder = Effect.fnUntraced(function* (room: RoomState, { position }: StreamedEvent) {
    const upTo = positionBefore(position)
    const older = yield* events.timelines([{ roomNid: room.roomNid, after: beginning, upTo }], "b", eventsBeforeGap)
    const stored = yield* events.byIds(older.map(({ event }) => event.event_id))
    return stored.some(({ stateBefore, status }) => status === EventStatus.backfilled || stateBefore !== undefined)
  })

  /** The predecessors of events, as far as they are known; beside withheld ones, those that they follow in turn. */
  const predecessorsOf = Effect.fnUntraced(function* (room: RoomState, followers: ReadonlyArray<StreamedEvent>) {
    const all = new Map<EventId, KnownEvent>()
    let wanted = new Set(followers.flatMap(({ event }) => event.prev_events))
    for (let step = 0; step < maxWithheld && wanted.size > 0; step++) {
      const found = yield* graph.known(room, [...wanted].slice(0, eventsPerStep))
      for (const [id, known] of found) all.set(id, known)
      const withheld = [...found.values()].filter(({ status }) => status === EventStatus.withheld)
      wanted = new Set(withheld.flatMap(({ event }) => event.prev_events)).difference(all)
    }
    return all
  })

  /** The events whose predecessors we do not have, oldest first. Where a withheld one has none, the event after it stands for it. */
  const endsOfHistory = Effect.fnUntraced(function* (room: RoomState) {
    const range = { roomNid: room.roomNid, after: beginning, upTo: theEnd }
    const oldest = yield* events.timelines([range], "f", oldestEvents)
    const found = yield* predecessorsOf(room, oldest)
    const judged = new Map<EventId, boolean>()
    const isWhole = ({ event_id, prev_events }: Event): boolean => {
      const earlier = judged.get(event_id)
      if (earlier !== undefined) return earlier
      const result = prev_events.every((id) => {
        const known = found.get(id)
        return known?.status === EventStatus.withheld ? isWhole(known.event) : isVisible(known)
      })
      judged.set(event_id, result)
      return result
    }
    return oldest.filter(({ event }) => !isWhole(event)).slice(0, maxEnds)
  })

  /** The predecessors of the events that another server returned, and their auth events. */
  const fetchHistory = Effect.fnUntraced(function* (
    room: RoomState,
    server: ServerName,
    ends: ReadonlyArray<StreamedEvent>,
    limit: number,
    isInside: boolean
  ) {
    const ids = ends.map(({ event }) => event.event_id)
    const fetched = yield* remote.backfill(server, room.version, roomId, ids, limit)
    const found = yield* graph.known(
      room,
      fetched.flatMap((event) => [event.event_id, ...event.prev_events])
    )
    // Behind known events there is another gap, or the end of history: events of that are fetched for themselves.
    const leadsTo = connected(
      ends,
      isInside ? fetched.filter((event) => !isVisible(found.get(event.event_id))) : fetched
    )
    const positions = new Map<EventId, number>()
    const events: Array<Event> = []
    for (const event of topologicalOrder(fetched)) {
      const end = leadsTo.get(event.event_id)
      if (end === undefined || isStored(found.get(event.event_id))) continue
      // An event in a gap, or one whose predecessor is known, is placed just before the event that led to it.
      const isLate = isInside || event.prev_events.some((id) => isStored(found.get(id)) || positions.has(id))
      if (isLate) positions.set(event.event_id, end.position.xid)
      events.push(event)
    }
    const states = yield* historyStates.find(room, server, ends, events)
    const authEvents = yield* gaps.authEventsOf(room, server, [...events, ...states.fetched])
    return { ends, events, positions, states, authEvents: [...authEvents, ...states.fetched] }
  })

  return { endsOfHistory, fetchHistory, hasOlder }
})

type HistoryFetches = Effect.Success<ReturnType<typeof makeHistoryFetches>>

/** What a server gave. */
export type FetchedHistory = Effect.Success<ReturnType<HistoryFetches["fetchHistory"]>>

const isVisible = (known: KnownEvent | undefined): boolean =>
  known?.status === EventStatus.timeline || known?.status === EventStatus.backfilled

const isStored = (known: KnownEvent | undefined): boolean => isVisible(known) || known?.status === EventStatus.withheld

/**
 * Those of the events to which the predecessors of what we have lead, and from where: the oldest of the ends. Other events
 * are refused.
 */
const connected = (
  ends: ReadonlyArray<StreamedEvent>,
  offered: ReadonlyArray<Event>
): ReadonlyMap<EventId, StreamedEvent> => {
  const byId = new Map(offered.map((event) => [event.event_id, event]))
  const reached = new Map<EventId, StreamedEvent>()
  for (const end of ends) {
    const queue = [end.event]
    for (let event = queue.pop(); event !== undefined; event = queue.pop()) {
      for (const id of event.prev_events) {
        const before = byId.get(id)
        if (before === undefined || reached.has(id)) continue
        reached.set(id, end)
        queue.push(before)
      }
    }
  }
  return reached
}
