import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { EventLog } from "../src/EventLog.ts"
import { SearchStore } from "../src/SearchStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { commitOf, makeEvent, openRoom, stores } from "./support/TestRoom.ts"

const layers = SearchStore.layer.pipe(Layer.provideMerge(stores), Layer.provideMerge(TestDatabase.layer))

layer(layers, { excludeTestServices: true })("the search index", (it) => {
  it.effect("reads history whose events have types such as constructor", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const search = yield* SearchStore
      const sql = yield* SqlClient.SqlClient
      const room = yield* openRoom("history")
      const types = ["constructor", "__proto__", "toString", "m.room.message"]
      const events = types.map((type) => makeEvent(room.roomId, { type }))
      const commit = yield* commitOf(room, events)
      yield* log.append({ ...commit, events: commit.events.map((event) => ({ ...event, status: 1 })) })
      yield* Effect.repeat(search.indexNext, { until: (isDone) => isDone })
      const indexed = yield* sql<{ event_id: string }>`SELECT event_id FROM event_search JOIN events USING (nid)`
      assert.deepStrictEqual(indexed, [{ event_id: events[3]!.event_id }])
      assert.lengthOf(yield* sql`SELECT 1 FROM search_queue`, 0)
    })
  )

  it.effect("reads texts that PostgreSQL cannot take out of JSON, and no others than texts", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const search = yield* SearchStore
      const sql = yield* SqlClient.SqlClient
      const room = yield* openRoom("characters")
      const bodies = [
        "plain word",
        "null\0word",
        "half\ud800word",
        "literal \\u0000 word",
        "",
        17,
        { body: "inner" },
        null
      ]
      const events = bodies.map((body) => makeEvent(room.roomId, { type: "m.room.message", content: { body } }))
      const [history, timeline] = [yield* commitOf(room, events.slice(0, 2)), yield* commitOf(room, events.slice(2))]
      yield* log.append({ ...history, events: history.events.map((event) => ({ ...event, status: 1 })) })
      yield* log.append(timeline)
      yield* Effect.repeat(search.indexNext, { until: (isDone) => isDone })
      const indexed = yield* sql<{ words: string }>`
        SELECT array_to_string(tsvector_to_array(vector), ' ') AS words FROM event_search JOIN events USING (nid)
        WHERE event_id = ANY (${events.map(({ event_id }) => event_id)}) ORDER BY depth`
      assert.deepStrictEqual(
        indexed.map(({ words }) => words),
        ["plain word", "null word", "half\ufffdword", "literal u0000 word"]
      )
    })
  )
})
