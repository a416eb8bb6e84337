/**
 * Background work that goes on until a scope closes, whatever fails. A failure or defect is logged once, with its cause,
 * and the work is tried again after a back-off; when it succeeds again, that is logged too.
 *
 *     yield* periodically("Forgetting old answers", "1 hour", forget)
 *     yield* keepRunning("Sending presence to other servers", Effect.flatMap(nextChange, send))
 *
 * `Singletons` does such work on one node of a cluster at a time.
 */
import type * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"

/** 1, 2, 4 seconds and so on up to a minute, each by up to a fifth more or less so that nodes do not retry together. */
const backOff = Schedule.jittered(Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("1 minute")]))

/** `work` until it succeeds. */
const untilSuccess = <A, R>(name: string, work: Effect.Effect<A, unknown, R>): Effect.Effect<A, never, R> =>
  Effect.suspend(() => {
    let failures = 0
    const logFailure = (cause: Cause.Cause<unknown>) =>
      failures++ === 0
        ? Effect.logError(`${name}: failed, trying again with back-off`, cause)
        : Effect.logDebug(`${name}: failed ${failures} times in a row`, cause)
    return work.pipe(
      Effect.sandbox,
      Effect.tapError(logFailure),
      Effect.retry(backOff),
      Effect.orDie,
      Effect.tap(() => (failures === 0 ? Effect.void : Effect.logInfo(`${name}: works again`)))
    )
  })

/**
 * Runs `work` again and again until the scope closes. `work` is one step, such as waiting for an item and handling it: a
 * step that succeeds ends the back-off. `name` says in the log what was done.
 */
export const keepRunning = <R>(
  name: string,
  work: Effect.Effect<unknown, unknown, R>
): Effect.Effect<void, never, R | Scope.Scope> =>
  Effect.asVoid(Effect.forkScoped(Effect.forever(untilSuccess(name, work))))

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
