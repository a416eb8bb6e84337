/**
 * Fetches the predecessors of received events that are missing here: those between the forward extremities and the events first, then
 * single ones or whole pages before them.
 *
 * Source: "Backfilling and retrieving missing events" of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { EventStatus } from "@greenroom/store/EventLog"
import { Effect } from "effect"
import { RemoteRooms } from "../RemoteRooms.ts"
import { type GapSearch, isPlaced, maxNamed } from "./GapSearch.ts"
import type { RoomGraph } from "./RoomGraph.ts"

/** How many events one request may make us fetch, and in how many rounds. */
const maxRounds = 5
const eventsPerRound = 100
/** Up to how many missing predecessors are asked for one by one. */
const fewMissing = 5
/** An answer of fewer events is whole: servers cut longer ones, Synapse at 20. */
const wholeAnswer = 10

const namesOf = (events: ReadonlyArray<Event>): ReadonlyArray<EventId> =>
  events.slice(0, maxNamed).map((event) => event.event_id)

export const makeGapPredecessors = Effect.fnUntraced(function* (graph: RoomGraph, unhandled: ReadonlySet<EventId>) {
  const remote = yield* RemoteRooms

  /** Predecessors that are neither known nor fetched, with the events that follow them. */
  const borders = Effect.fnUntraced(function* ({ batch, history, room, withheld }: GapSearch) {
    const outside = [...batch.values()].flatMap((event) => event.prev_events.filter((id) => !batch.has(id)))
    const found = yield* graph.known(room, outside)
    const isMissing = (id: EventId) => !batch.has(id) && !isPlaced(found.get(id))
    const open = [...batch.values()].filter((event) => event.prev_events.some(isMissing))
    const toFetch = open.filter((event) => !history.has(event.event_id))
    const missing = new Set(toFetch.flatMap((event) => event.prev_events.filter(isMissing)))
    return { open, toFetch, missing: [...missing].filter((id) => !unhandled.has(id) && !withheld.has(id)) }
  })

  /** The events between the forward extremities and the received events, as far as the origin gives them. */
  const between = Effect.fnUntraced(function* (
    search: GapSearch,
    followers: ReadonlyArray<Event>,
    missing: ReadonlyArray<EventId>
  ) {
    const { origin, room, withheld } = search
    const extremities = room.extremities.slice(0, maxNamed).map((extremity) => extremity.event_id)
    const answer = yield* Effect.option(
      search.notingRefusal(
        remote.missingEvents(origin, room.version, room.roomId, extremities, namesOf(followers), eventsPerRound)
      )
    )
    if (answer._tag === "None") return { given: [], isWhole: false }
    const found = new Set(answer.value.map((event) => event.event_id))
    const isWhole = followers.length <= maxNamed && found.size < wholeAnswer
    const known = isWhole ? yield* graph.known(room, missing) : undefined
    for (const id of missing) if (known !== undefined && !found.has(id) && !known.has(id)) withheld.add(id)
    return { given: answer.value, isWhole }
  })

  /** One event, if the origin gives it. */
  const fetchOne = Effect.fnUntraced(function* (search: GapSearch, id: EventId) {
    const { origin, room } = search
    const found = yield* Effect.option(search.noting(remote.event(origin, room.version, room.roomId, id)))
    if (found._tag === "Some") return [found.value]
    search.absent.add(id)
    return []
  })

  /** The page of events before the followers. */
  const fetchPage = (search: GapSearch, followers: ReadonlyArray<Event>) => {
    const { origin, room } = search
    const page = remote.backfill(origin, room.version, room.roomId, namesOf(followers), eventsPerRound)
    return Effect.orElseSucceed(search.noting(page), (): ReadonlyArray<Event> => [])
  }

  /** Adds the fetched events that the found ones follow, directly or indirectly. Returns their number. */
  const connect = Effect.fnUntraced(function* ({ batch, history, room }: GapSearch, fetched: ReadonlyArray<Event>) {
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

  const findPredecessors = Effect.fnUntraced(function* (search: GapSearch) {
    for (let round = 0; round < maxRounds; round++) {
      const { missing, toFetch } = yield* borders(search)
      if (missing.length === 0) return
      // If single events lead to further missing ones, whole pages are requested.
      if (round === 0 && search.isSender) {
        const { given, isWhole } = yield* between(search, toFetch, missing)
        const taken = yield* connect(search, given)
        if (isWhole && taken > 0) {
          search.endsHere = true
          return
        }
        if (taken > 0) continue
      }
      const left = missing.filter((id) => !search.withheld.has(id))
      if (left.length === 0) return
      const isFew = round === 0 && left.length <= fewMissing
      const fetched = isFew
        ? (yield* Effect.forEach(left, (id) => fetchOne(search, id), { concurrency: fewMissing })).flat()
        : yield* fetchPage(search, toFetch)
      if ((yield* connect(search, fetched)) === 0) return
    }
  })

  return { borders, connect, fetchOne, findPredecessors }
})

export type GapPredecessors = Effect.Success<ReturnType<typeof makeGapPredecessors>>
