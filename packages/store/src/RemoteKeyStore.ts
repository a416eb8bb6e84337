/**
 * The public keys of other servers, as `RemoteKeys` fetched and verified them, and the signed objects in which they came.
 *
 * A key comes from its own server, or from notaries. A key from its own server replaces one from notaries, never the reverse. The word
 * of a notary that the operator trusts replaces that of others; theirs does not change what somebody else has said of a key.
 *
 * Used by `RemoteKeys` and `KeyNotary`. An error of the database is a defect. Times are milliseconds since 1970.
 */
import type { KeyObject } from "node:crypto"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { exportVerifyKey, importVerifyKey } from "@greenroom/room/Signing"
import { Clock, Context, Effect, Layer, Result } from "effect"
import { SqlClient } from "effect/sql"
import { bigints, texts } from "./PgArrays.ts"

/** A key as a server publishes it. */
export interface PublishedRemoteKey {
  readonly keyId: string
  readonly publicKey: KeyObject
  /** The time until which a current key is valid without another request. */
  readonly validUntil: number
  /** When the server stopped signing with it; undefined while it is current. */
  readonly expiredAt: number | undefined
}

/** A key of another server. */
export interface RemoteKey extends PublishedRemoteKey {
  /** When its own server was first asked for it, or when it was vouched for. */
  readonly firstFetchedAt: number
  /** The servers that vouch for the key; undefined if it comes from its own server. */
  readonly vouchers: ReadonlyArray<ServerName> | undefined
}

/** The keys of a server in one answer. */
export interface FetchedKeys {
  readonly keys: ReadonlyArray<PublishedRemoteKey>
  /** The signed object that publishes the keys, as it came. */
  readonly object: JsonObject
  /** `valid_until_ts` of the object. */
  readonly validUntil: number
  /** The server that vouches for the key; undefined if it came from its own server. */
  readonly voucher?: ServerName
  /** The voucher is one that the operator trusts. */
  readonly isTrusted?: boolean
}

/** A key object that can be passed on. */
export interface KeptKeyObject {
  readonly serverName: ServerName
  readonly object: JsonObject
  readonly validUntil: number
  readonly fetchedAt: number
}

/** The most keys that are kept of one server: those that it published itself first, of these the newest. It may publish others all the time. */
const maxKeys = 1_000

/** The most key objects that are kept of one server: the newest. */
const maxObjects = 10

/** The most servers that are remembered as vouching for one key. */
const maxVouchers = 20

interface Row {
  readonly server_name: string
  readonly key_id: string
  readonly public_key: Uint8Array
  readonly valid_until: bigint
  readonly expired_at: bigint | null
  readonly first_fetched_at: bigint
  readonly vouchers: ReadonlyArray<string> | null
}

interface ObjectRow {
  readonly server_name: string
  readonly object: string
  readonly valid_until: bigint
  readonly fetched_at: bigint
}

const toKey = (row: Row): RemoteKey => ({
  keyId: row.key_id,
  publicKey: Result.getOrThrow(importVerifyKey(row.public_key)),
  validUntil: Number(row.valid_until),
  expiredAt: row.expired_at === null ? undefined : Number(row.expired_at),
  firstFetchedAt: Number(row.first_fetched_at),
  vouchers: row.vouchers === null ? undefined : (row.vouchers as ReadonlyArray<ServerName>)
})

const toObject = (row: ObjectRow): KeptKeyObject => ({
  serverName: row.server_name as ServerName,
  object: JSON.parse(row.object) as JsonObject,
  validUntil: Number(row.valid_until),
  fetchedAt: Number(row.fetched_at)
})

export class RemoteKeyStore extends Context.Service<
  RemoteKeyStore,
  {
    /** The keys of the server that were fetched or reported by a notary, up to a limit. */
    readonly find: (serverName: ServerName) => Effect.Effect<ReadonlyArray<RemoteKey>>
    /**
     * Adds or renews keys. Other keys stay, up to a limit, and verify earlier signatures if these keys came from the server
     * itself.
     */
    readonly put: (serverName: ServerName, fetched: FetchedKeys) => Effect.Effect<void>
    /**
     * The key objects of the servers, those of each newest first. Of very large ones the smallest, so that they have `maxBytes`
     * bytes at most.
     */
    readonly objects: (
      serverNames: ReadonlyArray<ServerName>,
      maxBytes: number
    ) => Effect.Effect<ReadonlyArray<KeptKeyObject>>
  }
>()("greenroom/store/RemoteKeyStore") {
  static readonly layer = Layer.effect(
    RemoteKeyStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      /** Whether the word on a key counts more than what is known of it, or comes from the only one who has vouched for it. */
      const replaces = (isTrusted: boolean) =>
        sql`(excluded.vouchers IS NULL OR ${isTrusted}::boolean OR known.vouchers <@ excluded.vouchers)`

      const putKeys = (serverName: ServerName, { isTrusted = false, keys, voucher }: FetchedKeys, now: number) => sql`
        INSERT INTO remote_keys AS known (
          server_name, key_id, public_key, valid_until, expired_at, fetched_at, first_fetched_at, vouchers)
        SELECT ${serverName}, key_id, decode(public_key, 'hex'), valid_until, expired_at, ${now}, ${now},
          ${voucher === undefined ? null : texts([voucher])}::text[]
        FROM unnest(
          ${texts(keys.map((key) => key.keyId))}::text[],
          ${texts(keys.map((key) => Buffer.from(exportVerifyKey(key.publicKey)).toString("hex")))}::text[],
          ${bigints(keys.map((key) => key.validUntil))}::bigint[],
          ${bigints(keys.map((key) => key.expiredAt ?? null))}::bigint[]
        ) AS new (key_id, public_key, valid_until, expired_at)
        ORDER BY key_id
        ON CONFLICT (server_name, key_id) DO UPDATE SET
          public_key = excluded.public_key, fetched_at = excluded.fetched_at,
          valid_until = CASE WHEN ${replaces(isTrusted)} THEN excluded.valid_until ELSE known.valid_until END,
          expired_at = CASE WHEN ${replaces(isTrusted)} THEN excluded.expired_at ELSE known.expired_at END,
          first_fetched_at = CASE
            WHEN (known.vouchers IS NULL) = (excluded.vouchers IS NULL) THEN known.first_fetched_at
            ELSE excluded.first_fetched_at END,
          vouchers = CASE
            WHEN excluded.vouchers IS NULL OR known.public_key <> excluded.public_key THEN excluded.vouchers
            WHEN known.vouchers @> excluded.vouchers THEN known.vouchers
            ELSE (known.vouchers || excluded.vouchers)[1:${maxVouchers}::integer] END
        WHERE excluded.vouchers IS NULL
          OR (known.vouchers IS NOT NULL AND (${isTrusted}::boolean OR known.public_key = excluded.public_key))`

      /** A key that its server does not publish any more is valid no longer, whatever was said before. */
      const endOthers = (serverName: ServerName, { keys }: FetchedKeys, now: number) => sql`
        UPDATE remote_keys SET valid_until = ${now}
        WHERE server_name = ${serverName} AND vouchers IS NULL AND expired_at IS NULL AND valid_until > ${now}
          AND key_id <> ALL (${texts(keys.map((key) => key.keyId))}::text[])`

      const dropSurplusKeys = (serverName: ServerName) => sql`
        DELETE FROM remote_keys WHERE server_name = ${serverName} AND key_id IN (
          SELECT key_id FROM remote_keys WHERE server_name = ${serverName}
          ORDER BY vouchers IS NOT NULL, fetched_at DESC, key_id OFFSET ${maxKeys})`

      // Keys from notaries never replace keys from the server itself.
      const putObject = (
        serverName: ServerName,
        { keys, object, validUntil, voucher }: FetchedKeys,
        now: number
      ) => sql`
        WITH new AS (
          SELECT ${texts(keys.map((key) => key.keyId))}::text[] AS key_ids, ${voucher !== undefined}::boolean AS is_vouched)
        , replaced AS (
          DELETE FROM remote_key_objects AS known USING new
          WHERE server_name = ${serverName} AND known.key_ids <@ new.key_ids AND (known.is_vouched OR NOT new.is_vouched))
        , surplus AS (
          DELETE FROM remote_key_objects WHERE id IN (
            SELECT id FROM remote_key_objects WHERE server_name = ${serverName}
            ORDER BY is_vouched, id DESC OFFSET ${maxObjects - 1}))
        INSERT INTO remote_key_objects (server_name, key_ids, object, valid_until, fetched_at, is_vouched)
        SELECT ${serverName}, key_ids, ${JSON.stringify(object)}, ${validUntil}, ${now}, is_vouched FROM new
        WHERE NOT is_vouched OR NOT EXISTS (
          SELECT 1 FROM remote_key_objects AS known
          WHERE server_name = ${serverName} AND NOT known.is_vouched AND known.key_ids @> new.key_ids)`

      const put = Effect.fnUntraced(function* (serverName: ServerName, fetched: FetchedKeys) {
        const now = yield* Clock.currentTimeMillis
        yield* putKeys(serverName, fetched, now)
        if (fetched.voucher === undefined) yield* endOthers(serverName, fetched, now)
        yield* dropSurplusKeys(serverName)
        yield* putObject(serverName, fetched, now)
      }, Effect.orDie)

      return RemoteKeyStore.of({
        find: (serverName) =>
          sql<Row>`SELECT * FROM remote_keys WHERE server_name = ${serverName}`.pipe(
            Effect.map((rows) => rows.map(toKey)),
            Effect.orDie
          ),
        put,
        objects: (serverNames, maxBytes) =>
          sql<ObjectRow>`
            SELECT server_name, object, valid_until, fetched_at FROM (
              SELECT *, sum(octet_length(object)) OVER (ORDER BY octet_length(object), id) AS bytes
              FROM remote_key_objects WHERE server_name = ANY (${texts(serverNames)}::text[])
            ) AS sized
            WHERE bytes <= ${maxBytes} ORDER BY id DESC`.pipe(
            Effect.map((rows) => rows.map(toObject)),
            Effect.orDie
          )
      })
    })
  )
}
