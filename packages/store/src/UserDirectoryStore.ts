/**
 * The user directory: finding users that share a room with the searcher, and those in rooms that show their members to
 * everybody (join rule `public` or history visibility `world_readable`).
 *
 * Entries follow memberships and profiles by a queue, which is written with what changes them. `indexNext` takes from it.
 * Each result is checked against the current memberships: a late entry hides a user, and never shows one.
 *
 * An error of the database is a defect. Source: "User Directory" of the client-server specification; PostgreSQL, "Text
 * Search Types".
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { makeDirectoryIndex } from "./internal/directoryIndex.ts"
import { directoryQuery } from "./internal/directoryWords.ts"

export interface FoundUser {
  readonly userId: UserId
  readonly displayname: string | undefined
  readonly avatarUrl: string | undefined
}

/** The most matching entries that are ranked, of each of the two kinds. */
const maxMatches = 2_000

/** User IDs that clients are to see outside of events (`isCompliantUserId`): the localpart is of U+0021 to U+007E, without a colon. */
const compliant = "^@[!-9;-~]+:"

export class UserDirectoryStore extends Context.Service<
  UserDirectoryStore,
  {
    /** Updates the next batch of entries. True if nothing is left. */
    readonly indexNext: Effect.Effect<boolean>
    /**
     * Users whose ID or display name has all words of the text, ignoring case: words begin with those of one or two characters, and
     * contain longer ones. Users whose ID or name begins with the text come first. Searchers find themselves where everybody else does.
     */
    readonly search: (searcher: UserId, text: string, limit: number) => Effect.Effect<ReadonlyArray<FoundUser>>
    /** A page of the rooms that both users are joined to, in the order of their IDs, after `after`. `count` is that of all pages, or 0 if this one is empty. */
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

      // Joins that are `LATERAL ... OFFSET 0` are read row by row, whatever PostgreSQL believes of the tables.
      const matches = (searcher: UserId, query: string) => sql`
        shown AS (
          SELECT user_id, room_nid, displayname, avatar_url FROM user_directory entry
          WHERE shown AND words @@ ${query}::tsquery AND user_id COLLATE "C" ~ ${compliant} AND EXISTS (
            SELECT FROM memberships JOIN rooms USING (room_nid)
            WHERE memberships.user_id = entry.user_id AND membership = 'join' AND shows_members)
          LIMIT ${maxMatches}
        ), mine AS MATERIALIZED (
          SELECT room_nid FROM memberships JOIN rooms USING (room_nid)
          WHERE memberships.user_id = ${searcher} AND membership = 'join' AND shows_members IS NOT TRUE
        ), near AS (
          SELECT entry.* FROM (
            SELECT other.* FROM mine CROSS JOIN LATERAL (
              SELECT room_nid, user_id FROM memberships
              WHERE memberships.room_nid = mine.room_nid AND membership = 'join' AND user_id <> ${searcher} OFFSET 0) AS other
          ) AS other CROSS JOIN LATERAL (
            SELECT user_id, room_nid, displayname, avatar_url FROM user_directory
            WHERE user_directory.user_id = other.user_id AND user_directory.room_nid IN (0, other.room_nid)
              AND words @@ ${query}::tsquery AND user_id COLLATE "C" ~ ${compliant} OFFSET 0) AS entry
          LIMIT ${maxMatches}
        )`

      const search = (searcher: UserId, text: string, limit: number) => {
        const query = directoryQuery(text)
        if (query === undefined) return Effect.succeed([])
        const beginning = text.toLowerCase()
        return sql<{ user_id: UserId; displayname: string | null; avatar_url: string | null }>`
          WITH ${matches(searcher, query)}, found AS (
            SELECT DISTINCT ON (user_id) * FROM (SELECT * FROM shown UNION ALL SELECT * FROM near) AS entry
            ORDER BY user_id, room_nid DESC
          )
          SELECT user_id, displayname, avatar_url FROM found LEFT JOIN users USING (user_id)
          WHERE deactivated_at IS NULL
          ORDER BY NOT (starts_with(lower(user_id), ${`@${beginning}`}) OR starts_with(lower(user_id), ${beginning})
            OR coalesce(starts_with(lower(displayname), ${beginning}), false)), displayname IS NULL, user_id
          LIMIT ${limit}`.pipe(
          Effect.map((rows) =>
            rows.map(
              (row): FoundUser => ({
                userId: row.user_id,
                displayname: row.displayname ?? undefined,
                avatarUrl: row.avatar_url ?? undefined
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

      return UserDirectoryStore.of({ indexNext: makeDirectoryIndex(sql), search, mutualRooms })
    })
  )
}
