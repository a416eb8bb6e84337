/**
 * Rooms that users have left and forgotten. Joining a room again ends that.
 *
 * An error of the database is a defect. Source: "Leaving rooms" of the client-server specification.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"

export class ForgottenRoomStore extends Context.Service<
  ForgottenRoomStore,
  {
    /** Forgets a room that the user has left or is banned from, a rejected invitation to it included. False if it is no such room. */
    readonly forget: (userId: UserId, roomId: RoomId) => Effect.Effect<boolean>
    /** The forgotten rooms, by number, each with the transaction up to which it is forgotten. */
    readonly of: (userId: UserId) => Effect.Effect<ReadonlyMap<number, number>>
  }
>()("greenroom/store/ForgottenRoomStore") {
  static readonly layer = Layer.effect(
    ForgottenRoomStore,
    Effect.map(SqlClient.SqlClient, (sql) =>
      ForgottenRoomStore.of({
        forget: (userId, roomId) =>
          sql`
            INSERT INTO forgotten_rooms (user_id, room_nid)
            SELECT user_id, room_nid FROM memberships JOIN rooms USING (room_nid)
            WHERE user_id = ${userId} AND room_id = ${roomId} AND membership IN ('leave', 'ban')
            ON CONFLICT (user_id, room_nid) DO UPDATE SET xid = excluded.xid
            RETURNING 1`.pipe(
            Effect.map((rows) => rows.length > 0),
            Effect.orDie
          ),
        of: (userId) =>
          sql<{ room_nid: bigint; xid: string }>`
            SELECT room_nid, xid::text AS xid FROM forgotten_rooms WHERE user_id = ${userId}`.pipe(
            Effect.map((rows) => new Map(rows.map(({ room_nid, xid }) => [Number(room_nid), Number(xid)]))),
            Effect.orDie
          )
      })
    )
  )
}
