/**
 * Recent failed attempts to log in, by account and by address, for all nodes together. Each key has a leaky bucket: `limit` attempts at
 * once, and one more after every `window / limit`.
 *
 * An attempt is counted before its outcome is known, so that concurrent ones are counted too, and given back if it succeeds. Used by `LoginFlows` alone. An error of the database is a defect.
 */
import { createHash } from "node:crypto"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"

/** `limit` attempts per `window` milliseconds. */
export interface AttemptRate {
  readonly limit: number
  readonly window: number
}

const hash = (key: string): Uint8Array => createHash("sha256").update(key).digest()

export class LoginAttemptStore extends Context.Service<
  LoginAttemptStore,
  {
    /** Counts an attempt. Returns 0 if it may be made, else the milliseconds until the next one may. */
    readonly take: (key: string, rate: AttemptRate) => Effect.Effect<number>
    /** Undoes a `take`. */
    readonly giveBack: (key: string) => Effect.Effect<void>
    /** Deletes keys that were not used for this many milliseconds. */
    readonly forget: (unusedFor: number) => Effect.Effect<void>
  }
>()("greenroom/store/LoginAttemptStore") {
  static readonly layer = Layer.effect(
    LoginAttemptStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const take = Effect.fn("LoginAttemptStore.take")(function* (key: string, { limit, window }: AttemptRate) {
        const now = yield* Clock.currentTimeMillis
        const leak = limit / window
        // If the clock was set back, no time has passed.
        const level = sql`greatest(0, bucket.level - greatest(0, ${now}::bigint - bucket.updated_at) * ${leak}::float8)`
        const counted = yield* sql`
          INSERT INTO login_attempts AS bucket (key_hash, level, updated_at) VALUES (${hash(key)}, 1, ${now})
          ON CONFLICT (key_hash) DO UPDATE SET level = ${level} + 1, updated_at = ${now}
          WHERE ${level} + 1 <= ${limit}::float8
          RETURNING 1`
        if (counted.length > 0) return 0
        const rows = yield* sql<{ level: number }>`
          UPDATE login_attempts AS bucket SET level = ${level}, updated_at = ${now}
          WHERE key_hash = ${hash(key)} RETURNING level`
        return Math.max(1, Math.ceil(((rows[0]?.level ?? limit) + 1 - limit) / leak))
      }, Effect.orDie)

      return LoginAttemptStore.of({
        take,
        giveBack: (key) =>
          sql`UPDATE login_attempts SET level = greatest(0, level - 1) WHERE key_hash = ${hash(key)}`.pipe(
            Effect.asVoid,
            Effect.orDie
          ),
        forget: (unusedFor) =>
          Effect.flatMap(
            Clock.currentTimeMillis,
            (now) => sql`DELETE FROM login_attempts WHERE updated_at < ${now - unusedFor}`
          ).pipe(Effect.asVoid, Effect.orDie)
      })
    })
  )
}
