/**
 * Memberships of our users in rooms of other servers that are in progress. They are finished or taken back after a
 * wait, and after the end of a process that has interrupted them.
 *
 * An error of the database is a defect.
 */
import type { RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { texts } from "./PgArrays.ts"
import { signalWork } from "./WorkSignals.ts"

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

/** The wait before the first repeat of a leave, in ms. It doubles with each one, up to the longest. */
const firstWait = 5_000
const longestWait = 6 * 3_600_000

/** A join is repeated once its process must have ended or given it up, in ms. */
const joinWait = 5 * 60_000

export class UnfinishedMembershipStore extends Context.Service<
  UnfinishedMembershipStore,
  {
    /**
     * Stores a membership, in place of the former one of this user and room. If it is the same as the former one, that one keeps its
     * age and its attempts. A leave signals work of the kind `unfinished memberships`.
     */
    readonly put: (membership: UnfinishedMembership) => Effect.Effect<void>
    /** The membership is finished. */
    readonly remove: (roomId: RoomId, userId: UserId) => Effect.Effect<void>
    /** The servers that are remembered with a membership. */
    readonly servers: (roomId: RoomId, userId: UserId) => Effect.Effect<ReadonlyArray<ServerName>>
    /**
     * The joins and leaves that are due for another attempt, or all of them; those older than a week are forgotten. Each is due
     * again after a wait that grows with its attempts, unless it is removed.
     */
    readonly take: (which: "due" | "all") => Effect.Effect<ReadonlyArray<UnfinishedMembership>>
    /** When the next one is due, in milliseconds since 1970. */
    readonly nextAt: Effect.Effect<number | undefined>
  }
>()("greenroom/store/UnfinishedMembershipStore") {
  static readonly layer = Layer.effect(
    UnfinishedMembershipStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const put = Effect.fnUntraced(function* (row: UnfinishedMembership) {
        const now = yield* Clock.currentTimeMillis
        const isLeave = row.membership === "leave"
        const stored = sql`
          INSERT INTO unfinished_memberships AS before (room_id, user_id, membership, servers, content, since, retry_at)
          VALUES (${row.roomId}, ${row.userId}, ${row.membership}, ${texts(row.servers)}::text[],
                  ${JSON.stringify(row.content)}, ${now}, ${now + (isLeave ? firstWait : joinWait)})
          ON CONFLICT (room_id, user_id) DO UPDATE SET
            membership = excluded.membership, servers = excluded.servers, content = excluded.content,
            since = excluded.since, attempts = 0, retry_at = excluded.retry_at
          WHERE (before.membership, before.servers, before.content)
            IS DISTINCT FROM (excluded.membership, excluded.servers, excluded.content)
          RETURNING 1`
        const signalled = Effect.flatMap(stored, (rows) =>
          rows.length === 0 ? Effect.void : signalWork(sql, "unfinished memberships")
        )
        yield* isLeave ? sql.withTransaction(signalled) : stored
      }, Effect.orDie)

      const take = Effect.fnUntraced(function* (which: "due" | "all") {
        const now = yield* Clock.currentTimeMillis
        yield* sql`DELETE FROM unfinished_memberships WHERE since < ${now - keptFor} AND membership <> 'knock'`
        const rows = yield* sql<{
          room_id: string
          user_id: string
          membership: string
          servers: ReadonlyArray<string>
          content: string
        }>`
          UPDATE unfinished_memberships SET attempts = attempts + 1,
            retry_at = ${now} + least(${longestWait}::float8,
              CASE membership WHEN 'leave' THEN ${firstWait}::float8 ELSE ${joinWait}::float8 END * power(2, attempts + 1))
          WHERE membership <> 'knock' AND (${which === "all"} OR retry_at <= ${now})
          RETURNING room_id, user_id, membership, servers, content`
        return rows.map(
          (row): UnfinishedMembership => ({
            roomId: row.room_id as RoomId,
            userId: row.user_id as UserId,
            membership: row.membership as UnfinishedMembership["membership"],
            servers: row.servers as ReadonlyArray<ServerName>,
            content: JSON.parse(row.content) as JsonObject
          })
        )
      }, Effect.orDie)

      return UnfinishedMembershipStore.of({
        put,
        take,
        nextAt: sql<{ at: bigint | null }>`
          SELECT min(retry_at) AS at FROM unfinished_memberships WHERE membership <> 'knock'`.pipe(
          Effect.map(([row]) => (row?.at == null ? undefined : Number(row.at))),
          Effect.orDie
        ),
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
