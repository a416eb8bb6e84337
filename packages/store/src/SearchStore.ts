/**
 * The full-text index of rooms: messages, names and topics. It follows the log in batches.
 *
 * An error of the database is a defect. Source: "Server Side Search" of the client-server specification; PostgreSQL, "Full
 * Text Search".
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { asynchronousCommit } from "./internal/asynchronousCommit.ts"
import { logEdge } from "./internal/logEdge.ts"
import { positionSql } from "./internal/positionSql.ts"
import { searchableKeys } from "./internal/searchableTypes.ts"
import { bigints, texts } from "./PgArrays.ts"
import type { StreamPosition } from "./StreamToken.ts"

export interface SearchQuery {
  readonly userId: UserId
  /** Words, quoted phrases, `or` and `-`. */
  readonly term: string
  /** The keys to search: `content.body`, `content.name`, `content.topic`. */
  readonly keys: ReadonlyArray<string>
  readonly order: "rank" | "recent"
  /** Rooms to search, of those that the user is or was in; all if absent. */
  readonly rooms?: ReadonlyArray<string> | undefined
  readonly notRooms?: ReadonlyArray<string> | undefined
  readonly upTo: StreamPosition
  /** The hit before the first one; undefined for the first page. */
  readonly after: HitPlace | undefined
  readonly limit: number
}

/** The place of a hit in either order. */
export interface HitPlace {
  readonly rank: number
  readonly position: StreamPosition
}

export interface SearchHit extends HitPlace {
  readonly eventId: EventId
}

/** The number of matches in a room, on all pages, and the membership of the user. */
export interface RoomMatches {
  readonly roomNid: number
  readonly membership: string
  readonly count: number
}

export interface SearchResults {
  readonly rooms: ReadonlyArray<RoomMatches>
  readonly hits: ReadonlyArray<SearchHit>
}

interface HitRow {
  readonly rooms: ReadonlyArray<string>
  readonly event_id: string | null
  readonly rank: number
  readonly xid: string
  readonly nid: bigint
}

const toRoomMatches = (text: string): RoomMatches => {
  const [roomNid, membership, count] = text.split(" ")
  return { roomNid: Number(roomNid), membership: membership!, count: Number(count) }
}

const toResults = (rows: ReadonlyArray<HitRow>): SearchResults => ({
  rooms: rows[0]!.rooms.map(toRoomMatches),
  hits: rows.flatMap(({ event_id, nid, rank, xid }) =>
    event_id === null ? [] : [{ eventId: event_id as EventId, rank, position: { xid: Number(xid), nid: Number(nid) } }]
  )
})

/** How many events are indexed in one transaction: readers of the log wait for its end. */
const batchSize = 200
/** The most matches that are ranked and counted. */
const maxMatches = 5_000
/** How long a search may take. */
const searchTimeout = "5s"

/** Events to be indexed. */
interface Batch {
  readonly nids: ReadonlyArray<bigint>
  /** Those of them whose text PostgreSQL cannot read: characters that it has no text for are escaped in JSON. */
  readonly escaped: ReadonlyArray<bigint>
}

interface TimelineBatch extends Batch {
  /** The position of the last event. */
  readonly xid: string
  readonly nid: bigint
}

interface EscapedRow {
  readonly nid: bigint
  readonly type: string
  readonly body: string
}

/** The text of an event, as PostgreSQL's text can hold it. */
const textOf = ({ body, type }: EscapedRow): string => {
  const { content } = JSON.parse(body) as Event
  const text = content[searchableKeys.get(type)!.slice("content.".length)]
  return typeof text === "string" ? text.toWellFormed().replaceAll("\0", " ") : ""
}

export class SearchStore extends Context.Service<
  SearchStore,
  {
    /** Indexes the next batch. True if nothing is left. */
    readonly indexNext: Effect.Effect<boolean>
    /** Matches in rooms of the user, whether or not the user may see them. Undefined if the search took too long. */
    readonly search: (query: SearchQuery) => Effect.Effect<SearchResults | undefined>
  }
>()("greenroom/store/SearchStore") {
  static readonly layer = Layer.effect(
    SearchStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const types = texts([...searchableKeys.keys()])
      const keys = texts([...searchableKeys.values()])
      const isEscaped = sql`position('\\u' IN body) > 0`

      /**
       * The end of a statement, which inserts the texts of a batch if `claimed` has a row. PostgreSQL takes the texts out of the events, which
       * costs the gateway nothing.
       */
      const insert = Effect.fnUntraced(function* ({ escaped, nids }: Batch) {
        const rows =
          escaped.length === 0
            ? []
            : yield* sql<EscapedRow>`
                SELECT nid, type, body FROM events
                WHERE nid = ANY (${bigints(escaped.map(Number))}::bigint[]) AND type = ANY (${types}::text[])`
        return sql`, found AS MATERIALIZED (
            SELECT nid, room_nid, xid, key, CASE
              WHEN given.nid IS NOT NULL THEN given.text
              WHEN ${isEscaped} THEN NULL
              WHEN json_typeof(body::json #> string_to_array(key, '.')) = 'string' THEN body::json #>> string_to_array(key, '.')
            END AS text
            FROM events JOIN unnest(${types}::text[], ${keys}::text[]) AS searchable (type, key) USING (type)
            LEFT JOIN unnest(
              ${bigints(rows.map(({ nid }) => Number(nid)))}::bigint[], ${texts(rows.map(textOf))}::text[]
            ) AS given (nid, text) USING (nid)
            WHERE nid = ANY (${bigints(nids.map(Number))}::bigint[]))
          INSERT INTO event_search (nid, room_nid, xid, key, vector)
          SELECT nid, room_nid, xid, key, to_tsvector('simple', text) FROM found
          WHERE text <> '' AND EXISTS (SELECT FROM claimed)
          ON CONFLICT (nid) DO NOTHING`
      })

      /** In the text, so that PostgreSQL plans for so few rows. */
      const ofBatch = sql.literal(String(batchSize))

      // A crash may undo a batch, which is indexed again then. The batch is chosen before the transaction begins, so that this is
      // short. If several nodes choose the same batch, one of them writes it.
      const indexTimeline = Effect.gen(function* () {
        const [progress] = yield* sql<{ xid: string; nid: bigint }>`SELECT xid::text AS xid, nid FROM search_progress`
        const [batch] = yield* sql<TimelineBatch>`
          WITH complete AS MATERIALIZED (SELECT ${logEdge(sql)} AS edge), batch AS MATERIALIZED (
            SELECT nid, xid, ${isEscaped} AS escaped FROM events
            WHERE status = 0 AND (xid, nid) > (${progress!.xid}::xid8, ${progress!.nid}::bigint)
              AND xid < (SELECT edge FROM complete) AND type = ANY (${types}::text[])
            ORDER BY events.xid, events.nid LIMIT ${ofBatch})
          SELECT ARRAY(SELECT nid FROM batch) AS nids, ARRAY(SELECT nid FROM batch WHERE escaped) AS escaped, xid::text AS xid, nid
          FROM batch ORDER BY batch.xid DESC, batch.nid DESC LIMIT 1`
        if (batch === undefined) return true
        yield* sql`
          WITH ${asynchronousCommit(sql)}, claimed AS (
            UPDATE search_progress SET xid = ${batch.xid}::xid8, nid = ${batch.nid}::bigint FROM asynchronous_commit
            WHERE xid = ${progress!.xid}::xid8 AND nid = ${progress!.nid}::bigint RETURNING 1)
          ${yield* insert(batch)}`
        return batch.nids.length < batchSize
      })

      const indexHistory = Effect.gen(function* () {
        const [batch] = yield* sql<Batch>`
          WITH batch AS MATERIALIZED (SELECT nid FROM search_queue ORDER BY nid LIMIT ${ofBatch})
          SELECT ARRAY(SELECT nid FROM batch) AS nids,
            ARRAY(SELECT nid FROM batch JOIN events USING (nid) WHERE ${isEscaped}) AS escaped`
        if (batch!.nids.length === 0) return true
        yield* sql`
          WITH ${asynchronousCommit(sql)}, claimed AS (
            DELETE FROM search_queue USING asynchronous_commit
            WHERE nid = ANY (${bigints(batch!.nids.map(Number))}::bigint[]) RETURNING 1)
          ${yield* insert(batch!)}`
        return batch!.nids.length < batchSize
      })

      const indexNext = Effect.orDie(
        Effect.map(Effect.all([indexTimeline, indexHistory]), ([timeline, history]) => timeline && history)
      )

      const search = ({ after, keys, limit, notRooms, order, rooms, term, upTo, userId }: SearchQuery) => {
        const isRanked = order === "rank"
        const byOrder = isRanked ? sql`rank DESC, xid DESC, nid DESC` : sql`xid DESC, nid DESC`
        const isLater =
          after === undefined
            ? sql`true`
            : isRanked
              ? sql`(rank, xid, nid) < (${after.rank}::float8, ${String(after.position.xid)}::xid8, ${String(after.position.nid)}::bigint)`
              : sql`(xid, nid) < ${positionSql(sql, after.position)}`
        const found = sql<HitRow>`
          WITH room AS MATERIALIZED (
            SELECT room_nid, membership FROM memberships JOIN rooms USING (room_nid)
            WHERE user_id = ${userId} AND membership IN ('join', 'leave', 'ban')
              AND ${rooms === undefined ? sql`true` : sql`room_id = ANY (${texts(rooms)}::text[])`}
              AND ${notRooms === undefined ? sql`true` : sql`room_id <> ALL (${texts(notRooms)}::text[])`}
          ), match AS (
            SELECT nid, xid, room_nid, ts_rank_cd(vector, query)::float8 AS rank
            FROM event_search, websearch_to_tsquery('simple', ${term}) AS query
            WHERE vector @@ query AND room_nid IN (SELECT room_nid FROM room) AND key = ANY (${texts(keys)}::text[])
              AND (xid, nid) <= ${positionSql(sql, upTo)}
            ORDER BY event_search.xid DESC, event_search.nid DESC LIMIT ${maxMatches}
          )
          SELECT counted.rooms, events.event_id, hit.rank, hit.xid::text AS xid, hit.nid FROM (
            SELECT ARRAY (
              SELECT concat_ws(' ', room_nid, membership, count(*)) FROM match JOIN room USING (room_nid)
              GROUP BY room_nid, membership) AS rooms
          ) AS counted
          LEFT JOIN (
            SELECT nid, xid, rank FROM match WHERE ${isLater} ORDER BY ${byOrder} LIMIT ${limit}
          ) AS hit ON true
          LEFT JOIN events ON events.nid = hit.nid
          ORDER BY ${isRanked ? sql`hit.rank DESC, hit.xid DESC, hit.nid DESC` : sql`hit.xid DESC, hit.nid DESC`}`
        return sql
          .withTransaction(
            Effect.andThen(sql`SET LOCAL statement_timeout = ${sql.literal(`'${searchTimeout}'`)}`, found)
          )
          .pipe(
            Effect.map(toResults),
            Effect.catchIf(
              (error) => String((error.reason as { cause?: { code?: string } }).cause?.code) === "57014",
              () => Effect.undefined
            ),
            Effect.orDie
          )
      }

      return SearchStore.of({ indexNext, search })
    })
  )
}
