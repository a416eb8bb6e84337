/**
 * Public receipts of users of this server that wait for other servers: per destination the rooms with receipts that it lacks, and the
 * position in the log after which they begin. So a receipt is one row, of `receipts`, however many servers are in the room. A
 * destination may receive a receipt twice, which changes nothing there.
 *
 * | destination | room_nid | after_xid, after_nid | |
 * |---|---|---|---|
 * | red.test | 7 | 812, 40 | red.test lacks the receipts of room 7 after (812, 40) |
 *
 * `receipt_progress` has the position up to which receipts were looked at. An error of the database is a defect. Source: "Receipts" of
 * the server-server specification.
 */
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { asynchronousCommit } from "./internal/asynchronousCommit.ts"
import { logEdge } from "./internal/logEdge.ts"
import { positionOf, positionSql } from "./internal/positionSql.ts"
import { presentServers } from "./internal/presentServers.ts"
import { type WaitingDestination, waitingIn } from "./internal/queues.ts"
import { bigints, texts } from "./PgArrays.ts"
import { endOfTransaction, type StreamPosition } from "./StreamToken.ts"

export interface OutgoingReceipt {
  readonly roomId: RoomId
  readonly userId: UserId
  /** `main`, the root of a thread, or undefined for a receipt without a thread. */
  readonly threadId: string | undefined
  readonly eventId: EventId
  /** Milliseconds since 1970. */
  readonly ts: number
}

/** A room in the queue of a destination, some of whose receipts were read. */
export interface ReadRoom {
  readonly roomNid: number
  readonly number: number
  /** The last receipt that was read, where there are others after it. */
  readonly upTo: StreamPosition | undefined
}

/** The first receipts that wait for a destination. */
export interface WaitingReceipts {
  readonly receipts: ReadonlyArray<OutgoingReceipt>
  readonly rooms: ReadonlyArray<ReadRoom>
  /** Whether more may wait. */
  readonly more: boolean
}

/** The rooms with new receipts in a part of the log. */
export interface ChangedRooms {
  readonly roomNids: ReadonlyArray<number>
  readonly upTo: StreamPosition
  /** The stored progress. */
  readonly progress: StreamPosition
}

/** A room with new receipts after a position. */
export interface ChangedRoom {
  readonly roomNid: number
  readonly after: StreamPosition
}

/**
 * After how many failed attempts in a row a destination gets no further receipts: some days, as the longest back-off is a day. A
 * receipt for it would be a row that nobody takes.
 */
const failuresOfAbsent = 20

interface Row {
  readonly room_nid: bigint
  readonly number: bigint
  readonly room_id: string | null
  readonly user_id: string
  readonly thread_id: string
  readonly event_id: string
  readonly ts: bigint
  readonly xid: string
  readonly nid: bigint
}

const toReceipt = (row: Row): OutgoingReceipt => ({
  roomId: row.room_id as RoomId,
  userId: row.user_id as UserId,
  threadId: row.thread_id === "" ? undefined : row.thread_id,
  eventId: row.event_id as EventId,
  ts: Number(row.ts)
})

/** Of the rows in order, one more than fit if there are more. A room without receipts has one row. */
const toWaiting = (rows: ReadonlyArray<Row>, most: number): WaitingReceipts => {
  const fitting = rows.slice(0, most)
  const cut = rows[most]
  const rooms = new Map(fitting.map((row) => [row.room_nid, row]))
  return {
    receipts: fitting.filter((row) => row.room_id !== null).map(toReceipt),
    rooms: Array.from(rooms.values(), (last) => ({
      roomNid: Number(last.room_nid),
      number: Number(last.number),
      upTo: cut?.room_nid === last.room_nid ? positionOf(last) : undefined
    })),
    more: cut !== undefined || rooms.size === most
  }
}

export class OutgoingReceiptStore extends Context.Service<
  OutgoingReceiptStore,
  {
    /** The rooms with public receipts of users of `own` after a position; without a position, after the stored progress. */
    readonly changed: (after: StreamPosition | undefined, own: ServerName) => Effect.Effect<ChangedRooms>
    /** Queues rooms for the other servers in them, and stores the progress. Returns the servers of each room that has any. */
    readonly queue: (
      rooms: ReadonlyArray<ChangedRoom>,
      progress: StreamPosition,
      own: ServerName
    ) => Effect.Effect<ReadonlyMap<number, ReadonlyArray<ServerName>>>
    /** The first receipts of users of `own` that wait for the destination, at most `most`. */
    readonly next: (destination: ServerName, most: number, own: ServerName) => Effect.Effect<WaitingReceipts>
    /** Removes receipts that the destination has, or will never accept. Rooms with newer ones stay as they are. */
    readonly acknowledge: (destination: ServerName, rooms: ReadonlyArray<ReadRoom>) => Effect.Effect<void>
    /** The destinations with waiting receipts. */
    readonly waiting: Effect.Effect<ReadonlyArray<WaitingDestination>>
    /** Drops rooms that have been queued since before a time. */
    readonly trim: (before: number) => Effect.Effect<void>
  }
>()("greenroom/store/OutgoingReceiptStore") {
  static readonly layer = Layer.effect(
    OutgoingReceiptStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const isPublicOf = (own: ServerName) =>
        sql`receipts.type = 'm.read' AND substr(receipts.user_id, strpos(receipts.user_id, ':') + 1) = ${own}`

      const changed = Effect.fnUntraced(function* (after: StreamPosition | undefined, own: ServerName) {
        const from = after === undefined ? sql`(progress.xid, progress.nid)` : positionSql(sql, after)
        const [row] = yield* sql<{
          xid: string
          nid: bigint
          edge: string
          room_nids: ReadonlyArray<bigint>
        }>`
          WITH complete AS MATERIALIZED (SELECT ${logEdge(sql)} AS edge)
          SELECT progress.xid::text AS xid, progress.nid, complete.edge::text AS edge, ARRAY(
            SELECT DISTINCT room_nid FROM receipts
            WHERE (receipts.xid, receipts.nid) > ${from} AND receipts.xid < complete.edge AND ${isPublicOf(own)}
          ) AS room_nids
          FROM receipt_progress progress, complete`
        const progress = positionOf(row!)
        return {
          roomNids: row!.room_nids.map(Number),
          upTo: endOfTransaction(Number(row!.edge) - 1),
          progress
        }
      }, Effect.orDie)

      // In order of destination, so that two statements never wait for each other.
      const queue = Effect.fnUntraced(function* (
        rooms: ReadonlyArray<ChangedRoom>,
        progress: StreamPosition,
        own: ServerName
      ) {
        const now = yield* Clock.currentTimeMillis
        const rows = yield* sql<{ room_nid: bigint; servers: ReadonlyArray<string> }>`
          WITH ${asynchronousCommit(sql)}, changed AS (
            SELECT room_nid, after_xid::xid8 AS after_xid, after_nid FROM unnest(
              ${bigints(rooms.map(({ roomNid }) => roomNid))}::bigint[],
              ${texts(rooms.map(({ after }) => String(after.xid)))}::text[],
              ${bigints(rooms.map(({ after }) => after.nid))}::bigint[]) AS changed (room_nid, after_xid, after_nid)),
          queued AS (
            INSERT INTO outgoing_receipts (destination, room_nid, after_xid, after_nid, queued_at)
            SELECT present.server, changed.room_nid, changed.after_xid, changed.after_nid, ${now}::bigint
            FROM asynchronous_commit, changed CROSS JOIN LATERAL ${presentServers(sql, sql`changed.room_nid`)} AS present
            WHERE present.server <> ${own} AND NOT EXISTS (
              SELECT FROM destinations WHERE destination = present.server AND failures >= ${failuresOfAbsent}::integer)
            ORDER BY present.server, changed.room_nid
            ON CONFLICT (destination, room_nid) DO UPDATE SET number = DEFAULT,
              (after_xid, after_nid) = (SELECT xid, nid FROM (VALUES
                (excluded.after_xid, excluded.after_nid),
                (outgoing_receipts.after_xid, outgoing_receipts.after_nid)) AS positions (xid, nid)
                ORDER BY xid, nid LIMIT 1)
            RETURNING destination, room_nid),
          moved AS (
            UPDATE receipt_progress SET xid = ${String(progress.xid)}::xid8, nid = ${progress.nid}::bigint FROM asynchronous_commit)
          SELECT room_nid, array_agg(destination) AS servers FROM queued GROUP BY room_nid`
        return new Map(rows.map((row) => [Number(row.room_nid), row.servers as ReadonlyArray<ServerName>]))
      }, Effect.orDie)

      // A room that the server has left has no receipts for it.
      const next = (destination: ServerName, most: number, own: ServerName) =>
        sql<Row>`
          WITH queued AS MATERIALIZED (
            SELECT * FROM outgoing_receipts WHERE destination = ${destination} ORDER BY number LIMIT ${most})
          SELECT queued.room_nid, queued.number, waiting.* FROM queued LEFT JOIN LATERAL (
            SELECT rooms.room_id, receipts.user_id, receipts.thread_id, receipts.event_id, receipts.ts,
              receipts.xid::text AS xid, receipts.nid
            FROM receipts JOIN rooms USING (room_nid)
            WHERE receipts.room_nid = queued.room_nid AND ${isPublicOf(own)}
              AND (receipts.xid, receipts.nid) > (queued.after_xid, queued.after_nid)
              AND EXISTS (SELECT FROM memberships WHERE memberships.room_nid = queued.room_nid
                AND memberships.server = ${destination} AND memberships.membership = 'join')
            ORDER BY receipts.xid, receipts.nid LIMIT ${most + 1}
          ) AS waiting ON true
          ORDER BY queued.number, waiting.xid::xid8, waiting.nid LIMIT ${most + 1}`.pipe(
          Effect.map((rows) => toWaiting(rows, most)),
          Effect.orDie
        )

      // A row that is locked gets newer receipts now. If a crash of the database undoes this, they are sent again.
      const acknowledge = (destination: ServerName, rooms: ReadonlyArray<ReadRoom>) =>
        sql`
          WITH ${asynchronousCommit(sql)}, settled AS MATERIALIZED (
            SELECT outgoing_receipts.room_nid, read.up_to_xid::xid8 AS up_to_xid, read.up_to_nid
            FROM asynchronous_commit, outgoing_receipts JOIN unnest(
              ${bigints(rooms.map(({ roomNid }) => roomNid))}::bigint[],
              ${bigints(rooms.map(({ number }) => number))}::bigint[],
              ${texts(rooms.map(({ upTo }) => (upTo === undefined ? null : String(upTo.xid))))}::text[],
              ${bigints(rooms.map(({ upTo }) => upTo?.nid ?? null))}::bigint[]
            ) AS read (room_nid, number, up_to_xid, up_to_nid) USING (room_nid, number)
            WHERE outgoing_receipts.destination = ${destination}
            FOR UPDATE OF outgoing_receipts SKIP LOCKED),
          advanced AS (
            UPDATE outgoing_receipts SET after_xid = settled.up_to_xid, after_nid = settled.up_to_nid FROM settled
            WHERE outgoing_receipts.destination = ${destination} AND outgoing_receipts.room_nid = settled.room_nid
              AND settled.up_to_xid IS NOT NULL)
          DELETE FROM outgoing_receipts USING settled
          WHERE outgoing_receipts.destination = ${destination} AND outgoing_receipts.room_nid = settled.room_nid
            AND settled.up_to_xid IS NULL`.pipe(Effect.asVoid, Effect.orDie)

      return OutgoingReceiptStore.of({
        changed,
        queue,
        next,
        acknowledge,
        waiting: Effect.orDie(waitingIn(sql, "outgoing_receipts")),
        trim: (before) =>
          sql`DELETE FROM outgoing_receipts WHERE queued_at < ${before}`.pipe(Effect.asVoid, Effect.orDie)
      })
    })
  )
}
