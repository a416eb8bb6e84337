/**
 * EDUs for other servers that must arrive, in order: messages to devices, changes of keys and of presence lists. They have
 * transactions of their own. Until one is acknowledged, every attempt repeats it, so that its destination handles it once.
 *
 * An error of the database is a defect.
 */
import { randomBytes } from "node:crypto"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Clock, Context, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { type WaitingDestination, waitingIn } from "./internal/queues.ts"
import { type Fence, stands } from "./ShardFenceStore.ts"

export interface EduTransaction {
  readonly transactionId: string
  /** Milliseconds since 1970. */
  readonly ts: number
  readonly edus: ReadonlyArray<{ readonly edu_type: string; readonly content: JsonObject }>
}

/** The most EDUs of one transaction. */
const maxEdus = 20

interface Row {
  readonly transaction_id: string
  readonly ts: bigint
  readonly edu_type: string
  readonly content: string
}

export class OutgoingEduStore extends Context.Service<
  OutgoingEduStore,
  {
    /** The transaction in flight, else a new one of the waiting EDUs. Undefined if the fence is lost. */
    readonly next: (destination: ServerName, fence?: Fence) => Effect.Effect<Option.Option<EduTransaction>>
    /** Removes a transaction that the destination has accepted, or will never accept. */
    readonly remove: (destination: ServerName, transactionId: string) => Effect.Effect<void>
    /** Puts an EDU at the end of the destination's queue. */
    readonly add: (destination: ServerName, edu_type: string, content: JsonObject) => Effect.Effect<void>
    /** The destinations with waiting EDUs. */
    readonly waiting: Effect.Effect<ReadonlyArray<WaitingDestination>>
    /** Drops all but the newest EDUs of each destination. Returns how many were dropped. */
    readonly trim: (most: number) => Effect.Effect<number>
  }
>()("greenroom/store/OutgoingEduStore") {
  static readonly layer = Layer.effect(
    OutgoingEduStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      return OutgoingEduStore.of({
        next: Effect.fnUntraced(function* (destination: ServerName, fence?: Fence) {
          const now = yield* Clock.currentTimeMillis
          const rows = yield* sql<Row>`
            WITH fenced AS MATERIALIZED (SELECT ${stands(sql, fence)} AS stands),
            in_flight AS (
              SELECT number, transaction_id, ts, edu_type, content FROM outgoing_edus
              WHERE destination = ${destination} AND transaction_id IS NOT NULL),
            taken AS (
              UPDATE outgoing_edus SET transaction_id = ${`e${randomBytes(12).toString("base64url")}`}, ts = ${now}
              FROM fenced
              WHERE stands AND NOT EXISTS (SELECT FROM in_flight) AND number IN (
                SELECT number FROM outgoing_edus WHERE destination = ${destination} ORDER BY number LIMIT ${maxEdus})
              RETURNING number, transaction_id, ts, edu_type, content)
            SELECT transaction_id, coalesce(ts, 0) AS ts, edu_type, content FROM (
              SELECT in_flight.* FROM in_flight, fenced WHERE stands UNION ALL SELECT * FROM taken) AS transaction
            ORDER BY number`
          return Option.map(Option.fromNullishOr(rows[0]), ({ transaction_id, ts }) => ({
            transactionId: transaction_id,
            ts: Number(ts),
            edus: rows.map(({ content, edu_type }) => ({ edu_type, content: JSON.parse(content) as JsonObject }))
          }))
        }, Effect.orDie),
        remove: (destination, transactionId) =>
          sql`
            DELETE FROM outgoing_edus
            WHERE destination = ${destination} AND transaction_id = ${transactionId}`.pipe(Effect.asVoid, Effect.orDie),
        add: (destination, edu_type, content) =>
          sql`
            INSERT INTO outgoing_edus (destination, edu_type, content)
            VALUES (${destination}, ${edu_type}, ${JSON.stringify(content)})`.pipe(Effect.asVoid, Effect.orDie),
        waiting: Effect.orDie(waitingIn(sql, "outgoing_edus")),
        trim: (most) =>
          sql<{ dropped: number }>`
            WITH crowded AS (
              SELECT destination FROM outgoing_edus GROUP BY destination HAVING count(*) > ${most}),
            dropped AS (
              DELETE FROM outgoing_edus queued USING crowded WHERE queued.destination = crowded.destination
                AND number <= (SELECT number FROM outgoing_edus further WHERE further.destination = crowded.destination
                  ORDER BY number DESC OFFSET ${most} LIMIT 1)
              RETURNING 1)
            SELECT count(*)::integer AS dropped FROM dropped`.pipe(
            Effect.map((rows) => rows[0]?.dropped ?? 0),
            Effect.orDie
          )
      })
    })
  )
}
