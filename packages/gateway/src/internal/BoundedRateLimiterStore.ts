/**
 * A bounded store for Effect's `RateLimiter` in memory. Effect's own store keeps a bucket for every key forever, so that a client
 * with many addresses could fill the memory. A full bucket equals no bucket: full ones are removed when the map has doubled since
 * the last sweep. Times are those of the monotonic clock.
 */
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { Duration, Effect } from "effect"
import { RateLimiter } from "effect/persistence"

interface Bucket {
  tokens: number
  /** When the current interval began; a token is added at the end of each. */
  lastRefill: number
  /** When the bucket is full again, if no token is taken. */
  fullAt: number
}

/** The smallest number of buckets that is worth a sweep. */
const smallestSweep = 10_000

const inactive = Effect.succeed({ delay: Duration.zero, epoch: 0, phase: "inactive" } as const)

const unsupported = (): Effect.Effect<never> => Effect.die(new Error("Requests are counted by token buckets"))

export const boundedStore = (): RateLimiter.RateLimiterStore["Service"] => {
  const buckets = new Map<string, Bucket>()
  let sweepAt = smallestSweep

  const sweep = (now: number) => {
    for (const [key, bucket] of buckets) if (bucket.fullAt <= now) buckets.delete(key)
    sweepAt = Math.max(smallestSweep, buckets.size * 2)
  }

  const bucketOf = (key: string, limit: number, now: number): Bucket => {
    const existing = buckets.get(key)
    if (existing !== undefined) return existing
    if (buckets.size >= sweepAt) sweep(now)
    const bucket = { tokens: limit, lastRefill: now, fullAt: now }
    buckets.set(key, bucket)
    return bucket
  }

  const take = (
    options: { readonly key: string; readonly tokens: number; readonly limit: number; readonly allowOverflow: boolean },
    interval: number,
    now: number
  ): readonly [remaining: number, elapsed: number] => {
    const bucket = bucketOf(options.key, options.limit, now)
    const refilled = Math.floor((now - bucket.lastRefill) / interval)
    if (refilled > 0) {
      bucket.tokens = Math.min(options.limit, bucket.tokens + refilled)
      bucket.lastRefill += refilled * interval
    }
    if (bucket.tokens >= options.limit) bucket.lastRefill = now
    const remaining = bucket.tokens - options.tokens
    if (remaining >= 0 || options.allowOverflow) {
      bucket.tokens = remaining
      bucket.fullAt = bucket.lastRefill + (options.limit - remaining) * interval
    }
    return [remaining, Math.max(0, now - bucket.lastRefill)]
  }

  return RateLimiter.RateLimiterStore.of({
    tokenBucket: (options) =>
      Effect.map(monotonicMillis, (now) => take(options, Duration.toMillis(options.refillRate), Math.floor(now))),
    fixedWindow: unsupported,
    adaptiveConsume: () => inactive,
    adaptiveFeedback: () => Effect.void
  })
}
