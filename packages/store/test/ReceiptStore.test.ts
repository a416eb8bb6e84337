import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { ReceiptStore } from "../src/ReceiptStore.ts"
import { beginning } from "../src/StreamToken.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { alice, bob, stores } from "./support/TestRoom.ts"

const database = Layer.provideMerge(ReceiptStore.layer, stores).pipe(Layer.provideMerge(TestDatabase.layer))

layer(database)("ReceiptStore", (it) => {
  it.effect("a room has all receipts of the viewer, and of others those of the room and of the newest threads", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const receipts = yield* ReceiptStore
      for (const [userId, type] of [
        [alice, "m.read"],
        [bob, "m.read"],
        [bob, "m.read.private"]
      ]) {
        yield* sql`
          INSERT INTO receipts (room_nid, user_id, type, thread_id, event_id, event_xid, event_nid, ts)
          SELECT room, ${userId}, ${type}, thread, '$event', '1', 1, 0
          FROM generate_series(1, 2) AS room,
            (SELECT '' UNION ALL SELECT 'main' UNION ALL SELECT '$' || n FROM generate_series(1, 600) AS n) AS threads (thread)`
      }
      const found = yield* receipts.ofRooms(alice, [1])
      const counts = (userId: string, type: string) => {
        const threads = found.flatMap((r) => (r.userId === userId && r.type === type ? [r.threadId] : []))
        return { all: threads.length, ofRoom: threads.filter((id) => id === undefined || id === "main").length }
      }
      assert.deepStrictEqual(counts(alice, "m.read"), { all: 602, ofRoom: 2 })
      assert.deepStrictEqual(counts(bob, "m.read"), { all: 502, ofRoom: 2 })
      assert.strictEqual(counts(bob, "m.read.private").all, 0)
      assert.lengthOf(found, 1_104)
      const newest = yield* sql<{ thread_id: string }>`
        SELECT thread_id FROM receipts WHERE room_nid = 1 AND user_id = ${bob} AND type = 'm.read'
          AND thread_id LIKE '$%' ORDER BY xid DESC, nid DESC LIMIT 500`
      assert.sameMembers(
        found.flatMap((r) => (r.userId === bob && r.threadId?.startsWith("$") ? [r.threadId] : [])),
        newest.map(({ thread_id }) => thread_id)
      )
      const changed = yield* receipts.read(alice, [1], {
        after: beginning,
        upTo: { xid: Number.MAX_SAFE_INTEGER, nid: 0 }
      })
      assert.isNotEmpty(changed)
      assert.isFalse(changed.some(({ type }) => type === "m.read.private"))
    })
  )
})
