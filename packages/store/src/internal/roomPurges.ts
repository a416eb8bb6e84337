/**
 * The removal of rooms and of their history from all tables, in batches that take a fraction of a second each.
 *
 * A purge hides the room with its first statement (`hide`): a room without a current state does not exist for any reader.
 * The other rows are removed afterwards, from every table that has a column `room_nid` or `room_id`, so that a table that is
 * added later is covered.
 */
import type { EventId, RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import * as Effect from "effect/Effect"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as Statement from "effect/sql/Statement"
import { removeInBatches } from "../Batches.ts"
import { bigints, texts } from "../PgArrays.ts"

/** The end of the history that is removed. */
export interface HistoryPoint {
  readonly xid: string
  readonly nid: number
}

/** How many rows one statement removes. */
const batch = 2_000

/** Tables that name rooms and outlive them: records of actions by administrators and users. */
const kept: ReadonlyArray<string> = ["rooms", "reports", "blocked_rooms", "room_removals"]

const count = (rows: ReadonlyArray<unknown>): number => rows.length

export const makeRoomPurges = (sql: SqlClient.SqlClient) => {
  const hide = (roomId: RoomId) =>
    sql<{ room_nid: bigint }>`
      UPDATE rooms SET current_chain = NULL, current_seq = NULL, forward_extremities = '{}', visibility = 'private',
        name = NULL, topic = NULL, joined_members = 0, shows_members = false, fence = fence + 1
      WHERE room_id = ${roomId} RETURNING room_nid`.pipe(
      Effect.map(([row]) => (row === undefined ? undefined : Number(row.room_nid))),
      Effect.orDie
    )

  /** Tables that name the room, with whether they name users too. */
  const tables = sql<{ name: string; by: "room_nid" | "room_id"; of_users: boolean }>`
    SELECT pg_class.relname AS name, attname AS by, EXISTS (
        SELECT 1 FROM pg_attribute AS other WHERE other.attrelid = pg_class.oid AND other.attname = 'user_id') AS of_users
    FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
    WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace AND NOT attisdropped
      AND attname IN ('room_nid', 'room_id') AND NOT (relname = ANY (${texts(kept)}::text[]))
    ORDER BY relname = 'memberships', relname`.pipe(Effect.orDie)

  /** Rows that belong to events, before the events themselves. */
  const removeOfEvents = Effect.fnUntraced(function* (nids: ReadonlyArray<number>) {
    const numbers = bigints(nids)
    yield* sql`DELETE FROM event_auth WHERE event_nid = ANY (${numbers}::bigint[])`
    yield* sql`DELETE FROM outgoing_pdus WHERE event_nid = ANY (${numbers}::bigint[])`
    yield* sql`DELETE FROM timeline_gaps WHERE nid = ANY (${numbers}::bigint[])`
    yield* sql`DELETE FROM history_states WHERE nid = ANY (${numbers}::bigint[])`
    yield* sql`DELETE FROM search_queue WHERE nid = ANY (${numbers}::bigint[])`
    yield* sql`DELETE FROM event_search WHERE nid = ANY (${numbers}::bigint[])`
    yield* sql`DELETE FROM mentions WHERE nid = ANY (${numbers}::bigint[])`
    yield* sql`DELETE FROM push_actions WHERE nid = ANY (${numbers}::bigint[])`
    yield* sql`DELETE FROM room_push_actions WHERE nid = ANY (${numbers}::bigint[])`
    yield* sql`DELETE FROM events WHERE nid = ANY (${numbers}::bigint[])`
  }, sql.withTransaction)

  const removeEvents = (named: Statement.Fragment) =>
    Effect.gen(function* () {
      const rows = yield* sql<{ nid: bigint }>`SELECT nid FROM events WHERE ${named} LIMIT ${batch}`
      if (rows.length > 0) yield* removeOfEvents(rows.map(({ nid }) => Number(nid)))
      return rows.length
    }).pipe(Effect.orDie)

  const removeChains = (roomNid: number) =>
    Effect.gen(function* () {
      const rows = yield* sql`
        DELETE FROM state_deltas WHERE ctid = ANY (ARRAY(
          SELECT state_deltas.ctid FROM state_chains JOIN state_deltas USING (chain)
          WHERE state_chains.room_nid = ${roomNid} LIMIT ${batch})) RETURNING 1`
      return count(rows)
    }).pipe(Effect.orDie)

  const purge = Effect.fn("RoomAdministrationStore.purge")(function* (roomNid: number, roomId: RoomId) {
    let total = yield* removeInBatches(batch, removeEvents(sql`room_nid = ${roomNid}`))
    total += yield* removeInBatches(batch, removeChains(roomNid))
    // Tables with an index by user are first searched by the users of the room: that removes most rows without a scan.
    const users = yield* Effect.orDie(sql<{ user_id: string }>`
      SELECT memberships.user_id FROM memberships JOIN users USING (user_id) WHERE room_nid = ${roomNid}`)
    const userIds = texts(users.map(({ user_id }) => user_id))
    for (const { by, name, of_users } of yield* tables) {
      const table = sql.literal(`"${name}"`)
      const room = by === "room_nid" ? sql`room_nid = ${roomNid}` : sql`room_id = ${roomId}`
      const remove = (condition: Statement.Fragment) =>
        removeInBatches(
          batch,
          sql`DELETE FROM ${table} WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM ${table} WHERE ${condition} LIMIT ${batch})) RETURNING 1`.pipe(
            Effect.map(count),
            Effect.orDie
          )
        )
      if (of_users && name !== "memberships") {
        total += yield* remove(sql`user_id = ANY (${userIds}::text[]) AND ${room}`)
      }
      total += yield* remove(room)
    }
    yield* Effect.orDie(sql`DELETE FROM rooms WHERE room_nid = ${roomNid}`)
    return total
  })

  const pointOfEvent = (roomId: RoomId, eventId: EventId) =>
    sql<{ xid: string; nid: bigint }>`
      SELECT xid::text AS xid, nid FROM events
      WHERE room_nid = (SELECT room_nid FROM rooms WHERE room_id = ${roomId}) AND status <= 1 AND event_id = ${eventId}`

  /** The newest event from before a time, by walking back. The bodies are read here, as they may have what PostgreSQL's JSON cannot. */
  const pointOfTime = Effect.fnUntraced(function* (roomId: RoomId, time: number) {
    let [xid, nid] = ["18446744073709551615", 0]
    for (;;) {
      const rows = yield* sql<{ xid: string; nid: bigint; body: string }>`
        SELECT xid::text AS xid, nid, body FROM events
        WHERE room_nid = (SELECT room_nid FROM rooms WHERE room_id = ${roomId}) AND status <= 1
          AND (xid, nid) < (${xid}::xid8, ${nid}::bigint)
        ORDER BY events.xid DESC, events.nid DESC LIMIT ${batch}`
      for (const row of rows) {
        const { origin_server_ts } = JSON.parse(row.body) as { readonly origin_server_ts?: number }
        if (origin_server_ts !== undefined && origin_server_ts < time) {
          return { xid: row.xid, nid: Number(row.nid) + 1 }
        }
        ;[xid, nid] = [row.xid, Number(row.nid)]
      }
      if (rows.length < batch) return undefined
    }
  })

  const historyPoint = Effect.fnUntraced(function* (
    roomId: RoomId,
    before: { readonly eventId: EventId } | { readonly time: number }
  ) {
    if ("time" in before) return yield* pointOfTime(roomId, before.time)
    const [row] = yield* pointOfEvent(roomId, before.eventId)
    return row === undefined ? undefined : { xid: row.xid, nid: Number(row.nid) }
  }, Effect.orDie)

  const purgeHistory = (roomNid: number, { nid, xid }: HistoryPoint, local: ServerName | undefined) =>
    removeInBatches(
      batch,
      removeEvents(sql`
        room_nid = ${roomNid} AND status <= 1 AND state_key IS NULL AND (xid, nid) < (${xid}::xid8, ${nid}::bigint)
        AND (${local ?? null}::text IS NULL OR right(sender, ${(local?.length ?? 0) + 1}) <> ${`:${local ?? ""}`})
        AND NOT event_id = ANY (SELECT unnest(forward_extremities) FROM rooms WHERE room_nid = ${roomNid})`)
    )

  const eventsOf = (roomId: RoomId) =>
    sql<{ events: number }>`
      SELECT count(*)::int AS events FROM events WHERE room_nid = (SELECT room_nid FROM rooms WHERE room_id = ${roomId})`.pipe(
      Effect.map(([row]) => row?.events ?? 0),
      Effect.orDie
    )

  return { hide, eventsOf, purge, historyPoint, purgeHistory }
}
