/**
 * Clients that registered themselves for the OAuth 2.0 API. Those with the same metadata are one client.
 *
 * Used by `OAuthServer` alone. An error of the database is a defect. Times are milliseconds since 1970.
 */
import { createHash } from "node:crypto"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Clock, Context, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"

export class OAuthClientStore extends Context.Service<
  OAuthClientStore,
  {
    /**
     * Stores a client, and returns its ID, which is that of an earlier client with the same metadata. None for a new client if `limit`
     * clients have no login.
     */
    readonly register: (clientId: string, metadata: string, limit: number) => Effect.Effect<Option.Option<string>>
    /** The metadata of a client, as they were registered. */
    readonly find: (clientId: string) => Effect.Effect<Option.Option<string>>
    /** Deletes clients that were registered before a time and have no login. */
    readonly removeUnused: (registeredBefore: number) => Effect.Effect<void>
    /** Lets a user reset their cross-signing keys until a time. */
    readonly allowKeysReset: (userId: UserId, until: number) => Effect.Effect<void>
    /** Whether the time of `allowKeysReset` has not passed. */
    readonly mayResetKeys: (userId: UserId) => Effect.Effect<boolean>
  }
>()("greenroom/store/OAuthClientStore") {
  static readonly layer = Layer.effect(
    OAuthClientStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const register = Effect.fnUntraced(function* (clientId: string, metadata: string, limit: number) {
        const now = yield* Clock.currentTimeMillis
        const hash = createHash("sha256").update(metadata).digest()
        const rows = yield* sql<{ client_id: string }>`
          INSERT INTO oauth_clients AS client (client_id, metadata, metadata_hash, registered_at)
          SELECT ${clientId}, ${metadata}, ${hash}::bytea, ${now}
          WHERE EXISTS (SELECT 1 FROM oauth_clients WHERE metadata_hash = ${hash}) OR (
            SELECT count(*) FROM oauth_clients AS other
            WHERE NOT EXISTS (SELECT 1 FROM access_tokens WHERE access_tokens.client_id = other.client_id)) < ${limit}
          ON CONFLICT (metadata_hash) DO UPDATE SET registered_at = ${now} RETURNING client_id`
        return Option.map(Option.fromNullishOr(rows[0]), ({ client_id }) => client_id)
      }, Effect.orDie)

      const mayResetKeys = Effect.fnUntraced(function* (userId: UserId) {
        const now = yield* Clock.currentTimeMillis
        const rows = yield* sql`SELECT 1 FROM users WHERE user_id = ${userId} AND keys_reset_until > ${now}`
        return rows.length > 0
      }, Effect.orDie)

      return OAuthClientStore.of({
        register,
        find: (clientId) =>
          sql<{ metadata: string }>`SELECT metadata FROM oauth_clients WHERE client_id = ${clientId}`.pipe(
            Effect.map((rows) => Option.map(Option.fromNullishOr(rows[0]), ({ metadata }) => metadata)),
            Effect.orDie
          ),
        removeUnused: (registeredBefore) =>
          sql`
            DELETE FROM oauth_clients WHERE registered_at < ${registeredBefore}
              AND NOT EXISTS (SELECT 1 FROM access_tokens WHERE access_tokens.client_id = oauth_clients.client_id)`.pipe(
            Effect.asVoid,
            Effect.orDie
          ),
        allowKeysReset: (userId, until) =>
          sql`UPDATE users SET keys_reset_until = ${until} WHERE user_id = ${userId}`.pipe(Effect.asVoid, Effect.orDie),
        mayResetKeys
      })
    })
  )
}
