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
  readonly offset: number
  readonly limit: number
}

export interface SearchHit {
  readonly eventId: EventId
  readonly rank: number
}

/** How many events are indexed in one transaction: readers of the log wait for its end. */
const batchSize = 200
/** The most matches that are ranked and counted. */
const maxMatches = 5_000
/** How long a search may take. */
const searchTimeout = "5s"

interface EventRow {
  readonly nid: bigint
  readonly room_nid: bigint
  readonly xid: string
  readonly type: string
  readonly body: string
}

/** The text of an event, as PostgreSQL's text can hold it. */
const textOf = ({ body, type }: EventRow) => {
  const key = searchableKeys[type]
  if (key === undefined) return undefined
  const { content } = JSON.parse(body) as Event
  const text = content[key.slice("content.".length)]
  return typeof text === "string" && text !== "" ? { key, text: text.toWellFormed().replaceAll("\0", " ") } : undefined
}

export class SearchStore extends Context.Service<
  SearchStore,
  {
    /** Indexes the next batch. True if nothing is left. */
    readonly indexNext: Effect.Effect<boolean>
    /** Matches in rooms of the user, whether or not the user may see them. Undefined if the search took too long. */
    readonly search: (
      query: SearchQuery
    ) => Effect.Effect<{ readonly count: number; readonly hits: ReadonlyArray<SearchHit> } | undefined>
  }
>()("greenroom/store/SearchStore") {
  static readonly layer = Layer.effect(
    SearchStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const types = texts(Object.keys(searchableKeys))

      /** The end of a statement, which inserts the searchable rows. */
      const insert = (rows: ReadonlyArray<EventRow>) => {
        const found = rows.flatMap((row) => {
          const text = textOf(row)
          return text === undefined ? [] : [{ ...text, row }]
        })
        return sql`
          INSERT INTO event_search (nid, room_nid, xid, key, vector)
          SELECT nid, room_nid, xid::xid8, key, to_tsvector('simple', text) FROM unnest(
            ${bigints(found.map(({ row }) => Number(row.nid)))}::bigint[],
            ${bigints(found.map(({ row }) => Number(row.room_nid)))}::bigint[],
            ${texts(found.map(({ row }) => row.xid))}::text[],
            ${texts(found.map(({ key }) => key))}::text[], ${texts(found.map(({ text }) => text))}::text[]
          ) AS given (nid, room_nid, xid, key, text)`
      }

      // A crash may undo a batch, which is indexed again then. The batch is read before the transaction begins, so that this is
      // short. If several nodes read the same batch, one of them writes it.
      const indexTimeline = Effect.gen(function* () {
        const [progress] = yield* sql<{ xid: string; nid: bigint }>`SELECT xid::text AS xid, nid FROM search_progress`
        const rows = yield* sql<EventRow>`
          WITH complete AS MATERIALIZED (SELECT ${logEdge(sql)} AS edge)
          SELECT nid, room_nid, xid::text AS xid, type, body FROM events, complete
          WHERE status = 0 AND (xid, nid) > (${progress!.xid}::xid8, ${progress!.nid}::bigint)
            AND xid < complete.edge AND type = ANY (${types}::text[])
          ORDER BY events.xid, events.nid LIMIT ${batchSize}`
        const last = rows.at(-1)
        if (last === undefined) return true
        yield* sql`
          WITH ${asynchronousCommit(sql)}, moved AS (
            UPDATE search_progress SET xid = ${last.xid}::xid8, nid = ${last.nid}::bigint FROM asynchronous_commit
            WHERE xid = ${progress!.xid}::xid8 AND nid = ${progress!.nid}::bigint RETURNING 1)
          ${insert(rows)} WHERE EXISTS (SELECT FROM moved)
          ON CONFLICT (nid) DO NOTHING`
        return rows.length < batchSize
      })

      const indexHistory = Effect.gen(function* () {
        const rows = yield* sql<EventRow>`
          SELECT nid, room_nid, xid::text AS xid, type, body FROM search_queue LEFT JOIN events USING (nid)
          ORDER BY nid LIMIT ${batchSize}`
        if (rows.length === 0) return true
        yield* sql`
          WITH ${asynchronousCommit(sql)}, taken AS (
            DELETE FROM search_queue USING asynchronous_commit
            WHERE nid = ANY (${bigints(rows.map(({ nid }) => Number(nid)))}::bigint[]))
          ${insert(rows.filter(({ body }) => body !== null))}
          ON CONFLICT (nid) DO NOTHING`
        return rows.length < batchSize
      })

      const indexNext = Effect.orDie(
        Effect.map(Effect.all([indexTimeline, indexHistory]), ([timeline, history]) => timeline && history)
      )

      const search = ({ keys, limit, notRooms, offset, order, rooms, term, upTo, userId }: SearchQuery) => {
        const byOrder =
          order === "rank" ? sql`rank DESC, match.xid DESC, match.nid DESC` : sql`match.xid DESC, match.nid DESC`
        const found = sql<{ event_id: string; rank: number; count: number }>`
          WITH room AS MATERIALIZED (
            SELECT room_nid FROM memberships JOIN rooms USING (room_nid)
            WHERE user_id = ${userId} AND membership IN ('join', 'leave', 'ban')
              AND ${rooms === undefined ? sql`true` : sql`room_id = ANY (${texts(rooms)}::text[])`}
              AND ${notRooms === undefined ? sql`true` : sql`room_id <> ALL (${texts(notRooms)}::text[])`}
          ), match AS (
            SELECT nid, xid, ts_rank_cd(vector, query)::float8 AS rank
            FROM event_search, websearch_to_tsquery('simple', ${term}) AS query
            WHERE vector @@ query AND room_nid IN (SELECT room_nid FROM room) AND key = ANY (${texts(keys)}::text[])
              AND (xid, nid) <= ${positionSql(sql, upTo)}
            ORDER BY event_search.xid DESC, event_search.nid DESC LIMIT ${maxMatches}
          )
          SELECT events.event_id, match.rank, (SELECT count(*)::integer FROM match) AS count
          FROM match JOIN events ON events.nid = match.nid
          ORDER BY ${byOrder} LIMIT ${limit} OFFSET ${offset}`
        return sql
          .withTransaction(
            Effect.andThen(sql`SET LOCAL statement_timeout = ${sql.literal(`'${searchTimeout}'`)}`, found)
          )
          .pipe(
            Effect.map((rows) => ({
              count: rows[0]?.count ?? 0,
              hits: rows.map(({ event_id, rank }) => ({ eventId: event_id as EventId, rank }))
            })),
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
