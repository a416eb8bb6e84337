/**
 * The public keys of other servers, as `RemoteKeys` fetched and verified them.
 *
 * Used by `RemoteKeys` alone. An error of the database is a defect. Times are milliseconds since 1970.
 */
import type { KeyObject } from "node:crypto"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { exportVerifyKey, importVerifyKey } from "@greenroom/room/Signing"
import { Context, Effect, Layer, Result } from "effect"
import { SqlClient } from "effect/sql"
import { bigints, texts } from "./PgArrays.ts"

/** A key of another server. */
export interface RemoteKey {
  readonly keyId: string
  readonly publicKey: KeyObject
  /** Until when a current key is believed without asking again. */
  readonly validUntil: number
  /** When the server stopped to sign with it, undefined while it is current. */
  readonly expiredAt: number | undefined
  readonly fetchedAt: number
}

interface Row {
  readonly server_name: string
  readonly key_id: string
  readonly public_key: Uint8Array
  readonly valid_until: bigint
  readonly expired_at: bigint | null
  readonly fetched_at: bigint
}

const toKey = (row: Row): RemoteKey => ({
  keyId: row.key_id,
  publicKey: Result.getOrThrow(importVerifyKey(row.public_key)),
  validUntil: Number(row.valid_until),
  expiredAt: row.expired_at === null ? undefined : Number(row.expired_at),
  fetchedAt: Number(row.fetched_at)
})

export class RemoteKeyStore extends Context.Service<
  RemoteKeyStore,
  {
    /** Every key of the server that we ever fetched. */
    readonly find: (serverName: ServerName) => Effect.Effect<ReadonlyArray<RemoteKey>>
    /** Adds keys, or renews them. A key that is not among them stays as it is. */
    readonly put: (serverName: ServerName, keys: ReadonlyArray<RemoteKey>) => Effect.Effect<void>
  }
>()("greenroom/store/RemoteKeyStore") {
  static readonly layer = Layer.effect(
    RemoteKeyStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      return RemoteKeyStore.of({
        find: (serverName) =>
          sql<Row>`SELECT * FROM remote_keys WHERE server_name = ${serverName}`.pipe(
            Effect.map((rows) => rows.map(toKey)),
            Effect.orDie
          ),
        put: (serverName, keys) =>
          sql`
            INSERT INTO remote_keys (server_name, key_id, public_key, valid_until, expired_at, fetched_at)
            SELECT ${serverName}, key_id, decode(public_key, 'hex'), valid_until, expired_at, fetched_at
            FROM unnest(
              ${texts(keys.map((key) => key.keyId))}::text[],
              ${texts(keys.map((key) => Buffer.from(exportVerifyKey(key.publicKey)).toString("hex")))}::text[],
              ${bigints(keys.map((key) => key.validUntil))}::bigint[],
              ${bigints(keys.map((key) => key.expiredAt ?? null))}::bigint[],
              ${bigints(keys.map((key) => key.fetchedAt))}::bigint[]
            ) AS new (key_id, public_key, valid_until, expired_at, fetched_at)
            ORDER BY key_id
            ON CONFLICT (server_name, key_id) DO UPDATE SET
              public_key = excluded.public_key, valid_until = excluded.valid_until,
              expired_at = excluded.expired_at, fetched_at = excluded.fetched_at`.pipe(Effect.asVoid, Effect.orDie)
      })
    })
  )
}
