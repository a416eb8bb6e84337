/**
 * Memberships of our users in rooms of other servers that are in progress, so that the next start finishes or takes back
 * what the end of a process has interrupted.
 *
 * An error of the database is a defect.
 */
import type { RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { texts } from "./PgArrays.ts"

export interface UnfinishedMembership {
  readonly roomId: RoomId
  readonly userId: UserId
  /**
   * A join that a server may have taken and this one has not recorded; a leave that no server has taken; or a knock that
   * one has taken, which can be taken back through it.
   */
  readonly membership: "join" | "leave" | "knock"
  /** The servers that were, or are to be, notified. */
  readonly servers: ReadonlyArray<ServerName>
  /** The content of a join beside the membership. */
  readonly content: JsonObject
}

/** How long a server is notified of an old membership, in ms. */
const keptFor = 7 * 24 * 3_600_000

export class UnfinishedMembershipStore extends Context.Service<
  UnfinishedMembershipStore,
  {
    /** Stores a membership, in place of the former one of this user and room. */
    readonly put: (membership: UnfinishedMembership) => Effect.Effect<void>
    /** The membership is finished. */
    readonly remove: (roomId: RoomId, userId: UserId) => Effect.Effect<void>
    /** The servers that are remembered with a membership. */
    readonly servers: (roomId: RoomId, userId: UserId) => Effect.Effect<ReadonlyArray<ServerName>>
    /** The joins and leaves of the last week; older ones are forgotten. */
    readonly list: Effect.Effect<ReadonlyArray<UnfinishedMembership>>
  }
>()("greenroom/store/UnfinishedMembershipStore") {
  static readonly layer = Layer.effect(
    UnfinishedMembershipStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const put = Effect.fnUntraced(function* (row: UnfinishedMembership) {
        const now = yield* Clock.currentTimeMillis
        yield* sql`
          INSERT INTO unfinished_memberships (room_id, user_id, membership, servers, content, since)
          VALUES (${row.roomId}, ${row.userId}, ${row.membership}, ${texts(row.servers)}::text[],
                  ${JSON.stringify(row.content)}, ${now})
          ON CONFLICT (room_id, user_id) DO UPDATE SET
            membership = excluded.membership, servers = excluded.servers, content = excluded.content,
            since = excluded.since`
      }, Effect.orDie)

      const list = Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        yield* sql`DELETE FROM unfinished_memberships WHERE since < ${now - keptFor} AND membership <> 'knock'`
        const rows = yield* sql<{
          room_id: string
          user_id: string
          membership: string
          servers: ReadonlyArray<string>
          content: string
        }>`SELECT room_id, user_id, membership, servers, content FROM unfinished_memberships
          WHERE membership <> 'knock' ORDER BY since`
        return rows.map(
          (row): UnfinishedMembership => ({
            roomId: row.room_id as RoomId,
            userId: row.user_id as UserId,
            membership: row.membership as UnfinishedMembership["membership"],
            servers: row.servers as ReadonlyArray<ServerName>,
            content: JSON.parse(row.content) as JsonObject
          })
        )
      }).pipe(Effect.orDie)

      return UnfinishedMembershipStore.of({
        put,
        list,
        servers: (roomId, userId) =>
          sql<{ servers: ReadonlyArray<string> }>`
            SELECT servers FROM unfinished_memberships WHERE room_id = ${roomId} AND user_id = ${userId}`.pipe(
            Effect.map(([row]) => (row?.servers ?? []) as ReadonlyArray<ServerName>),
            Effect.orDie
          ),
        remove: (roomId, userId) =>
          sql`DELETE FROM unfinished_memberships WHERE room_id = ${roomId} AND user_id = ${userId}`.pipe(
            Effect.asVoid,
            Effect.orDie
          )
      })
    })
  )
}
