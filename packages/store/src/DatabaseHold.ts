/**
 * One process at a time runs a home server on a database, or the nodes of one cluster do. Each holds an advisory lock of
 * PostgreSQL on a connection of its own: a single process alone, nodes a shared one. A row of `database_holder` names a
 * single process for the operator.
 *
 * A lock ends with its connection, so it is not enough to have taken it once:
 *
 * - The connection is silent. Its end is noticed by its socket, which the system probes.
 * - Each new connection of the pool first asks whether the lock's connection still lives (`verified`), and waits if not.
 * - A lost lock is taken again. If another process got it meanwhile, this one must end (`lost`): what it has in memory
 *   may no longer agree with the database.
 * - The process that takes the lock ends the remaining connections of the former holder.
 *
 * Source: PostgreSQL, "Advisory Locks" and "Server Signaling Functions".
 */
import { randomBytes } from "node:crypto"
import * as os from "node:os"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"

/** Another process holds the database. */
export class DatabaseInUse extends Data.TaggedError("DatabaseInUse")<{ readonly message: string }> {}

/** Another process took the database while this one had no connection to it. */
export class DatabaseTakenOver extends Data.TaggedError("DatabaseTakenOver")<{ readonly message: string }> {}

/** "grholder" in the bytes of ASCII. */
const holderLock = 0x6772686f6c646572n

/** The idle time after which the lock's connection is probed, to notice its end and to keep firewalls from dropping it. */
const keepAlive = "5 seconds"

/** How long the lock's connection may take to answer before it counts as lost. */
const pingTimeout = "5 seconds"

const reconnectInterval = "200 millis"

/** How often the lock is tried: PostgreSQL may take a while to notice that a holder was killed. */
const attempts = 15

/** How long the database may answer no new connection before it counts as silent, and how often it is tried, in ms. */
const silence = 3_000
const trialInterval = 1_000

const holderName = (id: string): string => `greenroom-holder-${id}`

/** Whether a process holds the database alone, or with other nodes of its cluster. */
export type HoldMode = "alone" | "shared"

/** The names of the pools' connections of each mode. */
const poolNames = { alone: "greenroom-", shared: "greenroom-node-" } as const

/** The connections that a process ends when it takes the database. */
const ended = { alone: "^greenroom-(node-)?[0-9a-f]{8}$", shared: "^greenroom-[0-9a-f]{8}$" } as const

type Connection = PgConnection.PgConnection

/** The lock's connection is lost. */
class ConnectionLost extends Data.TaggedError("ConnectionLost") {}

const connect = (url: Redacted.Redacted, id: string) =>
  PgConnection.make({
    url,
    prepare: false,
    keepAlive,
    applicationName: holderName(id),
    startupParameters: { tcp_keepalives_idle: "10", tcp_keepalives_interval: "5", tcp_keepalives_count: "3" }
  })

const internals = "~@effect/sql-pg/PgConnection/internals"

/** Calls `listener` when the connection is lost, as Effect's own pool is notified of it. */
const onLoss = (connection: Connection, listener: () => void): void => {
  const { retireHooks } = (
    connection as unknown as { readonly [internals]: { readonly retireHooks: Set<() => void> } }
  )[internals]
  retireHooks.add(listener)
}

const ping = (connection: Connection): Effect.Effect<unknown, ConnectionLost> =>
  connection.query("SELECT 1").pipe(
    Effect.timeout(pingTimeout),
    Effect.mapError(() => new ConnectionLost())
  )

const tryLock = (connection: Connection, mode: HoldMode): Effect.Effect<boolean, SqlError.SqlError> =>
  Effect.map(
    connection.query(`SELECT pg_try_advisory_lock${mode === "alone" ? "" : "_shared"}($1) AS locked`, [holderLock]),
    ({ rows }) => rows[0]?.locked === true
  )

/** Ends other connections to this database by their names, and waits for their end. */
const endConnections = (connection: Connection, pattern: string): Effect.Effect<unknown, SqlError.SqlError> =>
  connection.query(
    `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
     WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid() AND application_name ~ $1`,
    [pattern]
  )

interface Holder {
  readonly since: Date
  readonly client: string | null
  readonly host: string | null
  readonly pid: number | null
  /** Whether it is a node of a cluster. */
  readonly shared: boolean
}

/** The process that holds the lock, with its row of `database_holder`. */
const findHolder = Effect.fnUntraced(function* (connection: Connection) {
  const { rows } = yield* connection.query("SELECT to_regclass('database_holder') IS NOT NULL AS found")
  const written = rows[0]?.found === true ? "database_holder" : "(SELECT '' AS id, '' AS host, 0 AS pid)"
  const found = yield* connection.query(
    `SELECT session.backend_start AS since, host(session.client_addr) AS client, written.host, written.pid,
       held.mode = 'ShareLock' AS shared
     FROM pg_locks AS held JOIN pg_stat_activity AS session USING (pid)
     LEFT JOIN ${written} AS written ON session.application_name = $2 || written.id
     WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
       AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND (held.classid::bigint << 32) + held.objid::bigint = $1::bigint`,
    [holderLock, holderName("")]
  )
  return found.rows[0] as Holder | undefined
})

const describe = ({ client, host, pid, shared, since }: Holder): string => {
  if (shared) {
    const where = client === null ? "" : `, one at ${client} since ${since.toISOString()}`
    return `The nodes of a cluster use this database${where}: start this one with --cluster too, or choose another database.`
  }
  const process =
    pid === null
      ? `Another Greenroom${client === null ? "" : ` at ${client}`}`
      : `Process ${pid} on ${host}, another Greenroom,`
  return `${process} uses this database since ${since.toISOString()}: stop it first, or choose another database.`
}

/** Whether the holder is a running process of this machine. Then there is no need to retry. */
const isRunning = ({ host, pid }: Holder): boolean => {
  if (host !== os.hostname() || pid === null || pid === process.pid) return false
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM"
  }
}

/** Repeats `take` until it succeeds or the holder proves to be alive. Errors: `DatabaseInUse`. */
const untilFree = Effect.fnUntraced(function* (
  connection: Connection,
  take: Effect.Effect<boolean, SqlError.SqlError>
): Effect.fn.Return<void, DatabaseInUse | SqlError.SqlError> {
  for (let attempt = 1; !(yield* take); attempt++) {
    const holder = yield* findHolder(connection)
    if (holder !== undefined && (attempt >= attempts || isRunning(holder))) {
      return yield* new DatabaseInUse({ message: describe(holder) })
    }
    yield* Effect.sleep(reconnectInterval)
  }
})

/** Fails if another process holds the database, like the layer, but does not take the lock. */
const checkFree = (
  url: Redacted.Redacted,
  mode: HoldMode = "alone"
): Effect.Effect<void, DatabaseInUse | SqlError.SqlError> =>
  Effect.scoped(
    Effect.flatMap(connect(url, "check"), (connection) =>
      untilFree(
        connection,
        Effect.map(findHolder(connection), (holder) => holder === undefined || (mode === "shared" && holder.shared))
      )
    )
  )

/** Returns once the database has answered no new connection for `silence`. */
const untilSilent = (url: Redacted.Redacted): Effect.Effect<void> => {
  const trial = Effect.scoped(Effect.flatMap(connect(url, "check"), (connection) => connection.query("SELECT 1")))
  const answered = trial.pipe(
    Effect.retry(Schedule.spaced(reconnectInterval)),
    Effect.timeout(silence),
    Effect.isSuccess,
    Effect.delay(trialInterval)
  )
  return Effect.asVoid(Effect.repeat(answered, { while: (isAnswered) => isAnswered }))
}

const takenOver = new DatabaseTakenOver({
  message: "Another Greenroom took the database while this one had no connection to it, so this one ends."
})

const make = Effect.fnUntraced(function* (
  url: Redacted.Redacted,
  mode: HoldMode
): Effect.fn.Return<DatabaseHold["Service"], DatabaseInUse | SqlError.SqlError, Scope.Scope> {
  let isClosed = false
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      isClosed = true
    })
  )
  const id = randomBytes(4).toString("hex")
  const since = yield* Clock.currentTimeMillis
  const isHeld = yield* Latch.make(false)
  const first = yield* Deferred.make<void, DatabaseInUse | SqlError.SqlError>()
  const lost = yield* Deferred.make<never, DatabaseTakenOver>()
  /** The connection that holds the lock, and the signal that it is lost. */
  let holding:
    | { readonly connection: Connection; readonly isLost: Deferred.Deferred<never, ConnectionLost> }
    | undefined
  let isRegistered = false

  const setHolding = (held: typeof holding) =>
    Effect.suspend(() => {
      holding = held
      return held === undefined ? isHeld.close : isHeld.open
    })

  /** Fails once the connection no longer holds the lock. */
  const whileHolding = Effect.fnUntraced(function* (connection: Connection) {
    const isLost = Deferred.makeUnsafe<never, ConnectionLost>()
    onLoss(connection, () => Deferred.doneUnsafe(isLost, Effect.fail(new ConnectionLost())))
    yield* ping(connection)
    yield* Effect.acquireRelease(setHolding({ connection, isLost }), () => setHolding(undefined))
    yield* Deferred.succeed(first, undefined)
    return yield* Deferred.await(isLost).pipe(
      Effect.tapError(() => Effect.logWarning("Lost the connection that holds the database: taking it again"))
    )
  })

  /** Takes the lock on a new connection, and holds it while the connection lives. */
  const hold = <E>(take: (connection: Connection) => Effect.Effect<unknown, E>) =>
    Effect.gen(function* () {
      const connection = yield* connect(url, id)
      yield* take(connection)
      return yield* whileHolding(connection)
    }).pipe(Effect.scoped)

  const takeFirst = (connection: Connection) =>
    Effect.andThen(untilFree(connection, tryLock(connection, mode)), endConnections(connection, ended[mode]))

  /** Takes the lock again. PostgreSQL may not have noticed the end of the former connection, which then still holds it. */
  const takeAgain = Effect.fnUntraced(function* (connection: Connection) {
    yield* endConnections(connection, `^${holderName(id)}$`)
    if (!(yield* tryLock(connection, mode))) return yield* takenOver
    if (!isRegistered) return
    const { rows } = yield* connection.query("SELECT id FROM database_holder")
    if (rows[0]?.id !== id) return yield* takenOver
  })

  const holdAgain = hold(takeAgain).pipe(
    Effect.retry({ while: ({ _tag }) => _tag !== "DatabaseTakenOver", schedule: Schedule.spaced(reconnectInterval) }),
    Effect.catch((error) => (error._tag === "DatabaseTakenOver" ? Deferred.fail(lost, error) : Effect.die(error)))
  )

  yield* hold(takeFirst).pipe(
    Effect.catchTag("ConnectionLost", () => holdAgain),
    Effect.catch((error) => Deferred.fail(first, error)),
    Effect.forkScoped
  )
  yield* Deferred.await(first)

  const verified = Effect.suspend(() => {
    const held = holding
    if (held === undefined) return isHeld.await
    return Effect.catch(ping(held.connection), (error) =>
      Effect.gen(function* () {
        if (holding === held) yield* setHolding(undefined)
        yield* Deferred.fail(held.isLost, error)
        yield* isHeld.await
      })
    )
  })

  const register = Effect.gen(function* () {
    if (mode === "shared") return
    const sql = yield* SqlClient.SqlClient
    yield* sql`
      INSERT INTO database_holder (id, host, pid, since)
      VALUES (${id}, ${os.hostname()}, ${process.pid}, ${since})
      ON CONFLICT (single) DO UPDATE SET id = excluded.id, host = excluded.host, pid = excluded.pid, since = excluded.since`
    isRegistered = true
  })

  return DatabaseHold.of({
    mode,
    applicationName: poolNames[mode] + id,
    verified: Effect.asVoid(verified),
    register,
    lost: Deferred.await(lost),
    silent: Effect.tap(untilSilent(url), () => (isClosed ? Effect.never : Effect.void))
  })
})

export class DatabaseHold extends Context.Service<
  DatabaseHold,
  {
    /** Whether the process holds the database alone, or with other nodes. */
    readonly mode: HoldMode
    /** The name of the pool's connections, by which the next holder finds them. */
    readonly applicationName: string
    /** Waits until this process holds the database. Runs before a connection of the pool is opened. */
    readonly verified: Effect.Effect<void>
    /** Writes the row of the holder, once the database has its tables. */
    readonly register: Effect.Effect<void, SqlError.SqlError, SqlClient.SqlClient>
    /** Fails when another process has taken the database. Never succeeds. */
    readonly lost: Effect.Effect<never, DatabaseTakenOver>
    /**
     * Returns when the database has answered no new connection for 3 seconds, which it is tried with while this runs. Not after this
     * process has let go of it. For a program that shuts down: what it still has to write would wait in vain.
     */
    readonly silent: Effect.Effect<void>
  }
>()("greenroom/store/DatabaseHold") {
  static readonly layer = (
    url: Redacted.Redacted,
    mode: HoldMode = "alone"
  ): Layer.Layer<DatabaseHold, DatabaseInUse | SqlError.SqlError> => Layer.effect(DatabaseHold, make(url, mode))
  static readonly checkFree = checkFree
}
