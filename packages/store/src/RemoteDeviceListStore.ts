/**
 * The devices and cross-signing keys of users of other servers, as received from their servers. A list is kept while its user shares a
 * room with a local user: only then does the other server send its changes.
 *
 * A list is current while no change is missing (`is_stale`), and while there is a room in which both its user and one of ours
 * have been since before the server was asked. So a room that was left and entered again makes the list outdated without
 * any work at the leave. A new profile counts as a new membership here: then the server is asked once too often.
 *
 * An error of the database is a defect. Times are milliseconds since 1970. Source: "Device Management" of the server-server
 * specification.
 */
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Clock, Context, Effect, Layer, Random } from "effect"
import { SqlClient, type Statement } from "effect/sql"
import { dueAt } from "./internal/dueAt.ts"
import { readWithin } from "./LargeReads.ts"
import { bigints, texts } from "./PgArrays.ts"

/** The keys of a user: JSON text. */
export interface RemoteDevices {
  /** An object by device ID, as clients get it. */
  readonly devices: string
  readonly masterKey: string | undefined
  readonly selfSigningKey: string | undefined
}

/** The known devices of a user. */
export interface KnownDevices {
  readonly userId: UserId
  /** Undefined if the server never answered, or nothing is kept. */
  readonly keys: RemoteDevices | undefined
  readonly isCurrent: boolean
  /** Whether the list is kept: the user shares a room with a local user. */
  readonly isShared: boolean
}

/** A list that changes. */
export interface ChangingList {
  readonly keys: RemoteDevices | undefined
  /** The `stream_id`s of received updates, newest last. */
  readonly streams: ReadonlyArray<number>
}

/** A list after a change. `isGap` marks it stale: an update before this one is missing. */
export interface ChangedList extends ChangingList {
  readonly isGap: boolean
}

/** A request to a server that is in progress. */
export interface BegunFetch {
  readonly userId: UserId
  /** The position in the log. */
  readonly since: string
  readonly changes: number
}

export interface FetchedDevices extends BegunFetch, RemoteDevices {
  /** When the server may be asked again, if the list is stale then. */
  readonly retryAt: number
  /** Undefined if the answer has none. */
  readonly streamId: number | undefined
}

/** The first back-off of a list that the server refuses, doubled with each failure, and the longest one, in ms. */
const firstBackOff = 30_000
const longestBackOff = 86_400_000
/** How many lists one statement of a sweep examines. */
const sweptAtOnce = 1_000

interface Row {
  readonly user_id: string
  readonly devices: string | null
  readonly master_key: string | null
  readonly self_signing_key: string | null
}

interface KnownRow extends Row {
  /** Of the devices up to these. */
  readonly bytes: bigint
  readonly is_cut: boolean
  readonly is_current: boolean
  readonly is_shared: boolean
}

const toKeys = ({ devices, master_key, self_signing_key }: Row): RemoteDevices | undefined =>
  devices === null
    ? undefined
    : { devices, masterKey: master_key ?? undefined, selfSigningKey: self_signing_key ?? undefined }

const isSame = (a: RemoteDevices | undefined, b: RemoteDevices | undefined): boolean =>
  a?.devices === b?.devices && a?.masterKey === b?.masterKey && a?.selfSigningKey === b?.selfSigningKey

export class RemoteDeviceListStore extends Context.Service<
  RemoteDeviceListStore,
  {
    /** The known devices of users of other servers: one entry for each. */
    readonly read: (userIds: ReadonlyArray<UserId>) => Effect.Effect<ReadonlyArray<KnownDevices>>
    /**
     * Changes the list of a user, which is empty and stale at first. Different keys are announced to the users who may encrypt for them.
     * Returns whether the list is stale; undefined if the user shares no room with a local user, and nothing is kept.
     */
    readonly change: (
      userId: UserId,
      apply: (list: ChangingList) => ChangedList
    ) => Effect.Effect<{ readonly isStale: boolean } | undefined>
    /** Records that the server is asked for these lists. */
    readonly begin: (userIds: ReadonlyArray<UserId>) => Effect.Effect<ReadonlyArray<BegunFetch>>
    /**
     * Stores answers. A list that changed since the request stays stale. Different keys are announced to the users who may encrypt for
     * them, the first keys of a user only with `announceFirst`.
     */
    readonly finish: (fetched: ReadonlyArray<FetchedDevices>, announceFirst: boolean) => Effect.Effect<void>
    /** Starts the back-off of lists that the server did not send. */
    readonly failed: (userIds: ReadonlyArray<UserId>, now: number) => Effect.Effect<void>
    /** Leaves lists alone until a time, without a failure of the server. */
    readonly postpone: (userIds: ReadonlyArray<UserId>, until: number) => Effect.Effect<void>
    /** Stale lists of a server that may be requested now, at most `limit`. */
    readonly due: (server: ServerName, now: number, limit: number) => Effect.Effect<ReadonlyArray<UserId>>
    /** When a stale list of the server may be requested; undefined if none is stale. */
    readonly nextResync: (server: ServerName) => Effect.Effect<number | undefined>
    /** `nextResync` of all servers with stale lists. */
    readonly stale: Effect.Effect<ReadonlyArray<{ readonly server: ServerName; readonly at: number }>>
    /** Deletes the lists of users who no longer share a room. Returns their number. */
    readonly sweep: Effect.Effect<number>
  }
>()("greenroom/store/RemoteDeviceListStore") {
  static readonly layer = (serverName: ServerName) =>
    Layer.effect(
      RemoteDeviceListStore,
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient

        const shares = (userId: Statement.Fragment) => sql`EXISTS (
          SELECT FROM memberships theirs JOIN memberships ours USING (room_nid)
          WHERE theirs.user_id = ${userId} AND theirs.membership = 'join'
            AND ours.server = ${serverName} AND ours.membership = 'join')`

        const sharesSince = sql`EXISTS (
          SELECT FROM memberships theirs JOIN events entered ON entered.nid = theirs.event_nid
          WHERE theirs.user_id = list.user_id AND theirs.membership = 'join' AND entered.xid < list.since AND EXISTS (
            SELECT FROM memberships ours JOIN events entered ON entered.nid = ours.event_nid
            WHERE ours.room_nid = theirs.room_nid AND ours.server = ${serverName} AND ours.membership = 'join'
              AND entered.xid < list.since))`

        const read = Effect.fnUntraced(function* (userIds: ReadonlyArray<UserId>) {
          if (userIds.length === 0) return []
          const rows = yield* readWithin({
            query: (maxBytes) => sql<KnownRow>`
              SELECT user_id, CASE WHEN bytes <= ${maxBytes} THEN devices END AS devices, master_key, self_signing_key,
                bytes, bytes > ${maxBytes} AS is_cut, is_current,
                CASE WHEN is_current THEN true ELSE ${shares(sql`list.user_id`)} END AS is_shared
              FROM (
                SELECT wanted.user_id, devices, master_key, self_signing_key, state.is_current,
                  coalesce(sum(octet_length(devices)) OVER (ROWS UNBOUNDED PRECEDING), 0) AS bytes
                FROM unnest(${texts(userIds)}::text[]) AS wanted (user_id)
                LEFT JOIN remote_device_lists AS list USING (user_id)
                CROSS JOIN LATERAL (SELECT coalesce(
                  CASE WHEN list.devices IS NOT NULL AND NOT list.is_stale THEN ${sharesSince} END, false) AS is_current) AS state
              ) AS list`,
            bytesOf: (rows) => Number(rows.at(-1)?.bytes ?? 0),
            isCut: ({ is_cut }) => is_cut
          })
          return rows.map((row): KnownDevices => {
            const { is_current: isCurrent, is_shared: isShared } = row
            return { userId: row.user_id as UserId, keys: isShared ? toKeys(row) : undefined, isCurrent, isShared }
          })
        }, Effect.orDie)

        const change = Effect.fnUntraced(function* (userId: UserId, apply: (list: ChangingList) => ChangedList) {
          const [row] = yield* sql<Row & { streams: ReadonlyArray<bigint>; is_stale: boolean }>`
            INSERT INTO remote_device_lists AS list (user_id)
            SELECT ${userId}::text WHERE ${shares(sql`${userId}`)}
            ON CONFLICT (user_id) DO UPDATE SET user_id = excluded.user_id
            RETURNING user_id, devices, master_key, self_signing_key, streams, is_stale`
          if (row === undefined) return undefined
          const before = toKeys(row)
          const { isGap, keys, streams } = apply({ keys: before, streams: row.streams.map(Number) })
          const isStale = row.is_stale || isGap
          yield* sql`
            UPDATE remote_device_lists SET
              devices = ${keys?.devices ?? null}, master_key = ${keys?.masterKey ?? null},
              self_signing_key = ${keys?.selfSigningKey ?? null}, streams = ${bigints(streams)}::bigint[],
              changes = changes + 1, is_stale = ${isStale}
            WHERE user_id = ${userId}`
          if (!isSame(before, keys)) yield* sql`SELECT note_device_list(${userId})`
          return { isStale }
        })

        const begin = Effect.fnUntraced(function* (userIds: ReadonlyArray<UserId>) {
          yield* sql`
            INSERT INTO remote_device_lists (user_id)
            SELECT user_id FROM unnest(${texts(userIds)}::text[]) AS wanted (user_id) ORDER BY user_id
            ON CONFLICT DO NOTHING`
          const rows = yield* sql<{ user_id: string; changes: bigint; since: string }>`
            SELECT user_id, changes, log_xid()::text AS since FROM remote_device_lists
            WHERE user_id = ANY (${texts(userIds)}::text[])`
          return rows.map(({ changes, since, user_id }) => ({
            userId: user_id as UserId,
            since,
            changes: Number(changes)
          }))
        }, Effect.orDie)

        const finish = (fetched: ReadonlyArray<FetchedDevices>, announceFirst: boolean) =>
          sql`
            WITH answer AS (
              SELECT * FROM unnest(
                ${texts(fetched.map(({ userId }) => userId))}::text[], ${texts(fetched.map(({ since }) => since))}::text[],
                ${bigints(fetched.map(({ changes }) => changes))}::bigint[],
                ${texts(fetched.map(({ devices }) => devices))}::text[],
                ${texts(fetched.map(({ masterKey }) => masterKey ?? null))}::text[],
                ${texts(fetched.map(({ selfSigningKey }) => selfSigningKey ?? null))}::text[],
                ${bigints(fetched.map(({ streamId }) => streamId ?? null))}::bigint[],
                ${bigints(fetched.map(({ retryAt }) => retryAt))}::bigint[]
              ) AS answer (user_id, since, changes, devices, master_key, self_signing_key, stream, retry_at)),
            before AS MATERIALIZED (
              SELECT list.* FROM remote_device_lists AS list JOIN answer USING (user_id) ORDER BY user_id FOR UPDATE OF list),
            stored AS (
              UPDATE remote_device_lists AS list SET
                devices = answer.devices, master_key = answer.master_key, self_signing_key = answer.self_signing_key,
                streams = CASE WHEN answer.stream IS NULL THEN '{}' ELSE ARRAY[answer.stream] END,
                since = answer.since::xid8, is_stale = before.changes <> answer.changes,
                failures = 0, retry_at = answer.retry_at
              FROM before JOIN answer USING (user_id) WHERE list.user_id = before.user_id)
            SELECT note_device_list(user_id) FROM (
              SELECT user_id FROM before JOIN answer USING (user_id)
              WHERE (coalesce(before.devices, '{}'), before.master_key, before.self_signing_key)
                  IS DISTINCT FROM (answer.devices, answer.master_key, answer.self_signing_key)
                AND (before.devices IS NOT NULL OR ${announceFirst}) ORDER BY user_id) AS changed`.pipe(
            Effect.asVoid,
            Effect.orDie
          )

        const failed = Effect.fnUntraced(function* (userIds: ReadonlyArray<UserId>, now: number) {
          // Random, so that nodes and servers do not retry at the same time.
          const share = 1 - 0.3 * (yield* Random.next)
          yield* sql`
            UPDATE remote_device_lists SET failures = failures + 1, retry_at = ${now}::bigint + (least(
              ${longestBackOff}::float8, ${firstBackOff}::float8 * 2 ^ least(failures, 20)) * ${share}::float8)::bigint
            WHERE user_id IN (
              SELECT user_id FROM remote_device_lists WHERE user_id = ANY (${texts(userIds)}::text[])
              ORDER BY user_id FOR UPDATE)`
        }, Effect.orDie)

        const postpone = (userIds: ReadonlyArray<UserId>, until: number) =>
          sql`
            UPDATE remote_device_lists SET retry_at = greatest(retry_at, ${until}::bigint)
            WHERE user_id IN (
              SELECT user_id FROM remote_device_lists WHERE user_id = ANY (${texts(userIds)}::text[])
              ORDER BY user_id FOR UPDATE)`.pipe(Effect.asVoid, Effect.orDie)

        /** The longest wait of a list with its number of failures. */
        const longestWait = sql`least(${longestBackOff}::float8, ${firstBackOff}::float8 * 2 ^ least(failures, 20))::bigint`

        /** Examines lists in the order of their users, in batches, each in a transaction of its own. */
        const sweep = Effect.gen(function* () {
          let deleted = 0
          let after = ""
          while (true) {
            const [page] = yield* sql<{ last: string | null; deleted: number }>`
              WITH page AS MATERIALIZED (
                SELECT user_id FROM remote_device_lists WHERE user_id > ${after} ORDER BY user_id LIMIT ${sweptAtOnce}),
              unshared AS (
                SELECT user_id FROM remote_device_lists WHERE user_id IN (
                  SELECT user_id FROM page WHERE NOT ${shares(sql`page.user_id`)})
                FOR UPDATE SKIP LOCKED),
              deleted AS (
                DELETE FROM remote_device_lists USING unshared WHERE remote_device_lists.user_id = unshared.user_id
                RETURNING 1)
              SELECT (SELECT max(user_id) FROM page) AS last, (SELECT count(*)::integer FROM deleted) AS deleted`
            deleted += page?.deleted ?? 0
            if (page?.last == null) return deleted
            after = page.last
          }
        }).pipe(Effect.orDie)

        return RemoteDeviceListStore.of({
          read,
          change: (userId, apply) => Effect.orDie(sql.withTransaction(change(userId, apply))),
          begin,
          finish,
          failed,
          postpone,
          due: (server, now, limit) =>
            sql<{ user_id: string }>`
              SELECT user_id FROM remote_device_lists
              WHERE server = ${server} AND is_stale AND ${dueAt(sql, now, longestWait)} <= ${now}
              ORDER BY retry_at LIMIT ${limit}`.pipe(
              Effect.map((rows) => rows.map((row) => row.user_id as UserId)),
              Effect.orDie
            ),
          nextResync: (server) =>
            Clock.currentTimeMillis.pipe(
              Effect.flatMap(
                (now) => sql<{ at: bigint | null }>`
                  SELECT min(${dueAt(sql, now, longestWait)}) AS at FROM remote_device_lists
                  WHERE server = ${server} AND is_stale`
              ),
              Effect.map(([row]) => (row?.at == null ? undefined : Number(row.at))),
              Effect.orDie
            ),
          stale: Clock.currentTimeMillis.pipe(
            Effect.flatMap(
              (now) => sql<{ server: string; at: bigint }>`
                SELECT server, min(${dueAt(sql, now, longestWait)}) AS at FROM remote_device_lists
                WHERE is_stale GROUP BY server`
            ),
            Effect.map((rows) => rows.map(({ at, server }) => ({ server: server as ServerName, at: Number(at) }))),
            Effect.orDie
          ),
          sweep
        })
      })
    )
}
