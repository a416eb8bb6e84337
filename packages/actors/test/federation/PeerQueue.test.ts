import { assert, layer } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { EventLog } from "@greenroom/store/EventLog"
import { OutgoingEduStore } from "@greenroom/store/OutgoingEduStore"
import { OutgoingReceiptStore } from "@greenroom/store/OutgoingReceiptStore"
import { OutgoingStore } from "@greenroom/store/OutgoingStore"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { makePeerQueue } from "../../src/federation/internal/PeerQueue.ts"
import { HomeServerConfig } from "../../src/runtime/HomeServerConfig.ts"

const blue = "blue.test" as ServerName
const typing = { edu_type: "m.typing", content: { room_id: "!room:red.test", user_id: "@a:red.test", typing: true } }

const stores = Layer.mergeAll(
  OutgoingStore.layer,
  OutgoingEduStore.layer,
  OutgoingReceiptStore.layer,
  Layer.succeed(HomeServerConfig, { serverName: "red.test" as ServerName, dataDir: "unused" })
).pipe(Layer.provide(EventLog.layer), Layer.provideMerge(TestDatabase.layer))

layer(stores)("PeerQueue", (it) => {
  it.effect("a transaction that was stored without EDUs is repeated without those that come later", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* OutgoingStore
      const addPdu = Effect.fnUntraced(function* (nid: number) {
        yield* sql`
          INSERT INTO events (nid, room_nid, event_id, type, sender, depth, body)
          VALUES (${nid}, 1, ${`$${nid}:red.test`}, 'm.test', '@a:red.test', 1, '{}')`
        yield* sql`INSERT INTO outgoing_pdus (destination, event_nid) VALUES (${blue}, ${nid})`
        queue.noteStored()
      })
      const queue = yield* makePeerQueue(blue, undefined)
      // Receipts may wait for the first transaction: it is stored with its request.
      yield* addPdu(1)
      const first = (yield* queue.next(0, false))!
      assert.isFalse(first.stored!.isReserved)
      yield* store.prepare(blue, first.stored!, { uri: "/send/1", body: new Uint8Array() })
      yield* store.acknowledge(blue, first.stored!.transactionId)
      queue.completed()

      yield* addPdu(2)
      const sent = (yield* queue.next(1, false))!
      assert.isTrue(sent.stored!.isReserved)
      queue.add([typing], 2)
      const again = (yield* queue.next(3, false))!
      assert.strictEqual(again.stored!.transactionId, sent.stored!.transactionId)
      assert.deepStrictEqual([sent.edus, again.edus], [[], []])
      yield* store.acknowledge(blue, again.stored!.transactionId)
      queue.completed()

      yield* addPdu(3)
      const next = (yield* queue.next(4, false))!
      assert.deepStrictEqual([next.stored!.isReserved, next.edus], [false, [typing]])
    })
  )
})
