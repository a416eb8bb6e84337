import { assert, layer } from "@effect/vitest"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Effect } from "effect"
import { Room } from "../../src/room/RoomProtocol.ts"
import { RoomReader } from "../../src/room/RoomReader.ts"
import { Rooms } from "../../src/room/Rooms.ts"
import type { Session } from "../../src/runtime/Session.ts"
import { guest, layer as homeServer } from "../TestHomeServer.ts"
import { assertOneChain, bodies, message, numbered, timeline } from "./TestRoom.ts"

/** Another writer opens the room, as a second node would: the actor's next commit is refused. */
const steal = Effect.fnUntraced(function* (roomId: RoomId) {
  yield* (yield* RoomStore).open(roomId)
})

layer(homeServer, { excludeTestServices: true })("Transaction IDs of a room", (it) => {
  it.effect(
    "a message that is sent again with its transaction ID is sent once, also while the first is under way",
    () =>
      Effect.gen(function* () {
        const rooms = yield* Rooms
        const [alice, phone] = [guest("alice"), guest("alice")]
        const { room_id } = yield* rooms.create(alice, {})
        const send = (session: Session, type: string, txnId: string) =>
          rooms.send(session, room_id, type, message("hi"), txnId)
        const sent = yield* Effect.all(
          numbered(20).map(() => send(alice, "m.room.message", "1")),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(new Set(sent.map(({ event_id }) => event_id)).size, 1)
        const others = [
          yield* send(phone, "m.room.message", "1"),
          yield* send(alice, "org.example.type", "1"),
          yield* send(alice, "m.room.message", "2")
        ]
        assert.strictEqual(new Set([sent[0]!, ...others].map(({ event_id }) => event_id)).size, 4)
        assert.lengthOf(bodies(yield* timeline(alice, room_id)), 3)
      })
  )

  it.effect("a device gets the transaction IDs that it gave, and none that its server made", () =>
    Effect.gen(function* () {
      const alice = guest("alice")
      const { room_id } = yield* (yield* Rooms).create(alice, {})
      const room = (yield* Room.client)(room_id)
      const reader = yield* RoomReader
      const shown = Effect.fnUntraced(function* (txnId: string, more: { readonly ofServer?: true }) {
        const transaction = { tokenId: alice.tokenId, txnId, kind: "send", ...more }
        const sent = { sender: alice.userId, type: "m.room.message", content: message(txnId), transaction }
        const { event_id } = yield* room.Propose(sent)
        return (yield* reader.event(alice, room_id, event_id)).unsigned?.transaction_id
      })
      assert.strictEqual(yield* shown("1", {}), "1")
      assert.isUndefined(yield* shown("2", { ofServer: true }))
    })
  )

  it.effect("transaction IDs outlive the actor's memory", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const [alice, bob] = [guest("alice"), guest("bob")]
      const make = rooms.create(alice, { visibility: "public", name: "Once" }, "make")
      const { room_id } = yield* make
      const sent = yield* rooms.send(alice, room_id, "m.room.message", message("once"), "1")
      const redacted = yield* rooms.redact(alice, room_id, sent.event_id, undefined, "2")
      yield* rooms.join(bob, room_id, {}, "3")
      yield* rooms.join(bob, room_id, {}, "4")
      const before = yield* timeline(alice, room_id)
      yield* steal(room_id)
      // Only a commit shows the actor that another writer has replaced it.
      yield* rooms.send(alice, room_id, "org.example.new", {}, "5")
      assert.deepStrictEqual(yield* make, { room_id })
      assert.deepStrictEqual(yield* rooms.send(alice, room_id, "m.room.message", message("once"), "1"), sent)
      assert.deepStrictEqual(yield* rooms.redact(alice, room_id, sent.event_id, undefined, "2"), redacted)
      yield* rooms.leave(bob, room_id, "6")
      yield* steal(room_id)
      yield* rooms.leave(bob, room_id, "6")
      yield* rooms.join(bob, room_id, {}, "3")
      // Transaction 4 changed nothing, since Bob had joined already; its repeat must not let him join again.
      yield* rooms.join(bob, room_id, {}, "4")
      const after = yield* timeline(alice, room_id)
      assert.deepStrictEqual(
        after.slice(before.length).map(({ content, type }) => [type, content.membership]),
        [
          ["org.example.new", undefined],
          ["m.room.member", "leave"]
        ]
      )
    })
  )

  it.effect("a transaction ID is known for longer than memory holds it", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const alice = guest("alice")
      const { room_id } = yield* rooms.create(alice, {})
      const send = (txnId: string) => rooms.send(alice, room_id, "m.room.message", message(txnId), txnId)
      const first = yield* send("0")
      yield* Effect.forEach(numbered(1100).slice(1), send, { concurrency: 100, discard: true })
      assert.deepStrictEqual(yield* send("0"), first)
      yield* steal(room_id)
      assert.deepStrictEqual(yield* send("0"), first)
      const fresh = yield* Effect.all([send("new"), send("new")], { concurrency: 2 })
      assert.deepStrictEqual(fresh[0], fresh[1])
    })
  )

  it.effect("requests on a room that another writer took are still done once, in one chain", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const alice = guest("alice")
      const { room_id } = yield* rooms.create(alice, {})
      for (const round of numbered(4)) {
        yield* steal(room_id)
        // Half with a transaction ID, half without.
        yield* Effect.forEach(
          numbered(32),
          (index) =>
            rooms.send(
              alice,
              room_id,
              "m.room.message",
              message(`${round}/${index}`),
              ...(Number(index) % 2 ? [`${round}/${index}`] : [])
            ),
          { concurrency: "unbounded" }
        )
      }
      const seen = bodies(yield* timeline(alice, room_id))
      assert.lengthOf(seen, 128)
      assert.strictEqual(new Set(seen).size, 128)
      yield* assertOneChain(alice, room_id)
    })
  )
})
