/**
 * Which nodes are reachable, as the one node that pings all others finds it (a singleton of Effect's engine). Nodes that it does not
 * reach lose their shards to the others.
 *
 * A node that reaches none of several others is cut off itself, or they have ended together: it leaves them alone until their
 * entries in the database expire. Where the entries are renewed instead, it is cut off, and gives up its own shards. Of two nodes
 * that do not reach each other, the one that pings takes all shards. Both sides log what the operator must mend.
 */
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { monotonicMillisUnsafe } from "@greenroom/store/MonotonicClock"
import { Clock, Duration, Effect, Layer, Option } from "effect"
import { type RunnerAddress, RunnerHealth, RunnerStorage, Runners, ShardingConfig } from "effect/cluster"
import { keyOf } from "./nodeKey.ts"
import * as RunningTime from "./RunningTime.ts"

/** How long a node may take to answer a ping, twice: as long as its hold of its shards lasts. */
export const pingTimeout = "3 seconds"

/** The time for which the answer to a ping is reused, in ms: all nodes are checked together, once a second. */
const answerFor = 900

/** The time for which a node counts as cut off after it detected it, in ms. */
const verdictFor = 3_000

/** The entry of a node that has ended may be renewed this much later than it was reached last, in ms. */
const tolerance = 500

const make = Effect.gen(function* () {
  const runners = yield* Runners.Runners
  const storage = yield* RunnerStorage.RunnerStorage
  const { runnerAddress, shardLockExpiration } = yield* ShardingConfig.ShardingConfig
  const own = Option.map(runnerAddress, keyOf)
  const isOwn = (address: RunnerAddress.RunnerAddress) => Option.contains(own, keyOf(address))
  const expiration = Duration.toMillis(Duration.fromInputUnsafe(shardLockExpiration))
  // A node that is held up itself takes no other one for lost.
  const clock = RunningTime.make(yield* Clock.Clock)
  const now = () => monotonicMillisUnsafe(clock)
  /** The time in which no other node answered, in ms. */
  let silence: { readonly since: number; readonly until: number } | undefined
  let cutOffAt = Number.NEGATIVE_INFINITY
  /** Nodes that do not answer: since when, when they were asked last, and whether they are known to run. */
  const silent = new Map<string, { readonly since: number; askedAt: number; isRunning: boolean }>()

  /** Logs that a node does not answer, and later that it runs all the same: its entry in the database is renewed. */
  const reportSilent = (address: RunnerAddress.RunnerAddress) => {
    const key = keyOf(address)
    const before = silent.get(key)
    // Nodes whose entries have expired are not asked: this is another start of the node.
    if (before === undefined || now() - before.askedAt > 2 * expiration) {
      silent.set(key, { since: now(), askedAt: now(), isRunning: false })
      return Effect.logWarning(`The node at ${key} does not answer: the others take its rooms`)
    }
    before.askedAt = now()
    if (before.isRunning || now() - before.since < expiration + tolerance) return Effect.void
    before.isRunning = true
    return Effect.logWarning(
      `The node at ${key} reaches the database, and this node does not reach it: mend the network between them, or stop it. Meanwhile it has no rooms`
    )
  }

  const reportAnswer = (address: RunnerAddress.RunnerAddress) =>
    Effect.suspend(() =>
      silent.delete(keyOf(address)) ? Effect.logInfo(`The node at ${keyOf(address)} answers again`) : Effect.void
    )

  /** Whether this node is cut off. True only once: its shards return with the network, and it may ping again at once. */
  const takeVerdict = () => {
    const isCutOff = now() - cutOffAt <= verdictFor
    if (isCutOff) silence = undefined
    cutOffAt = Number.NEGATIVE_INFINITY
    return isCutOff
  }

  const answers = yield* MonotonicCache.make({
    capacity: 1_000,
    timeToLive: answerFor,
    lookup: (address: RunnerAddress.RunnerAddress) =>
      runners
        .ping(address)
        .pipe(
          Effect.timeout(pingTimeout),
          Effect.provideService(Clock.Clock, clock),
          Effect.retry({ times: 1 }),
          Effect.isSuccess
        )
  })

  /** Whether a node that does not answer keeps its shards for now. */
  const keeps = Effect.fnUntraced(function* (address: RunnerAddress.RunnerAddress, askedAt: number) {
    const withShards = (yield* storage.getRunners).flatMap(([runner, healthy]) =>
      healthy && !isOwn(runner.address) ? [runner.address] : []
    )
    const others = withShards.filter((other) => keyOf(other) !== keyOf(address))
    // Its shards were taken before, or there are two nodes with shards, and nobody else can tell which one is cut off.
    if (others.length === 0 || others.length === withShards.length) return false
    const answered = yield* Effect.forEach(others, (other) => MonotonicCache.get(answers, other), {
      concurrency: "unbounded"
    })
    if (answered.includes(true)) return false
    const before = silence !== undefined && askedAt - silence.until < expiration ? silence : undefined
    silence = { since: before?.since ?? askedAt, until: now() }
    if (silence.until - silence.since > expiration + tolerance) cutOffAt = silence.until
    return true
  })

  return RunnerHealth.RunnerHealth.of({
    isAlive: Effect.fnUntraced(function* (address) {
      if (isOwn(address)) return !takeVerdict()
      const askedAt = now()
      if (!(yield* MonotonicCache.get(answers, address))) {
        const isKept = yield* Effect.orElseSucceed(keeps(address, askedAt), () => false)
        if (!isKept) yield* reportSilent(address)
        return isKept
      }
      silence = undefined
      yield* reportAnswer(address)
      return true
    })
  })
})

export const layer = Layer.effect(RunnerHealth.RunnerHealth, make)
