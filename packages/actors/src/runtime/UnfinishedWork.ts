/**
 * Finishes work that is noted in a table until it is done: what the end of a process or an outage of the database has interrupted. One node
 * of the cluster does the due work, at the start and whenever the next piece is due.
 */
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import type { WorkKind } from "@greenroom/store/WorkSignals"
import { Clock, Effect, Fiber, Result, Semaphore } from "effect"
import { handleEach, outcomeOf, type TryAgain } from "./ItemFailure.ts"
import { latchOfChanges, Nodes } from "./Nodes.ts"
import { keepRunningOnce } from "./Singletons.ts"
import { signalsOfWork } from "./WorkSignals.ts"

/** The shortest and the longest interval between two queries for due work, in ms. */
const shortestWait = 1_000
const longestWait = 10 * 60_000

/** How many are begun at once, and how long each of them delays the next one: it may wait for other servers. */
const atOnce = 4
const longestTurn = "1 second"

interface UnfinishedWorkOptions<A, R> {
  /** The name in the log. */
  readonly name: string
  readonly kind: WorkKind
  readonly table: {
    readonly take: (which: "due" | "all") => Effect.Effect<ReadonlyArray<A>>
    readonly nextAt: Effect.Effect<number | undefined>
  }
  /** At the start, and when nodes come or go: whether all work is tried, or only due work. */
  readonly whenNodesChange: "due" | "all"
  /** The name of a piece of work in the log. */
  readonly nameOf: (work: A) => string
  /** Finishes a piece of work, or gives it up, and removes its row. After a failure it is called again later. */
  readonly finish: (work: A) => Effect.Effect<unknown, MatrixError | TryAgain, R>
}

/** Finishes the work of a table until the scope closes. */
export const keepFinishing = Effect.fnUntraced(function* <A, R>({
  finish,
  kind,
  name,
  nameOf,
  table,
  whenNodesChange
}: UnfinishedWorkOptions<A, R>) {
  const changed = yield* latchOfChanges(yield* Nodes)
  const added = yield* signalsOfWork(kind)

  const finishOne = Effect.fnUntraced(function* (work: A) {
    const finished = yield* outcomeOf(nameOf(work), finish(work))
    if (Result.isFailure(finished)) {
      yield* Effect.logWarning(`${nameOf(work)} stays unfinished: ${finished.failure.error}`)
    }
  })

  const turns = Semaphore.makeUnsafe(atOnce)
  const finishInTurn = Effect.fnUntraced(function* (work: A) {
    const begin = Effect.tap(Effect.forkChild(finishOne(work)), (fiber) =>
      Effect.timeoutOption(Fiber.await(fiber), longestTurn)
    )
    yield* Fiber.join(yield* turns.withPermit(begin))
  })

  const nextIsDue = Effect.fnUntraced(function* (wait: number) {
    const next = yield* table.nextAt
    if (next === undefined) return yield* Effect.never
    const now = yield* Clock.currentTimeMillis
    yield* Effect.sleep(Math.min(longestWait, Math.max(wait, next - now)))
  })
  /** Returns when the next piece may be due, `wait` ms from now at the earliest, or at once if another one that is due is added. */
  const somethingIsDue = (wait: number): Effect.Effect<void> =>
    Effect.flatMap(Effect.raceFirst(Effect.as(added, false), Effect.as(nextIsDue(wait), true)), (isDue) =>
      isDue ? Effect.void : somethingIsDue(0)
    )
  let which = whenNodesChange
  yield* keepRunningOnce(
    name,
    Effect.gen(function* () {
      yield* handleEach(yield* table.take(which), finishInTurn, "unbounded")
      which = yield* Effect.raceFirst(
        Effect.as(changed, whenNodesChange),
        Effect.as(somethingIsDue(shortestWait), "due" as const)
      )
    })
  )
})
