import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { EventLog } from "@greenroom/store/EventLog"
import { ShortLivedStore } from "@greenroom/store/ShortLivedStore"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Clock, Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { hiddenFor } from "../../src/presence/DeviceConnections.ts"
import { makeHiddenDevices } from "../../src/presence/HiddenDevices.ts"
import * as LocalRunner from "../../src/runtime/LocalRunner.ts"

const node = Layer.provideMerge(ShortLivedStore.layer, EventLog.layer).pipe(
  Layer.provideMerge(LocalRunner.layer()),
  Layer.provideMerge(TestDatabase.layer)
)

layer(node)("announcements of hidden devices", (it) => {
  it.effect("are kept for as long as they hold, and removed afterwards", () =>
    Effect.gen(function* () {
      const store = yield* ShortLivedStore
      const announce = yield* makeHiddenDevices(() => undefined)
      const now = yield* Clock.currentTimeMillis
      yield* announce({ userId: "@alice:example.org" as UserId, deviceId: "A", until: now + hiddenFor })
      yield* announce({ userId: "@bob:example.org" as UserId, deviceId: "B", until: 0 })
      yield* TestClock.adjust(hiddenFor)
      const kept = Effect.map(store.withPrefix("hidden "), (values) => values.length)
      assert.strictEqual(yield* kept, 2)
      yield* announce({ userId: "@carol:example.org" as UserId, deviceId: "C", until: now + 2 * hiddenFor })
      while ((yield* kept) > 1) yield* TestClock.adjust("10 seconds")
      assert.isAtMost(yield* Clock.currentTimeMillis, now + 3 * hiddenFor)
      while ((yield* kept) > 0) yield* TestClock.adjust("10 seconds")
    })
  )
})
