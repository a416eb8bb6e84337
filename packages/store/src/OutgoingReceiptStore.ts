/**
 * Receipts of users of this server that wait for other servers: the last of each destination, room, user and thread. `ReceiptStore`
 * queues them in the statement that stores the receipt. A destination may receive one twice, which changes nothing there.
 *
 * An error of the database is a defect. Source: "Receipts" of the server-server specification.
 */
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient, type Statement } from "effect/sql"
import { asynchronousCommit } from "./internal/asynchronousCommit.ts"
import { queuesOf, type WaitingDestination, waitingIn } from "./internal/queues.ts"
import { bigints } from "./PgArrays.ts"

export interface OutgoingReceipt {
  readonly roomId: RoomId
  readonly userId: UserId
  /** `main`, the root of a thread, or undefined for a receipt without a thread. */
  readonly threadId: string | undefined
  readonly eventId: EventId
  /** Milliseconds since 1970. */
  readonly ts: number
  /** The position in the queue. */
  readonly number: number
}

/**
 * After how many failed attempts in a row a destination gets no further receipts: some days, as the longest back-off is a day. A
 * receipt for it would be a row that nobody takes.
 */
const failuresOfAbsent = 20

interface Row {
  readonly room_id: string
  readonly user_id: string
  readonly thread_id: string
  readonly event_id: string
  readonly ts: bigint
  readonly number: bigint
}

const toReceipt = (row: Row): OutgoingReceipt => ({
  roomId: row.room_id as RoomId,
  userId: row.user_id as UserId,
  threadId: row.thread_id === "" ? undefined : row.thread_id,
  eventId: row.event_id as EventId,
  ts: Number(row.ts),
  number: Number(row.number)
})

/**
 * Parts of a WITH RECURSIVE: `queued` has the destinations of the receipts in `changed` (room_nid, user_id, thread_id, event_id, ts),
 * which are of one room. In order of destination, so that two statements never wait for each other.
 */
export const queuedReceipts = (sql: SqlClient.SqlClient, roomNid: number, own: ServerName): Statement.Fragment => sql`
  servers AS (
    (SELECT server FROM memberships WHERE room_nid = ${roomNid} AND membership = 'join' ORDER BY server LIMIT 1)
    UNION ALL
    SELECT (SELECT further.server FROM memberships further
      WHERE further.room_nid = ${roomNid} AND further.membership = 'join' AND further.server > servers.server
      ORDER BY further.server LIMIT 1)
    FROM servers WHERE servers.server IS NOT NULL),
  queued AS (
    INSERT INTO outgoing_receipts (destination, room_id, user_id, thread_id, event_id, ts)
    SELECT servers.server, rooms.room_id, changed.user_id, changed.thread_id, changed.event_id, changed.ts
    FROM changed JOIN rooms USING (room_nid) CROSS JOIN servers
    WHERE servers.server <> ${own} AND NOT EXISTS (
      SELECT FROM destinations WHERE destination = servers.server AND failures >= ${failuresOfAbsent}::integer)
    ORDER BY servers.server
    ON CONFLICT (destination, room_id, user_id, thread_id) DO UPDATE SET
      event_id = excluded.event_id, ts = excluded.ts, number = DEFAULT
    RETURNING destination)`

export class OutgoingReceiptStore extends Context.Service<
  OutgoingReceiptStore,
  {
    /** The first receipts that wait for the destination, at most `most`. */
    readonly next: (destination: ServerName, most: number) => Effect.Effect<ReadonlyArray<OutgoingReceipt>>
    /** Removes receipts that the destination has, or will never accept. Newer ones in their places stay. */
    readonly remove: (destination: ServerName, receipts: ReadonlyArray<OutgoingReceipt>) => Effect.Effect<void>
    /** The destinations with waiting receipts. */
    readonly waiting: Effect.Effect<ReadonlyArray<WaitingDestination>>
    /** Drops receipts from before a time, and all but the newest `most` of each destination. Returns how many were dropped. */
    readonly trim: (before: number, most: number) => Effect.Effect<number>
  }
>()("greenroom/store/OutgoingReceiptStore") {
  static readonly layer = Layer.effect(
    OutgoingReceiptStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      return OutgoingReceiptStore.of({
        next: (destination, most) =>
          sql<Row>`
            SELECT room_id, user_id, thread_id, event_id, ts, number FROM outgoing_receipts
            WHERE destination = ${destination} ORDER BY number LIMIT ${most}`.pipe(
            Effect.map((rows) => rows.map(toReceipt)),
            Effect.orDie
          ),
        // A row that is locked gets a newer receipt now. If a crash of the database undoes this, they are sent again.
        remove: (destination, receipts) =>
          sql`
            WITH ${asynchronousCommit(sql)}, settled AS MATERIALIZED (
              SELECT number FROM outgoing_receipts
              WHERE destination = ${destination}
                AND number = ANY (${bigints(receipts.map(({ number }) => number))}::bigint[])
              FOR UPDATE SKIP LOCKED)
            DELETE FROM outgoing_receipts USING asynchronous_commit
            WHERE destination = ${destination} AND number IN (SELECT number FROM settled)`.pipe(
            Effect.asVoid,
            Effect.orDie
          ),
        waiting: Effect.orDie(waitingIn(sql, "outgoing_receipts")),
        trim: (before, most) =>
          sql<{ dropped: number }>`
            ${queuesOf(sql, "outgoing_receipts")}, surplus AS MATERIALIZED (
              SELECT queues.destination, (
                SELECT number FROM outgoing_receipts queued WHERE queued.destination = queues.destination
                ORDER BY number DESC OFFSET ${most} LIMIT 1) AS number
              FROM queues WHERE queues.destination IS NOT NULL),
            old AS MATERIALIZED (
              SELECT queued.destination, queued.number FROM outgoing_receipts queued JOIN surplus USING (destination)
              WHERE queued.number <= surplus.number OR queued.ts < ${before}
              FOR UPDATE OF queued SKIP LOCKED),
            dropped AS (
              DELETE FROM outgoing_receipts USING old
              WHERE outgoing_receipts.destination = old.destination AND outgoing_receipts.number = old.number
              RETURNING 1)
            SELECT count(*)::integer AS dropped FROM dropped`.pipe(
            Effect.map((rows) => rows[0]?.dropped ?? 0),
            Effect.orDie
          )
      })
    })
  )
}
