/**
 * Aggregations bundled with events: their newest edit, references to them, and the summary of the thread that they begin; without
 * what the reader may not see, and without events by users whom the reader ignores.
 *
 * Source: "Aggregations of child events" of the client-server specification.
 */
import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import type { StreamedEvent } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { type Aggregation, RelationStore } from "@greenroom/store/RelationStore"
import { theEnd } from "@greenroom/store/StreamToken"
import { Effect } from "effect"
import { makeHistoryVisibility, type Reader } from "../HistoryVisibility.ts"
import { makeIgnoredUsers } from "../IgnoredUsers.ts"

/** An event that may have an aggregation, and the reader of its room: the same user in all rooms. */
export interface BundledEvent {
  readonly event: Event
  readonly reader: Reader
}

/** Renders an event for the reader, with its own aggregations. */
type Render = (event: Event, relations?: JsonObject) => ClientServerEvent

/** The most references of a room with a restricted history that are looked up. */
const maxCheckedReferences = 100

/** The edit that counts: the one that was made last, by the clock of its server. The server cannot see the content of an encrypted one. */
const latestEdit = (edits: ReadonlyArray<StreamedEvent>): Event | undefined =>
  edits.reduce<Event | undefined>((latest, { event: edit }) => {
    if (edit.type !== "m.room.encrypted" && !isJsonObject(edit.content["m.new_content"])) return latest
    if (latest === undefined || edit.origin_server_ts > latest.origin_server_ts) return edit
    return edit.origin_server_ts === latest.origin_server_ts && edit.event_id > latest.event_id ? edit : latest
  }, undefined)

const bundle = (
  { edits, references, thread }: Aggregation,
  ofLatest: ReadonlyMap<EventId, JsonObject>,
  render: Render
): JsonObject => {
  const edit = latestEdit(edits)
  const relations: Record<string, unknown> = {}
  if (edit !== undefined) relations["m.replace"] = render(edit)
  if (references.length > 0) relations["m.reference"] = { chunk: references.map((event_id) => ({ event_id })) }
  if (thread !== undefined) {
    const { event } = thread.latest
    relations["m.thread"] = {
      latest_event: render(event, ofLatest.get(event.event_id)),
      count: thread.count,
      current_user_participated: thread.participated
    }
  }
  return relations as JsonObject
}

const childrenOf = ({ edits, thread }: Aggregation): ReadonlyArray<StreamedEvent> =>
  thread === undefined ? edits : [...edits, thread.latest]

/** Without the children that are not shown. A redacted edit does not count. */
const withChildren = (
  { edits, references, thread }: Aggregation,
  shown: ReadonlyMap<EventId, StreamedEvent>
): Aggregation => {
  const latest = thread && shown.get(thread.latest.event.event_id)
  return {
    edits: edits.filter((edit) => shown.get(edit.event.event_id) === edit),
    references: references.filter((id) => shown.has(id)),
    ...(thread === undefined || latest === undefined ? {} : { thread: { ...thread, latest } })
  }
}

export const makeAggregations = Effect.gen(function* () {
  const store = yield* RelationStore
  const events = yield* EventStore
  const { openTo, visibleTo } = yield* makeHistoryVisibility
  const ignoredUsers = yield* makeIgnoredUsers

  /** The aggregations of the events of one room as its reader may see them. */
  const seenBy = Effect.fnUntraced(function* (
    reader: Reader,
    ofRoom: ReadonlyArray<readonly [EventId, Aggregation]>
  ): Effect.fn.Return<ReadonlyArray<readonly [EventId, Aggregation]>> {
    const references = ofRoom.flatMap(([, { references }]) => references).slice(0, maxCheckedReferences)
    const children = [...ofRoom.flatMap(([, of]) => childrenOf(of)), ...(yield* events.byIds(references))]
    const shown = new Map((yield* visibleTo(reader, children)).map((child) => [child.event.event_id, child]))
    return ofRoom.map(([id, of]) => [id, withChildren(of, shown)] as const)
  })

  const read = Effect.fnUntraced(function* (bundled: ReadonlyArray<BundledEvent>) {
    const ids = bundled.map(({ event }) => event.event_id)
    const types = ids.length === 0 ? new Map<EventId, ReadonlyArray<string>>() : yield* store.relationTypes(ids)
    if (types.size === 0) return new Map<EventId, Aggregation>()
    const related = bundled.filter(({ event }) => types.has(event.event_id))
    const readers = new Map(related.map(({ reader }) => [reader.roomNid, reader]))
    const open = yield* openTo([...readers.values()])
    const parents = related.map(({ event, reader: { leftAt = theEnd, roomNid } }) => ({
      event,
      roomNid,
      upTo: open.has(roomNid) ? theEnd : leftAt
    }))
    const { userId } = related[0]!.reader
    const found = yield* store.aggregations(userId, parents, types, [...(yield* ignoredUsers.of(userId))])
    const roomOf = new Map(parents.map(({ event, roomNid }) => [event.event_id, roomNid]))
    const seen: Array<readonly [EventId, Aggregation]> = []
    for (const [roomNid, ofRoom] of Map.groupBy(found, ([id]) => roomOf.get(id)!)) {
      seen.push(...(open.has(roomNid) ? ofRoom : yield* seenBy(readers.get(roomNid)!, ofRoom)))
    }
    return new Map(seen)
  })

  /** The newest events of threads, which have aggregations of their own. They are in a thread, and begin none. */
  const latestOf = (bundled: ReadonlyArray<BundledEvent>, found: ReadonlyMap<EventId, Aggregation>) =>
    bundled.flatMap(({ event, reader }): ReadonlyArray<BundledEvent> => {
      const latest = found.get(event.event_id)?.thread?.latest
      return latest === undefined ? [] : [{ event: latest.event, reader }]
    })

  const none: ReadonlyMap<EventId, JsonObject> = new Map()

  return {
    /** The aggregations of each event that has some. State events have none. */
    of: Effect.fnUntraced(function* (
      given: ReadonlyArray<BundledEvent>,
      render: Render
    ): Effect.fn.Return<ReadonlyMap<EventId, JsonObject>> {
      const bundled = given.filter(({ event: { state_key } }) => state_key === undefined)
      const found = yield* read(bundled)
      const ofLatest = yield* read(latestOf(bundled, found))
      const inThreads = new Map(Array.from(ofLatest, ([id, of]) => [id, bundle(of, none, render)]))
      return new Map(Array.from(found, ([id, of]) => [id, bundle(of, inThreads, render)]))
    })
  }
})

export type Aggregations = Effect.Success<typeof makeAggregations>
