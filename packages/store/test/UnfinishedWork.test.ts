import { assert, layer } from "@effect/vitest"
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { EventLog } from "../src/EventLog.ts"
import { readAfter } from "../src/internal/logReader.ts"
import { type LogRow, rowsOf } from "../src/LogKind.ts"
import { type ShortLivedRow, shortLivedRows } from "../src/ShortLivedRow.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { type UnfinishedMembership, UnfinishedMembershipStore } from "../src/UnfinishedMembershipStore.ts"
import { type UnfinishedUpgrade, UnfinishedUpgradeStore } from "../src/UnfinishedUpgradeStore.ts"
import { signalsWork } from "../src/WorkSignals.ts"

const roomId = "!room:example.org" as RoomId
const userId = "@ann:example.org" as UserId
const start = 1_000_000_000_000
const second = 1_000
const hour = 3_600 * second

const leave: UnfinishedMembership = {
  roomId,
  userId,
  membership: "leave",
  servers: ["far.example" as ServerName, "other.example" as ServerName],
  content: { reason: "bored" }
}

const upgrade: UnfinishedUpgrade = {
  roomId,
  userId,
  newVersion: "12",
  additionalCreators: ["@bob:example.org" as UserId],
  tombstone: "$before" as EventId
}

const stores = Layer.mergeAll(UnfinishedMembershipStore.layer, UnfinishedUpgradeStore.layer).pipe(
  Layer.provideMerge(EventLog.layer)
)

layer(stores.pipe(Layer.provideMerge(TestDatabase.layer)))("unfinished work", (it) => {
  it.effect("is due after waits that double up to six hours, and is forgotten after a week", () =>
    Effect.gen(function* () {
      const store = yield* UnfinishedMembershipStore
      yield* TestClock.setTime(start)
      yield* store.put(leave)
      const waits = [5, 5, 10, 20, 40, 80].map((seconds) => seconds * second)
      for (const wait of waits) {
        yield* TestClock.adjust(wait - 1)
        assert.deepStrictEqual(yield* store.take("due"), [])
        yield* TestClock.adjust(1)
        assert.deepStrictEqual(yield* store.take("due"), [leave])
      }
      yield* TestClock.setTime(start + 24 * hour)
      assert.lengthOf(yield* store.take("due"), 1)
      assert.strictEqual(yield* store.nextAt, start + 30 * hour)
      yield* TestClock.setTime(start + 7 * 24 * hour + 1)
      assert.deepStrictEqual(yield* store.take("all"), [])
      assert.isUndefined(yield* store.find(roomId, userId))
    })
  )

  it.effect("keeps its age and attempts when it is stored again, and begins anew when it has changed", () =>
    Effect.gen(function* () {
      const store = yield* UnfinishedUpgradeStore
      yield* TestClock.setTime(start)
      yield* store.put(upgrade)
      yield* TestClock.adjust(60 * second)
      yield* store.put(upgrade)
      assert.strictEqual(yield* store.nextAt, start + 120 * second)
      const other = { ...upgrade, newVersion: "11", tombstone: undefined }
      yield* store.put(other)
      assert.strictEqual(yield* store.nextAt, start + 180 * second)
      assert.deepStrictEqual(yield* store.find(roomId, userId), other)
      yield* store.remove(roomId, userId)
      assert.isUndefined(yield* store.nextAt)
    })
  )

  it.effect("waits for no clock that was set back", () =>
    Effect.gen(function* () {
      const store = yield* UnfinishedUpgradeStore
      yield* TestClock.setTime(start + 5 * hour)
      yield* store.put(upgrade)
      yield* TestClock.setTime(start)
      assert.deepStrictEqual(yield* store.take("due"), [upgrade])
      assert.strictEqual(yield* store.nextAt, start + 120 * second)
      assert.deepStrictEqual(yield* store.take("due"), [])
      yield* store.remove(roomId, userId)
    })
  )

  it.effect("is due at once if the clock was days ahead at its last attempt", () =>
    Effect.gen(function* () {
      const store = yield* UnfinishedUpgradeStore
      yield* TestClock.setTime(start)
      yield* store.put(upgrade)
      yield* TestClock.setTime(start + 5 * 24 * hour)
      assert.deepStrictEqual(yield* store.take("due"), [upgrade])
      yield* TestClock.setTime(start + hour)
      assert.strictEqual(yield* store.nextAt, 0)
      assert.deepStrictEqual(yield* store.take("due"), [upgrade])
      assert.strictEqual(yield* store.nextAt, start + 2 * hour)
      yield* store.remove(roomId, userId)
    })
  )

  it.effect("is signalled when it is new or has changed, as the database has the signal", () =>
    Effect.gen(function* () {
      const store = yield* UnfinishedUpgradeStore
      const log = yield* EventLog
      const sql = yield* SqlClient.SqlClient
      const start = yield* log.currentPosition
      const signals: Array<LogRow<ShortLivedRow>> = []
      yield* log.follow((slice) =>
        Effect.sync(() => {
          if (signalsWork(slice, "unfinished upgrades")) signals.push(...rowsOf(slice.rows, shortLivedRows))
        })
      )
      yield* store.put(upgrade)
      yield* store.put(upgrade)
      yield* log.caughtUp
      assert.lengthOf(signals, 1)
      yield* store.put({ ...upgrade, newVersion: "11" })
      yield* log.caughtUp
      assert.lengthOf(signals, 2)
      const { rows } = yield* readAfter(sql, start, 100)
      assert.deepStrictEqual(rowsOf(rows, shortLivedRows), signals.slice(-1))
      yield* store.remove(roomId, userId)
      assert.isUndefined(yield* store.find(roomId, userId))
    }).pipe(Effect.scoped)
  )

  it.effect("a knock is kept, and not tried again", () =>
    Effect.gen(function* () {
      const store = yield* UnfinishedMembershipStore
      yield* TestClock.setTime(start)
      const knock = { ...leave, membership: "knock" as const, content: {} }
      yield* store.put(knock)
      yield* TestClock.setTime(start + 30 * 24 * hour)
      assert.deepStrictEqual(yield* store.take("all"), [])
      assert.isUndefined(yield* store.nextAt)
      assert.deepStrictEqual(yield* store.find(roomId, userId), knock)
    })
  )
})
