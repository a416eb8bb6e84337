/**
 * The signing key of this server as a policy server: created on first use, and never changed.
 *
 * An error of the database is a defect.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { policyKeyId } from "@greenroom/room/RoomPolicy"
import { exportSigningKey, generateSigningKey, importSigningKey, type SigningKey } from "@greenroom/room/Signing"
import { Clock, Context, Effect, Layer, Result } from "effect"
import { SqlClient } from "effect/sql"

export class PolicyKeyStore extends Context.Service<
  PolicyKeyStore,
  {
    readonly key: Effect.Effect<SigningKey>
  }
>()("greenroom/store/PolicyKeyStore") {
  static readonly layer = (serverName: ServerName): Layer.Layer<PolicyKeyStore, never, SqlClient.SqlClient> =>
    Layer.effect(
      PolicyKeyStore,
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const key = Effect.gen(function* () {
          const made = exportSigningKey(generateSigningKey(serverName, policyKeyId))
          yield* sql`
            INSERT INTO policy_key (secret_key, created_at) VALUES (${made}, ${yield* Clock.currentTimeMillis})
            ON CONFLICT DO NOTHING`
          const [row] = yield* sql<{ secret_key: Uint8Array }>`SELECT secret_key FROM policy_key`
          return Result.getOrThrow(importSigningKey(serverName, policyKeyId, row!.secret_key))
        }).pipe(Effect.orDie)
        return PolicyKeyStore.of({ key })
      })
    )
}
