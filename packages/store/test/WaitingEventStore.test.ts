/** Events that wait for others: within bounds for each room, each server and all of them. */
import { assert, layer } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import {
  maxBytes,
  maxBytesOfOrigin,
  maxEvents,
  type WaitingEvent,
  WaitingEventStore
} from "../src/WaitingEventStore.ts"

const room = (name: string) => `!${name}` as RoomId
const server = (name: string) => name as ServerName
const eventIds = (...names: ReadonlyArray<string>) => names.map((name) => `$${name}` as EventId)

const eventOf = (name: string, after: string, size = 0) =>
  ({
    event_id: `$${name}`,
    prev_events: [`$${after}`],
    auth_events: ["$create"],
    content: { x: "x".repeat(size) }
  }) as unknown as Event

const names = (waiting: ReadonlyArray<WaitingEvent>) => waiting.map(({ event }) => event.event_id.slice(1))

const start = 1_000_000_000_000
const minute = 60_000
const hour = 60 * minute

layer(WaitingEventStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)))("waiting events", (it) => {
  it.effect("are found by what they follow, in their room alone, until they are removed", () =>
    Effect.gen(function* () {
      const store = yield* WaitingEventStore
      assert.isFalse(yield* store.hasAny(room("a")))
      yield* store.keep(room("a"), server("evil"), [eventOf("second", "first"), eventOf("other", "else")])
      yield* store.keep(room("a"), server("evil"), [eventOf("second", "first")])
      assert.isTrue(yield* store.hasAny(room("a")))
      assert.deepStrictEqual(yield* store.after(room("b"), eventIds("first")), [])
      assert.deepStrictEqual(yield* store.after(room("a"), eventIds("second")), [])
      const [found, ...others] = yield* store.after(room("a"), eventIds("first", "x"))
      assert.deepStrictEqual([found!.event, found!.origin, others], [eventOf("second", "first"), server("evil"), []])
      assert.deepStrictEqual(names(yield* store.after(room("a"), eventIds("create"))), ["second", "other"])
      yield* store.remove(room("a"), eventIds("second", "other"))
      assert.isFalse(yield* store.hasAny(room("a")))
    })
  )

  it.effect("are due after waits that double up to six hours, and are forgotten after a week", () =>
    Effect.gen(function* () {
      const store = yield* WaitingEventStore
      yield* TestClock.setTime(start)
      yield* store.keep(room("due"), server("evil"), [eventOf("one", "first")])
      for (const wait of [1, 1, 2, 4, 8, 16]) {
        yield* TestClock.adjust(wait * minute - 1)
        assert.deepStrictEqual(yield* store.take("due"), [])
        yield* TestClock.adjust(1)
        assert.deepStrictEqual(names(yield* store.take("due")), ["one"])
      }
      assert.deepStrictEqual(names(yield* store.take("all")), ["one"])
      yield* TestClock.setTime(start + 24 * hour)
      assert.lengthOf(yield* store.take("due"), 1)
      assert.strictEqual(yield* store.nextAt, start + 30 * hour)
      yield* TestClock.setTime(start + 7 * 24 * hour + 1)
      assert.deepStrictEqual(yield* store.take("all"), [])
      assert.isUndefined(yield* store.nextAt)
    })
  )

  it.effect("are due at once if the clock was set back since they came", () =>
    Effect.gen(function* () {
      const store = yield* WaitingEventStore
      yield* TestClock.setTime(start + hour)
      yield* store.keep(room("back"), server("evil"), [eventOf("from the future", "first")])
      yield* TestClock.setTime(start)
      assert.deepStrictEqual(names(yield* store.take("due")), ["from the future"])
      yield* TestClock.adjust(minute - 1)
      assert.deepStrictEqual(yield* store.take("due"), [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(names(yield* store.take("due")), ["from the future"])
      yield* store.remove(room("back"), eventIds("from the future"))
    })
  )

  it.effect("are bounded for a server in a room, a server, and all of them: the newest are kept", () =>
    Effect.gen(function* () {
      const store = yield* WaitingEventStore
      for (let i = 0; i <= maxEvents; i++) yield* store.keep(room("many"), server("a"), [eventOf(`m${i}`, "first")])
      yield* store.keep(room("many"), server("b"), [eventOf("of-b", "first")])
      const kept = names(yield* store.after(room("many"), eventIds("first")))
      assert.lengthOf(kept, maxEvents + 1)
      assert.notInclude(kept, "m0")
      assert.includeMembers(kept, ["m1", `m${maxEvents}`, "of-b"])
      const large = (name: string, origin: string) =>
        store.keep(room("large"), server(origin), [eventOf(name, "first", maxBytesOfOrigin * 0.6)])
      yield* large("one", "c")
      yield* large("two", "d")
      yield* large("three", "c")
      assert.deepStrictEqual(names(yield* store.after(room("large"), eventIds("first"))), ["two", "three"])
      const most = Math.floor(maxBytes / (maxBytesOfOrigin * 0.6))
      for (let i = 0; i < most; i++) yield* large(`l${i}`, `server${i}`)
      const all = names(yield* store.take("all"))
      assert.notIncludeMembers(all, ["m1", "two", "three"])
      assert.includeMembers(all, ["l0", `l${most - 1}`])
    })
  )
})
