/**
 * Outgoing PDUs: the queue of each destination, and the transactions made of it. The queue is filled by `EventLog`, in the
 * commit of each event.
 *
 * A transaction takes PDUs from the head of the queue and is stored before it is sent, under the fencing token of the sending node: one
 * with EDUs as its request, one without by the numbers of its events. Until it is acknowledged it is the only one to its destination, and
 * `next` returns it again: after a failure, after a crash, and on another node. Acknowledged ones are kept for a while, without the body,
 * for `/pull`.
 *
 * An error of the database is a defect. Times are milliseconds since 1970.
 *
 * Source: "Transactions" of the draft and of the server-server specification.
 */
import { randomBytes } from "node:crypto"
import type { Event } from "@greenroom/protocol/Event"
import { maxPdus } from "@greenroom/protocol/federation/Transaction"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { EventLog } from "./EventLog.ts"
import { asynchronousCommit } from "./internal/asynchronousCommit.ts"
import { queuesOf, type WaitingDestination, waitingIn } from "./internal/queues.ts"
import { bigints, texts } from "./PgArrays.ts"
import { type Fence, StaleFence, stands } from "./ShardFenceStore.ts"

/** A transaction to another server, its PDUs as events. */
export interface StoredTransaction {
  readonly transactionId: string
  readonly ts: number
  /** The transaction before it. */
  readonly prevIds: ReadonlyArray<string>
  readonly events: ReadonlyArray<Event>
  readonly eventNids: ReadonlyArray<number>
}

/** A transaction in the form of its request. */
export interface PreparedRequest {
  /** The path, encoded. */
  readonly uri: string
  /** Canonical JSON. */
  readonly body: Uint8Array
}

/** The next transaction. One without a request is still to be prepared, unless it is reserved. */
export interface NextTransaction extends StoredTransaction {
  readonly request: PreparedRequest | undefined
  /** It is new, and stored to be sent without EDUs. */
  readonly isReserved: boolean
  /** It was stored before without its request, and may have been sent without EDUs. */
  readonly isRepeated: boolean
}

export interface NextOptions {
  /** How many PDUs a new transaction has at most: 1 to 50, by default 50. */
  readonly most?: number | undefined
  /** A new transaction is stored at once to be sent without EDUs, unless EDUs wait or the fence has fallen. */
  readonly reserve?: { readonly fence: Fence | undefined } | undefined
}

/** What waits for a destination. */
export interface Waiting {
  /** The unacknowledged transaction, else a new one of the waiting PDUs. */
  readonly transaction: NextTransaction | undefined
  /** Whether more PDUs may wait than it has. */
  readonly hasMore: boolean
  /** Whether EDUs wait in `OutgoingEduStore`. */
  readonly hasEdus: boolean
}

/** How many acknowledged transactions to each destination are kept. */
export const keptTransactions = 100

/** The most bytes of the events of one transaction. A larger event is sent alone. */
const maxTransactionBytes = 1_000_000

interface Row {
  readonly transaction_id: string
  readonly ts: bigint
  readonly prev_ids: ReadonlyArray<string>
  readonly event_nids: ReadonlyArray<bigint>
  readonly bodies: ReadonlyArray<string>
}

interface NextRow extends Row {
  readonly uri: string | null
  readonly body: Uint8Array | null
  readonly is_fresh: boolean
  readonly is_reserved: boolean
}

/** `transaction_id` is null if no PDUs wait, `xid` if nothing was stored. */
type WaitingRow = { readonly has_edus: boolean; readonly has_more: boolean | null; readonly xid: string | null } & (
  | NextRow
  | { readonly transaction_id: null }
)

const toTransaction = (row: Row): StoredTransaction => ({
  transactionId: row.transaction_id,
  ts: Number(row.ts),
  prevIds: row.prev_ids,
  events: row.bodies.map((body) => JSON.parse(body) as Event),
  eventNids: row.event_nids.map(Number)
})

const toNext = (row: NextRow): NextTransaction => ({
  ...toTransaction(row),
  request: row.uri === null || row.body === null ? undefined : { uri: row.uri, body: row.body },
  isReserved: row.is_reserved,
  isRepeated: !row.is_fresh && row.body === null
})

const toWaiting = (row: WaitingRow): Waiting => ({
  transaction: row.transaction_id === null ? undefined : toNext(row),
  hasMore: row.has_more === true,
  hasEdus: row.has_edus
})

export class OutgoingStore extends Context.Service<
  OutgoingStore,
  {
    /** What waits for the destination, in one statement. */
    readonly next: (destination: ServerName, options?: NextOptions) => Effect.Effect<Waiting>
    /**
     * Stores the request of a transaction. False if another one is in flight, or it has a request already, which `next` returns.
     */
    readonly prepare: (
      destination: ServerName,
      transaction: StoredTransaction,
      request: PreparedRequest,
      fence?: Fence
    ) => Effect.Effect<boolean, StaleFence>
    /** Completes a transaction that the destination has accepted: its PDUs leave the queue. */
    readonly acknowledge: (destination: ServerName, transactionId: string) => Effect.Effect<void>
    /** Counts a refusal of the transaction by the destination. Returns the number of refusals in a row. */
    readonly refused: (destination: ServerName, transactionId: string) => Effect.Effect<number>
    /**
     * Replaces the transaction by one with only its first PDU, under another ID, because a destination may remember its answer to the
     * old one. The other PDUs wait again.
     */
    readonly reduce: (destination: ServerName, transactionId: string, fence?: Fence) => Effect.Effect<void>
    /**
     * The first `limit` transactions to the destination after the newest of the named ones, oldest first. If none of those is known,
     * all stored transactions.
     */
    readonly after: (
      destination: ServerName,
      transactionIds: ReadonlyArray<string>,
      limit: number
    ) => Effect.Effect<ReadonlyArray<StoredTransaction>>
    /** The destinations with waiting PDUs. */
    readonly waiting: Effect.Effect<ReadonlyArray<WaitingDestination>>
    /** Drops all but the newest PDUs of each destination. Returns how many were dropped. */
    readonly trim: (most: number) => Effect.Effect<ReadonlyMap<ServerName, number>>
    /** How many PDUs wait for each destination. */
    readonly queueLengths: Effect.Effect<ReadonlyMap<ServerName, number>>
    /** Deletes transactions that were acknowledged before that time. */
    readonly forget: (before: number) => Effect.Effect<void>
  }
>()("greenroom/store/OutgoingStore") {
  static readonly layer = Layer.effect(
    OutgoingStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const log = yield* EventLog

      const bodies = sql`ARRAY(
        SELECT events.body FROM unnest(event_nids) WITH ORDINALITY AS sent (nid, place) JOIN events USING (nid)
        ORDER BY sent.place) AS bodies`

      // A row whose event no longer exists is taken too, so that it leaves the queue.
      const batch = (destination: ServerName, most: number) => sql`
        SELECT array_agg(event_nid ORDER BY event_nid) FILTER (WHERE place = 1 OR bytes <= ${maxTransactionBytes}) AS event_nids,
          count(*) = ${most} OR max(bytes) > ${maxTransactionBytes} AS has_more
        FROM (
          SELECT event_nid, row_number() OVER head AS place,
            sum(octet_length(coalesce(events.body, ''))) OVER head AS bytes
          FROM (
            SELECT event_nid FROM outgoing_pdus WHERE destination = ${destination} ORDER BY event_nid LIMIT ${most}
          ) AS queued LEFT JOIN events ON events.nid = event_nid
          WINDOW head AS (ORDER BY event_nid)
        ) AS measured`

      const newNumber = (destination: ServerName) =>
        sql`coalesce((SELECT max(number) FROM outgoing_transactions WHERE destination = ${destination}), 0) + 1`

      const reservation = (destination: ServerName, fence: Fence | undefined) => sql`, reserved AS (
        INSERT INTO outgoing_transactions (destination, number, transaction_id, ts, prev_ids, event_nids)
        SELECT ${destination}, ${newNumber(destination)}, transaction_id, ts, prev_ids, event_nids
        FROM fresh CROSS JOIN edus WHERE NOT has_edus AND ${stands(sql, fence)}
        ON CONFLICT (destination) WHERE acknowledged_at IS NULL DO NOTHING
        RETURNING 1)`

      const read = (
        destination: ServerName,
        transactionId: string,
        now: number,
        most: number,
        reserve: NextOptions["reserve"]
      ) => sql<WaitingRow>`
        WITH unacknowledged AS (
          SELECT transaction_id, ts, prev_ids, event_nids, uri, body, true AS has_more, false AS is_fresh
          FROM outgoing_transactions WHERE destination = ${destination} AND acknowledged_at IS NULL),
        edus AS (SELECT EXISTS (SELECT FROM outgoing_edus WHERE destination = ${destination}) AS has_edus),
        batch AS (${batch(destination, most)}),
        fresh AS (
          SELECT ${transactionId}::text AS transaction_id, ${now}::bigint AS ts,
            ARRAY(
              SELECT transaction_id FROM outgoing_transactions WHERE destination = ${destination}
              ORDER BY number DESC LIMIT 1) AS prev_ids,
            event_nids, NULL::text AS uri, NULL::bytea AS body, has_more, true AS is_fresh
          FROM batch WHERE event_nids IS NOT NULL AND NOT EXISTS (SELECT 1 FROM unacknowledged))
        ${reserve === undefined ? sql`` : reservation(destination, reserve.fence)}
        SELECT has_edus, transaction.*, ${bodies},
          ${
            reserve === undefined
              ? sql`false AS is_reserved, NULL AS xid`
              : sql`EXISTS (SELECT FROM reserved) AS is_reserved, CASE WHEN EXISTS (SELECT FROM reserved) THEN log_xid()::text END AS xid`
          }
        FROM edus LEFT JOIN (SELECT * FROM unacknowledged UNION ALL SELECT * FROM fresh) AS transaction ON true`

      const next = Effect.fnUntraced(function* (
        destination: ServerName,
        { most = maxPdus, reserve }: NextOptions = {}
      ) {
        const now = yield* Clock.currentTimeMillis
        const transactionId = randomBytes(12).toString("base64url")
        const [row] = yield* read(destination, transactionId, now, most, reserve)
        if (row!.xid !== null) log.wroteNothing(Number(row!.xid))
        return toWaiting(row!)
      }, Effect.orDie)

      const prepare = Effect.fnUntraced(function* (
        destination: ServerName,
        { eventNids, prevIds, transactionId, ts }: StoredTransaction,
        { body, uri }: PreparedRequest,
        fence?: Fence
      ) {
        const rows = yield* Effect.orDie(sql<{ stands: boolean; stored: boolean }>`
          WITH fenced AS MATERIALIZED (SELECT ${stands(sql, fence)} AS stands),
          stored AS (
            INSERT INTO outgoing_transactions (destination, number, transaction_id, ts, prev_ids, event_nids, uri, body)
            SELECT ${destination}, ${newNumber(destination)}, ${transactionId}, ${ts}, ${texts(prevIds)}::text[], ${bigints(eventNids)}::bigint[], ${uri}, ${body}
            FROM fenced WHERE stands
            ON CONFLICT (destination) WHERE acknowledged_at IS NULL
              DO UPDATE SET uri = excluded.uri, body = excluded.body
              WHERE outgoing_transactions.transaction_id = excluded.transaction_id AND outgoing_transactions.body IS NULL
            RETURNING 1)
          SELECT stands, EXISTS (SELECT FROM stored) AS stored FROM fenced`)
        if (fence !== undefined && rows[0]?.stands !== true) return yield* new StaleFence({ fence })
        return rows[0]?.stored === true
      })

      const acknowledge = Effect.fnUntraced(function* (destination: ServerName, transactionId: string) {
        const now = yield* Clock.currentTimeMillis
        // If a crash of the database undoes this, the transaction is sent again, and the destination recognises it.
        const [row] = yield* sql<{ xid: string }>`
          WITH ${asynchronousCommit(sql)}, acknowledged AS (
            UPDATE outgoing_transactions SET acknowledged_at = ${now}, body = NULL
            FROM asynchronous_commit WHERE destination = ${destination} AND transaction_id = ${transactionId} AND acknowledged_at IS NULL
            RETURNING number, event_nids)
          , outdated AS (
            DELETE FROM outgoing_transactions USING acknowledged
            WHERE destination = ${destination} AND outgoing_transactions.number <= acknowledged.number - ${keptTransactions}::integer)
          , sent AS (
            DELETE FROM outgoing_pdus USING acknowledged
            WHERE destination = ${destination} AND event_nid = ANY (acknowledged.event_nids))
          SELECT log_xid()::text AS xid`
        log.wroteNothing(Number(row!.xid))
      }, Effect.orDie)

      const refused = (destination: ServerName, transactionId: string) =>
        sql<{ refusals: number }>`
          UPDATE outgoing_transactions SET refusals = refusals + 1
          WHERE destination = ${destination} AND transaction_id = ${transactionId} RETURNING refusals`.pipe(
          Effect.map((rows) => rows[0]?.refusals ?? 0),
          Effect.orDie
        )

      const reduce = (destination: ServerName, transactionId: string, fence?: Fence) =>
        sql`
          UPDATE outgoing_transactions
          SET event_nids = event_nids[1:1], refusals = 0, transaction_id = ${randomBytes(12).toString("base64url")},
            uri = NULL, body = NULL
          WHERE destination = ${destination} AND transaction_id = ${transactionId} AND acknowledged_at IS NULL
            AND ${stands(sql, fence)}`.pipe(Effect.asVoid, Effect.orDie)

      const after = (destination: ServerName, transactionIds: ReadonlyArray<string>, limit: number) =>
        sql<Row>`
          SELECT transaction_id, ts, prev_ids, event_nids, ${bodies} FROM outgoing_transactions
          WHERE destination = ${destination} AND number > coalesce((
            SELECT max(number) FROM outgoing_transactions
            WHERE destination = ${destination} AND transaction_id = ANY (${texts(transactionIds)}::text[])), 0)
          ORDER BY number LIMIT ${limit}`.pipe(
          Effect.map((rows) => rows.map(toTransaction)),
          Effect.orDie
        )

      const trim = (most: number) =>
        sql<{ destination: string; dropped: bigint }>`
          ${queuesOf(sql, "outgoing_pdus")}, dropped AS (
            DELETE FROM outgoing_pdus USING queues CROSS JOIN LATERAL (
              SELECT event_nid FROM outgoing_pdus queued WHERE queued.destination = queues.destination
              ORDER BY event_nid DESC OFFSET ${most} LIMIT 1) AS newest
            WHERE outgoing_pdus.destination = queues.destination AND outgoing_pdus.event_nid <= newest.event_nid
            RETURNING outgoing_pdus.destination)
          SELECT destination, count(*) AS dropped FROM dropped GROUP BY destination`.pipe(
          Effect.map((rows) => new Map(rows.map((row) => [row.destination as ServerName, Number(row.dropped)]))),
          Effect.orDie
        )

      return OutgoingStore.of({
        next,
        prepare,
        acknowledge,
        refused,
        reduce,
        after,
        waiting: Effect.orDie(waitingIn(sql, "outgoing_pdus")),
        trim,
        queueLengths: sql<{ destination: string; length: bigint }>`
          SELECT destination, count(*) AS length FROM outgoing_pdus GROUP BY destination`.pipe(
          Effect.map((rows) => new Map(rows.map((row) => [row.destination as ServerName, Number(row.length)]))),
          Effect.orDie
        ),
        forget: (before) =>
          sql`DELETE FROM outgoing_transactions WHERE acknowledged_at < ${before}`.pipe(Effect.asVoid, Effect.orDie)
      })
    })
  )
}
