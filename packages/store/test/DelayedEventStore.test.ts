import { assert, layer } from "@effect/vitest"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Option } from "effect"
import { TestClock } from "effect/testing"
import { DelayedEventStore } from "../src/DelayedEventStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const event = (delayId: string) => ({
  delayId,
  userId: "@ann:example.org" as UserId,
  tokenId: 1,
  txnKey: delayId,
  roomId: "!room:example.org" as RoomId,
  type: "m.room.message",
  stateKey: undefined,
  content: {},
  delay: 1_000
})

layer(DelayedEventStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)))("DelayedEventStore", (it) => {
  it.effect("of the events of a user that were sent or cancelled the newest are kept", () =>
    Effect.gen(function* () {
      const store = yield* DelayedEventStore
      const ids = ["a", "b", "c", "d"]
      for (const [index, id] of ids.entries()) {
        yield* TestClock.setTime(index)
        yield* store.schedule(event(id), { scheduled: 1, finalised: 2 })
        assert.isTrue(Option.isNone(yield* store.schedule(event(`${id} too`), { scheduled: 1, finalised: 2 })))
        assert.isTrue(yield* store.cancel(id))
      }
      yield* store.schedule(event("e"), { scheduled: 1, finalised: 2 })
      assert.deepStrictEqual(yield* Effect.forEach([...ids, "e"], (id) => Effect.map(store.find(id), Option.isSome)), [
        false,
        false,
        true,
        true,
        true
      ])
    })
  )

  it.effect(
    "an event that could not be sent is due again later and later; it can neither be cancelled nor restarted",
    () =>
      Effect.gen(function* () {
        const store = yield* DelayedEventStore
        yield* TestClock.setTime(1_000_000)
        yield* store.schedule(event("away"), { scheduled: 10, finalised: 2 })
        const due = Effect.map(store.takeDue(10), (events) => events.filter(({ delayId }) => delayId === "away"))
        for (const wait of [1_000, 1_000, 1_000, 2_000, 4_000]) {
          yield* TestClock.adjust(wait - 1)
          assert.deepStrictEqual(yield* due, [])
          yield* TestClock.adjust(1)
          const [found] = yield* due
          yield* store.retryLater(found!)
          assert.deepStrictEqual([yield* store.cancel("away"), yield* store.restart("away")], [false, false])
        }
      })
  )

  it.effect(
    "an event that was scheduled before the clock was set back waits for its delay, and not for the clock",
    () =>
      Effect.gen(function* () {
        const store = yield* DelayedEventStore
        yield* TestClock.setTime(20_000_000)
        const ahead = Effect.map(store.takeDue(10), (due) =>
          due.map(({ delayId }) => delayId).filter((delayId) => delayId === "ahead")
        )
        yield* store.schedule(event("ahead"), { scheduled: 10, finalised: 2 })
        yield* TestClock.setTime(2_000_000)
        assert.deepStrictEqual(yield* ahead, [])
        const found = Option.getOrThrow(yield* store.find("ahead"))
        assert.strictEqual(found.scheduledAt, 2_000_000)
        yield* TestClock.adjust(1_000)
        assert.deepStrictEqual(yield* ahead, ["ahead"])
      })
  )
})
