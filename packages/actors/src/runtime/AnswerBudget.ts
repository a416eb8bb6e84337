/**
 * How many bytes the answers of other servers to one piece of work may have together. Each answer has a limit of its own
 * (`FederationCalls`); this one bounds work that asks many times, as filling a gap does.
 */
import { Context, Effect } from "effect"

/** Counts down: an answer takes its bytes, and none is read any more when nothing is left. */
export interface AnswerBudget {
  left: number
}

/** The budget of the work that asks. Work without one has no bound but that of each answer. */
export const CurrentAnswerBudget = Context.Reference<AnswerBudget | undefined>(
  "greenroom/runtime/CurrentAnswerBudget",
  {
    defaultValue: () => undefined
  }
)

/** Runs work whose answers from other servers have at most so many bytes together. */
export const withAnswerBudget = <A, E, R>(bytes: number, work: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => Effect.provideService(work, CurrentAnswerBudget, { left: bytes }))
