/**
 * How a node hears that rows of the log were written by others: `NOTIFY` on one channel, to which the node listens on a
 * connection of its own. A notification says what to read up to; the rows themselves are read from the tables.
 *
 * Tables of the log notify by a trigger (`wake_log`), rooms within their group commit: once a transaction in both cases.
 *
 * Source: PostgreSQL, "NOTIFY".
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { Effect, Queue, type Scope } from "effect"

/** The payload is the `xid` of the rows that were written. */
export const logChannel = "greenroom_log"

/** How long to wait before listening again after the connection was lost. */
const reconnectInterval = "200 millis"

/** After how long without traffic the connection is probed: it may be silent for days, and must not die unnoticed. */
const keepAlive = "15 seconds"

/**
 * Listens until the scope closes. `wake` gets the `xid` of each notification; whenever notifications may have been missed,
 * as after a lost connection, it is called without one.
 */
export const listenToLog = Effect.fnUntraced(function* (
  wake: (xid?: number) => void
): Effect.fn.Return<void, never, PgClient.PgClient | Scope.Scope> {
  const { config } = yield* PgClient.PgClient
  const listen = Effect.gen(function* () {
    const connection = yield* PgConnection.make({ ...config, keepAlive, multiplex: false })
    const notifications = yield* connection.listen(logChannel)
    wake()
    while (true) wake(Number((yield* Queue.take(notifications)).payload))
  })
  yield* Effect.scoped(listen).pipe(
    Effect.catchCause((cause) => Effect.logDebug("The log's connection for notifications was lost", cause)),
    Effect.andThen(Effect.sleep(reconnectInterval)),
    Effect.forever,
    Effect.forkScoped
  )
})
