/**
 * The receipts of users, by room, type and thread. A receipt only moves forward.
 *
 * Rows carry the transaction that wrote them: the log reads what changed between two positions. An error of the database
 * is a defect. Source: "Receipts" of the client-server specification.
 */
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { EventLog } from "./EventLog.ts"
import { positionSql } from "./internal/positionSql.ts"
import type { LogRange } from "./LogSlice.ts"
import { bigints, texts } from "./PgArrays.ts"
import type { ReceiptType } from "./ReceiptChange.ts"
import type { StreamPosition } from "./StreamToken.ts"

export interface Receipt {
  readonly roomNid: number
  readonly userId: UserId
  readonly type: ReceiptType
  /** `main`, the ID of a thread's root, or undefined for a receipt without a thread. */
  readonly threadId: string | undefined
  readonly eventId: EventId
  /** The position of the event in the room. */
  readonly event: StreamPosition
  /** Milliseconds since 1970. */
  readonly ts: number
}

/** How many receipts of others in the threads of a room `ofRooms` reads. */
const maxOfThreads = 500

interface Row {
  readonly room_nid: bigint
  readonly user_id: string
  readonly type: string
  readonly thread_id: string
  readonly event_id: string
  readonly event_xid: string
  readonly event_nid: bigint
  readonly ts: bigint
}

const toReceipt = (row: Row): Receipt => ({
  roomNid: Number(row.room_nid),
  userId: row.user_id as UserId,
  type: row.type as ReceiptType,
  threadId: row.thread_id === "" ? undefined : row.thread_id,
  eventId: row.event_id as EventId,
  event: { xid: Number(row.event_xid), nid: Number(row.event_nid) },
  ts: Number(row.ts)
})

export class ReceiptStore extends Context.Service<
  ReceiptStore,
  {
    /** False if the user's receipt is already at this event or a later one. */
    readonly set: (receipt: Receipt) => Effect.Effect<boolean>
    /** The receipts that rooms have now and a viewer may see: the public ones, of threads the newest, and all of the viewer's own. */
    readonly ofRooms: (viewer: UserId, roomNids: ReadonlyArray<number>) => Effect.Effect<ReadonlyArray<Receipt>>
    /** The receipts of rooms that a viewer may see, and that were set in a range of the log. Without a viewer, private ones of all users. */
    readonly read: (
      viewer: UserId | undefined,
      roomNids: ReadonlyArray<number>,
      range: LogRange
    ) => Effect.Effect<ReadonlyArray<Receipt>>
    /** The receipts on some events that a viewer may see, and all of the viewer's own. */
    readonly onEvents: (
      viewer: UserId,
      roomNids: ReadonlyArray<number>,
      eventIds: ReadonlyArray<EventId>
    ) => Effect.Effect<ReadonlyArray<Receipt>>
    /** The receipts of one user in rooms. */
    readonly own: (userId: UserId, roomNids: ReadonlyArray<number>) => Effect.Effect<ReadonlyArray<Receipt>>
  }
>()("greenroom/store/ReceiptStore") {
  static readonly layer = Layer.effect(
    ReceiptStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const log = yield* EventLog
      const columns = sql.literal(
        "room_nid, user_id, type, thread_id, event_id, event_xid::text AS event_xid, event_nid, ts"
      )

      const set = (receipt: Receipt) =>
        sql<{ xid: string }>`
          INSERT INTO receipts (room_nid, user_id, type, thread_id, event_id, event_xid, event_nid, ts)
          VALUES (${receipt.roomNid}, ${receipt.userId}, ${receipt.type}, ${receipt.threadId ?? ""}, ${receipt.eventId},
                  ${String(receipt.event.xid)}::xid8, ${receipt.event.nid}, ${receipt.ts})
          ON CONFLICT (room_nid, user_id, type, thread_id) DO UPDATE SET
            event_id = excluded.event_id, event_xid = excluded.event_xid, event_nid = excluded.event_nid,
            ts = excluded.ts, xid = excluded.xid, nid = excluded.nid
          WHERE (receipts.event_xid, receipts.event_nid) < (excluded.event_xid, excluded.event_nid)
          RETURNING xid::text`.pipe(
          Effect.map(([row]) => {
            // Readers on this node wait until the log has it.
            if (row !== undefined) log.committed(Number(row.xid))
            return row !== undefined
          }),
          Effect.orDie
        )

      const ofRooms = (viewer: UserId, roomNids: ReadonlyArray<number>) =>
        roomNids.length === 0
          ? Effect.succeed([])
          : sql<Row>`
              SELECT ${columns} FROM receipts
              WHERE room_nid = ANY (${bigints(roomNids)}::bigint[])
                AND (user_id = ${viewer} OR (type = 'm.read' AND thread_id IN ('', 'main')))
              UNION ALL
              SELECT newest.* FROM unnest(${bigints(roomNids)}::bigint[]) AS room (number) CROSS JOIN LATERAL (
                SELECT ${columns} FROM receipts
                WHERE room_nid = room.number AND type = 'm.read' AND thread_id NOT IN ('', 'main') AND user_id <> ${viewer}
                ORDER BY receipts.xid DESC, receipts.nid DESC LIMIT ${maxOfThreads}
              ) AS newest`.pipe(
              Effect.map((rows) => rows.map(toReceipt)),
              Effect.orDie
            )

      const read = (viewer: UserId | undefined, roomNids: ReadonlyArray<number>, range: LogRange) =>
        roomNids.length === 0
          ? Effect.succeed([])
          : sql<Row>`
              SELECT ${columns} FROM receipts
              WHERE room_nid = ANY (${bigints(roomNids)}::bigint[]) AND (type = 'm.read' OR user_id = coalesce(${viewer ?? null}, user_id))
                AND (xid, nid) > ${positionSql(sql, range.after)} AND (xid, nid) <= ${positionSql(sql, range.upTo)}`.pipe(
              Effect.map((rows) => rows.map(toReceipt)),
              Effect.orDie
            )

      return ReceiptStore.of({
        set,
        ofRooms,
        read,
        onEvents: (viewer, roomNids, eventIds) =>
          roomNids.length === 0
            ? Effect.succeed([])
            : sql<Row>`
                SELECT ${columns} FROM receipts
                WHERE room_nid = ANY (${bigints(roomNids)}::bigint[])
                  AND (user_id = ${viewer} OR (type = 'm.read' AND event_id = ANY (${texts(eventIds)}::text[])))`.pipe(
                Effect.map((rows) => rows.map(toReceipt)),
                Effect.orDie
              ),
        own: (userId, roomNids) =>
          roomNids.length === 0
            ? Effect.succeed([])
            : sql<Row>`
                SELECT ${columns} FROM receipts
                WHERE room_nid = ANY (${bigints(roomNids)}::bigint[]) AND user_id = ${userId}`.pipe(
                Effect.map((rows) => rows.map(toReceipt)),
                Effect.orDie
              )
      })
    })
  )
}
