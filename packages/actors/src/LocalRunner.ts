/**
 * The stage of a server that is one process: every actor runs here, messages are passed in memory and die with the
 * process. Nothing is lost by that, because actors persist what they are told before they answer, and whoever asked
 * asks again. `Sharding` from here is all that actors and services need; several processes take another layer.
 */
import type { Duration } from "effect"
import { Context, Effect, Layer } from "effect"
import { MessageStorage, RunnerHealth, RunnerStorage, Runners, ShardId, Sharding, ShardingConfig } from "effect/cluster"

export interface LocalRunnerOptions {
  /** Encodes and decodes every message as if it went to another process. For tests: it costs a third of the speed. */
  readonly simulateRemoteSerialization?: boolean
  /** How long an actor without messages stays in memory, unless it says otherwise itself (default 1 minute). */
  readonly maxIdleTime?: Duration.Input
  /** How many actors may be in memory at once (default 100,000); further ones are refused. */
  readonly maxResidentActors?: number
  /** How many messages may wait for one actor (default 4,096); further ones are refused. */
  readonly mailboxCapacity?: number
}

/** Until the runner holds its shards, a message would be sent again and again, a tenth of a second apart. */
const untilReady = (sharding: Sharding.Sharding["Service"]): Effect.Effect<void> =>
  Effect.suspend(() =>
    sharding.hasShardId(ShardId.make("default", ShardingConfig.defaults.shardsPerGroup))
      ? Effect.void
      : Effect.andThen(Effect.yieldNow, () => untilReady(sharding))
  )

/** A single runner in this process, with volatile messages, ready for the first one. */
export const layer = (options: LocalRunnerOptions = {}): Layer.Layer<Sharding.Sharding> =>
  Sharding.layer.pipe(
    Layer.tap((context) => untilReady(Context.get(context, Sharding.Sharding))),
    Layer.provide(Runners.layerNoop),
    Layer.provide([MessageStorage.layerNoop, RunnerStorage.layerMemory, RunnerHealth.layerNoop]),
    Layer.provide(
      ShardingConfig.layer({
        simulateRemoteSerialization: options.simulateRemoteSerialization ?? false,
        entityMaxIdleTime: options.maxIdleTime ?? ShardingConfig.defaults.entityMaxIdleTime,
        maxResidentEntities: options.maxResidentActors ?? 100_000,
        entityMailboxCapacity: options.mailboxCapacity ?? ShardingConfig.defaults.entityMailboxCapacity
      })
    )
  )
