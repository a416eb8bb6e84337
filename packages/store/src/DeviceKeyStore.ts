/**
 * The keys of devices: identity keys, one-time keys and fallback keys. They are deleted with the device.
 *
 * An error of the database is a defect. Source: "End-to-End Encryption" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Context, Data, Effect, Exit, Layer, Request, RequestResolver } from "effect"
import { SqlClient, type SqlError, type Statement } from "effect/sql"
import { EventLog } from "./EventLog.ts"
import { readWithin, takeBytes } from "./LargeReads.ts"
import { texts } from "./PgArrays.ts"

/** An identity key, without `signatures` and `unsigned`, as canonical JSON, and the signatures as JSON. */
export interface SignedKeys {
  readonly keys: string
  readonly signatures: string
}

/** The keys of a device as they are queried. */
export interface StoredDeviceKeys extends SignedKeys {
  readonly userId: UserId
  readonly deviceId: string
  /** The display name as JSON text. */
  readonly name: string | undefined
}

/** A one-time or fallback key, as canonical JSON. */
export interface PrekeyUpload {
  readonly algorithm: string
  readonly keyId: string
  readonly key: string
}

export interface KeyUpload {
  readonly userId: UserId
  readonly deviceId: string
  readonly device: SignedKeys | undefined
  readonly oneTime: ReadonlyArray<PrekeyUpload>
  readonly fallback: ReadonlyArray<PrekeyUpload>
}

/** The request of a claim. */
export interface KeyClaim {
  readonly userId: UserId
  readonly deviceId: string
  readonly algorithm: string
}

export interface ClaimedKey extends KeyClaim {
  readonly keyId: string
  readonly key: string
}

/** How many one-time keys of each algorithm can be claimed, and the algorithms whose fallback key was never claimed. */
export interface PrekeyCounts {
  readonly oneTime: Readonly<Record<string, number>>
  readonly unusedFallback: ReadonlyArray<string>
}

/** The reason why an upload changed nothing. */
export class UploadRefused extends Data.TaggedError("UploadRefused")<{
  readonly reason: "no device" | "different key" | "too many"
  /** The ID of the key that is stored with another value. */
  readonly keyId?: string
}> {}

/** How long claimed keys are kept, in milliseconds, and the most claimed keys of a device. The oldest are deleted. */
const claimedKeptFor = 86_400_000
const maxClaimedKept = 1_000

/** How many keys are claimed without a look at their sizes before that: they seldom have more bytes than a request may read without a permit. */
const claimedUnmeasured = 16

const noKeys = { oneTime: [], fallback: [] } as const

interface CountRow {
  /** The index of the device in the request, from 1. */
  readonly device: number
  readonly algorithm: string
  readonly count: number | null
}

/** Rows of the log that were written. */
interface Note {
  /** The transaction. */
  readonly xid: string
}

interface DeviceRow {
  readonly user_id: string
  readonly device_id: string
  readonly keys: string | null
  readonly signatures: string | null
  readonly device_name: string | null
  /** Of the keys and signatures up to these. */
  readonly bytes: bigint
}

interface ClaimedRow extends Note {
  readonly user_id: string
  readonly device_id: string
  readonly algorithm: string
  readonly key_id: string
  readonly key: string
}

const toCounts = (rows: ReadonlyArray<CountRow>): PrekeyCounts => ({
  oneTime: Object.fromEntries(rows.flatMap(({ algorithm, count }) => (count === null ? [] : [[algorithm, count]]))),
  unusedFallback: rows.flatMap(({ algorithm, count }) => (count === null ? [algorithm] : []))
})

interface Device {
  readonly userId: UserId
  readonly deviceId: string
}

class CountKeys extends Request.TaggedClass("CountKeys")<Device, PrekeyCounts, SqlError.SqlError> {}

/** Merges signatures. Those of `later` win. */
export const mergeSignatures = (earlier: string, later: string): string => {
  const merged: Record<string, object> = { ...JSON.parse(earlier) }
  for (const [user, ofUser] of Object.entries(JSON.parse(later) as Record<string, object>)) {
    merged[user] = { ...merged[user], ...ofUser }
  }
  return JSON.stringify(merged)
}

export class DeviceKeyStore extends Context.Service<
  DeviceKeyStore,
  {
    /**
     * Stores keys of a device, all or none. A repeat changes nothing. A device has at most `most` unclaimed one-time keys. An unchanged
     * identity key keeps its signatures.
     */
    readonly upload: (upload: KeyUpload, now: number, most: number) => Effect.Effect<PrekeyCounts, UploadRefused>
    /** Counts the keys of a device. Concurrent requests share one query. */
    readonly counts: (userId: UserId, deviceId: string) => Effect.Effect<PrekeyCounts>
    /** The devices of the users that have identity keys. */
    readonly devicesOf: (
      userIds: ReadonlyArray<UserId>
    ) => Effect.Effect<ReadonlyArray<{ readonly userId: UserId; readonly deviceId: string }>>
    /** The keys of all devices of the users. */
    readonly query: (userIds: ReadonlyArray<UserId>) => Effect.Effect<ReadonlyArray<StoredDeviceKeys>>
    /**
     * Claims the oldest one-time key for each request, exclusively, else the fallback key. Waits for the permit that their bytes need first:
     * a request that is given up then has claimed none.
     */
    readonly claim: (claims: ReadonlyArray<KeyClaim>, now: number) => Effect.Effect<ReadonlyArray<ClaimedKey>>
    /** Adds signatures to the keys of a device, if they are still `keys`. */
    readonly addSignatures: (
      userId: UserId,
      deviceId: string,
      { keys, signatures }: SignedKeys
    ) => Effect.Effect<boolean>
  }
>()("greenroom/store/DeviceKeyStore") {
  static readonly layer = Layer.effect(
    DeviceKeyStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const log = yield* EventLog

      const countAll = (devices: ReadonlyArray<Device>) =>
        sql<CountRow>`
          WITH wanted AS MATERIALIZED (
            SELECT * FROM unnest(
              ${texts(devices.map(({ userId }) => userId))}::text[],
              ${texts(devices.map(({ deviceId }) => deviceId))}::text[]
            ) WITH ORDINALITY AS wanted (user_id, device_id, device))
          SELECT device::integer, algorithm, count FROM wanted CROSS JOIN LATERAL (
            SELECT algorithm, count(*)::integer AS count FROM one_time_keys stored
            WHERE stored.user_id = wanted.user_id AND stored.device_id = wanted.device_id AND claimed_at IS NULL
            GROUP BY algorithm) AS counted
          UNION ALL
          SELECT device::integer, algorithm, NULL FROM wanted CROSS JOIN LATERAL (
            SELECT algorithm FROM fallback_keys stored
            WHERE stored.user_id = wanted.user_id AND stored.device_id = wanted.device_id AND NOT used) AS unused`.pipe(
          Effect.map((rows) => {
            const byDevice = Map.groupBy(rows, ({ device }) => device)
            return devices.map((_, index) => toCounts(byDevice.get(index + 1) ?? []))
          })
        )

      const countTogether = RequestResolver.make<CountKeys>((entries) =>
        Effect.matchCause(countAll(entries.map(({ request }) => request)), {
          onFailure: (cause) => {
            for (const entry of entries) entry.completeUnsafe(Exit.failCause(cause))
          },
          onSuccess: (counts) => {
            for (const [index, entry] of entries.entries()) entry.completeUnsafe(Exit.succeed(counts[index]!))
          }
        })
      )

      const uploadDevice = Effect.fnUntraced(function* (userId: UserId, deviceId: string, device: SignedKeys) {
        const [before] = yield* sql<SignedKeys>`
          SELECT keys, signatures FROM device_keys WHERE user_id = ${userId} AND device_id = ${deviceId} FOR UPDATE`
        const signatures =
          before?.keys === device.keys ? mergeSignatures(before.signatures, device.signatures) : device.signatures
        if (before?.keys === device.keys && before.signatures === signatures) return
        yield* sql`
          INSERT INTO device_keys (user_id, device_id, keys, signatures)
          VALUES (${userId}, ${deviceId}, ${device.keys}, ${signatures})
          ON CONFLICT (user_id, device_id) DO UPDATE SET keys = excluded.keys, signatures = excluded.signatures`
      })

      const given = (keys: ReadonlyArray<PrekeyUpload>) => sql`unnest(
        ${texts(keys.map(({ algorithm }) => algorithm))}::text[], ${texts(keys.map(({ keyId }) => keyId))}::text[],
        ${texts(keys.map(({ key }) => key))}::text[]) WITH ORDINALITY AS given (algorithm, key_id, key, place)`

      const uploadOneTime = Effect.fnUntraced(function* ({ deviceId, oneTime, userId }: KeyUpload, now: number) {
        yield* sql`
          DELETE FROM one_time_keys
          WHERE user_id = ${userId} AND device_id = ${deviceId} AND claimed_at IS NOT NULL
            AND (claimed_at < ${now - claimedKeptFor} OR number <= (
              SELECT claimed.number FROM one_time_keys claimed
              WHERE claimed.user_id = ${userId} AND claimed.device_id = ${deviceId} AND claimed.claimed_at IS NOT NULL
              ORDER BY claimed.number DESC OFFSET ${maxClaimedKept} LIMIT 1))`
        yield* sql`
          INSERT INTO one_time_keys (user_id, device_id, algorithm, key_id, key)
          SELECT ${userId}, ${deviceId}, algorithm, key_id, key FROM ${given(oneTime)} ORDER BY place
          ON CONFLICT DO NOTHING`
        const [different] = yield* sql<{ algorithm: string; key_id: string }>`
          SELECT algorithm, key_id FROM ${given(oneTime)} JOIN one_time_keys stored USING (algorithm, key_id)
          WHERE stored.user_id = ${userId} AND stored.device_id = ${deviceId} AND stored.key <> given.key LIMIT 1`
        if (different === undefined) return
        const keyId = `${different.algorithm}:${different.key_id}`
        yield* new UploadRefused({ reason: "different key", keyId })
      })

      /** Writes the rows of devices last, in the order of their keys, to avoid deadlocks. */
      const noteCounts = (devices: Statement.Fragment) => sql<Note>`
        INSERT INTO key_count_changes AS change (user_id, device_id)
        SELECT DISTINCT user_id, device_id FROM ${devices} ORDER BY user_id, device_id
        ON CONFLICT (user_id, device_id) DO UPDATE SET xid = excluded.xid, nid = excluded.nid
        RETURNING xid::text`

      const uploadFallback = ({ deviceId, fallback, userId }: KeyUpload) => sql`
        INSERT INTO fallback_keys AS stored (user_id, device_id, algorithm, key_id, key)
        SELECT ${userId}, ${deviceId}, algorithm, key_id, key FROM ${given(fallback)}
        ON CONFLICT (user_id, device_id, algorithm) DO UPDATE
        SET key_id = excluded.key_id, key = excluded.key, used = false
        WHERE (stored.key_id, stored.key) <> (excluded.key_id, excluded.key)`

      const upload = Effect.fnUntraced(function* (upload: KeyUpload, now: number, most: number) {
        const { device, deviceId, fallback, oneTime, userId } = { ...noKeys, ...upload }
        const found = yield* sql`
          SELECT 1 FROM access_tokens WHERE user_id = ${userId} AND device_id = ${deviceId} FOR KEY SHARE`
        if (found.length === 0) return yield* new UploadRefused({ reason: "no device" })
        if (device !== undefined) yield* uploadDevice(userId, deviceId, device)
        if (oneTime.length > 0) yield* uploadOneTime(upload, now)
        if (fallback.length > 0) yield* uploadFallback(upload)
        const after = (yield* countAll([{ userId, deviceId }]))[0]!
        const total = Object.values(after.oneTime).reduce((sum, count) => sum + count, 0)
        if (oneTime.length > 0 && total > most) return yield* new UploadRefused({ reason: "too many" })
        if (oneTime.length + fallback.length > 0) {
          yield* noteCounts(sql`(VALUES (${userId}, ${deviceId})) AS device (user_id, device_id)`)
        }
        return after
      })

      const query = (userIds: ReadonlyArray<UserId>) =>
        readWithin({
          query: (maxBytes) => sql<DeviceRow>`
            SELECT user_id, device_id, device_name, bytes, CASE WHEN bytes <= ${maxBytes} THEN keys END AS keys,
              CASE WHEN bytes <= ${maxBytes} THEN signatures END AS signatures
            FROM (
              SELECT device_keys.user_id, device_keys.device_id, keys, signatures, device_name,
                sum(octet_length(keys) + octet_length(signatures)) OVER (ROWS UNBOUNDED PRECEDING) AS bytes
              FROM device_keys JOIN access_tokens USING (user_id, device_id)
              WHERE device_keys.user_id = ANY (${texts(userIds)}::text[])
            ) AS sized`,
          bytesOf: (rows) => Number(rows.at(-1)?.bytes ?? 0),
          isCut: ({ keys }) => keys === null
        }).pipe(
          Effect.map((rows) =>
            rows.map(
              (row): StoredDeviceKeys => ({
                userId: row.user_id as UserId,
                deviceId: row.device_id,
                keys: row.keys!,
                signatures: row.signatures!,
                name: row.device_name ?? undefined
              })
            )
          ),
          Effect.orDie
        )

      const wantedBy = (claims: ReadonlyArray<KeyClaim>) => sql`
        wanted AS MATERIALIZED (
          SELECT * FROM unnest(
            ${texts(claims.map(({ userId }) => userId))}::text[],
            ${texts(claims.map(({ deviceId }) => deviceId))}::text[],
            ${texts(claims.map(({ algorithm }) => algorithm))}::text[]
          ) AS wanted (user_id, device_id, algorithm))`

      /** The bytes of the keys that would be claimed now. */
      const measured = (claims: ReadonlyArray<KeyClaim>) =>
        Effect.map(
          sql<{ bytes: bigint }>`
            WITH ${wantedBy(claims)}
            SELECT coalesce(sum(octet_length(coalesce(oldest.key, fallback.key))), 0) AS bytes
            FROM wanted LEFT JOIN LATERAL (
              SELECT key FROM one_time_keys stored
              WHERE stored.user_id = wanted.user_id AND stored.device_id = wanted.device_id
                AND stored.algorithm = wanted.algorithm AND claimed_at IS NULL
              ORDER BY number LIMIT 1) AS oldest ON true
            LEFT JOIN fallback_keys fallback USING (user_id, device_id, algorithm)`,
          ([row]) => Number(row!.bytes)
        )

      const claim = Effect.fnUntraced(function* (claims: ReadonlyArray<KeyClaim>, now: number) {
        const expected = claims.length > claimedUnmeasured ? yield* measured(claims) : 0
        yield* takeBytes(expected)
        const claimed = yield* claimNow(claims, now)
        yield* takeBytes(claimed.reduce((bytes, { key }) => bytes + Buffer.byteLength(key), 0) - expected)
        return claimed
      })

      const claimNow = (claims: ReadonlyArray<KeyClaim>, now: number) =>
        sql<ClaimedRow>`
          WITH ${wantedBy(claims)},
          picked AS MATERIALIZED (
            SELECT oldest.number FROM wanted CROSS JOIN LATERAL (
              SELECT number FROM one_time_keys stored
              WHERE stored.user_id = wanted.user_id AND stored.device_id = wanted.device_id
                AND stored.algorithm = wanted.algorithm AND claimed_at IS NULL
              ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED) AS oldest),
          taken AS (
            UPDATE one_time_keys SET claimed_at = ${now} FROM picked WHERE one_time_keys.number = picked.number
            RETURNING user_id, device_id, algorithm, key_id, key),
          fallen_back AS (
            UPDATE fallback_keys stored SET used = true FROM wanted
            WHERE stored.user_id = wanted.user_id AND stored.device_id = wanted.device_id
              AND stored.algorithm = wanted.algorithm AND NOT EXISTS (
                SELECT FROM taken WHERE taken.user_id = wanted.user_id AND taken.device_id = wanted.device_id
                  AND taken.algorithm = wanted.algorithm)
            RETURNING stored.user_id, stored.device_id, stored.algorithm, stored.key_id, stored.key),
          claimed AS (SELECT * FROM taken UNION ALL SELECT * FROM fallen_back),
          noted AS (${noteCounts(sql.literal("claimed"))})
          SELECT claimed.*, (SELECT xid FROM noted LIMIT 1) AS xid FROM claimed`.pipe(
          Effect.tap(([row]) => (row === undefined ? Effect.void : Effect.sync(() => log.committed(Number(row.xid))))),
          Effect.map((rows) =>
            rows.map(
              (row): ClaimedKey => ({
                userId: row.user_id as UserId,
                deviceId: row.device_id,
                algorithm: row.algorithm,
                keyId: row.key_id,
                key: row.key
              })
            )
          )
        )

      const addSignatures = Effect.fnUntraced(function* (userId: UserId, deviceId: string, added: SignedKeys) {
        const [before] = yield* sql<SignedKeys>`
          SELECT keys, signatures FROM device_keys WHERE user_id = ${userId} AND device_id = ${deviceId} FOR UPDATE`
        if (before?.keys !== added.keys) return false
        const signatures = mergeSignatures(before.signatures, added.signatures)
        if (signatures === before.signatures) return true
        yield* sql`
          UPDATE device_keys SET signatures = ${signatures} WHERE user_id = ${userId} AND device_id = ${deviceId}`
        return true
      })

      return DeviceKeyStore.of({
        upload: (given, now, most) =>
          Effect.catchTag(log.transaction(upload(given, now, most)), "SqlError", Effect.die),
        counts: (userId, deviceId) => Effect.orDie(Effect.request(new CountKeys({ userId, deviceId }), countTogether)),
        devicesOf: (userIds) =>
          sql<{ user_id: string; device_id: string }>`
            SELECT user_id, device_id FROM device_keys WHERE user_id = ANY (${texts(userIds)}::text[])`.pipe(
            Effect.map((rows) => rows.map((row) => ({ userId: row.user_id as UserId, deviceId: row.device_id }))),
            Effect.orDie
          ),
        query,
        claim: (claims, now) => Effect.orDie(claim(claims, now)),
        addSignatures: (userId, deviceId, added) =>
          Effect.orDie(log.transaction(addSignatures(userId, deviceId, added)))
      })
    })
  )
}
