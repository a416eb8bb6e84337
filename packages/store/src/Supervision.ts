/**
 * Background work that goes on until a scope closes, whatever fails. A failure or defect is logged once, with its cause,
 * and the work is tried again after a back-off; when it succeeds again, that is logged too.
 *
 *     yield* periodically("Forgetting old answers", "1 hour", forget)
 *     yield* keepRunning("Sending presence to other servers", Effect.flatMap(nextChange, send))
 *
 * `Singletons` of `@greenroom/actors` does such work on one node of a cluster at a time.
 */
import type * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"

export interface RetryOptions {
  /**
   * The pause after each failure. By default 1, 2, 4 seconds and so on up to a minute, each by up to a fifth more or less so that
   * nodes do not retry together.
   */
  readonly pause?: Duration.Input
  /** Failures are part of normal operation, such as lost connections: they are logged for debugging only. */
  readonly isExpected?: boolean
}

const backOff: Schedule.Schedule<unknown> = Schedule.jittered(
  Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("1 minute")])
)

/** Runs `work` again and again until it succeeds. `name` says in the log what was done. */
export const untilSuccess = <A, R>(
  name: string,
  work: Effect.Effect<A, unknown, R>,
  options: RetryOptions = {}
): Effect.Effect<A, never, R> => Effect.catchCause(work, (cause) => retryAfter(cause, name, work, options))

const retryAfter = <A, R>(
  cause: Cause.Cause<unknown>,
  name: string,
  work: Effect.Effect<A, unknown, R>,
  { isExpected = false, pause }: RetryOptions
): Effect.Effect<A, never, R> => {
  let failures = 0
  const logFailure = (cause: Cause.Cause<unknown>) =>
    failures++ === 0 && !isExpected
      ? Effect.logError(`${name}: failed, trying again with back-off`, cause)
      : Effect.logDebug(`${name}: failed ${failures} times in a row`, cause)
  const attempt = Effect.suspend(() => (failures === 0 ? Effect.failCause(cause) : work))
  return attempt.pipe(
    Effect.sandbox,
    Effect.tapError(logFailure),
    Effect.retry({ schedule: pause === undefined ? backOff : Schedule.spaced(pause) }),
    Effect.orDie,
    Effect.tap(() => (isExpected ? Effect.void : Effect.logInfo(`${name}: works again`)))
  )
}

/** As `keepRunning`, in the fiber of the caller. */
export const runForever = <R>(
  name: string,
  work: Effect.Effect<unknown, unknown, R>,
  options?: RetryOptions
): Effect.Effect<never, never, R> => Effect.forever(untilSuccess(name, work, options), { disableYield: true })

/**
 * Runs `work` again and again until the scope closes. `work` is one step, such as waiting for an item and handling it: a
 * step that succeeds ends the back-off. `name` says in the log what was done.
 */
export const keepRunning = <R>(
  name: string,
  work: Effect.Effect<unknown, unknown, R>,
  options?: RetryOptions
): Effect.Effect<void, never, R | Scope.Scope> => Effect.asVoid(Effect.forkScoped(runForever(name, work, options)))

/** Runs `work` after each interval, and with `atOnce` at the start too, until the scope closes. */
export const periodically = <R>(
  name: string,
  interval: Duration.Input,
  work: Effect.Effect<unknown, unknown, R>,
  { atOnce = false }: { readonly atOnce?: boolean } = {}
): Effect.Effect<void, never, R | Scope.Scope> => {
  const repeated = Effect.forever(Effect.andThen(Effect.sleep(interval), untilSuccess(name, work)))
  return Effect.asVoid(Effect.forkScoped(atOnce ? Effect.andThen(untilSuccess(name, work), repeated) : repeated))
}
