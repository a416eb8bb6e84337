/**
 * How many bytes the answers of other servers to one piece of work may have together. Each answer has a limit of its own
 * (`FederationCalls`); this one bounds work that asks many times, as filling a gap does.
 *
 * Work whose answers have more than `smallRead` bytes waits for a permit, and has it until it ends: what it has read stays in memory
 * until then, as objects that take several times as many bytes. Other servers choose how large their answers are.
 */
import { type Allowance, makeLargeReads, smallRead } from "@greenroom/store/LargeReads"
import { Context, Effect } from "effect"
import { ArrivingBodies } from "./ArrivingBodies.ts"

/** Counts down: an answer takes its bytes, and none is read any more when nothing is left. */
export interface AnswerBudget {
  left: number
  /** Waits until the work may read so many more bytes. */
  readonly take: Allowance["take"]
}

/** The budget of the work that asks. Work without one has no bound but that of each answer. */
export const CurrentAnswerBudget = Context.Reference<AnswerBudget | undefined>(
  "greenroom/runtime/CurrentAnswerBudget",
  {
    defaultValue: () => undefined
  }
)

/** How much work with large answers there is at a time, on this node. */
export const LargeAnswers = Context.Reference("greenroom/runtime/LargeAnswers", {
  defaultValue: () => makeLargeReads({ requests: 4, large: 16 * smallRead, most: Number.POSITIVE_INFINITY })
})

/**
 * Whole answers that are arriving, or wait for the permit of their work, on this node. An answer that other servers send slowly, or do not
 * end, has no permit.
 */
export const ArrivingAnswers = Context.Reference("greenroom/runtime/ArrivingAnswers", {
  defaultValue: () => new ArrivingBodies(128 * smallRead)
})

/**
 * Runs work whose answers from other servers have at most so many bytes together. `owner` is for whom it is done, a user, a room or a
 * server: the next permit goes to the owner that got one least recently. Work within other work shares its permit.
 */
export const withAnswerBudget = <A, E, R>(
  bytes: number,
  owner: string,
  work: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.withFiber(({ context }) => {
    const outer = Context.get(context, CurrentAnswerBudget)
    if (outer !== undefined) {
      return Effect.provideService(work, CurrentAnswerBudget, { left: bytes, take: outer.take })
    }
    const allowance = Context.get(context, LargeAnswers)(owner)
    const budget: AnswerBudget = { left: bytes, take: (more) => allowance.take(more) }
    return Effect.onExit(Effect.provideService(work, CurrentAnswerBudget, budget), () => allowance.release())
  })
