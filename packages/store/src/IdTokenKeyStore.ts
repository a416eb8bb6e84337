/**
 * The RSA key that signs ID tokens of OpenID Connect: created on first use, and never changed.
 *
 * An error of the database is a defect.
 */
import { createPrivateKey, generateKeyPair, type KeyObject } from "node:crypto"
import { promisify } from "node:util"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"

const generate = promisify(generateKeyPair)

export class IdTokenKeyStore extends Context.Service<
  IdTokenKeyStore,
  {
    readonly key: Effect.Effect<KeyObject>
  }
>()("greenroom/store/IdTokenKeyStore") {
  static readonly layer: Layer.Layer<IdTokenKeyStore, never, SqlClient.SqlClient> = Layer.effect(
    IdTokenKeyStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const load = Effect.map(sql<{ secret_key: Uint8Array }>`SELECT secret_key FROM id_token_key`, ([row]) => row)
      const make = Effect.gen(function* () {
        const { privateKey } = yield* Effect.promise(() => generate("rsa", { modulusLength: 2_048 }))
        const secretKey = privateKey.export({ format: "der", type: "pkcs8" })
        // Another node may have created the key in the meantime.
        yield* sql`
          INSERT INTO id_token_key (secret_key, created_at) VALUES (${secretKey}, ${yield* Clock.currentTimeMillis})
          ON CONFLICT DO NOTHING`
        return (yield* load)!
      })
      const key = Effect.gen(function* () {
        const { secret_key } = (yield* load) ?? (yield* make)
        return createPrivateKey({ key: Buffer.from(secret_key), format: "der", type: "pkcs8" })
      })
      return IdTokenKeyStore.of({ key: Effect.orDie(key) })
    })
  )
}
