import { assert, layer } from "@effect/vitest"
import type { EventId, RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Layer } from "effect"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { UnverifiedPduStore } from "../src/UnverifiedPduStore.ts"

const signer = "signer.test" as ServerName
const evil = "evil.test" as ServerName
const honest = "honest.test" as ServerName

const pduOf = (index: number, body: string) => ({
  roomId: "!room:signer.test" as RoomId,
  eventId: `$event${index}` as EventId,
  signer,
  pdu: { content: { body } }
})

layer(UnverifiedPduStore.layer.pipe(Layer.provide(TestDatabase.layer)))("UnverifiedPduStore", (it) => {
  it.effect("a forged copy of a PDU does not keep out the copies of other servers", () =>
    Effect.gen(function* () {
      const store = yield* UnverifiedPduStore
      const forged = yield* store.keep(evil, [pduOf(1, "forged")])
      const sent = yield* store.keep(honest, [pduOf(1, "sent"), pduOf(2, "sent")])
      assert.deepStrictEqual([forged.size, sent.size], [1, 2])
      assert.strictEqual((yield* store.keep(evil, [pduOf(1, "forged")])).size, 1)
      const waiting = yield* store.waitingFor(signer, 0, 10)
      assert.deepStrictEqual(
        waiting.map(({ eventId, origin, pdu }) => [eventId, origin, pdu.content]),
        [
          ["$event1", evil, { body: "forged" }],
          ["$event1", honest, { body: "sent" }],
          ["$event2", honest, { body: "sent" }]
        ]
      )
      const rest = yield* store.waitingFor(signer, waiting[0]!.id, 1)
      assert.deepStrictEqual(
        rest.map(({ origin }) => origin),
        [honest]
      )
    })
  )
})
