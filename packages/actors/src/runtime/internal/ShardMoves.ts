/**
 * Which shards are on their way to other nodes. When a node joins, the others give it a third of their shards or more, one lock after
 * the other. The actors of a shard go on until it is its turn, so that each is away for as long as one shard takes, not all of them.
 */
import { Deferred, Effect, Exit } from "effect"
import type { ShardId } from "effect/cluster"

/** The most shards that move at once, which is also the most that one statement gives back. */
const maxMoving = 8

/** How long a shard waits for its turn. */
const turnTimeout = "5 seconds"

export class ShardMoves {
  private readonly moving = new Set<ShardId.ShardId>()
  private readonly waiting = new Map<ShardId.ShardId, Deferred.Deferred<void>>()
  private isLimited = true
  private guarded = 0

  /** A shard is held: until `stopped`, when its actors have stopped and its fence is given back. */
  started(): void {
    this.guarded++
  }

  stopped(): void {
    this.guarded--
  }

  /** Whether the node goes down, and the actors of all shards have stopped. */
  get areAllStopped(): boolean {
    return !this.isLimited && this.guarded === 0
  }

  /** Waits until the actors of the shard are to stop: at once where the node does not hold its shards any more (`isCurrent`). */
  enter(shard: ShardId.ShardId, isCurrent: boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (!this.isLimited || this.moving.size < maxMoving || !isCurrent) {
        this.moving.add(shard)
        return Effect.void
      }
      const turn = Deferred.makeUnsafe<void>()
      this.waiting.set(shard, turn)
      return Effect.map(Effect.timeoutOption(Deferred.await(turn), turnTimeout), () => {
        this.waiting.delete(shard)
        this.moving.add(shard)
      })
    })
  }

  /** The lock of the shard is free, or could not be given back. */
  leave(shard: ShardId.ShardId): void {
    this.moving.delete(shard)
    this.next()
  }

  /** All locks are free. */
  leaveAll(): void {
    this.moving.clear()
    this.next()
  }

  /** The node goes down: all shards go at once. */
  end(): void {
    this.isLimited = false
    this.next()
  }

  private next(): void {
    for (const [shard, turn] of this.waiting) {
      if (this.isLimited && this.moving.size >= maxMoving) return
      this.waiting.delete(shard)
      this.moving.add(shard)
      Deferred.doneUnsafe(turn, Exit.void)
    }
  }
}
