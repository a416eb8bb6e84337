/**
 * Messages to devices, in the order in which they were sent, until the device has acknowledged them by the token of its
 * next `/sync`.
 *
 * An error of the database is a defect. Source: "Send-to-Device messaging" of the client-server specification.
 */
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Context, Deferred, Effect, Exit, Layer, Queue } from "effect"
import { SqlClient } from "effect/sql"
import { EventLog } from "./EventLog.ts"
import { inBatches } from "./internal/inBatches.ts"
import { positionOf, positionSql } from "./internal/positionSql.ts"
import { readWithin } from "./LargeReads.ts"
import { type LogRow, ofKind } from "./LogKind.ts"
import { bigints, integers, texts } from "./PgArrays.ts"
import type { StreamPosition } from "./StreamToken.ts"
import { type ToDeviceMessage, toDeviceMessages } from "./ToDeviceMessage.ts"

/** Every device of a user. */
const allDevices = "*"

export interface OutgoingMessage {
  readonly userId: UserId
  /** A device, or `allDevices`. */
  readonly deviceId: string
  /** JSON text. */
  readonly content: string
}

export interface WaitingMessage {
  readonly position: StreamPosition
  readonly sender: UserId
  readonly type: string
  readonly content: JsonObject
}

/** An EDU for the server of some devices. */
export interface OutgoingEdu {
  readonly destination: ServerName
  /** JSON text. */
  readonly content: string
}

/** A request that is done once. */
export interface SendTransaction {
  readonly tokenId: number
  readonly txnId: string
  /** Milliseconds since 1970. */
  readonly at: number
}

/** The messages of one transaction. */
interface Sending {
  readonly sender: UserId
  readonly type: string
  readonly messages: ReadonlyArray<OutgoingMessage>
  readonly transaction: SendTransaction
  readonly edus: ReadonlyArray<OutgoingEdu>
}

interface Pending {
  readonly sending: Sending
  readonly done: Deferred.Deferred<void>
}

/** The position of a message, and its device. */
interface StoredRow {
  readonly xid: string
  readonly nid: bigint
  readonly user_id: string
  readonly device_id: string
}

interface Row {
  readonly xid: string
  readonly nid: bigint
  readonly sender: string
  readonly type: string
  readonly content: string | null
  /** Of the messages up to this one. */
  readonly bytes: bigint
}

/** How many transactions go together at most, and how many bytes of messages, where one has not more alone. */
const maxBatch = 256
const maxBatchBytes = 4 * 1024 * 1024

const scopeOf = ({ type }: Sending): string => `sendToDevice ${type}`

/** The key of a transaction: a repeat has the same. */
const keyOf = (sending: Sending): string =>
  JSON.stringify([sending.transaction.tokenId, scopeOf(sending), sending.transaction.txnId])

const bytesOf = ({ edus, messages }: Sending): number =>
  [...messages, ...edus].reduce((sum, { content }) => sum + content.length, 0)

/** Transactions that may go together: a repeat of one in the same statement would not find it. */
const batches = (waiting: ReadonlyArray<Pending>): ReadonlyArray<ReadonlyArray<Pending>> => {
  const found: Array<Array<Pending>> = []
  let keys = new Set<string>()
  let bytes = 0
  for (const pending of waiting) {
    const key = keyOf(pending.sending)
    bytes += bytesOf(pending.sending)
    if (found.length === 0 || bytes > maxBatchBytes || keys.has(key)) {
      found.push([])
      keys = new Set()
      bytes = bytesOf(pending.sending)
    }
    keys.add(key)
    found.at(-1)!.push(pending)
  }
  return found
}

/**
 * Stores the messages and EDUs of all transactions that are not repeats, in their order, in one statement. Other nodes are
 * woken if there may be some.
 */
const storeStatement = (sql: SqlClient.SqlClient, all: ReadonlyArray<Sending>, wakesOthers: boolean) => {
  const messages = all.flatMap((sending, request) => sending.messages.map((message) => ({ request, ...message })))
  const edus = all.flatMap((sending, request) => sending.edus.map((edu) => ({ request, ...edu })))

  return sql<StoredRow>`
    WITH setting AS MATERIALIZED (SELECT set_config('greenroom.wakes_others', ${wakesOthers ? "on" : "off"}, true)),
    requests AS (
      SELECT given.* FROM setting, unnest(
        ${integers(all.map((_, request) => request))}::integer[],
        ${bigints(all.map(({ transaction }) => transaction.tokenId))}::bigint[],
        ${texts(all.map(scopeOf))}::text[],
        ${texts(all.map(({ transaction }) => transaction.txnId))}::text[],
        ${bigints(all.map(({ transaction }) => transaction.at))}::bigint[],
        ${texts(all.map(({ sender }) => sender))}::text[],
        ${texts(all.map(({ type }) => type))}::text[]
      ) AS given (request, token_id, scope, txn_id, created_at, sender, type)),
    first AS (
      INSERT INTO client_transactions (token_id, scope, txn_id, response, created_at)
      -- In one order everywhere, so that two nodes never wait for each other.
      SELECT token_id, scope, txn_id, '{}', created_at FROM requests ORDER BY token_id, scope, txn_id
      ON CONFLICT DO NOTHING RETURNING token_id, scope, txn_id),
    sent AS (SELECT requests.* FROM requests JOIN first USING (token_id, scope, txn_id)),
    queued AS (
      INSERT INTO outgoing_edus (destination, edu_type, content)
      SELECT given.destination, 'm.direct_to_device', given.content FROM unnest(
        ${integers(edus.map(({ request }) => request))}::integer[],
        ${texts(edus.map(({ destination }) => destination))}::text[],
        ${texts(edus.map(({ content }) => content))}::text[]
      ) WITH ORDINALITY AS given (request, destination, content, position)
      JOIN sent USING (request)
      ORDER BY given.position)
    -- The default of xid would be computed for each row.
    INSERT INTO to_device_messages (user_id, device_id, sender, type, content, xid)
    SELECT device.user_id, device.device_id, sent.sender, sent.type, given.content, (SELECT log_xid())
    FROM unnest(
      ${integers(messages.map(({ request }) => request))}::integer[],
      ${texts(messages.map(({ userId }) => userId))}::text[],
      ${texts(messages.map(({ deviceId }) => deviceId))}::text[],
      ${texts(messages.map(({ content }) => content))}::text[]
    ) WITH ORDINALITY AS given (request, user_id, device_id, content, position)
    JOIN sent USING (request)
    JOIN access_tokens device
      ON device.user_id = given.user_id AND given.device_id IN (device.device_id, ${allDevices})
    ORDER BY given.position
    -- A device that logs out waits for this, and takes its messages with it.
    FOR KEY SHARE OF device
    RETURNING xid::text AS xid, nid, user_id, device_id`
}

const toLogRow = (row: StoredRow): LogRow<ToDeviceMessage> => ({
  position: positionOf(row),
  row: { userId: row.user_id as UserId, deviceId: row.device_id }
})

/** Commits transactions of many callers together: each notification of the log costs a commit of its own otherwise. */
const makeGroupCommit = Effect.fnUntraced(function* (sql: SqlClient.SqlClient) {
  const log = yield* EventLog
  const pending = yield* Queue.unbounded<Pending>()

  /** The followers of this node get the rows without reading them. */
  const note = (stored: ReadonlyArray<StoredRow>) => {
    if (stored.length === 0) return
    const rows = stored.map(toLogRow)
    log.committed(rows[0]!.position.xid, ofKind(toDeviceMessages, rows))
  }

  const store = (batch: ReadonlyArray<Pending>) =>
    storeStatement(
      sql,
      batch.map(({ sending }) => sending),
      log.wakesOthers()
    ).pipe(
      Effect.map(note),
      Effect.onError(() => Effect.sync(() => log.committed(undefined))),
      Effect.orDie
    )

  const storeAlone = (item: Pending) =>
    Effect.flatMap(Effect.exit(store([item])), (exit) => Deferred.done(item.done, exit))

  /** The failure of one transaction, such as a device that logs out, must not fail the others. */
  const storeTogether = (batch: ReadonlyArray<Pending>) =>
    Effect.flatMap(Effect.exit(store(batch)), (exit) =>
      Exit.isSuccess(exit)
        ? Effect.forEach(batch, ({ done }) => Deferred.done(done, exit), { discard: true })
        : Effect.forEach(batch, storeAlone, { discard: true })
    )

  yield* inBatches(pending, maxBatch, (waiting) => Effect.forEach(batches(waiting), storeTogether, { discard: true }))

  return (sending: Sending): Effect.Effect<void> =>
    Effect.suspend(() => {
      const done = Deferred.makeUnsafe<void>()
      Queue.offerUnsafe(pending, { sending, done })
      return Deferred.await(done)
    })
})

export class ToDeviceStore extends Context.Service<
  ToDeviceStore,
  {
    /**
     * Stores messages for the devices that are there, and EDUs for those of other servers, once for a transaction. Durable when
     * it returns.
     */
    readonly send: (
      sender: UserId,
      type: string,
      messages: ReadonlyArray<OutgoingMessage>,
      transaction: SendTransaction,
      edus?: ReadonlyArray<OutgoingEdu>
    ) => Effect.Effect<void>
    /** The first `limit` messages for a device after a position, up to another one. */
    readonly read: (
      userId: UserId,
      deviceId: string,
      after: StreamPosition,
      upTo: StreamPosition,
      limit: number
    ) => Effect.Effect<ReadonlyArray<WaitingMessage>>
    /** Deletes the messages up to a position, which the device has acknowledged. */
    readonly acknowledge: (userId: UserId, deviceId: string, upTo: StreamPosition) => Effect.Effect<void>
    /**
     * Keeps the newest messages of each device, within both bounds, and as many of each server as of the others, if there are so
     * many. Returns how many were deleted.
     */
    readonly trim: (most: number, mostBytes: number) => Effect.Effect<number>
  }
>()("greenroom/store/ToDeviceStore") {
  static readonly layer = Layer.effect(
    ToDeviceStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const commit = yield* makeGroupCommit(sql)

      return ToDeviceStore.of({
        send: (sender, type, messages, transaction, edus = []) => commit({ sender, type, messages, transaction, edus }),
        read: (userId, deviceId, after, upTo, limit) =>
          readWithin({
            query: (maxBytes) => sql<Row>`
              SELECT xid::text AS xid, nid, sender, type, bytes, CASE WHEN bytes <= ${maxBytes} THEN content END AS content
              FROM (
                SELECT page.*, sum(octet_length(content)) OVER (ORDER BY page.xid, page.nid ROWS UNBOUNDED PRECEDING) AS bytes
                FROM (
                  SELECT xid, nid, sender, type, content FROM to_device_messages
                  WHERE user_id = ${userId} AND device_id = ${deviceId}
                    AND (xid, nid) > ${positionSql(sql, after)} AND (xid, nid) <= ${positionSql(sql, upTo)}
                  ORDER BY to_device_messages.xid, to_device_messages.nid LIMIT ${limit}
                ) AS page
              ) AS sized
              ORDER BY sized.xid, sized.nid`,
            bytesOf: (rows) => Number(rows.at(-1)?.bytes ?? 0),
            isCut: ({ content }) => content === null
          }).pipe(
            Effect.map((rows) =>
              rows.map(
                (row): WaitingMessage => ({
                  position: positionOf(row),
                  sender: row.sender as UserId,
                  type: row.type,
                  content: JSON.parse(row.content!) as JsonObject
                })
              )
            ),
            Effect.orDie
          ),
        acknowledge: (userId, deviceId, upTo) =>
          sql`
            DELETE FROM to_device_messages
            WHERE user_id = ${userId} AND device_id = ${deviceId} AND (xid, nid) <= ${positionSql(sql, upTo)}`.pipe(
            Effect.asVoid,
            Effect.orDie
          ),
        trim: (most, mostBytes) =>
          sql<{ dropped: number }>`
            WITH crowded AS (
              SELECT user_id, device_id FROM to_device_messages GROUP BY user_id, device_id
              HAVING count(*) > ${most} OR sum(octet_length(content)) > ${mostBytes}),
            -- Servers that have sent much give way first, and users where they are of the server of the device.
            of_senders AS (
              SELECT user_id, device_id, xid, nid, octet_length(content) AS length,
                row_number() OVER newer AS place, sum(octet_length(content)) OVER newer AS bytes
              FROM to_device_messages JOIN crowded USING (user_id, device_id)
              WINDOW newer AS (PARTITION BY user_id, device_id, CASE
                WHEN substr(sender, strpos(sender, ':')) = substr(user_id, strpos(user_id, ':')) THEN sender
                ELSE substr(sender, strpos(sender, ':')) END
                ORDER BY xid DESC, nid DESC)),
            counted AS (
              SELECT user_id, device_id, xid, nid,
                row_number() OVER (PARTITION BY user_id, device_id ORDER BY place, xid DESC, nid DESC) AS place,
                sum(length) OVER (PARTITION BY user_id, device_id ORDER BY bytes, xid DESC, nid DESC) AS bytes
              FROM of_senders),
            dropped AS (
              DELETE FROM to_device_messages message USING counted
              WHERE message.user_id = counted.user_id AND message.device_id = counted.device_id
                AND message.xid = counted.xid AND message.nid = counted.nid
                AND (counted.place > ${most} OR counted.bytes > ${mostBytes})
              RETURNING 1)
            SELECT count(*)::integer AS dropped FROM dropped`.pipe(
            Effect.map((rows) => rows[0]?.dropped ?? 0),
            Effect.orDie
          )
      })
    })
  )
}
