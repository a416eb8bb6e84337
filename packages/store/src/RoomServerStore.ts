/**
 * The servers in each room, by their joined members: the destinations of the room's events, and the rooms that the
 * users of a server may see of ours. Reads the memberships that `EventLog` writes.
 *
 * An error of the database is a defect.
 */
import type { RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { presentServers } from "./internal/presentServers.ts"
import { readPage } from "./internal/readPage.ts"
import { texts } from "./PgArrays.ts"

export class RoomServerStore extends Context.Service<
  RoomServerStore,
  {
    /** The servers in each of the rooms. A room without members has none. */
    readonly serversOf: (
      roomIds: ReadonlyArray<RoomId>
    ) => Effect.Effect<ReadonlyMap<RoomId, ReadonlyArray<ServerName>>>
    /**
     * Users of a server that are or were in a room, invited ones among them, at most `limit`: those who are in it first, by the time of
     * their membership.
     */
    readonly usersEver: (roomNid: number, server: ServerName, limit: number) => Effect.Effect<ReadonlyArray<UserId>>
    /** Joined users of a server in a room, at most `limit`. */
    readonly usersIn: (roomNid: number, server: ServerName, limit: number) => Effect.Effect<ReadonlyArray<UserId>>
    /** The rooms in which a server has joined members, by their IDs, and how many there are. */
    readonly roomsOf: (
      server: ServerName,
      page: { readonly from: number; readonly limit: number; readonly descending: boolean }
    ) => Effect.Effect<{ readonly rooms: ReadonlyArray<RoomId>; readonly total: number }>
    /** The rooms, among the given, in which a server has joined members. */
    readonly roomsWith: (server: ServerName, roomIds: ReadonlyArray<RoomId>) => Effect.Effect<ReadonlySet<RoomId>>
    /** Whether a user of the server has an invitation to the room. */
    readonly isInvited: (server: ServerName, roomId: RoomId) => Effect.Effect<boolean>
    /** The users, among the given, that share a room with the server. */
    readonly sharing: (server: ServerName, userIds: ReadonlyArray<UserId>) => Effect.Effect<ReadonlySet<UserId>>
  }
>()("greenroom/store/RoomServerStore") {
  static readonly layer = Layer.effect(
    RoomServerStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const serversOf = Effect.fnUntraced(function* (roomIds: ReadonlyArray<RoomId>) {
        const found = new Map<RoomId, Array<ServerName>>(roomIds.map((roomId) => [roomId, []]))
        if (roomIds.length === 0) return found
        const rows = yield* sql<{ room_id: string; server: string }>`
          SELECT rooms.room_id, present.server FROM rooms CROSS JOIN LATERAL ${presentServers(sql, sql`rooms.room_nid`)} AS present
          WHERE rooms.room_id = ANY (${texts(roomIds)}::text[])`
        for (const row of rows) found.get(row.room_id as RoomId)?.push(row.server as ServerName)
        return found
      }, Effect.orDie)

      const sharing = Effect.fnUntraced(function* (server: ServerName, userIds: ReadonlyArray<UserId>) {
        if (userIds.length === 0) return new Set<UserId>()
        const rows = yield* sql<{ user_id: string }>`
          SELECT DISTINCT mine.user_id FROM memberships mine
          WHERE mine.user_id = ANY (${texts(userIds)}::text[]) AND mine.membership = 'join' AND EXISTS (
            SELECT 1 FROM memberships other
            WHERE other.room_nid = mine.room_nid AND other.server = ${server} AND other.membership = 'join')`
        return new Set(rows.map((row) => row.user_id as UserId))
      }, Effect.orDie)

      const roomsOf = Effect.fnUntraced(function* (
        server: ServerName,
        page: { readonly from: number; readonly limit: number; readonly descending: boolean }
      ) {
        const { rows, total } = yield* readPage<{ readonly room_id: string }>(sql, {
          rows: sql`
            SELECT room_id COLLATE "C" AS room_id FROM rooms
            WHERE EXISTS (SELECT 1 FROM memberships WHERE memberships.room_nid = rooms.room_nid
              AND memberships.server = ${server} AND memberships.membership = 'join')`,
          order: sql.literal(`room_id ${page.descending ? "DESC" : "ASC"}`),
          from: page.from,
          limit: page.limit
        })
        return { rooms: rows.map((row) => row.room_id as RoomId), total }
      }, Effect.orDie)

      const roomsWith = Effect.fnUntraced(function* (server: ServerName, roomIds: ReadonlyArray<RoomId>) {
        if (roomIds.length === 0) return new Set<RoomId>()
        const rows = yield* sql<{ room_id: string }>`
          SELECT room_id FROM rooms WHERE room_id = ANY (${texts(roomIds)}::text[])
            AND EXISTS (SELECT FROM memberships WHERE memberships.room_nid = rooms.room_nid
              AND memberships.server = ${server} AND memberships.membership = 'join')`
        return new Set(rows.map((row) => row.room_id as RoomId))
      }, Effect.orDie)

      const isInvited = (server: ServerName, roomId: RoomId) =>
        sql`
          SELECT FROM memberships JOIN rooms USING (room_nid)
          WHERE room_id = ${roomId} AND memberships.server = ${server} AND memberships.membership = 'invite' LIMIT 1`.pipe(
          Effect.map((rows) => rows.length > 0),
          Effect.orDie
        )

      const usersEver = Effect.fnUntraced(function* (roomNid: number, server: ServerName, limit: number) {
        const rows = yield* sql<{ user_id: string }>`
          SELECT user_id FROM memberships WHERE room_nid = ${roomNid} AND server = ${server}
          ORDER BY membership <> 'join', event_nid LIMIT ${limit}`
        return rows.map((row) => row.user_id as UserId)
      }, Effect.orDie)

      const usersIn = Effect.fnUntraced(function* (roomNid: number, server: ServerName, limit: number) {
        const rows = yield* sql<{ user_id: string }>`
          SELECT user_id FROM memberships
          WHERE room_nid = ${roomNid} AND server = ${server} AND membership = 'join' LIMIT ${limit}`
        return rows.map((row) => row.user_id as UserId)
      }, Effect.orDie)

      return RoomServerStore.of({ isInvited, roomsOf, roomsWith, serversOf, sharing, usersEver, usersIn })
    })
  )
}
