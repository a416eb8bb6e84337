/**
 * Asking an actor from a service: errors of the runner become errors of the request.
 */
import { LimitExceeded, type MatrixError } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import type { ClusterError } from "effect/cluster"

type RunnerError =
  | ClusterError.MailboxFull
  | ClusterError.AlreadyProcessingMessage
  | ClusterError.PersistenceError
  | ClusterError.EntityNotAssignedToRunner

/** Made once: every request of a client asks an actor. */
const ofRunner = {
  MailboxFull: () =>
    Effect.fail(
      new LimitExceeded({
        error: "Too many requests are waiting for the same room or user, try again later",
        retry_after_ms: 1000
      })
    ),
  AlreadyProcessingMessage: Effect.die,
  PersistenceError: Effect.die,
  EntityNotAssignedToRunner: Effect.die
}

/** A full mailbox is answered with M_LIMIT_EXCEEDED. An unreachable runner is a defect. */
export const ask = <A, E extends MatrixError>(
  answer: Effect.Effect<A, E | RunnerError>
): Effect.Effect<A, MatrixError> =>
  Effect.catchTags(answer as Effect.Effect<A, MatrixError | RunnerError>, ofRunner) as Effect.Effect<A, MatrixError>
