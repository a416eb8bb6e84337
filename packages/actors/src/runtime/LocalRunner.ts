/**
 * The stage of a server that is one process: every actor runs here, messages are passed in memory and die with the
 * process. Nothing is lost by that, because actors persist what they are told before they answer, and whoever asked
 * asks again. `Sharding` from here is all that actors and services need; several processes take another layer.
 */
import { Context, type Duration, Effect, Layer } from "effect"
import { MessageStorage, RunnerHealth, RunnerStorage, Runners, ShardId, Sharding, ShardingConfig } from "effect/cluster"
import * as LocalSharding from "./internal/LocalSharding.ts"

export interface LocalRunnerOptions {
  /** How long an actor without messages stays in memory, unless it says otherwise itself (default 1 minute). */
  readonly maxIdleTime?: Duration.Input
  /** How many actors may be in memory at once (default 100,000); further ones are refused. */
  readonly maxResidentActors?: number
  /** How many messages may wait for one actor (default 4,096); further ones are refused. */
  readonly mailboxCapacity?: number
}

const defaults = { maxIdleTime: "1 minute", maxResidentActors: 100_000, mailboxCapacity: 4_096 } as const

/** A single runner in this process, ready for the first message. */
export const layer = (options: LocalRunnerOptions = {}): Layer.Layer<Sharding.Sharding> =>
  Layer.effect(Sharding.Sharding, LocalSharding.make({ ...defaults, ...options }))

/** Until the runner holds its shards, a message would be sent again and again, a tenth of a second apart. */
const untilReady = (sharding: Sharding.Sharding["Service"]): Effect.Effect<void> =>
  Effect.suspend(() =>
    sharding.hasShardId(ShardId.make("default", ShardingConfig.defaults.shardsPerGroup))
      ? Effect.void
      : Effect.andThen(Effect.yieldNow, () => untilReady(sharding))
  )

/**
 * The same on the machinery of a cluster, which encodes and decodes every message as if it went to another process: for
 * tests that actors do not depend on where they run. It costs far more.
 */
export const layerEncoding = (options: LocalRunnerOptions = {}): Layer.Layer<Sharding.Sharding> => {
  const { mailboxCapacity, maxIdleTime, maxResidentActors } = { ...defaults, ...options }
  return Sharding.layer.pipe(
    Layer.tap((context) => untilReady(Context.get(context, Sharding.Sharding))),
    Layer.provide(Runners.layerNoop),
    Layer.provide([MessageStorage.layerNoop, RunnerStorage.layerMemory, RunnerHealth.layerNoop]),
    Layer.provide(
      ShardingConfig.layer({
        simulateRemoteSerialization: true,
        entityMaxIdleTime: maxIdleTime,
        maxResidentEntities: maxResidentActors,
        entityMailboxCapacity: mailboxCapacity
      })
    )
  )
}
