import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { longestMailWait, OutgoingMailStore } from "../src/OutgoingMailStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const start = 1_000_000_000_000
const hour = 3_600_000

layer(OutgoingMailStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)))("OutgoingMailStore", (it) => {
  it.effect("a mail is due after its wait, and at once if the clock is set back by more than that", () =>
    Effect.gen(function* () {
      const store = yield* OutgoingMailStore
      yield* TestClock.setTime(start)
      yield* store.add({ recipient: "a@mail.test", subject: "s", text: "t", html: "h" })
      const [mail] = yield* store.due(10)
      yield* store.retryAfter(mail!.mailId, longestMailWait)
      assert.strictEqual(yield* store.nextAt, start + longestMailWait)
      yield* TestClock.adjust(longestMailWait - 1)
      assert.isEmpty(yield* store.due(10))
      yield* TestClock.adjust(1)
      assert.lengthOf(yield* store.due(10), 1)

      yield* TestClock.setTime(start + 5 * 24 * hour)
      yield* store.retryAfter(mail!.mailId, 1_000)
      yield* TestClock.setTime(start + hour)
      assert.strictEqual(yield* store.nextAt, 0)
      assert.lengthOf(yield* store.due(10), 1)
    })
  )
})
