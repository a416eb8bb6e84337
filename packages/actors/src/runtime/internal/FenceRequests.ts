/**
 * Raising fences of shards and giving shards back: all that come at once in one statement.
 */
import type { ShardFenceStore } from "@greenroom/store/ShardFenceStore"
import { Effect, Exit, Request, RequestResolver } from "effect"
import type { ShardId } from "effect/cluster"
import type { SqlError } from "effect/sql"

/** How long to wait before a shard is given back again. */
const retryInterval = "100 millis"

/** How long giving back a shard may take before it is tried again. */
export const releaseTimeout = "3 seconds"

/**
 * Gives shards back: all that go at once in one statement. Tries until it is done, or the node's hold of its shards is over: the next
 * holder ends the connections of a node that did not give a shard back, and with them its locks of all others.
 */
export const makeRelease = (store: ShardFenceStore["Service"], isCurrent: () => boolean) => {
  const resolver = RequestResolver.make<ReleaseFence>((entries) =>
    Effect.map(Effect.exit(store.release(entries.map(({ request }) => request.shard.id))), (exit) => {
      for (const entry of entries) entry.completeUnsafe(exit)
    })
  )
  return (shard: ShardId.ShardId) => {
    const once = Effect.request(new ReleaseFence({ shard }), resolver).pipe(Effect.timeout(releaseTimeout))
    const untilReleased: Effect.Effect<void> = Effect.catchCause(once, () =>
      isCurrent() ? Effect.delay(untilReleased, retryInterval) : Effect.void
    )
    return untilReleased
  }
}

class ReleaseFence extends Request.TaggedClass("ReleaseFence")<
  { readonly shard: ShardId.ShardId },
  void,
  SqlError.SqlError
> {}

/** Raises fences: of all shards that come at once in one statement. */
export const makeRaise = (store: ShardFenceStore["Service"]) => {
  const resolver = RequestResolver.make<RaiseFence>((entries) =>
    Effect.matchCause(store.raise(entries.map(({ request }) => request.shard.id)), {
      onFailure: (cause) => {
        for (const entry of entries) entry.completeUnsafe(Exit.failCause(cause))
      },
      onSuccess: (numbers) => {
        for (const entry of entries) entry.completeUnsafe(Exit.succeed(numbers.get(entry.request.shard.id)!))
      }
    })
  )
  return (shard: ShardId.ShardId) => Effect.request(new RaiseFence({ shard }), resolver)
}

class RaiseFence extends Request.TaggedClass("RaiseFence")<
  { readonly shard: ShardId.ShardId },
  number,
  SqlError.SqlError
> {}
