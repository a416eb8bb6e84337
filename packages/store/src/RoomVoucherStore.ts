/**
 * Which servers vouch for keys in a room: those through which this server joined it. They chose the state that the room
 * began with here, so their word on who signed it is worth as much as that.
 *
 * An error of the database is a defect.
 */
import type { RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { EventLog } from "./EventLog.ts"
import { asynchronousCommit } from "./internal/asynchronousCommit.ts"
import { texts } from "./PgArrays.ts"

/** The most servers that vouch in one room: those through which we joined last. */
const maxVouchers = 5

export class RoomVoucherStore extends Context.Service<
  RoomVoucherStore,
  {
    /** The servers that vouch in each of the rooms, the last first. A room without any is absent. */
    readonly find: (roomIds: ReadonlyArray<RoomId>) => Effect.Effect<ReadonlyMap<RoomId, ReadonlyArray<ServerName>>>
    /** This server joins the room through that one. It is on the disk with the commit of the join that follows. */
    readonly add: (roomId: RoomId, serverName: ServerName) => Effect.Effect<void>
  }
>()("greenroom/store/RoomVoucherStore") {
  static readonly layer = Layer.effect(
    RoomVoucherStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const log = yield* EventLog
      return RoomVoucherStore.of({
        find: (roomIds) =>
          sql<{ room_id: string; servers: ReadonlyArray<string> }>`
            SELECT room_id, (array_agg(server_name ORDER BY joined_at DESC))[1:${maxVouchers}::integer] AS servers
            FROM room_vouchers WHERE room_id = ANY (${texts(roomIds)}::text[]) GROUP BY room_id`.pipe(
            Effect.map(
              (rows) => new Map(rows.map((row) => [row.room_id as RoomId, row.servers as ReadonlyArray<ServerName>]))
            ),
            Effect.orDie
          ),
        add: (roomId, serverName) =>
          Effect.flatMap(
            Clock.currentTimeMillis,
            (now) => sql<{ xid: string }>`
              WITH ${asynchronousCommit(sql)}
              INSERT INTO room_vouchers (room_id, server_name, joined_at)
              SELECT ${roomId}, ${serverName}, ${now}::bigint FROM asynchronous_commit
              ON CONFLICT (room_id, server_name) DO UPDATE SET joined_at = excluded.joined_at
              RETURNING log_xid()::text AS xid`
          ).pipe(
            Effect.map(([row]) => log.wroteNothing(Number(row!.xid))),
            Effect.orDie
          )
      })
    })
  )
}
