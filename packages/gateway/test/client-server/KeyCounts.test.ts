import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { askToday, gateway, inPath, register, type TestUser } from "../TestGateway.ts"

interface Answer {
  readonly next_batch: string
  readonly rooms: { readonly join: Record<string, unknown> }
  readonly device_one_time_keys_count?: { readonly [algorithm: string]: number }
  readonly device_unused_fallback_key_types?: ReadonlyArray<string>
}

const sync = (user: TestUser, since?: string, timeout = 0) =>
  Effect.map(
    askToday("GET", `/v3/sync?timeout=${timeout}${since === undefined ? "" : `&since=${inPath(since)}`}`, user),
    ({ body }) => body as unknown as Answer
  )

const countsIn = ({ device_one_time_keys_count, device_unused_fallback_key_types }: Answer) => ({
  device_one_time_keys_count,
  device_unused_fallback_key_types
})

/** What a device with so many one-time keys, and an unused fallback key or none, reads of them. */
const counts = (signed_curve25519: number, ...fallback: ReadonlyArray<string>) => ({
  device_one_time_keys_count: { signed_curve25519 },
  device_unused_fallback_key_types: fallback
})

const keysOf = (numbers: ReadonlyArray<number>) =>
  Object.fromEntries(numbers.map((number) => [`signed_curve25519:k${number}`, { key: `key ${number}` }]))
const keys = keysOf([1, 2])
const laterKeys = keysOf([3, 4, 5])

layer(gateway, { excludeTestServices: true })("the counts of keys in /sync", (it) => {
  it.effect("every answer has them: with a message that ends a wait, with none in time, after claims and uploads", () =>
    Effect.gen(function* () {
      const alice = yield* register("counted-alice")
      const bob = yield* register("counted-bob")
      const json = { preset: "private_chat", invite: [bob.id] }
      const { body } = yield* askToday("POST", "/v3/createRoom", { ...alice, json })
      const room = inPath(body.room_id)
      yield* askToday("POST", `/v3/rooms/${room}/join`, { ...bob, json: {} })
      const uploaded = yield* askToday("POST", "/v3/keys/upload", {
        ...bob,
        json: { one_time_keys: keys, fallback_keys: { "signed_curve25519:f": { key: "fallback" } } }
      })
      assert.deepStrictEqual(uploaded.body.one_time_key_counts, { signed_curve25519: 2 })
      const { body: self } = yield* askToday("GET", "/v3/account/whoami", bob)
      const claim = askToday("POST", "/v3/keys/claim", {
        ...alice,
        json: { one_time_keys: { [bob.id]: { [`${self.device_id}`]: "signed_curve25519" } } }
      })

      let next = (yield* sync(bob)).next_batch
      let sent = 0
      /** The counts with the next message, for which the device waits. */
      const withMessage = Effect.gen(function* () {
        const waiting = yield* Effect.forkChild(sync(bob, next, 20_000))
        yield* askToday("PUT", `/v3/rooms/${room}/send/m.room.message/${sent++}`, {
          ...alice,
          json: { msgtype: "m.text", body: `${sent}` }
        })
        const answer = yield* Fiber.join(waiting)
        next = answer.next_batch
        assert.deepStrictEqual(Object.keys(answer.rooms.join), [body.room_id])
        return countsIn(answer)
      })
      // The first ones of a device after a pause, and those after them.
      for (const left of [2, 2, 1, 0]) {
        assert.deepStrictEqual(yield* withMessage, counts(left, "signed_curve25519"))
        if (sent > 1) yield* claim
      }
      assert.deepStrictEqual(yield* withMessage, counts(0))
      assert.deepStrictEqual(countsIn(yield* sync(bob, next, 10)), counts(0))
      yield* askToday("POST", "/v3/keys/upload", { ...bob, json: { one_time_keys: laterKeys } })
      assert.deepStrictEqual(countsIn(yield* sync(bob, next, 10)), counts(3))
      assert.deepStrictEqual(yield* withMessage, counts(3))
    })
  )
})
