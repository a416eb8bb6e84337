/**
 * EDUs for other servers that must arrive, in order: messages to devices, changes of keys and of presence lists. They have
 * transactions of their own. Until one is acknowledged, every attempt repeats it, so that its destination handles it once.
 *
 * An error of the database is a defect.
 */
import { randomBytes } from "node:crypto"
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Clock, Context, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { queuesOf, type WaitingDestination, waitingIn } from "./internal/queues.ts"
import { texts } from "./PgArrays.ts"
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
    /** The servers of those of the users that are in no room here, without the servers that were ever reached. */
    readonly neverReached: (userIds: ReadonlyArray<UserId>) => Effect.Effect<ReadonlyArray<ServerName>>
    /** For how many servers that were never reached something waits. */
    readonly countUnreached: Effect.Effect<number>
    /**
     * Drops all but the newest EDUs of each destination, and those for servers that are in no room here and were never reached in so
     * many attempts. Returns how many were dropped.
     */
    readonly trim: (most: number, attempts: number) => Effect.Effect<number>
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
        neverReached: (userIds) =>
          sql<{ server: string }>`
            SELECT DISTINCT stranger.server FROM (
              SELECT substr(user_id, strpos(user_id, ':') + 1) AS server FROM unnest(${texts(userIds)}::text[]) AS given (user_id)
              WHERE NOT EXISTS (
                SELECT FROM memberships WHERE memberships.user_id = given.user_id AND membership IN ('join', 'invite'))
            ) AS stranger
            WHERE NOT EXISTS (
              SELECT FROM destinations WHERE destination = stranger.server AND last_success_at IS NOT NULL)`.pipe(
            Effect.map((rows) => rows.map(({ server }) => server as ServerName)),
            Effect.orDie
          ),
        countUnreached: sql<{ count: number }>`
          ${queuesOf(sql, "outgoing_edus")} SELECT count(*)::integer AS count
          FROM queues LEFT JOIN destinations USING (destination)
          WHERE queues.destination IS NOT NULL AND last_success_at IS NULL`.pipe(
          Effect.map((rows) => rows[0]!.count),
          Effect.orDie
        ),
        trim: (most, attempts) =>
          sql<{ dropped: number }>`
            WITH crowded AS (
              SELECT destination FROM outgoing_edus GROUP BY destination HAVING count(*) > ${most}),
            dropped AS (
              DELETE FROM outgoing_edus queued USING crowded WHERE queued.destination = crowded.destination
                AND number <= (SELECT number FROM outgoing_edus further WHERE further.destination = crowded.destination
                  ORDER BY number DESC OFFSET ${most} LIMIT 1)
              RETURNING 1),
            given_up AS (
              DELETE FROM outgoing_edus queued USING destinations WHERE queued.destination = destinations.destination
                AND last_success_at IS NULL AND failures >= ${attempts}
                AND queued.destination NOT IN (SELECT destination FROM crowded)
                AND NOT EXISTS (
                  SELECT FROM memberships WHERE memberships.server = queued.destination AND membership = 'join')
              RETURNING 1)
            SELECT ((SELECT count(*) FROM dropped) + (SELECT count(*) FROM given_up))::integer AS dropped`.pipe(
            Effect.map((rows) => rows[0]?.dropped ?? 0),
            Effect.orDie
          )
      })
    })
  )
}
