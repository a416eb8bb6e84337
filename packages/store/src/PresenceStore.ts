/**
 * The last stored presence of users, which the Presence actor reads when it starts. Not written for every activity.
 * The status message is kept as JSON, which escapes what PostgreSQL cannot hold.
 *
 * An error of the database is a defect. Times are milliseconds since 1970.
 */
import type { PresenceState } from "@greenroom/protocol/api/PresenceApi"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { texts } from "./PgArrays.ts"

export interface StoredPresence {
  readonly state: PresenceState
  readonly status_msg: string | undefined
  readonly last_active_at: number | undefined
  /** When the user chose the state; undefined for a state that follows from the devices. */
  readonly chosen_at: number | undefined
}

interface Row {
  readonly user_id: string
  readonly state: string
  readonly status_msg: string | null
  readonly last_active_at: bigint | null
  readonly chosen_at: bigint | null
}

const toPresence = (row: Row): StoredPresence => ({
  state: row.state as PresenceState,
  status_msg: row.status_msg === null ? undefined : JSON.parse(row.status_msg),
  last_active_at: row.last_active_at === null ? undefined : Number(row.last_active_at),
  chosen_at: row.chosen_at === null ? undefined : Number(row.chosen_at)
})

const jsonOrNull = (text: string | undefined) => (text === undefined ? null : JSON.stringify(text))

export class PresenceStore extends Context.Service<
  PresenceStore,
  {
    readonly get: (userId: UserId) => Effect.Effect<Option.Option<StoredPresence>>
    /** The presences of many users. Users without a stored presence are missing. */
    readonly many: (userIds: Iterable<UserId>) => Effect.Effect<ReadonlyMap<UserId, StoredPresence>>
    readonly save: (userId: UserId, presence: StoredPresence) => Effect.Effect<void>
    readonly remove: (userId: UserId) => Effect.Effect<void>
    /** Users who were not offline before the server started, at most `limit`, and have not been forgotten. */
    readonly former: (limit: number) => Effect.Effect<ReadonlyArray<UserId>>
    /** Removes users from those of `former`. */
    readonly forgetFormer: (userIds: ReadonlyArray<UserId>) => Effect.Effect<void>
  }
>()("greenroom/store/PresenceStore") {
  static readonly layer = Layer.effect(
    PresenceStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const many = Effect.fn("PresenceStore.many")(function* (userIds: Iterable<UserId>) {
        const wanted = [...userIds]
        if (wanted.length === 0) return new Map<UserId, StoredPresence>()
        const rows = yield* sql<Row>`
          SELECT user_id, state, status_msg, last_active_at, chosen_at FROM presence
          WHERE user_id = ANY (${texts(wanted)}::text[])`
        return new Map(rows.map((row) => [row.user_id as UserId, toPresence(row)]))
      }, Effect.orDie)

      const save = Effect.fn("PresenceStore.save")(function* (userId: UserId, presence: StoredPresence) {
        yield* sql`
          INSERT INTO presence (user_id, state, status_msg, last_active_at, chosen_at)
          VALUES (
            ${userId}, ${presence.state}, ${jsonOrNull(presence.status_msg)},
            ${presence.last_active_at ?? null}, ${presence.chosen_at ?? null}
          )
          ON CONFLICT (user_id) DO UPDATE SET
            state = excluded.state, status_msg = excluded.status_msg,
            last_active_at = excluded.last_active_at, chosen_at = excluded.chosen_at`
      }, Effect.orDie)

      return PresenceStore.of({
        get: (userId) => Effect.map(many([userId]), (found) => Option.fromNullishOr(found.get(userId))),
        many,
        save,
        remove: (userId) => sql`DELETE FROM presence WHERE user_id = ${userId}`.pipe(Effect.asVoid, Effect.orDie),
        former: (limit) =>
          sql<{ user_id: string }>`SELECT user_id FROM former_presence ORDER BY user_id LIMIT ${limit}`.pipe(
            Effect.map((rows) => rows.map(({ user_id }) => user_id as UserId)),
            Effect.orDie
          ),
        forgetFormer: (userIds) =>
          sql`DELETE FROM former_presence WHERE user_id = ANY (${texts(userIds)}::text[])`.pipe(
            Effect.asVoid,
            Effect.orDie
          )
      })
    })
  )
}
