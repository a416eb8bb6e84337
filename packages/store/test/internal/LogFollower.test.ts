import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { makeLogFollower } from "../../src/internal/LogFollower.ts"
import type { LogSlice } from "../../src/LogSlice.ts"
import { endOfTransaction, type StreamPosition } from "../../src/StreamToken.ts"

/** A slice of the log up to the end of a transaction. */
const sliceUpTo = (xid: number, more: Partial<LogSlice> = {}): LogSlice => ({
  events: [],
  memberships: [],
  rows: new Map(),
  last: undefined,
  upTo: endOfTransaction(xid),
  complete: true,
  ...more
})

/** Each read gives the slice of the next transaction. */
const reading = () => {
  let xid = 0
  return () => Effect.sync(() => sliceUpTo(++xid))
}

/** Reads give these slices, one after the other, and then nothing new. */
const readingOf = (...slices: ReadonlyArray<LogSlice>) => {
  let reads = 0
  return () => Effect.sync(() => slices[Math.min(reads++, slices.length - 1)]!)
}

describe("LogFollower", () => {
  it.effect("a consumer that fails gets the same slice again, and the others get each slice once", () =>
    Effect.gen(function* () {
      const follower = yield* makeLogFollower(endOfTransaction(0), reading())
      const failing: Array<number> = []
      const others: Array<number> = []
      yield* follower.follow(({ upTo }) => {
        failing.push(upTo.xid)
        return failing.length === 2 ? Effect.die("the second time") : Effect.void
      })
      yield* follower.follow(({ upTo }) => Effect.sync(() => others.push(upTo.xid)))
      for (const xid of [1, 2, 3]) {
        follower.wake(xid)
        while (!follower.hasReached(xid)) yield* TestClock.adjust("1 second")
      }
      expect(failing).toEqual([1, 2, 2, 3])
      expect(others).toEqual([1, 2, 3])
    })
  )

  it.effect("the follower reads again until the watermark has passed the transaction that woke it", () =>
    Effect.gen(function* () {
      const slices = [0, 0, 0, 1].map((xid) => sliceUpTo(xid))
      const follower = yield* makeLogFollower(endOfTransaction(0), readingOf(...slices))
      follower.wake(1)
      yield* follower.reached(1)
      expect(follower.lagNow()).toBe(0)
    })
  )

  it.effect("the follower reads up to the last transaction that woke it, whatever the order of the notifications", () =>
    Effect.gen(function* () {
      const follower = yield* makeLogFollower(endOfTransaction(0), reading())
      follower.wake(3)
      follower.wake(2)
      yield* follower.reached(3)
    })
  )

  it.effect("a transaction that is named during the read that reaches it needs no other read", () =>
    Effect.gen(function* () {
      let reads = 0
      const follower = yield* makeLogFollower(endOfTransaction(0), () =>
        Effect.sync(() => {
          reads++
          follower.wake(reads)
          return sliceUpTo(reads)
        })
      )
      for (const xid of [1, 2]) {
        follower.wake(xid)
        yield* follower.reached(xid)
        yield* Effect.yieldNow.pipe(Effect.repeat({ times: 10 }))
        expect(reads).toBe(xid)
      }
    })
  )

  it.effect("a notification without a transaction during a read needs another read", () =>
    Effect.gen(function* () {
      let reads = 0
      const follower = yield* makeLogFollower(endOfTransaction(0), () =>
        Effect.sync(() => {
          reads++
          if (reads === 1) follower.wake()
          return sliceUpTo(reads)
        })
      )
      follower.wake(1)
      yield* follower.reached(2)
      yield* Effect.yieldNow.pipe(Effect.repeat({ times: 10 }))
      expect(reads).toBe(2)
    })
  )

  it.effect("a slice that was cut is followed by the next one, though nothing is known of further transactions", () =>
    Effect.gen(function* () {
      const slices = [sliceUpTo(1, { complete: false }), sliceUpTo(2)]
      const follower = yield* makeLogFollower(endOfTransaction(0), readingOf(...slices))
      follower.wake()
      yield* follower.reached(2)
    })
  )

  it.effect("a read that failed is repeated, without another notification", () =>
    Effect.gen(function* () {
      let reads = 0
      const read = () => (reads++ === 0 ? Effect.die("the first time") : Effect.succeed(sliceUpTo(1)))
      const follower = yield* makeLogFollower(endOfTransaction(0), read)
      follower.wake(1)
      while (!follower.hasReached(1)) yield* TestClock.adjust("1 second")
      expect(reads).toBe(2)
    })
  )

  it.effect("consumers see the position of the last row that they get", () =>
    Effect.gen(function* () {
      const last = { xid: 1, nid: 7 }
      const follower = yield* makeLogFollower(endOfTransaction(0), readingOf(sliceUpTo(1, { last })))
      const seen: Array<StreamPosition> = []
      const start = yield* follower.follow(() => Effect.sync(() => seen.push(follower.position())))
      follower.wake(1)
      yield* follower.reached(1)
      expect([start, ...seen]).toEqual([endOfTransaction(0), last])
    })
  )

  it.effect("a reader that begins again after the last row gets each row once", () =>
    Effect.gen(function* () {
      const reads: Array<StreamPosition> = []
      const slices = [sliceUpTo(5, { last: { xid: 3, nid: 1 } }), sliceUpTo(4, { last: { xid: 4, nid: 2 } })]
      const follower = yield* makeLogFollower(endOfTransaction(0), (position) =>
        Effect.sync(() => slices[Math.min(reads.push(position), slices.length) - 1]!)
      )
      follower.wake(5)
      yield* follower.reached(5)
      follower.rereadAfterLast()
      follower.wake()
      yield* Effect.yieldNow.pipe(Effect.repeat({ until: () => reads.length >= 2 }))
      expect(reads.slice(0, 2)).toEqual([endOfTransaction(0), { xid: 3, nid: 1 }])
      expect(follower.position()).toEqual({ xid: 4, nid: 2 })
    })
  )
})
