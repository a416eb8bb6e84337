/**
 * Versions of a user's key backup, and the keys in them. Every change of a version locks its row, so that concurrent changes
 * of two devices are serialised.
 *
 * An error of the database is a defect. Source: "Server-side key backups" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Context, Data, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { takeBytes } from "./LargeReads.ts"
import { bigints, booleans, texts } from "./PgArrays.ts"

/** Data that only clients read: an object by today's specification, text by earlier ones. */
export type BackupData = JsonObject | string

export interface KeyBackup {
  readonly version: number
  readonly algorithm: string
  readonly authData: BackupData
  /** How many keys there are. */
  readonly count: number
  /** Changes with every change of keys. */
  readonly etag: string
}

export interface BackedUpKey {
  readonly roomId: string
  readonly sessionId: string
  readonly firstMessageIndex: number
  readonly forwardedCount: number
  readonly isVerified: boolean
  /** JSON text. */
  readonly sessionData: string
}

/** All keys, those of a room, or one. */
export interface KeySelection {
  readonly roomId?: string | undefined
  readonly sessionId?: string | undefined
}

export type KeyCount = Pick<KeyBackup, "count" | "etag">

/** The version is not the current one, which is `current`. */
export class WrongVersion extends Data.TaggedError("WrongVersion")<{ readonly current: number | undefined }> {}
/** The keys would exceed a limit. */
export class BackupFull extends Data.TaggedError("BackupFull") {}

/** The most keys of a version, and the most bytes of `session_data` of a version and of all versions of a user. */
export interface BackupLimits {
  readonly keys: number
  readonly bytes: number
  readonly bytesOfUser: number
}

interface Row {
  readonly version: bigint
  readonly algorithm: string
  readonly auth_data: string
  readonly keys: number
  readonly etag: bigint
}

interface KeyRow {
  readonly room_id: string
  readonly session_id: string
  readonly first_message_index: bigint
  readonly forwarded_count: bigint
  readonly is_verified: boolean
  readonly session_data: string
}

/** What a change adds to the counts of a version. */
interface CountChange {
  /** 1 if a key has changed. */
  readonly etag: number
  readonly keys: number
  /** A number as text: may be large. */
  readonly bytes: string
}

interface Counts {
  readonly keys: number
  readonly etag: bigint
  readonly bytes: bigint
  readonly bytes_of_user: bigint
}

const toBackup = (row: Row): KeyBackup => ({
  version: Number(row.version),
  algorithm: row.algorithm,
  authData: JSON.parse(row.auth_data) as BackupData,
  count: row.keys,
  etag: String(row.etag)
})

const toKey = (row: KeyRow): BackedUpKey => ({
  roomId: row.room_id,
  sessionId: row.session_id,
  firstMessageIndex: Number(row.first_message_index),
  forwardedCount: Number(row.forwarded_count),
  isVerified: row.is_verified,
  sessionData: row.session_data
})

export class KeyBackupStore extends Context.Service<
  KeyBackupStore,
  {
    /** Creates a version. The oldest ones beyond `most` are deleted. */
    readonly create: (userId: UserId, algorithm: string, authData: BackupData, most: number) => Effect.Effect<number>
    /** A version, or the newest one. */
    readonly find: (userId: UserId, version?: number) => Effect.Effect<Option.Option<KeyBackup>>
    /** Does nothing if there is no such version. */
    readonly setAuthData: (userId: UserId, version: number, authData: BackupData) => Effect.Effect<void>
    /** False if there never was such a version. */
    readonly remove: (userId: UserId, version: number) => Effect.Effect<boolean>
    /** Stores keys in the newest version, each unless the existing one is better. */
    readonly put: (
      userId: UserId,
      version: number,
      keys: ReadonlyArray<BackedUpKey>,
      limits: BackupLimits
    ) => Effect.Effect<KeyCount, WrongVersion | BackupFull>
    /** The keys of a version that are selected; none if there is no such version. */
    readonly keys: (
      userId: UserId,
      version: number,
      selection: KeySelection
    ) => Effect.Effect<ReadonlyArray<BackedUpKey>>
    /** Undefined if there is no such version. */
    readonly removeKeys: (
      userId: UserId,
      version: number,
      selection: KeySelection
    ) => Effect.Effect<Option.Option<KeyCount>>
  }
>()("greenroom/store/KeyBackupStore") {
  static readonly layer = Layer.effect(
    KeyBackupStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const create = Effect.fnUntraced(function* (
        userId: UserId,
        algorithm: string,
        authData: BackupData,
        most: number
      ) {
        yield* sql`SELECT 1 FROM users WHERE user_id = ${userId} FOR NO KEY UPDATE`
        const [row] = yield* sql<{ version: bigint }>`
          INSERT INTO key_backups (user_id, version, algorithm, auth_data)
          SELECT ${userId}, coalesce(max(version), 0) + 1, ${algorithm}, ${JSON.stringify(authData)}
          FROM key_backups WHERE user_id = ${userId} RETURNING version`
        yield* sql`
          DELETE FROM key_backups WHERE user_id = ${userId} AND version <= ${Number(row!.version) - most}`
        return Number(row!.version)
      })

      const find = (userId: UserId, version?: number) =>
        sql<Row>`
          SELECT version, algorithm, auth_data, keys, etag FROM key_backups
          WHERE user_id = ${userId} AND NOT deleted
            AND ${version === undefined ? sql`true` : sql`version = ${version}`}
          ORDER BY version DESC LIMIT 1`.pipe(
          Effect.map((rows) => Option.map(Option.fromNullishOr(rows[0]), toBackup)),
          Effect.orDie
        )

      const remove = Effect.fnUntraced(function* (userId: UserId, version: number) {
        const rows = yield* sql`
          UPDATE key_backups SET deleted = true, keys = 0, bytes = 0 WHERE user_id = ${userId} AND version = ${version} RETURNING 1`
        yield* sql`DELETE FROM backed_up_keys WHERE user_id = ${userId} AND version = ${version}`
        return rows.length > 0
      })

      const selected = (userId: UserId, version: number, { roomId, sessionId }: KeySelection) => sql`
        user_id = ${userId} AND version = ${version}
        AND ${roomId === undefined ? sql`true` : sql`room_id = ${roomId}`}
        AND ${sessionId === undefined ? sql`true` : sql`session_id = ${sessionId}`}`

      /** Adds to the counts of a version. */
      const count = Effect.fnUntraced(function* (userId: UserId, version: number, change: CountChange) {
        const [row] = yield* sql<Counts>`
          UPDATE key_backups SET
            etag = etag + ${change.etag}, keys = keys + ${change.keys}, bytes = bytes + ${change.bytes}::bigint
          WHERE user_id = ${userId} AND version = ${version}
          RETURNING keys, etag, bytes,
            (SELECT sum(bytes) FROM key_backups WHERE user_id = ${userId})::bigint + ${change.bytes}::bigint AS bytes_of_user`
        return row!
      })

      const toKeyCount = ({ etag, keys }: Counts): KeyCount => ({ count: keys, etag: String(etag) })

      const put = Effect.fnUntraced(function* (
        userId: UserId,
        version: number,
        keys: ReadonlyArray<BackedUpKey>,
        limits: BackupLimits
      ) {
        const [newest] = yield* sql<{ version: bigint }>`
          SELECT version FROM key_backups WHERE user_id = ${userId} AND NOT deleted
          ORDER BY version DESC LIMIT 1 FOR UPDATE`
        const current = newest === undefined ? undefined : Number(newest.version)
        if (current !== version) return yield* new WrongVersion({ current })
        // `replaced` reads the table as it was before the statement.
        const [change] = yield* sql<CountChange>`
          WITH written AS (
            INSERT INTO backed_up_keys AS stored
              (user_id, version, room_id, session_id, first_message_index, forwarded_count, is_verified, session_data)
            SELECT ${userId}, ${version}, * FROM unnest(
              ${texts(keys.map(({ roomId }) => roomId))}::text[],
              ${texts(keys.map(({ sessionId }) => sessionId))}::text[],
              ${bigints(keys.map(({ firstMessageIndex }) => firstMessageIndex))}::bigint[],
              ${bigints(keys.map(({ forwardedCount }) => forwardedCount))}::bigint[],
              ${booleans(keys.map(({ isVerified }) => isVerified))}::boolean[],
              ${texts(keys.map(({ sessionData }) => sessionData))}::text[])
            ON CONFLICT (user_id, version, room_id, session_id) DO UPDATE SET
              first_message_index = excluded.first_message_index, forwarded_count = excluded.forwarded_count,
              is_verified = excluded.is_verified, session_data = excluded.session_data
            WHERE (excluded.is_verified, -excluded.first_message_index, -excluded.forwarded_count)
              > (stored.is_verified, -stored.first_message_index, -stored.forwarded_count)
            RETURNING user_id, version, room_id, session_id, octet_length(session_data) AS bytes
          ), replaced AS (
            SELECT octet_length(session_data) AS bytes FROM backed_up_keys
            JOIN written USING (user_id, version, room_id, session_id))
          SELECT least(1, (SELECT count(*) FROM written))::integer AS etag,
            ((SELECT count(*) FROM written) - (SELECT count(*) FROM replaced))::integer AS keys,
            ((SELECT coalesce(sum(bytes), 0) FROM written) - (SELECT coalesce(sum(bytes), 0) FROM replaced))::text AS bytes`
        const counts = yield* count(userId, version, change!)
        const isFull =
          counts.keys > limits.keys ||
          Number(counts.bytes) > limits.bytes ||
          Number(counts.bytes_of_user) > limits.bytesOfUser
        return isFull && Number(change!.bytes) > 0 ? yield* new BackupFull() : toKeyCount(counts)
      })

      const removeKeys = Effect.fnUntraced(function* (userId: UserId, version: number, selection: KeySelection) {
        const found = yield* sql`
          SELECT 1 FROM key_backups WHERE user_id = ${userId} AND version = ${version} AND NOT deleted FOR UPDATE`
        if (found.length === 0) return Option.none()
        const [change] = yield* sql<CountChange>`
          WITH removed AS (
            DELETE FROM backed_up_keys WHERE ${selected(userId, version, selection)}
            RETURNING octet_length(session_data) AS bytes)
          SELECT least(1, count(*))::integer AS etag, -count(*)::integer AS keys, (-coalesce(sum(bytes), 0))::text AS bytes
          FROM removed`
        return Option.some(toKeyCount(yield* count(userId, version, change!)))
      })

      const keys = Effect.fnUntraced(function* (userId: UserId, version: number, selection: KeySelection) {
        const [size] = yield* sql<{ bytes: bigint }>`
          SELECT coalesce(sum(octet_length(session_data)), 0)::bigint AS bytes
          FROM backed_up_keys WHERE ${selected(userId, version, selection)}`
        yield* takeBytes(Number(size!.bytes))
        const rows = yield* sql<KeyRow>`
          SELECT room_id, session_id, first_message_index, forwarded_count, is_verified, session_data
          FROM backed_up_keys WHERE ${selected(userId, version, selection)}`
        return rows.map(toKey)
      })

      return KeyBackupStore.of({
        create: (userId, algorithm, authData, most) =>
          Effect.orDie(sql.withTransaction(create(userId, algorithm, authData, most))),
        find,
        setAuthData: (userId, version, authData) =>
          sql`
            UPDATE key_backups SET auth_data = ${JSON.stringify(authData)}
            WHERE user_id = ${userId} AND version = ${version} AND NOT deleted`.pipe(Effect.asVoid, Effect.orDie),
        remove: (userId, version) => Effect.orDie(sql.withTransaction(remove(userId, version))),
        put: (userId, version, keys, limits) =>
          Effect.catchTag(sql.withTransaction(put(userId, version, keys, limits)), "SqlError", Effect.die),
        keys: (userId, version, selection) => Effect.orDie(keys(userId, version, selection)),
        removeKeys: (userId, version, selection) =>
          Effect.orDie(sql.withTransaction(removeKeys(userId, version, selection)))
      })
    })
  )
}
