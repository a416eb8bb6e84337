import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { makeLogFollower } from "../../src/internal/LogFollower.ts"
import { endOfTransaction } from "../../src/StreamToken.ts"

/** Each read gives the slice of the next transaction. */
const reading = () => {
  let xid = 0
  return Effect.fnUntraced(function* () {
    xid++
    return {
      events: [],
      memberships: [],
      rows: new Map(),
      last: undefined,
      upTo: endOfTransaction(xid),
      complete: true
    }
  })
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
})
