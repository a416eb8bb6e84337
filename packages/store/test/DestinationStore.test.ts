import { assert, layer } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Clock, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { DestinationStore } from "../src/DestinationStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const fail = Effect.fnUntraced(function* (destination: ServerName) {
  const { failed } = yield* DestinationStore
  const { failures, retryAt } = yield* failed(destination, "no answer\u0000")
  return { failures, wait: retryAt - (yield* Clock.currentTimeMillis) }
})

layer(DestinationStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)))("DestinationStore", (it) => {
  it.effect("every failure doubles the wait, up to a day", () =>
    Effect.gen(function* () {
      const name = "slow.org" as ServerName
      yield* TestClock.adjust("30 days")
      for (let i = 0; i < 40; i++) {
        const { failures, wait } = yield* fail(name)
        const whole = Math.min(1_000 * 2 ** i, 86_400_000)
        assert.strictEqual(failures, i + 1)
        assert.isAtMost(wait, whole)
        assert.isAtLeast(wait, whole * 0.7 - 1)
        yield* TestClock.adjust(wait)
      }
    })
  )

  it.effect("if the clock was put back, failures with later times delay nothing", () =>
    Effect.gen(function* () {
      const { find, list } = yield* DestinationStore
      const name = "future.org" as ServerName
      yield* TestClock.adjust("30 days")
      for (let i = 0; i < 10; i++) yield* TestClock.adjust((yield* fail(name)).wait)
      yield* fail(name)
      yield* TestClock.setTime((yield* Clock.currentTimeMillis) - 3_600_000)
      assert.strictEqual(Option.getOrThrow(yield* find(name)).retryAt, 0)
      assert.strictEqual((yield* list).find(({ destination }) => destination === name)?.retryAt, 0)
      const { failures, wait } = yield* fail(name)
      assert.strictEqual(failures, 12)
      assert.isAtMost(wait, 2_048_000)
      assert.isAbove(Option.getOrThrow(yield* find(name)).retryAt, yield* Clock.currentTimeMillis)
    })
  )

  it.effect("attempts that failed together count as one", () =>
    Effect.gen(function* () {
      const name = "busy.org" as ServerName
      yield* TestClock.adjust("30 days")
      const all = yield* Effect.all([fail(name), fail(name), fail(name)], { concurrency: "unbounded" })
      assert.deepStrictEqual(
        all.map((entry) => entry.failures),
        [1, 1, 1]
      )
    })
  )

  it.effect("an answer ends the wait, and so does a request of the server", () =>
    Effect.gen(function* () {
      const { find, heardFrom, list, speaksDraft, succeeded } = yield* DestinationStore
      const name = "back.org" as ServerName
      yield* TestClock.adjust("30 days")
      const now = yield* Clock.currentTimeMillis
      assert.isTrue(Option.isNone(yield* find(name)))
      assert.isFalse(yield* heardFrom(name))
      yield* fail(name)
      assert.isTrue(yield* heardFrom(name))
      assert.isFalse(yield* heardFrom(name))
      assert.strictEqual((yield* fail(name)).failures, 1)
      yield* succeeded(name)
      const state = Option.getOrThrow(yield* find(name))
      assert.deepStrictEqual(state, {
        destination: name,
        failures: 0,
        retryAt: 0,
        lastSuccessAt: now,
        lastFailureAt: now,
        lastError: "no answer\u0000",
        draftUntil: 0
      })
      yield* speaksDraft(name)
      assert.strictEqual(Option.getOrThrow(yield* find(name)).draftUntil, now + 86_400_000, "for a day")
      yield* TestClock.setTime(now - 5 * 86_400_000)
      assert.strictEqual(Option.getOrThrow(yield* find(name)).draftUntil, 0)
      assert.include(
        (yield* list).map((destinationState) => destinationState.destination),
        name
      )
    })
  )

  it.effect("servers that were never reached are forgotten after a time, and the oldest of too many", () =>
    Effect.gen(function* () {
      const { forgetUnreached, list, succeeded } = yield* DestinationStore
      const sql = yield* SqlClient.SqlClient
      yield* TestClock.adjust("60 days")
      const started = yield* Clock.currentTimeMillis
      const awaited = ["edu", "pdu", "receipt", "transaction"]
      for (const name of ["old", "reached", ...awaited, "first", "second", "third"]) {
        yield* fail(`${name}.unreached` as ServerName)
        yield* TestClock.adjust("1 minute")
      }
      yield* succeeded("reached.unreached" as ServerName)
      yield* sql`INSERT INTO outgoing_edus (destination, edu_type, content) VALUES ('edu.unreached', 'm.test', '{}')`
      yield* sql`INSERT INTO outgoing_pdus (destination, event_nid) VALUES ('pdu.unreached', 1)`
      yield* sql`
        INSERT INTO outgoing_receipts (destination, room_nid, after_xid, after_nid, queued_at)
        VALUES ('receipt.unreached', 1, '1', 1, 1)`
      yield* sql`
        INSERT INTO outgoing_transactions (destination, number, transaction_id, ts, prev_ids, event_nids)
        VALUES ('transaction.unreached', 1, 'a', 1, '{}', '{1}')`
      const left = Effect.map(list, (all) =>
        all
          .map(({ destination }) => destination.split(".")[0])
          .filter((_, index) => all[index]!.destination.endsWith(".unreached"))
          .sort()
      )
      yield* forgetUnreached(started + 1, 100)
      assert.deepStrictEqual(yield* left, [...awaited, "first", "reached", "second", "third"].sort())
      yield* forgetUnreached(0, 2)
      assert.deepStrictEqual(yield* left, [...awaited, "reached", "second", "third"].sort())
    })
  )
})
