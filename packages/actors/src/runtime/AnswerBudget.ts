/**
 * The answers of other servers to one piece of work: how many bytes they may have together, and what they hold of this node's memory.
 * Each answer has a limit of its own (`FederationCalls`); these bound work that asks many times, as filling a gap does, and all work
 * together. Other servers choose how large their answers are.
 *
 * Work that has read more than `smallRead` bytes needs a permit: what it has read stays in memory until it ends, as objects that take
 * several times as many bytes. It has no permit while it waits for another server. What arrives then, and what it had read before, counts
 * among `ArrivingAnswers`, so that a server that is silent, or sends slowly, holds up no other work. Where these hold too much, the work
 * that has waited longest for an answer is given up.
 */
import { type HeldAllowance, makeLargeReads, smallRead } from "@greenroom/store/LargeReads"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { Context, Data, Deferred, Duration, Effect, Exit, type Option } from "effect"
import { ArrivingBodies, type ArrivingBody } from "./ArrivingBodies.ts"

/** How long work keeps its permit while it waits for another server: most answers have come by then. */
const permitKept = "200 millis"

/** How long work waits for its permit. */
const longestWait = "1 minute"

/** How long a time limit sleeps at least before it looks at its clock again, in ms. */
const leastSleep = 50

/** This node has given up an answer by a limit of its own, which says nothing about the server that was asked. */
export class AnswerGivenUp extends Data.TaggedError("AnswerGivenUp")<{ readonly reason: string }> {}

/** What the answers to one piece of work hold of this node's memory. */
class AnswerMemory {
  private readonly allowance: HeldAllowance
  private readonly arriving: ArrivingBodies
  private readonly refused = Deferred.makeUnsafe<never, AnswerGivenUp>()
  private readonly body: ArrivingBody = {
    refuse: () => {
      if (this.questions === 0) return
      this.uncount()
      const reason = "too many large answers of other servers are arriving"
      Deferred.doneUnsafe(this.refused, Effect.fail(new AnswerGivenUp({ reason })))
    }
  }
  private bytes = 0
  /** How many questions have no answer yet. The answers are not given up without one: the work has no way to fail then. */
  private questions = 0
  /** For how many bytes the work has its permit. */
  private permitted = 0
  private isCounted = false
  /** How many waits are under way for others, and for the permit. */
  private readonly waits = { others: 0, permit: 0 }
  /** How long the work had waited for nothing but its permit when `waits` changed last, and when that was, in ms. */
  private stood = 0
  private changedAt = 0
  /** The work has ended. What it shared with other work may go on. */
  isOver = false

  constructor(allowance: HeldAllowance, arriving: ArrivingBodies) {
    this.allowance = allowance
    this.arriving = arriving
  }

  /** Whether the bytes need a permit, or count as arriving. */
  private get isLarge(): boolean {
    return this.bytes > smallRead && !this.isOver && !Deferred.isDoneUnsafe(this.refused)
  }

  /** Counts bytes that have arrived. */
  add(bytes: number): void {
    this.bytes += bytes
    if (this.isCounted) this.arriving.add(this.body, bytes)
    else if (this.permitted === 0) this.count()
  }

  /** A question of the work, which goes on when it has its permit again. Fails if the work has to give up its answers. */
  asking<A, E, R>(question: Effect.Effect<A, E, R>): Effect.Effect<A, E | AnswerGivenUp, R> {
    return Effect.suspend(() => {
      this.questions++
      const answered = this.withoutPermit(Effect.raceFirst(question, Deferred.await(this.refused)), this.lend)
      return Effect.ensuring(
        Effect.flatMap(Effect.result(answered), (result) => Effect.andThen(this.resume, Effect.fromResult(result))),
        Effect.sync(() => this.questions--)
      )
    })
  }

  /** Another wait of the work, which keeps its permit where memory is short. */
  waiting<A, E, R>(wait: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    const lendIfRoom = Effect.suspend(() => (this.arriving.hasRoomFor(this.bytes) ? this.lend : Effect.void))
    return Effect.tap(this.withoutPermit(wait, lendIfRoom), () => Effect.ignore(this.resume))
  }

  /** How long the work has waited for nothing but its permit until now, in ms. */
  stoodUntil(now: number): number {
    const { others, permit } = this.waits
    return this.stood + (permit > 0 && others === 0 ? now - this.changedAt : 0)
  }

  /** The work has ended. */
  readonly end = Effect.suspend(() => {
    this.isOver = true
    return this.giveBack
  })

  private withoutPermit<A, E, R>(wait: Effect.Effect<A, E, R>, lend: Effect.Effect<void>): Effect.Effect<A, E, R> {
    return this.counting(
      "others",
      Effect.raceFirst(wait, Effect.forever(Effect.andThen(Effect.sleep(permitKept), lend)))
    )
  }

  private counting<A, E, R>(kind: "others" | "permit", wait: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    const count = (by: number) =>
      Effect.map(monotonicMillis, (now) => {
        this.stood = this.stoodUntil(now)
        this.changedAt = now
        this.waits[kind] += by
      })
    return Effect.acquireUseRelease(
      count(1),
      () => wait,
      () => count(-1)
    )
  }

  /** Gives the permit back. The bytes count as arriving until the work has it again. */
  private readonly giveBack = Effect.suspend(() => {
    this.permitted = 0
    this.uncount()
    this.count()
    return this.allowance.release()
  })

  private readonly lend = Effect.suspend(() => (this.permitted === 0 ? Effect.void : this.giveBack))

  private readonly resume = Effect.suspend(() => {
    const { bytes, permitted } = this
    if (!this.isLarge || bytes === permitted) return Effect.void
    return this.counting("permit", this.allowance.take(bytes - permitted)).pipe(
      Effect.tap(() =>
        Effect.sync(() => {
          this.permitted = bytes
          this.uncount()
        })
      ),
      Effect.raceFirst(Deferred.await(this.refused)),
      Effect.timeoutOrElse({
        duration: longestWait,
        orElse: () => new AnswerGivenUp({ reason: `other large answers were worked on for ${longestWait}` })
      }),
      Effect.onExit((exit) => (this.isOver || Exit.isFailure(exit) ? this.giveBack : Effect.void))
    )
  })

  private count(): void {
    if (!this.isLarge) return
    this.isCounted = true
    this.arriving.add(this.body, this.bytes)
  }

  private uncount(): void {
    this.isCounted = false
    this.arriving.remove(this.body)
  }
}

/** Counts down: an answer takes its bytes, and none is read any more when nothing is left. */
export interface AnswerBudget {
  left: number
  readonly memory: AnswerMemory
}

/** The budget of the work that asks. Work without one has no bound but that of each answer. */
export const CurrentAnswerBudget = Context.Reference<AnswerBudget | undefined>(
  "greenroom/runtime/CurrentAnswerBudget",
  {
    defaultValue: () => undefined
  }
)

const tiers = [
  { above: 0, requests: 4 },
  { above: 16 * smallRead, requests: 1 }
]

/** How much work with large answers there is at a time, on this node. */
export const LargeAnswers = Context.Reference("greenroom/runtime/LargeAnswers", {
  defaultValue: () => makeLargeReads({ tiers, most: Number.POSITIVE_INFINITY })
})

/** The answers of work without a permit, on this node: those that arrive or wait for it, and what was read before them. */
export const ArrivingAnswers = Context.Reference("greenroom/runtime/ArrivingAnswers", {
  defaultValue: () => new ArrivingBodies(128 * smallRead)
})

/**
 * Runs work whose answers from other servers have at most so many bytes together. `owner` is for whom it is done, a user, a room or a
 * server: the next permit goes to the owner that got one least recently. Work within other work shares its memory.
 */
export const withAnswerBudget = <A, E, R>(
  bytes: number,
  owner: string,
  work: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.withFiber(({ context }) => {
    const outer = Context.get(context, CurrentAnswerBudget)
    if (outer !== undefined && !outer.memory.isOver) {
      return Effect.provideService(work, CurrentAnswerBudget, { left: bytes, memory: outer.memory })
    }
    const memory = new AnswerMemory(Context.get(context, LargeAnswers)(owner), Context.get(context, ArrivingAnswers))
    return Effect.onExit(Effect.provideService(work, CurrentAnswerBudget, { left: bytes, memory }), () => memory.end)
  })

/** A wait for servers that are not asked for answers to the work itself: others have its permit meanwhile. */
export const awaitingOthers = <A, E, R>(wait: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(CurrentAnswerBudget, (budget) => (budget === undefined ? wait : budget.memory.waiting(wait)))

/** The clock of the current work, in ms: it stands still while the work waits for nothing but its permit. */
export const answerMillis: Effect.Effect<number> = Effect.flatMap(CurrentAnswerBudget, (budget) =>
  Effect.map(monotonicMillis, (now) => now - (budget?.memory.stoodUntil(now) ?? 0))
)

/** As `Effect.timeoutOrElse`, by the clock of the current work: the wait for its permit says nothing about the servers that are asked. */
export const answersTimeoutOrElse = <A, E, R, B, E2, R2>(
  work: Effect.Effect<A, E, R>,
  { duration, orElse }: { readonly duration: Duration.Input; readonly orElse: () => Effect.Effect<B, E2, R2> }
): Effect.Effect<A | B, E | E2, R | R2> => {
  const late = Effect.gen(function* () {
    const limit = Duration.toMillis(duration)
    const until = (yield* answerMillis) + limit
    yield* Effect.sleep(limit)
    for (let left = until - (yield* answerMillis); left > 0; left = until - (yield* answerMillis)) {
      yield* Effect.sleep(Math.max(left, leastSleep))
    }
    return yield* orElse()
  })
  return Effect.raceFirst(work, late)
}

/** The same as `Effect.timeoutOption`. */
export const answersTimeoutOption = <A, E, R>(
  work: Effect.Effect<A, E, R>,
  duration: Duration.Input
): Effect.Effect<Option.Option<A>, E, R> =>
  answersTimeoutOrElse(Effect.asSome(work), { duration, orElse: () => Effect.succeedNone })
