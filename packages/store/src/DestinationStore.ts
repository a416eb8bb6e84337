/**
 * The reachability of other servers, and when an unreachable one may be tried again: one back-off for each destination, shared by all
 * nodes and kept over restarts.
 *
 * An error of the database is a defect. Times are milliseconds since 1970.
 *
 * Source: "Federation" of the draft.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import type * as Statement from "effect/sql/Statement"

/** The state of a destination. */
export interface DestinationState {
  readonly destination: ServerName
  /** Failures in a row; 0 when it was reached last. */
  readonly failures: number
  /** When it may be tried again; in the past if it may be tried now. */
  readonly retryAt: number
  readonly lastSuccessAt: number | undefined
  readonly lastFailureAt: number | undefined
  readonly lastError: string | undefined
  /** The time until which it counts as a server that supports the draft's protocol only; in the past for others. */
  readonly draftUntil: number
}

/** The delay after the first failure, in ms, before jitter. Each further failure doubles it. */
const firstBackOff = 1_000

/** The longest back-off, in ms, before jitter: a day. */
const longestBackOff = 86_400_000

/** How long a server counts as one that knows only the draft's dialect, in ms. Then today's is tried again. */
const draftMemory = 86_400_000

/** The largest random reduction of a back-off, so that nodes and servers do not retry at the same time. */
const jitter = 0.3

/** The longest text that is kept of an error, in characters. */
const maxErrorLength = 500

interface Row {
  readonly destination: string
  readonly failures: number
  readonly retry_at: bigint
  readonly last_success_at: bigint | null
  readonly last_failure_at: bigint | null
  readonly last_error: string | null
  readonly draft_until: bigint
}

const optionalNumber = (value: bigint | null): number | undefined => (value === null ? undefined : Number(value))

const toState = (row: Row, now: number): DestinationState => {
  const lastFailureAt = optionalNumber(row.last_failure_at)
  return {
    destination: row.destination as ServerName,
    failures: row.failures,
    retryAt: isFuture(lastFailureAt, now) ? 0 : Number(row.retry_at),
    lastSuccessAt: optionalNumber(row.last_success_at),
    lastFailureAt,
    lastError: row.last_error === null ? undefined : JSON.parse(row.last_error),
    draftUntil: Number(row.draft_until) > now + draftMemory + clockTolerance ? 0 : Number(row.draft_until)
  }
}

/** How far the clocks of two nodes may be apart, in ms. */
const clockTolerance = 60_000

/** Whether a failure is in the future: the clock was set back, and the back-off is over. */
const isFuture = (failureAt: number | undefined, now: number): boolean => (failureAt ?? 0) > now + clockTolerance

/** The SQL condition that a row of `destinations` is in back-off at `now`. */
export const isBackedOff = (sql: SqlClient.SqlClient, row: string, now: number): Statement.Fragment => {
  const retryAt = sql(`${row}.retry_at`)
  const lastFailureAt = sql(`${row}.last_failure_at`)
  return sql`(${retryAt} > ${now} AND coalesce(${lastFailureAt}, 0) <= ${now + clockTolerance})`
}

export class DestinationStore extends Context.Service<
  DestinationStore,
  {
    readonly find: (destination: ServerName) => Effect.Effect<Option.Option<DestinationState>>
    /** Every destination that was tried, the longest back-off first. */
    readonly list: Effect.Effect<ReadonlyArray<DestinationState>>
    /** Ends the back-off of a server that was reached. */
    readonly succeeded: (destination: ServerName) => Effect.Effect<void>
    /**
     * Starts the next back-off of a server that could not be reached, twice as long, up to a day. Concurrent failures count once.
     */
    readonly failed: (destination: ServerName, error: string) => Effect.Effect<DestinationState>
    /** Records that a server has none of today's endpoints, but those of the draft. */
    readonly speaksDraft: (destination: ServerName) => Effect.Effect<void>
    /** Ends the back-off of a server that sent a request. True if there was one. */
    readonly heardFrom: (destination: ServerName) => Effect.Effect<boolean>
    /**
     * Forgets servers that were never reached and for which nothing waits: those that were last tried before a time, and the oldest of
     * more than `most`. Anybody can name servers that do not exist.
     */
    readonly forgetUnreached: (before: number, most: number) => Effect.Effect<void>
  }
>()("greenroom/store/DestinationStore") {
  static readonly layer = Layer.effect(
    DestinationStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const read = (rows: Effect.Effect<ReadonlyArray<Row>, SqlError.SqlError>) =>
        Effect.orDie(
          Effect.map(Effect.all([rows, Clock.currentTimeMillis]), ([found, now]) =>
            found.map((row) => toState(row, now))
          )
        )

      const failed = Effect.fnUntraced(function* (destination: ServerName, error: string) {
        const now = yield* Clock.currentTimeMillis
        const share = 1 - jitter * (yield* Random.next)
        const text = JSON.stringify(error.slice(0, maxErrorLength))
        const backedOff = isBackedOff(sql, "known", now)
        const rows = yield* sql<Row>`
          INSERT INTO destinations AS known (destination, failures, retry_at, last_failure_at, last_error)
          VALUES (${destination}, 1, ${Math.round(now + firstBackOff * share)}, ${now}, ${text})
          ON CONFLICT (destination) DO UPDATE SET
            failures = CASE WHEN ${backedOff} THEN known.failures ELSE known.failures + 1 END,
            retry_at = CASE WHEN ${backedOff} THEN known.retry_at ELSE
              ${now}::bigint +
                (least(${longestBackOff}::float8, ${firstBackOff}::float8 * 2 ^ least(known.failures, 30))
                  * ${share}::float8)::bigint END,
            last_failure_at = excluded.last_failure_at,
            last_error = excluded.last_error
          RETURNING *`
        return toState(rows[0]!, now)
      }, Effect.orDie)

      const succeeded = Effect.fnUntraced(function* (destination: ServerName) {
        const now = yield* Clock.currentTimeMillis
        yield* sql`
          INSERT INTO destinations (destination, last_success_at) VALUES (${destination}, ${now})
          ON CONFLICT (destination) DO UPDATE SET failures = 0, retry_at = 0, last_success_at = excluded.last_success_at`
      }, Effect.orDie)

      const speaksDraft = Effect.fnUntraced(function* (destination: ServerName) {
        const until = (yield* Clock.currentTimeMillis) + draftMemory
        yield* sql`
          INSERT INTO destinations (destination, draft_until) VALUES (${destination}, ${until})
          ON CONFLICT (destination) DO UPDATE SET draft_until = excluded.draft_until`
      }, Effect.orDie)

      const heardFrom = Effect.fnUntraced(function* (destination: ServerName) {
        const now = yield* Clock.currentTimeMillis
        const rows = yield* sql`
          UPDATE destinations SET failures = 0, retry_at = 0
          WHERE destination = ${destination} AND retry_at > ${now} RETURNING 1`
        return rows.length > 0
      }, Effect.orDie)

      const nothingWaits = sql.literal(
        ["outgoing_pdus", "outgoing_edus", "outgoing_receipts", "outgoing_transactions"]
          .map((table) => `NOT EXISTS (SELECT FROM ${table} WHERE ${table}.destination = destinations.destination)`)
          .join(" AND ")
      )

      const forgetUnreached = (before: number, most: number) =>
        sql`
          DELETE FROM destinations WHERE last_success_at IS NULL AND ${nothingWaits} AND (
            coalesce(last_failure_at, 0) < ${before} OR coalesce(last_failure_at, 0) < (
              SELECT coalesce(unreached.last_failure_at, 0) FROM destinations AS unreached WHERE last_success_at IS NULL
              ORDER BY last_failure_at DESC NULLS LAST OFFSET ${most - 1}::bigint LIMIT 1))
          AND draft_until <= ${before}`.pipe(Effect.asVoid, Effect.orDie)

      return DestinationStore.of({
        forgetUnreached,
        find: (destination) =>
          Effect.map(read(sql<Row>`SELECT * FROM destinations WHERE destination = ${destination}`), ([state]) =>
            Option.fromNullishOr(state)
          ),
        list: read(sql<Row>`SELECT * FROM destinations ORDER BY retry_at DESC, destination COLLATE "C"`),
        failed,
        succeeded,
        speaksDraft,
        heardFrom
      })
    })
  )
}
