/**
 * Upgrades of rooms that are in progress. They are finished after the end of a process that has interrupted them.
 *
 * An error of the database is a defect.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { texts } from "./PgArrays.ts"

export interface UnfinishedUpgrade {
  /** The room that is replaced. */
  readonly roomId: RoomId
  readonly userId: UserId
  /** The ID of the version of the new room. */
  readonly newVersion: string
  readonly additionalCreators: ReadonlyArray<UserId>
}

/** How long an upgrade is tried again, in ms. */
const keptFor = 7 * 24 * 3_600_000

/** The wait before the first repeat, in ms: by then its process has ended or given up. It doubles with each one, up to the longest. */
const firstWait = 2 * 60_000
const longestWait = 6 * 3_600_000

export class UnfinishedUpgradeStore extends Context.Service<
  UnfinishedUpgradeStore,
  {
    /** Stores an upgrade, in place of the former one of this user and room. */
    readonly put: (upgrade: UnfinishedUpgrade) => Effect.Effect<void>
    /** The upgrade is finished, or refused. */
    readonly remove: (roomId: RoomId, userId: UserId) => Effect.Effect<void>
    /**
     * The upgrades that are due for another attempt; those older than a week are forgotten. Each is due again after a wait that grows
     * with its attempts, unless it is removed.
     */
    readonly take: Effect.Effect<ReadonlyArray<UnfinishedUpgrade>>
    /** When the next one is due, in milliseconds since 1970. */
    readonly nextAt: Effect.Effect<number | undefined>
  }
>()("greenroom/store/UnfinishedUpgradeStore") {
  static readonly layer = Layer.effect(
    UnfinishedUpgradeStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const put = Effect.fnUntraced(function* ({ additionalCreators, newVersion, roomId, userId }: UnfinishedUpgrade) {
        const now = yield* Clock.currentTimeMillis
        yield* sql`
          INSERT INTO unfinished_upgrades (room_id, user_id, new_version, additional_creators, since, retry_at)
          VALUES (${roomId}, ${userId}, ${newVersion}, ${texts(additionalCreators)}::text[], ${now}, ${now + firstWait})
          ON CONFLICT (room_id, user_id) DO UPDATE SET
            new_version = excluded.new_version, additional_creators = excluded.additional_creators`
      }, Effect.orDie)

      const take = Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        yield* sql`DELETE FROM unfinished_upgrades WHERE since < ${now - keptFor}`
        const rows = yield* sql<{
          room_id: string
          user_id: string
          new_version: string
          additional_creators: ReadonlyArray<string>
        }>`
          UPDATE unfinished_upgrades SET attempts = attempts + 1,
            retry_at = ${now} + least(${longestWait}::float8, ${firstWait}::float8 * power(2, attempts))
          WHERE retry_at <= ${now}
          RETURNING room_id, user_id, new_version, additional_creators`
        return rows.map(
          (row): UnfinishedUpgrade => ({
            roomId: row.room_id as RoomId,
            userId: row.user_id as UserId,
            newVersion: row.new_version,
            additionalCreators: row.additional_creators as ReadonlyArray<UserId>
          })
        )
      })

      return UnfinishedUpgradeStore.of({
        put,
        take: Effect.orDie(take),
        nextAt: sql<{ at: bigint | null }>`SELECT min(retry_at) AS at FROM unfinished_upgrades`.pipe(
          Effect.map(([row]) => (row?.at == null ? undefined : Number(row.at))),
          Effect.orDie
        ),
        remove: (roomId, userId) =>
          sql`DELETE FROM unfinished_upgrades WHERE room_id = ${roomId} AND user_id = ${userId}`.pipe(
            Effect.asVoid,
            Effect.orDie
          )
      })
    })
  )
}
