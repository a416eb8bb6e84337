/**
 * The Ed25519 keys with which this home server signs. One is current; older ones stay published, so that what they
 * signed can still be checked.
 *
 * An error of the database is a defect.
 *
 * Source: "Security" of the draft, "Retrieving server keys" of the server-server specification.
 */

import type { KeyObject } from "node:crypto"
import { randomBytes } from "node:crypto"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import {
  exportSigningKey,
  exportVerifyKey,
  generateSigningKey,
  importSigningKey,
  importVerifyKey,
  type SigningKey,
  verifyKeyOf
} from "@greenroom/room/Signing"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import * as MonotonicCache from "./MonotonicCache.ts"
import { monotonicMillis, monotonicMillisUnsafe } from "./MonotonicClock.ts"

/** A public key of ours. */
export interface PublishedKey {
  readonly keyId: string
  readonly publicKey: KeyObject
  /** Since when it signs (milliseconds since 1970). */
  readonly createdAt: number
  /** When the key was replaced (milliseconds since 1970), undefined for the current one. */
  readonly expiredAt: number | undefined
}

/** How long a node may go on signing with a key that another node has replaced, in ms. */
const freshness = 60_000

/** Key IDs are never reused: other servers cache keys by ID. */
const newKeyId = (): string => `ed25519:${randomBytes(4).toString("hex")}`

const make = Effect.fnUntraced(function* (
  serverName: ServerName
): Effect.fn.Return<SigningKeys["Service"], SqlError.SqlError, SqlClient.SqlClient> {
  const sql = yield* SqlClient.SqlClient

  /** Adds a key unless there is a current one. */
  const add = Effect.fnUntraced(function* (now: number) {
    const key = generateSigningKey(serverName, newKeyId())
    yield* sql`
      INSERT INTO signing_keys (key_id, secret_key, public_key, created_at)
      VALUES (${key.keyId}, ${exportSigningKey(key)}, ${exportVerifyKey(verifyKeyOf(key))}, ${now})
      ON CONFLICT DO NOTHING`
  })

  const load = Effect.gen(function* () {
    const rows = yield* sql<{ key_id: string; secret_key: Uint8Array }>`
      SELECT key_id, secret_key FROM signing_keys WHERE expired_at IS NULL`
    return Result.getOrThrow(importSigningKey(serverName, rows[0]!.key_id, rows[0]!.secret_key))
  })

  yield* add(yield* Clock.currentTimeMillis)
  /** The current key. Every event needs it: while it is fresh it is read without the cache. */
  let fresh: { readonly key: Effect.Effect<SigningKey>; readonly since: number } | undefined
  const lookup = () =>
    Effect.orDie(
      Effect.map(Effect.all([monotonicMillis, load]), ([since, key]) => {
        fresh = { key: Effect.succeed(key), since }
        return key
      })
    )
  const cache = yield* MonotonicCache.make({ lookup, capacity: 1, timeToLive: freshness })
  const cached = MonotonicCache.get(cache, "current")
  const current = Effect.clockWith((clock) => {
    const age = fresh === undefined ? freshness : monotonicMillisUnsafe(clock) - fresh.since
    return age < freshness ? fresh!.key : cached
  })
  yield* current

  const rotate = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    yield* sql.withTransaction(
      Effect.andThen(sql`UPDATE signing_keys SET expired_at = ${now} WHERE expired_at IS NULL`, add(now))
    )
    fresh = undefined
    yield* MonotonicCache.invalidate(cache, "current")
    return yield* current
  }).pipe(Effect.orDie)

  const list = sql<{ key_id: string; public_key: Uint8Array; created_at: bigint; expired_at: bigint | null }>`
    SELECT key_id, public_key, created_at, expired_at FROM signing_keys ORDER BY expired_at DESC NULLS FIRST`.pipe(
    Effect.map((rows) =>
      rows.map(
        (row): PublishedKey => ({
          keyId: row.key_id,
          publicKey: Result.getOrThrow(importVerifyKey(row.public_key)),
          createdAt: Number(row.created_at),
          expiredAt: row.expired_at === null ? undefined : Number(row.expired_at)
        })
      )
    ),
    Effect.orDie
  )

  const currentSince = Effect.fnUntraced(function* (since: number) {
    const rows = yield* sql<{ key_id: string; secret_key: Uint8Array }>`
      SELECT key_id, secret_key FROM signing_keys WHERE expired_at IS NULL OR expired_at >= ${since - freshness}
      ORDER BY created_at, expired_at`
    return rows.map((row) => Result.getOrThrow(importSigningKey(serverName, row.key_id, row.secret_key)))
  }, Effect.orDie)

  return { current, currentSince, list, rotate }
})

export class SigningKeys extends Context.Service<
  SigningKeys,
  {
    /** The key to sign with. Served from memory; made on the first start. */
    readonly current: Effect.Effect<SigningKey>
    /**
     * The keys that were used since a time (milliseconds since 1970), the current one last, for receivers of keys that
     * verify later signatures.
     */
    readonly currentSince: (since: number) => Effect.Effect<ReadonlyArray<SigningKey>>
    /** All keys that we ever signed with, the current one first. */
    readonly list: Effect.Effect<ReadonlyArray<PublishedKey>>
    /** Replaces the current key. Other nodes follow within a minute. */
    readonly rotate: Effect.Effect<SigningKey>
  }
>()("greenroom/store/SigningKeys") {
  static readonly layer = (serverName: ServerName): Layer.Layer<SigningKeys, SqlError.SqlError, SqlClient.SqlClient> =>
    Layer.effect(SigningKeys, make(serverName))
}
