import { assert, describe, it } from "@effect/vitest"
import { Forbidden, LimitExceeded } from "@greenroom/protocol/MatrixError"
import { Clock, Duration, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { ConnectionError } from "../../src/ConnectionError.ts"
import { type ClientError, retrying } from "../../src/internal/Retry.ts"

const unreachable = new ConnectionError({ error: "The server cannot be reached", transient: true })
const tooMany = new LimitExceeded({ error: "Too many requests", retry_after_ms: 700 })

/** A request that fails a given number of times, and says when it was sent. */
const failing = (times: number, error: ClientError) => {
  const sentAt: Array<number> = []
  const request = Effect.flatMap(Clock.currentTimeMillis, (now) => {
    sentAt.push(now)
    return sentAt.length <= times ? Effect.fail(error) : Effect.succeed("done")
  })
  return { request, sentAt }
}

const run = <A>(effect: Effect.Effect<A, ClientError>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(Effect.result(effect))
    yield* TestClock.adjust("1 hour")
    return yield* Fiber.join(fiber)
  })

const retryTimeout = Duration.seconds(30)

describe("Retry", () => {
  it.effect("a broken connection is retried with growing delays", () =>
    Effect.gen(function* () {
      const { request, sentAt } = failing(4, unreachable)
      const result = yield* run(retrying(request, { repeatable: true, retryTimeout }))
      assert.strictEqual(result._tag, "Success")
      const pauses = sentAt.slice(1).map((at, index) => at - sentAt[index]!)
      for (const [index, pause] of pauses.entries()) {
        assert.isAtLeast(pause, 25 * 2 ** index)
        assert.isAtMost(pause, 50 * 2 ** index)
      }
    })
  )

  it.effect("a request that must not be repeated is sent once", () =>
    Effect.gen(function* () {
      const { request, sentAt } = failing(1, unreachable)
      const result = yield* run(retrying(request, { repeatable: false, retryTimeout }))
      assert.isTrue(result._tag === "Failure" && result.failure === unreachable)
      assert.lengthOf(sentAt, 1)
    })
  )

  it.effect("any request is retried after the delay that the server returns", () =>
    Effect.gen(function* () {
      const { request, sentAt } = failing(2, tooMany)
      const result = yield* run(retrying(request, { repeatable: false, retryTimeout }))
      assert.strictEqual(result._tag, "Success")
      assert.deepStrictEqual(sentAt, [0, 700, 1400])
    })
  )

  it.effect("a refused request is not retried", () =>
    Effect.gen(function* () {
      const { request, sentAt } = failing(1, new Forbidden({ error: "No" }))
      yield* run(retrying(request, { repeatable: true, retryTimeout }))
      assert.lengthOf(sentAt, 1)
    })
  )

  it.effect("after `retryTimeout` the client fails with the last error", () =>
    Effect.gen(function* () {
      const { request, sentAt } = failing(1_000, unreachable)
      const result = yield* run(retrying(request, { repeatable: true, retryTimeout }))
      assert.isTrue(result._tag === "Failure" && result.failure === unreachable)
      assert.isAtMost(sentAt.at(-1)!, 30_000)
    })
  )
})
