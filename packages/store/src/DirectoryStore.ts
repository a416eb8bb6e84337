/**
 * The directory: the room aliases of this server, and the servers through which each room can be joined.
 *
 * An error of the database is a defect.
 *
 * Source: "Room aliases" of the client-server specification.
 */
import type { RoomAlias, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, RoomInUse } from "@greenroom/protocol/MatrixError"
import { Clock, Context, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { counted } from "./internal/counted.ts"
import { texts } from "./PgArrays.ts"
import { signalWork } from "./WorkSignals.ts"

export interface DirectoryEntry {
  readonly roomId: RoomId
  /** Servers that take part in the room. */
  readonly servers: ReadonlyArray<ServerName>
  readonly creator: UserId
}

/** The longest that an alias stays reserved for a room that is being created, in milliseconds. */
const reservedFor = 60_000

export class DirectoryStore extends Context.Service<
  DirectoryStore,
  {
    /** An alias whose room is being created, or was never completed, is not found. */
    readonly find: (alias: RoomAlias) => Effect.Effect<Option.Option<DirectoryEntry>>
    /**
     * Creates an alias. Does nothing if it names this room already, and then gives false. An alias whose room is not complete is
     * free at once for its creator, whose request is repeated, and for everybody if the process that made the alias has ended; else
     * after a minute. Errors: M_ROOM_IN_USE; M_FORBIDDEN if the room or its creator has `limit` aliases.
     */
    readonly create: (
      alias: RoomAlias,
      entry: DirectoryEntry,
      limit?: number
    ) => Effect.Effect<boolean, RoomInUse | Forbidden>
    /** Frees an alias that was reserved for a room whose creation was refused. */
    readonly release: (alias: RoomAlias, roomId: RoomId) => Effect.Effect<void>
    /** False if there is no such alias. */
    readonly remove: (alias: RoomAlias) => Effect.Effect<boolean>
    /** Moves all aliases of a room to another room. */
    readonly move: (from: RoomId, to: RoomId) => Effect.Effect<void>
    /** The aliases of a room, in order. */
    readonly aliasesOf: (roomId: RoomId) => Effect.Effect<ReadonlyArray<RoomAlias>>
  }
>()("greenroom/store/DirectoryStore") {
  static readonly layer = Layer.effect(
    DirectoryStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      /** Whether the room that an alias names exists. */
      const hasRoom = sql`EXISTS (
        SELECT 1 FROM rooms WHERE rooms.room_id = room_aliases.room_id AND rooms.current_chain IS NOT NULL)`

      /** A process is known by the name of its connections, and without a connection it creates no room. */
      const isOfEndedProcess = sql`(room_aliases.reserved_by IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM pg_stat_activity WHERE application_name = room_aliases.reserved_by))`

      const isFull = (alias: RoomAlias, { creator, roomId }: DirectoryEntry, limit: number) =>
        sql<{ full: boolean }>`
          SELECT NOT EXISTS (SELECT 1 FROM room_aliases WHERE alias = ${alias} AND room_id = ${roomId}) AND (
            (SELECT count(*) FROM room_aliases WHERE creator = ${creator}) >= ${limit}
            OR (SELECT count(*) FROM room_aliases WHERE room_id = ${roomId}) >= ${limit}) AS full`.pipe(
          Effect.map((rows) => rows[0]!.full),
          Effect.orDie
        )

      const createWithin = Effect.fnUntraced(function* (alias: RoomAlias, entry: DirectoryEntry, limit: number) {
        if (yield* isFull(alias, entry, limit)) {
          return yield* new Forbidden({
            error: `A room has at most ${limit} aliases, and a user makes at most ${limit}`
          })
        }
        const now = yield* Clock.currentTimeMillis
        const created = yield* Effect.orDie(sql`
          INSERT INTO room_aliases (alias, room_id, servers, creator, created_at, reserved_by)
          VALUES (${alias}, ${entry.roomId}, ${texts(entry.servers)}::text[], ${entry.creator}, ${now},
            current_setting('application_name'))
          ON CONFLICT (alias) DO UPDATE
            SET room_id = excluded.room_id, servers = excluded.servers, creator = excluded.creator,
              created_at = excluded.created_at, reserved_by = excluded.reserved_by
            WHERE NOT ${hasRoom} AND (room_aliases.creator = excluded.creator OR ${isOfEndedProcess}
              OR room_aliases.created_at NOT BETWEEN ${now - reservedFor} AND ${now + reservedFor})
          RETURNING 1`)
        if (created.length > 0) return true
        const same = yield* Effect.orDie(sql`
          SELECT 1 FROM room_aliases WHERE alias = ${alias} AND room_id = ${entry.roomId}`)
        if (same.length === 0) return yield* new RoomInUse({ error: `${alias} is taken` })
        return false
      })

      const create = Effect.fn("DirectoryStore.create")(
        (alias: RoomAlias, entry: DirectoryEntry, limit = Number.MAX_SAFE_INTEGER) =>
          Effect.tap(createWithin(alias, entry, limit), () => signalWork(sql, "aliases")).pipe(
            counted(sql)(`aliases of ${entry.roomId}`),
            counted(sql)(`aliases by ${entry.creator}`),
            Effect.catchTag("SqlError", Effect.die)
          )
      )

      const signalled = <A, E>(change: Effect.Effect<A, E>) =>
        sql.withTransaction(Effect.tap(change, () => signalWork(sql, "aliases")))

      return DirectoryStore.of({
        find: (alias) =>
          sql<{ room_id: string; servers: ReadonlyArray<string>; creator: string }>`
            SELECT room_id, servers, creator FROM room_aliases
            WHERE alias = ${alias} AND ${hasRoom}`.pipe(
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
        release: (alias, roomId) =>
          Effect.asVoid(
            Effect.orDie(
              sql`DELETE FROM room_aliases WHERE alias = ${alias} AND room_id = ${roomId} AND NOT ${hasRoom}`
            )
          ),
        remove: (alias) =>
          signalled(sql`DELETE FROM room_aliases WHERE alias = ${alias} RETURNING 1`).pipe(
            Effect.map((rows) => rows.length > 0),
            Effect.orDie
          ),
        move: (from, to) =>
          Effect.asVoid(Effect.orDie(signalled(sql`UPDATE room_aliases SET room_id = ${to} WHERE room_id = ${from}`))),
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
