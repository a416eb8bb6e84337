/**
 * The fences under which this node holds the shards of its actors (`ShardFenceStore`). An actor that writes or sends takes
 * its fence when it starts, and hands it to the store with what it writes. A process that runs alone has none.
 */
import type { Fence } from "@greenroom/store/ShardFenceStore"
import { Context, Effect, type Scope } from "effect"
import { Entity, type ShardId } from "effect/cluster"

/** The fences of the shards of this node. */
export interface ShardFencing {
  /** The fence of a shard that this node takes, or holds. Waits until it is raised. */
  readonly of: (shard: ShardId.ShardId) => Effect.Effect<Fence | undefined>
  /** The same where the node holds the shard now; undefined also if it does not. */
  readonly current: (shard: ShardId.ShardId) => Fence | undefined
  /** The fencing tokens of all shards that the node holds. */
  readonly held: () => ReadonlyArray<Fence>
  /** Calls `listener` after the node took or lost shards, until the scope closes. */
  readonly onChange: (listener: () => void) => Effect.Effect<void, never, Scope.Scope>
  /** A write was refused. If this node still holds the shard, it takes the shard again, and restarts its actors. */
  readonly refused: (fence: Fence) => Effect.Effect<void>
}

/** The fences of this node. Without several nodes there are none. */
export const ShardFences = Context.Reference<ShardFencing>("greenroom/actors/ShardFences", {
  defaultValue: () => ({
    of: () => Effect.succeed(undefined),
    current: () => undefined,
    held: () => [],
    onChange: () => Effect.void,
    refused: () => Effect.void
  })
})

/** The fence of the calling actor, which stays the same while the actor is in memory. */
export const actorFence: Effect.Effect<Fence | undefined, never, Entity.CurrentAddress> = Effect.gen(function* () {
  const { shardId } = yield* Entity.CurrentAddress
  return yield* (yield* ShardFences).of(shardId)
})
