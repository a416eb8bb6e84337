/**
 * The directory: the room aliases of this server, and the servers through which each room can be joined.
 *
 * An error of the database is a defect. Source: "Room Aliases" of the specification.
 */
import type { RoomAlias, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { RoomInUse } from "@greenroom/protocol/MatrixError"
import { Clock, Context, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { texts } from "./PgArrays.ts"

export interface DirectoryEntry {
  readonly roomId: RoomId
  /** Servers that take part in the room. */
  readonly servers: ReadonlyArray<ServerName>
  readonly creator: UserId
}

export class DirectoryStore extends Context.Service<
  DirectoryStore,
  {
    readonly find: (alias: RoomAlias) => Effect.Effect<Option.Option<DirectoryEntry>>
    /** Errors: M_ROOM_IN_USE if the alias names a room already, be it this one. */
    readonly create: (alias: RoomAlias, entry: DirectoryEntry) => Effect.Effect<void, RoomInUse>
    /** False if there is no such alias. */
    readonly remove: (alias: RoomAlias) => Effect.Effect<boolean>
    /** The aliases of a room, in order. */
    readonly aliasesOf: (roomId: RoomId) => Effect.Effect<ReadonlyArray<RoomAlias>>
  }
>()("greenroom/store/DirectoryStore") {
  static readonly layer = Layer.effect(
    DirectoryStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const create = Effect.fn("DirectoryStore.create")(function* (alias: RoomAlias, entry: DirectoryEntry) {
        const now = yield* Clock.currentTimeMillis
        const rows = yield* Effect.orDie(sql`
          INSERT INTO room_aliases (alias, room_id, servers, creator, created_at)
          VALUES (${alias}, ${entry.roomId}, ${texts(entry.servers)}::text[], ${entry.creator}, ${now})
          ON CONFLICT (alias) DO NOTHING RETURNING 1`)
        if (rows.length === 0) return yield* new RoomInUse({ error: `${alias} is taken` })
      })

      return DirectoryStore.of({
        find: (alias) =>
          sql<{ room_id: string; servers: ReadonlyArray<string>; creator: string }>`
            SELECT room_id, servers, creator FROM room_aliases WHERE alias = ${alias}`.pipe(
            Effect.map((rows) =>
              Option.map(
                Option.fromNullishOr(rows[0]),
                (row): DirectoryEntry => ({
                  roomId: row.room_id as RoomId,
                  servers: row.servers as ReadonlyArray<ServerName>,
                  creator: row.creator as UserId
                })
              )
            ),
            Effect.orDie
          ),
        create,
        remove: (alias) =>
          sql`DELETE FROM room_aliases WHERE alias = ${alias} RETURNING 1`.pipe(
            Effect.map((rows) => rows.length > 0),
            Effect.orDie
          ),
        aliasesOf: (roomId) =>
          sql<{ alias: string }>`
            SELECT alias FROM room_aliases WHERE room_id = ${roomId} ORDER BY alias COLLATE "C"`.pipe(
            Effect.map((rows) => rows.map((row) => row.alias as RoomAlias)),
            Effect.orDie
          )
      })
    })
  )
}
