/**
 * Metrics that need a query: queues to other servers, files, connections, size. Queried on a scrape, each at most as often
 * as its interval allows.
 */
import { Effect, type Scope } from "effect"
import { SqlClient } from "effect/sql"
import * as Measures from "./Measures.ts"
import { monotonicMillis } from "./MonotonicClock.ts"

/** The timeout of a query, and for how long its result is reused, in ms. Results of expensive queries are reused longer. */
const timeout = "2 seconds"
const lifetime = 5_000
const longLifetime = 300_000

/** The columns of one query, one for each metric. */
interface Query {
  readonly lifetime: number
  readonly columns: { readonly [column: string]: readonly [name: string, description: string] }
  readonly run: (sql: SqlClient.SqlClient) => Effect.Effect<ReadonlyArray<object>, unknown>
}

const queries: ReadonlyArray<Query> = [
  {
    lifetime,
    columns: {
      pdus: ["greenroom_federation_queue_pdus", "PDUs that wait for other servers"],
      destinations: ["greenroom_federation_queue_destinations", "Other servers for which PDUs wait"],
      edus: ["greenroom_federation_queue_edus", "EDUs that must arrive and wait for other servers"],
      receipts: [
        "greenroom_federation_queue_receipts",
        "Rooms with receipts that wait for other servers, once for each server"
      ],
      failing: ["greenroom_federation_failing_destinations", "Other servers that did not answer when last tried"]
    },
    run: (sql) => sql`SELECT
      (SELECT count(*) FROM outgoing_pdus) AS pdus,
      (SELECT count(DISTINCT destination) FROM outgoing_pdus) AS destinations,
      (SELECT count(*) FROM outgoing_edus) AS edus,
      (SELECT count(*) FROM outgoing_receipts) AS receipts,
      (SELECT count(*) FROM destinations WHERE failures > 0) AS failing`
  },
  {
    lifetime,
    columns: {
      active: ["greenroom_database_connections_active", "Connections to the database that run a statement"],
      idle: ["greenroom_database_connections_idle", "Connections to the database that do nothing"],
      in_transaction: [
        "greenroom_database_connections_in_transaction",
        "Connections to the database that are within a transaction and run no statement"
      ],
      oldest: [
        "greenroom_database_oldest_transaction_seconds",
        "Since when the oldest transaction of the database runs, of whomever"
      ]
    },
    run: (sql) => sql`SELECT
      count(*) FILTER (WHERE state = 'active' AND application_name LIKE 'greenroom%') AS active,
      count(*) FILTER (WHERE state = 'idle' AND application_name LIKE 'greenroom%') AS idle,
      count(*) FILTER (WHERE state LIKE 'idle in transaction%' AND application_name LIKE 'greenroom%') AS in_transaction,
      coalesce(extract(epoch FROM max(clock_timestamp() - xact_start))::float8, 0) AS oldest
      FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`
  },
  {
    lifetime: longLifetime,
    columns: {
      files: ["greenroom_media_files", "Files in the media store"],
      bytes: ["greenroom_media_bytes", "Their size"],
      size: ["greenroom_database_bytes", "The size of the database"],
      users: ["greenroom_users", "Accounts that are not deactivated"],
      rooms: ["greenroom_rooms", "Rooms that this server knows"]
    },
    run: (sql) => sql`SELECT
      (SELECT count(*) FROM media_blobs) AS files,
      (SELECT coalesce(sum(size), 0)::bigint FROM media_blobs) AS bytes,
      pg_database_size(current_database()) AS size,
      (SELECT count(*) FROM users WHERE deactivated_at IS NULL) AS users,
      (SELECT count(*) FROM rooms) AS rooms`
  }
]

/**
 * Registers these metrics until the scope closes. The result updates them. Metrics whose query times out keep their last value.
 */
export const make: Effect.Effect<Effect.Effect<void>, never, Scope.Scope | SqlClient.SqlClient> = Effect.gen(
  function* () {
    const sql = yield* SqlClient.SqlClient
    const refreshing = yield* Effect.forEach(queries, (query) => register(sql, query))
    return Effect.all(refreshing, { concurrency: "unbounded", discard: true })
  }
)

const register = Effect.fnUntraced(function* (sql: SqlClient.SqlClient, query: Query) {
  const values = new Map<string, number>()
  let readAt = Number.NEGATIVE_INFINITY
  for (const [column, [name, description]] of Object.entries(query.columns)) {
    yield* Measures.gauge(name, description, () => values.get(column) ?? Number.NaN)
  }
  return Effect.gen(function* () {
    const now = yield* monotonicMillis
    if (now - readAt < query.lifetime) return
    const [row] = yield* Effect.timeout(query.run(sql), timeout)
    readAt = now
    for (const [column, value] of Object.entries(row ?? {})) values.set(column, Number(value))
  }).pipe(Effect.catch((error) => Effect.logDebug("The database was not measured", error)))
})
