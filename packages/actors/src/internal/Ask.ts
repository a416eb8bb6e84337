/**
 * Asking an actor, as services do: what can go wrong on the way to it becomes an error of the request.
 */
import { LimitExceeded, type MatrixError } from "@greenroom/protocol/MatrixError"
import { Context, Effect, References } from "effect"
import type { ClusterError } from "effect/cluster"

type RunnerError =
  | ClusterError.MailboxFull
  | ClusterError.AlreadyProcessingMessage
  | ClusterError.PersistenceError
  | ClusterError.EntityNotAssignedToRunner

const untraced = Context.make(References.TracerEnabled, false)

/**
 * An actor runs in its own surroundings, to which those of its asker would be added for every message, service by
 * service. It needs none of them but the trace, where there is one.
 */
const surroundings = (asker: Context.Context<never>): Context.Context<never> =>
  Context.get(asker, References.TracerEnabled) ? asker : untraced

/** A mailbox that is full asks for patience; that a runner cannot be reached is nobody's request's fault. */
export const ask = <A, E extends MatrixError>(
  answer: Effect.Effect<A, E | RunnerError>
): Effect.Effect<A, MatrixError> => {
  const asked: Effect.Effect<A, MatrixError | RunnerError> = Effect.updateContext(answer, surroundings)
  return Effect.catchTags(asked, {
    MailboxFull: () =>
      Effect.fail(new LimitExceeded({ error: "Too many requests wait for this", retry_after_ms: 1000 })),
    AlreadyProcessingMessage: Effect.die,
    PersistenceError: Effect.die,
    EntityNotAssignedToRunner: Effect.die
  }) as Effect.Effect<A, MatrixError>
}
