import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { as, gateway, roomWith, sendText } from "../TestGateway.ts"
import { oneTime, registerDevice, type SyncAnswer, sync, upload } from "./DeviceClient.ts"

const countsIn = ({ device_one_time_keys_count, device_unused_fallback_key_types }: SyncAnswer) => ({
  device_one_time_keys_count,
  device_unused_fallback_key_types
})

/** The counts of a device with a number of one-time keys, and with an unused fallback key or none. */
const counts = (signed_curve25519: number, ...fallback: ReadonlyArray<string>) => ({
  device_one_time_keys_count: { signed_curve25519 },
  device_unused_fallback_key_types: fallback
})

layer(gateway, { excludeTestServices: true })("the counts of keys in /sync", (it) => {
  it.effect("are in every answer: after a wait with and without an event, after claims and after uploads", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("counted-alice")
      const bob = yield* registerDevice("counted-bob")
      const room = yield* roomWith(alice, [bob])
      const uploaded = yield* upload(bob, {
        one_time_keys: oneTime(1, 2),
        fallback_keys: { "signed_curve25519:f": { key: "fallback" } }
      })
      assert.deepStrictEqual(uploaded.body.one_time_key_counts, { signed_curve25519: 2 })
      const claim = as(alice)("POST", "/v3/keys/claim", {
        one_time_keys: { [bob.id]: { [bob.device]: "signed_curve25519" } }
      })

      let next = (yield* sync(bob)).next_batch
      /** The counts in the answer to a waiting request that a message ends. */
      const withMessage = Effect.gen(function* () {
        const waiting = yield* Effect.forkChild(sync(bob, next, 20_000))
        yield* sendText(alice, room, "wake up")
        const answer = yield* Fiber.join(waiting)
        next = answer.next_batch
        assert.deepStrictEqual(Object.keys(answer.rooms?.join ?? {}), [room])
        return countsIn(answer)
      })
      // The server keeps the counts after it has read them for the first answer.
      for (let count = 0; count < 2; count++) {
        assert.deepStrictEqual(yield* withMessage, counts(2, "signed_curve25519"))
      }
      for (const left of [1, 0]) {
        yield* claim
        assert.deepStrictEqual(yield* withMessage, counts(left, "signed_curve25519"))
      }
      yield* claim
      assert.deepStrictEqual(yield* withMessage, counts(0))
      assert.deepStrictEqual(countsIn(yield* sync(bob, next, 10)), counts(0))
      yield* upload(bob, { one_time_keys: oneTime(3, 4, 5) })
      assert.deepStrictEqual(countsIn(yield* sync(bob, next, 10)), counts(3))
      assert.deepStrictEqual(yield* withMessage, counts(3))
    })
  )
})
