/**
 * Finding users: those who share a room with the one who searches, and those in public rooms.
 *
 * An error of the database is a defect. Source: "User Directory" of the client-server specification.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"

export interface FoundUser {
  readonly userId: UserId
  readonly displayname: string | undefined
  readonly avatarUrl: string | undefined
}

interface Row {
  readonly user_id: string
  readonly displayname: string | null
  readonly avatar_url: string | null
}

/** A profile value is JSON text; other types than strings count as absent. */
const textOf = (value: string | null): string | undefined => {
  const parsed: unknown = value === null ? undefined : JSON.parse(value)
  return typeof parsed === "string" ? parsed : undefined
}

export class UserDirectoryStore extends Context.Service<
  UserDirectoryStore,
  {
    /** Users whose ID or display name contains the text, ignoring case; those whose ID or name begins with it come first. */
    readonly search: (searcher: UserId, text: string, limit: number) => Effect.Effect<ReadonlyArray<FoundUser>>
    /** The rooms that both users are joined to, after one, in a fixed order; and of any answer that has some, how many there are. */
    readonly mutualRooms: (
      a: UserId,
      b: UserId,
      after: RoomId | undefined,
      limit: number
    ) => Effect.Effect<{ readonly rooms: ReadonlyArray<RoomId>; readonly count: number }>
  }
>()("greenroom/store/UserDirectoryStore") {
  static readonly layer = Layer.effect(
    UserDirectoryStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const search = (searcher: UserId, text: string, limit: number) => {
        const escaped = text.replaceAll(/[\\%_]/g, "\\$&")
        const anywhere = `%${escaped}%`
        return sql<Row>`
          SELECT known.user_id, name.value AS displayname, avatar.value AS avatar_url FROM (
            SELECT DISTINCT other.user_id FROM memberships other
            JOIN rooms USING (room_nid)
            LEFT JOIN memberships mine ON mine.room_nid = other.room_nid AND mine.user_id = ${searcher}
            WHERE other.membership = 'join' AND other.user_id <> ${searcher}
              AND (mine.membership = 'join' OR rooms.visibility = 'public')
          ) AS known
          LEFT JOIN profile_fields name
            ON name.user_id = known.user_id AND name.field = 'displayname' AND name.visibility = 'public'
          LEFT JOIN profile_fields avatar
            ON avatar.user_id = known.user_id AND avatar.field = 'avatar_url' AND avatar.visibility = 'public'
          LEFT JOIN users ON users.user_id = known.user_id
          WHERE users.deactivated_at IS NULL AND (known.user_id ILIKE ${anywhere} OR name.value ILIKE ${anywhere})
          ORDER BY NOT (known.user_id ILIKE ${`@${escaped}%`} OR name.value ILIKE ${`"${escaped}%`}), known.user_id
          LIMIT ${limit}`.pipe(
          Effect.map((rows) =>
            rows.map(
              (row): FoundUser => ({
                userId: row.user_id as UserId,
                displayname: textOf(row.displayname),
                avatarUrl: textOf(row.avatar_url)
              })
            )
          ),
          Effect.orDie
        )
      }

      const mutualRooms = (a: UserId, b: UserId, after: RoomId | undefined, limit: number) =>
        sql<{ room_id: string; count: number }>`
          SELECT room_id, count FROM (
            SELECT rooms.room_id COLLATE "C" AS room_id, count(*) OVER ()::integer AS count FROM memberships mine
            JOIN memberships other USING (room_nid) JOIN rooms USING (room_nid)
            WHERE mine.user_id = ${a} AND other.user_id = ${b} AND mine.membership = 'join' AND other.membership = 'join'
          ) AS shared
          WHERE room_id > ${after ?? ""} ORDER BY room_id LIMIT ${limit}`.pipe(
          Effect.map((rows) => ({
            rooms: rows.map((row) => row.room_id as RoomId),
            count: rows[0]?.count ?? 0
          })),
          Effect.orDie
        )

      return UserDirectoryStore.of({ search, mutualRooms })
    })
  )
}
