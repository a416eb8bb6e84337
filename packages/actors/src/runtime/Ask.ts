/**
 * Asking an actor, as services do: what can go wrong on the way to it becomes an error of the request.
 */
import { LimitExceeded, type MatrixError } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import type { ClusterError } from "effect/cluster"

type RunnerError =
  | ClusterError.MailboxFull
  | ClusterError.AlreadyProcessingMessage
  | ClusterError.PersistenceError
  | ClusterError.EntityNotAssignedToRunner

/** A mailbox that is full asks for patience; that a runner cannot be reached is nobody's request's fault. */
export const ask = <A, E extends MatrixError>(
  answer: Effect.Effect<A, E | RunnerError>
): Effect.Effect<A, MatrixError> =>
  Effect.catchTags(answer as Effect.Effect<A, MatrixError | RunnerError>, {
    MailboxFull: () =>
      Effect.fail(new LimitExceeded({ error: "Too many requests wait for this", retry_after_ms: 1000 })),
    AlreadyProcessingMessage: Effect.die,
    PersistenceError: Effect.die,
    EntityNotAssignedToRunner: Effect.die
  }) as Effect.Effect<A, MatrixError>
