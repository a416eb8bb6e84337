/**
 * How a node joins the followers of the log of a database, and is notified of rows that others wrote: `NOTIFY` on one
 * channel, to which each node listens on a connection of its own. A notification says what to read up to; the rows
 * themselves are read from the tables, where they were not announced on another channel (`logAnnouncements.ts`).
 *
 * Tables of the log notify by a trigger (`wake_log`), rooms within their group commit: once a transaction in both cases.
 *
 * The connection holds an advisory lock, shared with those of other nodes: the connection that gets it exclusively is the first one.
 *
 * Source: PostgreSQL, "NOTIFY" and "Advisory Locks".
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { Deferred, Effect, Queue, type Scope } from "effect"
import type { SqlError } from "effect/sql"
import { keepRunning } from "../Supervision.ts"
import { announcementChannel } from "./logAnnouncements.ts"

/** The payload is the `xid` of the rows that were written. */
export const logChannel = "greenroom_log"

/** "grfollow" in the bytes of ASCII. */
const followersLock = 0x6772666f6c6c6f77n

/** How long to wait before listening again after the connection was lost. */
const reconnectInterval = "200 millis"

/** The idle time after which the connection is probed: it may be silent for days, and must not die unnoticed. */
const keepAlive = "15 seconds"

interface LogListener {
  /** Called with the `xid` of each notification; with undefined whenever notifications may have been missed. */
  readonly wake: (xid?: number) => void
  /** Gets each announcement of rows, before the notification of their transaction. */
  readonly announced: (payload: string) => void
  /** Called when the connection is lost, before another one of this node can be opened: PostgreSQL may have crashed. */
  readonly lost: () => void
  /** Runs before the node listens, at first and after a lost connection. While the first node runs it, no other node joins. */
  readonly join: (isFirst: boolean) => Effect.Effect<void, SqlError.SqlError>
}

const lockAlone = (connection: PgConnection.PgConnection) =>
  Effect.map(
    connection.query("SELECT pg_try_advisory_lock($1) AS locked", [followersLock]),
    ({ rows }) => rows[0]?.locked === true
  )

const joinFollowers = Effect.fnUntraced(function* (connection: PgConnection.PgConnection, join: LogListener["join"]) {
  if (yield* lockAlone(connection)) {
    yield* join(true)
    yield* connection.query("SELECT pg_advisory_lock_shared($1), pg_advisory_unlock($1)", [followersLock])
  } else {
    yield* connection.query("SELECT pg_advisory_lock_shared($1)", [followersLock])
    yield* join(false)
  }
})

/** Joins the followers and listens until the scope closes. Returns when the node has joined. */
export const listenToLog = Effect.fnUntraced(function* ({
  announced,
  join,
  lost,
  wake
}: LogListener): Effect.fn.Return<void, SqlError.SqlError, PgClient.PgClient | Scope.Scope> {
  const { config } = yield* PgClient.PgClient
  const joined = yield* Deferred.make<void, SqlError.SqlError>()
  const listen = Effect.gen(function* () {
    const connection = yield* PgConnection.make({ ...config, keepAlive, multiplex: false })
    yield* Effect.addFinalizer(() => Effect.sync(lost))
    yield* joinFollowers(connection, join)
    const listening = yield* connection.pin
    const announcements = yield* listening.listen(announcementChannel)
    const notifications = yield* listening.listen(logChannel)
    yield* Deferred.succeed(joined, undefined)
    wake()
    while (true) {
      const { payload } = yield* Queue.take(notifications)
      for (const announcement of yield* Queue.clear(announcements)) announced(announcement.payload)
      wake(Number(payload))
    }
  })
  const listenOnce = Effect.tapError(Effect.scoped(listen), (error) => Deferred.fail(joined, error))
  yield* keepRunning("Listening for notifications of the log", listenOnce, {
    pause: reconnectInterval,
    isExpected: true
  })
  yield* Deferred.await(joined)
})
