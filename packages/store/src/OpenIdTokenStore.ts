/**
 * Tokens that prove the identity of a user to third parties. Only their hashes are stored.
 *
 * Used by `OpenIdTokens` alone. An error of the database is a defect. Times are milliseconds since 1970.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Clock, Context, Effect, Layer, Option, type Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { counted } from "./internal/counted.ts"
import { hashOfSecret } from "./Secrets.ts"

export class OpenIdTokenStore extends Context.Service<
  OpenIdTokenStore,
  {
    /** Stores a token. Deletes expired ones, and the oldest of a user with more than `limit`. */
    readonly create: (userId: UserId, token: Redacted.Redacted, expiresAt: number, limit: number) => Effect.Effect<void>
    /** The user of a token; undefined if it is unknown or expired, or the account is deactivated. */
    readonly find: (token: Redacted.Redacted) => Effect.Effect<Option.Option<UserId>>
  }
>()("greenroom/store/OpenIdTokenStore") {
  static readonly layer = Layer.effect(
    OpenIdTokenStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const create: OpenIdTokenStore["Service"]["create"] = Effect.fnUntraced(function* (
        userId,
        token,
        expiresAt,
        limit
      ) {
        const now = yield* Clock.currentTimeMillis
        yield* counted(sql)(`openid_tokens ${userId}`)(sql`
          WITH expired AS (DELETE FROM openid_tokens WHERE expires_at <= ${now}),
            surplus AS (DELETE FROM openid_tokens WHERE token_hash IN (
              SELECT token_hash FROM openid_tokens WHERE user_id = ${userId} ORDER BY expires_at DESC OFFSET ${limit - 1}))
          INSERT INTO openid_tokens (token_hash, user_id, expires_at) VALUES (${hashOfSecret(token)}, ${userId}, ${expiresAt})`)
      }, Effect.orDie)

      const find = Effect.fnUntraced(function* (token: Redacted.Redacted) {
        const now = yield* Clock.currentTimeMillis
        const rows = yield* sql<{ user_id: string }>`
          SELECT user_id FROM openid_tokens JOIN users USING (user_id)
          WHERE token_hash = ${hashOfSecret(token)} AND expires_at > ${now} AND deactivated_at IS NULL`
        return Option.map(Option.fromNullishOr(rows[0]), (row) => row.user_id as UserId)
      }, Effect.orDie)

      return OpenIdTokenStore.of({ create, find })
    })
  )
}
