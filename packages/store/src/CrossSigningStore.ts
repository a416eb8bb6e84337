/**
 * The cross-signing keys of users, and the signatures of users on the keys of others.
 *
 * An error of the database is a defect. Source: "Cross-signing" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { mergeSignatures, type SignedKeys } from "./DeviceKeyStore.ts"
import { EventLog } from "./EventLog.ts"
import { texts } from "./PgArrays.ts"

export const keyUsages = ["master", "self_signing", "user_signing"] as const
export type KeyUsage = (typeof keyUsages)[number]

export type CrossSigningKeys = { readonly [usage in KeyUsage]?: SignedKeys }

interface Row extends SignedKeys {
  readonly user_id: string
  readonly usage: string
}

export class CrossSigningStore extends Context.Service<
  CrossSigningStore,
  {
    /** The keys of users by their usage. Users without keys are missing. */
    readonly keys: (userIds: ReadonlyArray<UserId>) => Effect.Effect<ReadonlyMap<UserId, CrossSigningKeys>>
    /**
     * Stores keys of a user. Different existing keys are replaced if the user has no master key or `mayReplace`. Otherwise nothing
     * changes, and the result is false. Signatures by replaced keys are removed.
     */
    readonly put: (userId: UserId, keys: CrossSigningKeys, mayReplace: boolean) => Effect.Effect<boolean>
    /** Adds signatures to the user's master key, if it is still `keys`. */
    readonly signOwnMaster: (userId: UserId, added: SignedKeys) => Effect.Effect<boolean>
    /** Stores signatures of a user on the master key of another one: JSON text. False if the user has signed `most` others. */
    readonly signOther: (signer: UserId, userId: UserId, signatures: string, most: number) => Effect.Effect<boolean>
    /** The signatures of a user on the master keys of others: JSON text. */
    readonly signaturesBy: (
      signer: UserId,
      userIds: ReadonlyArray<UserId>
    ) => Effect.Effect<ReadonlyMap<UserId, string>>
  }
>()("greenroom/store/CrossSigningStore") {
  static readonly layer = Layer.effect(
    CrossSigningStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const log = yield* EventLog

      const keys = (userIds: ReadonlyArray<UserId>) =>
        sql<Row>`
          SELECT user_id, usage, keys, signatures FROM cross_signing_keys
          WHERE user_id = ANY (${texts(userIds)}::text[])`.pipe(
          Effect.map((rows) => {
            const found = new Map<UserId, { [usage in KeyUsage]?: SignedKeys }>()
            for (const { keys, signatures, usage, user_id } of rows) {
              const ofUser = found.get(user_id as UserId) ?? {}
              ofUser[usage as KeyUsage] = { keys, signatures }
              found.set(user_id as UserId, ofUser)
            }
            return found
          })
        )

      const put = Effect.fnUntraced(function* (userId: UserId, given: CrossSigningKeys, mayReplace: boolean) {
        // Serialises devices that set up cross-signing at the same time.
        yield* sql`SELECT 1 FROM users WHERE user_id = ${userId} FOR NO KEY UPDATE`
        const before: CrossSigningKeys = (yield* keys([userId])).get(userId) ?? {}
        const changed = keyUsages.filter((usage) => given[usage] && given[usage].keys !== before[usage]?.keys)
        if (before.master !== undefined && changed.length > 0 && !mayReplace) return false
        if (changed.includes("master")) {
          yield* sql`DELETE FROM cross_signing_keys WHERE user_id = ${userId}`
          yield* sql`DELETE FROM user_signatures WHERE user_id = ${userId}`
        }
        if (changed.includes("user_signing")) yield* sql`DELETE FROM user_signatures WHERE signer = ${userId}`
        for (const usage of changed) {
          const { keys, signatures } = given[usage]!
          yield* sql`
            INSERT INTO cross_signing_keys (user_id, usage, keys, signatures)
            VALUES (${userId}, ${usage}, ${keys}, ${signatures})
            ON CONFLICT (user_id, usage) DO UPDATE SET keys = excluded.keys, signatures = excluded.signatures`
        }
        return true
      })

      const signOwnMaster = Effect.fnUntraced(function* (userId: UserId, added: SignedKeys) {
        const [before] = yield* sql<SignedKeys>`
          SELECT keys, signatures FROM cross_signing_keys WHERE user_id = ${userId} AND usage = 'master' FOR UPDATE`
        if (before?.keys !== added.keys) return false
        const signatures = mergeSignatures(before.signatures, added.signatures)
        if (signatures === before.signatures) return true
        yield* sql`
          UPDATE cross_signing_keys SET signatures = ${signatures} WHERE user_id = ${userId} AND usage = 'master'`
        return true
      })

      return CrossSigningStore.of({
        keys: (userIds) => Effect.orDie(keys(userIds)),
        put: (userId, given, mayReplace) => Effect.orDie(log.transaction(put(userId, given, mayReplace))),
        signOwnMaster: (userId, added) => Effect.orDie(log.transaction(signOwnMaster(userId, added))),
        signOther: (signer, userId, signatures, most) =>
          log
            .transaction(sql<{ fits: boolean }>`
            WITH place AS MATERIALIZED (
              SELECT EXISTS (SELECT FROM user_signatures WHERE signer = ${signer} AND user_id = ${userId})
                OR (SELECT count(*) FROM user_signatures WHERE signer = ${signer}) < ${most} AS fits),
            stored AS (
              INSERT INTO user_signatures AS stored (signer, user_id, signatures)
              SELECT ${signer}, ${userId}, ${signatures} FROM place WHERE fits
              ON CONFLICT (signer, user_id) DO UPDATE
              SET signatures = excluded.signatures, xid = excluded.xid, nid = excluded.nid
              WHERE stored.signatures <> excluded.signatures)
            SELECT fits FROM place`)
            .pipe(
              Effect.map((rows) => rows[0]!.fits),
              Effect.orDie
            ),
        signaturesBy: (signer, userIds) =>
          sql<{ user_id: string; signatures: string }>`
            SELECT user_id, signatures FROM user_signatures
            WHERE signer = ${signer} AND user_id = ANY (${texts(userIds)}::text[])`.pipe(
            Effect.map((rows) => new Map(rows.map((row) => [row.user_id as UserId, row.signatures]))),
            Effect.orDie
          )
      })
    })
  )
}
