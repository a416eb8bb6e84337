/**
 * Retries: after the pause that the server names, else with jittered exponential back-off, so that the clients of a server
 * that restarts do not all reconnect at once.
 */
import { isMatrixError, type MatrixError } from "@greenroom/protocol/MatrixError"
import { Clock, Duration, Effect, Random } from "effect"
import type { ConnectionError } from "../ConnectionError.ts"

/** The errors of requests: those of the protocol, and failures of the connection. */
export type ClientError = MatrixError | ConnectionError

const firstPause = 50
const longestPause = 5_000

/** The pause before the attempt after `failures` failed ones, in ms. */
export const pauseAfter = (failures: number): Effect.Effect<number> =>
  Effect.map(Random.next, (random) => Math.min(longestPause, firstPause * 2 ** failures) * (0.5 + random / 2))

/** Whether the request may be retried, and the pause that the server asks for, in ms. */
const isWorthAnother = (error: ClientError, repeatable: boolean): { readonly after?: number } | undefined => {
  if (error._tag === "M_LIMIT_EXCEEDED") return { after: error.retry_after_ms }
  return repeatable && !isMatrixError(error) && error.transient ? {} : undefined
}

/**
 * Repeats a request that fails, for at most `retryTimeout` ms from its first attempt. A request that is not
 * `repeatable` is repeated only if the server did nothing (M_LIMIT_EXCEEDED).
 */
export const retrying = <A, R>(
  request: Effect.Effect<A, ClientError, R>,
  options: { readonly repeatable: boolean; readonly retryTimeout: Duration.Duration }
): Effect.Effect<A, ClientError, R> =>
  Effect.flatMap(Clock.monotonicTimeNanos, (start) => {
    const attempt = (failures: number): Effect.Effect<A, ClientError, R> =>
      Effect.catch(request, (error) => {
        const again = isWorthAnother(error, options.repeatable)
        if (again === undefined) return Effect.fail(error)
        return Effect.gen(function* () {
          const pause = again.after ?? (yield* pauseAfter(failures))
          const elapsed = Number((yield* Clock.monotonicTimeNanos) - start) / 1e6
          if (elapsed + pause > Duration.toMillis(options.retryTimeout)) return yield* Effect.fail(error)
          return yield* Effect.delay(attempt(failures + 1), Duration.millis(pause))
        })
      })
    return attempt(0)
  })
