/**
 * `Sharding` for a server of one process: every actor runs here, and messages are passed in memory. Messages in flight are
 * lost when the process ends; that is safe, because actors persist changes before they answer, and clients repeat requests
 * that were not answered. Several processes use another layer.
 */
import { Context, type Duration, Effect, Layer } from "effect"
import { MessageStorage, RunnerHealth, RunnerStorage, Runners, ShardId, Sharding, ShardingConfig } from "effect/cluster"
import * as LocalSharding from "./internal/LocalSharding.ts"
import { Nodes } from "./Nodes.ts"

/** The bounds of the actors in memory. */
export interface LocalRunnerOptions {
  /** How long an actor without messages stays in memory, unless it says otherwise itself (default 1 minute). */
  readonly maxIdleTime?: Duration.Input
  /** How many actors may be in memory at once (default 100,000); messages to further ones fail. */
  readonly maxResidentActors?: number
  /** How many messages may wait for one actor (default 4,096); further ones fail. */
  readonly mailboxCapacity?: number
}

/** The bounds that are not given. */
export const defaults = { maxIdleTime: "1 minute", maxResidentActors: 100_000, mailboxCapacity: 4_096 } as const

/** A single runner in this process, ready for the first message. */
export const layer = (options: LocalRunnerOptions = {}): Layer.Layer<Sharding.Sharding | Nodes> =>
  Layer.merge(
    Layer.effect(Sharding.Sharding, LocalSharding.make({ ...defaults, ...options })),
    Layer.sync(Nodes, Nodes.alone)
  )

/** Waits until the runner holds its shards: before that, messages are retried every 100 ms. */
const untilReady = (sharding: Sharding.Sharding["Service"]): Effect.Effect<void> =>
  Effect.suspend(() =>
    sharding.hasShardId(ShardId.make("default", ShardingConfig.defaults.shardsPerGroup))
      ? Effect.void
      : Effect.andThen(Effect.yieldNow, () => untilReady(sharding))
  )

/**
 * The same with Effect's cluster, which encodes and decodes every message as if it went to another process. It tests that
 * actors do not depend on where they run, and is much slower.
 */
export const layerEncoding = (options: LocalRunnerOptions = {}): Layer.Layer<Sharding.Sharding | Nodes> => {
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
    ),
    Layer.merge(Layer.sync(Nodes, Nodes.alone))
  )
}
