import { assert, layer } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Option } from "effect"
import { TestClock } from "effect/testing"
import { EventLog } from "../src/EventLog.ts"
import { ReceivedTransactionStore } from "../src/ReceivedTransactionStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const red = "red.org" as ServerName
const blue = "blue.org" as ServerName

const store = ReceivedTransactionStore.layer.pipe(Layer.provide(EventLog.layer), Layer.provide(TestDatabase.layer))

layer(store)("ReceivedTransactionStore", (it) => {
  it.effect("a repeated transaction gets the first answer, of its own origin", () =>
    Effect.gen(function* () {
      const { find, forget, known, put } = yield* ReceivedTransactionStore
      const answer = { pdus: { "a,red.org": {}, "b,red.org": { error: "No \u0000\ud800" } } }
      assert.isTrue(Option.isNone(yield* find(red, "t1")))
      yield* put(red, "t1", answer)
      yield* put(red, "t1", { pdus: {} })
      assert.deepStrictEqual(yield* find(red, "t1"), Option.some(answer))
      assert.isTrue(Option.isNone(yield* find(blue, "t1")))
      assert.deepStrictEqual(yield* known(red, ["t0", "t1", "t2"]), new Set(["t1"]))
      yield* TestClock.adjust("1 day")
      yield* put(red, "t2", answer)
      yield* forget(86_400_000)
      assert.deepStrictEqual(yield* known(red, ["t1", "t2"]), new Set(["t2"]))
    })
  )
})
