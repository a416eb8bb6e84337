import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { EventLog } from "../../src/EventLog.ts"
import { readAfter } from "../../src/internal/logReader.ts"
import { rowsOfCommits } from "../../src/internal/RecentCommits.ts"
import * as TestDatabase from "../../src/testing/TestDatabase.ts"
import { alice, bob, commitOf, makeEvent, memberEvent, openRoom, stores } from "../support/TestRoom.ts"

layer(stores.pipe(Layer.provideMerge(TestDatabase.layer)))("reading the log", (it) => {
  it.effect("an event that is read from the tables has the states that it has in memory", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const sql = yield* SqlClient.SqlClient
      const room = yield* openRoom("states")
      const start = yield* log.currentPosition
      const events = Array.from({ length: 4 }, () => makeEvent(room.roomId))
      const commit = yield* commitOf(room, events)
      const [plain, state, afterGap, outlier] = commit.events
      const stored = {
        ...commit,
        events: [
          plain!,
          { ...state!, stateAfter: { chain: 2, seq: 5 } },
          { ...afterGap!, afterGap: true },
          { ...outlier!, stateBefore: null }
        ]
      }
      yield* log.append(stored)
      const { events: read } = yield* readAfter(sql, start, 100)
      assert.deepStrictEqual(read, rowsOfCommits(read[0]!.position.xid, [stored]).events)
      assert.deepStrictEqual(
        read.map(({ states }) => states?.after),
        [plain!.stateBefore, { chain: 2, seq: 5 }, undefined, undefined]
      )
    })
  )

  it.effect("a slice that was cut has the memberships of its events, the last one included", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const sql = yield* SqlClient.SqlClient
      const room = yield* openRoom("cut memberships")
      const start = yield* log.currentPosition
      const events = [memberEvent(room.roomId, alice, "join"), memberEvent(room.roomId, bob, "invite", alice)]
      yield* log.append(yield* commitOf(room, events))
      yield* log.settled
      let at = start
      for (const [index, userId] of [alice, bob].entries()) {
        const slice = yield* readAfter(sql, at, 1)
        assert.deepStrictEqual(
          slice.events.map(({ event }) => event),
          [events[index]!]
        )
        assert.deepStrictEqual(
          slice.memberships.map((membership) => membership.userId),
          [userId]
        )
        at = slice.upTo
      }
    })
  )
})
