/**
 * A pool of connections that is replaced by a new one when it has fallen silent: no request gets a connection from it, though
 * the database answers a fresh one. Seen after PostgreSQL was killed: borrowers slept in Effect's `Pool` beside a slot whose
 * connection had failed, and nothing woke them.
 *
 * Requests that wait for a connection of the old pool then wait for one of the new pool. Connections of the old one that are in
 * use go on until they are given back. The pool is not silent while connections are given back and lent anew, however many
 * wait for one, nor while none is asked for.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as PgPool from "@effect/sql-pg/PgPool"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import { keepRunning } from "../Supervision.ts"

export interface WatchOptions {
  /** How long requests may wait for a connection before the pool is tried, in ms (default 2,000). */
  readonly interval?: number
  /** How long it may be silent, in ms (default 5,000). */
  readonly silence?: number
}

export type Pool = Pick<PgPool.PgPool, "get" | "reserve" | "use">
type Connection = PgConnection.PgConnection

interface Generation {
  readonly pool: PgPool.PgPool
  readonly scope: Scope.Closeable
}

/** Lives until the scope closes. */
export const make = Effect.fnUntraced(function* (
  config: PgPool.Config,
  { interval = 2_000, silence = 5_000 }: WatchOptions = {}
): Effect.fn.Return<Pool, SqlError, Scope.Scope> {
  const open = Effect.fnUntraced(function* () {
    const scope = yield* Scope.make()
    return { scope, pool: yield* Scope.provide(PgPool.make(config), scope) } satisfies Generation
  })
  const close = ({ scope }: Generation) => Scope.close(scope, Exit.void)

  let current = yield* Effect.uninterruptible(open())
  yield* Effect.addFinalizer(() => close(current))
  /** How many requests wait for a connection, and how many connections were lent. */
  let waiting = 0
  let lent = 0
  /** Opened when a request begins to wait. */
  const watched = Latch.makeUnsafe(false)

  /** Counts a request as waiting. The result is called when it was lent a connection, and when it has ended. */
  const wait = () => {
    let isWaiting = true
    waiting++
    watched.openUnsafe()
    return () => {
      if (isWaiting) waiting--
      isWaiting = false
    }
  }

  /** A pool that is closed interrupts the requests that wait for it: they continue with the pool that replaced it. */
  const again =
    <A>(from: Generation, retry: Effect.Effect<A, SqlError, Scope.Scope>) =>
    (cause: Cause.Cause<SqlError>): Effect.Effect<A, SqlError, Scope.Scope> =>
      from !== current && Cause.hasInterruptsOnly(cause) ? retry : Effect.failCause(cause)

  const lease = (kind: "get" | "reserve"): Effect.Effect<Connection, SqlError, Scope.Scope> =>
    Effect.suspend(() => {
      const from = current
      const waited = wait()
      const leased = Effect.onExitPrimitive(from.pool[kind], (exit) => {
        waited()
        if (Exit.isSuccess(exit)) lent++
        return undefined
      })
      return Effect.catchCause(leased, again(from, lease(kind)))
    })

  const use = <A, E, R>(f: (connection: Connection) => Effect.Effect<A, E, R>): Effect.Effect<A, E | SqlError, R> =>
    Effect.suspend(() => {
      const from = current
      const waited = wait()
      let isLent = false
      const used = from.pool.use((connection) => {
        waited()
        isLent = true
        lent++
        return f(connection)
      })
      const counted = Effect.onExitPrimitive(used, () => {
        waited()
        return undefined
      })
      return Effect.catchCause(counted, (cause) =>
        !isLent && from !== current && Cause.hasInterruptsOnly(cause) ? use(f) : Effect.failCause(cause)
      )
    })

  const isAnswering = Effect.scoped(
    Effect.flatMap(PgConnection.make({ ...config, multiplex: false }), (connection) => connection.query("SELECT 1", []))
  ).pipe(Effect.timeout(silence), Effect.isSuccess)

  /** Whether the pool lent a connection, or the database itself would not have opened one. */
  const isAlive = Effect.fnUntraced(function* () {
    const before = lent
    const started = Deferred.makeUnsafe<void>()
    const tried = use((connection) =>
      Effect.andThen(Deferred.succeed(started, undefined), connection.query("SELECT 1", []))
    )
    const trial = yield* Effect.forkChild(Effect.exit(tried))
    const first = yield* Effect.raceFirst(Deferred.await(started), Effect.asVoid(Fiber.await(trial))).pipe(
      Effect.timeoutOption(silence)
    )
    if (Option.isSome(first) || lent !== before) return true
    const isSilent = (yield* isAnswering) && lent === before
    yield* Effect.forkDetach(Fiber.interrupt(trial))
    return !isSilent
  })

  const replace = Effect.gen(function* () {
    const old = current
    current = yield* open()
    yield* Effect.logWarning(
      `The database answers, but the pool has lent no connection for ${silence} ms: it is replaced by a new one`
    )
    yield* Effect.forkDetach(close(old))
  }).pipe(Effect.uninterruptible)

  /** Tries the pool where requests have waited for an interval in which no connection was lent. */
  const watch = Effect.gen(function* () {
    yield* watched.await
    watched.closeUnsafe()
    const before = lent
    yield* Effect.sleep(interval)
    if (waiting === 0) return
    watched.openUnsafe()
    if (lent === before && !(yield* isAlive())) yield* replace
  })

  yield* keepRunning("Watching the pool of connections", watch).pipe(
    // PostgreSQL answers in its own time, also if the clock is a test's.
    Effect.provideService(Clock.Clock, Clock.Clock.defaultValue())
  )

  return { get: lease("get"), reserve: lease("reserve"), use }
})
