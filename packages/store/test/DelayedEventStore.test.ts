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
})
