/**
 * The answers to transactions of other servers. A repeat gets the same answer and changes nothing.
 *
 * An error of the database is a defect. Times are milliseconds since 1970.
 *
 * Source: "Transactions" of the draft and of the server-server specification.
 */
import type { EventId, RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import { Clock, Context, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { EventLog } from "./EventLog.ts"
import { asynchronousCommit } from "./internal/asynchronousCommit.ts"
import { texts } from "./PgArrays.ts"

/** The stored answer for a PDU. */
export interface KeptPduAnswer {
  readonly error?: string
  readonly errcode?: string
  /** The join of the user who requested it. The answer contains the whole event, and the state before it. */
  readonly joined?: { readonly room_id: RoomId; readonly event_id: EventId }
}

/** The stored answer to a transaction, by the `pduId,origin` of each PDU. */
export interface KeptAnswer {
  readonly pdus: { readonly [reference: string]: KeptPduAnswer }
}

export class ReceivedTransactionStore extends Context.Service<
  ReceivedTransactionStore,
  {
    /** The answer to a received transaction. */
    readonly find: (origin: ServerName, transactionId: string) => Effect.Effect<Option.Option<KeptAnswer>>
    /** The received ones among these transactions. */
    readonly known: (origin: ServerName, transactionIds: ReadonlyArray<string>) => Effect.Effect<ReadonlySet<string>>
    /** The latest transactions of the origin, newest first. */
    readonly latest: (origin: ServerName, limit: number) => Effect.Effect<ReadonlyArray<string>>
    /**
     * Stores an answer, unless there is one. With `mayRepeat`, a crash of the database may lose it: for a transaction that may be
     * handled twice, such as one that has only PDUs.
     */
    readonly put: (
      origin: ServerName,
      transactionId: string,
      answer: KeptAnswer,
      mayRepeat?: boolean
    ) => Effect.Effect<void>
    /** Deletes answers from before that time. */
    readonly forget: (before: number) => Effect.Effect<void>
  }
>()("greenroom/store/ReceivedTransactionStore") {
  static readonly layer = Layer.effect(
    ReceivedTransactionStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const log = yield* EventLog
      return ReceivedTransactionStore.of({
        find: (origin, transactionId) =>
          sql<{ answer: string }>`
            SELECT answer FROM received_transactions WHERE origin = ${origin} AND transaction_id = ${transactionId}`.pipe(
            Effect.map((rows) =>
              Option.map(Option.fromNullishOr(rows[0]), (row) => JSON.parse(row.answer) as KeptAnswer)
            ),
            Effect.orDie
          ),
        known: (origin, transactionIds) =>
          sql<{ transaction_id: string }>`
            SELECT transaction_id FROM received_transactions
            WHERE origin = ${origin} AND transaction_id = ANY (${texts(transactionIds)}::text[])`.pipe(
            Effect.map((rows) => new Set(rows.map((row) => row.transaction_id))),
            Effect.orDie
          ),
        latest: (origin, limit) =>
          sql<{ transaction_id: string }>`
            SELECT transaction_id FROM received_transactions WHERE origin = ${origin}
            ORDER BY received_at DESC LIMIT ${limit}`.pipe(
            Effect.map((rows) => rows.map((row) => row.transaction_id)),
            Effect.orDie
          ),
        put: (origin, transactionId, answer, mayRepeat = false) =>
          Effect.flatMap(
            Clock.currentTimeMillis,
            (now) => sql<{ xid: string }>`
              WITH ${mayRepeat ? sql`${asynchronousCommit(sql)},` : sql``} kept AS (
                INSERT INTO received_transactions (origin, transaction_id, answer, received_at)
                SELECT ${origin}, ${transactionId}, ${JSON.stringify(answer)}, ${now}::bigint
                ${mayRepeat ? sql`FROM asynchronous_commit` : sql``} ON CONFLICT DO NOTHING)
              SELECT log_xid()::text AS xid`
          ).pipe(
            Effect.map(([row]) => log.wroteNothing(Number(row!.xid))),
            Effect.orDie
          ),
        forget: (before) =>
          sql`DELETE FROM received_transactions WHERE received_at < ${before}`.pipe(Effect.asVoid, Effect.orDie)
      })
    })
  )
}
