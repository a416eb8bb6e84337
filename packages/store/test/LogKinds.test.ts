/**
 * The kinds of rows that are read with the log, see `LogKind`.
 */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { BanStore, banChanges } from "../src/BanStore.ts"
import { EventLog } from "../src/EventLog.ts"
import { logKinds } from "../src/internal/logKinds.ts"
import { rowsOf } from "../src/LogKind.ts"
import type { StreamPosition } from "../src/StreamToken.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { makeEvent, openRoom, store, stores } from "./support/TestRoom.ts"

layer(Layer.mergeAll(stores, BanStore.layer).pipe(Layer.provideMerge(TestDatabase.layer)))("LogKinds", (it) => {
  it.effect("every table of the log is read with it", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const tables = yield* sql<{ table: string }>`
        SELECT relname AS table FROM pg_index
        JOIN pg_class ON pg_class.oid = indrelid
        WHERE pg_get_indexdef(indexrelid) LIKE ${"%(xid, nid)"} AND indexrelid::regclass::text = relname || '_log'
        ORDER BY relname`
      const read = new Set(logKinds.map(({ table }) => table))
      assert.isAbove(tables.length, 0)
      assert.deepStrictEqual(
        tables.map(({ table }) => table).filter((table) => !read.has(table)),
        []
      )
    })
  )

  it.effect("bans and their ends are in the log", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const bans = yield* BanStore
      const firstAfter = (position: StreamPosition) =>
        log.readAfter(position, 10).pipe(
          Effect.map((slice) => rowsOf(slice.rows, banChanges).at(0)),
          Effect.repeat({ until: (change) => change !== undefined })
        )
      const value = "spam.example"
      const start = yield* log.currentPosition
      yield* bans.add({ kind: "server", value, reason: "spam", bannedBy: "@admin:example.org" })
      const begun = yield* firstAfter(start)
      assert.deepStrictEqual(begun!.row, { kind: "server", value, active: true })
      yield* bans.lift("server", value)
      const ended = yield* firstAfter(begun!.position)
      assert.deepStrictEqual(ended!.row, { kind: "server", value, active: false })
    })
  )

  it.effect(
    "a slice that was cut has rows of other kinds up to its end alone, and ends with the last row of any kind",
    () =>
      Effect.gen(function* () {
        const log = yield* EventLog
        const bans = yield* BanStore
        const room = yield* openRoom("kinds")
        const start = yield* log.currentPosition
        yield* store(
          room,
          [1, 2, 3].map(() => makeEvent(room.roomId))
        )
        const value = "later.example"
        yield* bans.add({ kind: "server", value, reason: "spam", bannedBy: "@admin:example.org" })
        const whole = yield* Effect.repeat(log.readAfter(start, 10), {
          until: (slice) => rowsOf(slice.rows, banChanges).length > 0
        })
        const positions = [...whole.events, ...rowsOf(whole.rows, banChanges)].map(({ position }) => position)
        assert.strictEqual(positions.length, 4)
        assert.deepStrictEqual(whole.last, positions[3])
        const cut = yield* log.readAfter(start, 2)
        assert.deepStrictEqual(
          [cut.events.length, cut.rows.size, cut.last, cut.upTo],
          [2, 0, positions[1], positions[1]]
        )
        const rest = yield* log.readAfter(cut.upTo, 2)
        assert.deepStrictEqual([rest.events.length, rowsOf(rest.rows, banChanges).length], [1, 1])
      })
  )
})
