import { assert, layer } from "@effect/vitest"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Effect, Fiber } from "effect"
import { Rooms } from "../../src/room/Rooms.ts"
import { Events } from "../../src/sync/Events.ts"
import { encodingLayer, layer as homeServer, person } from "../TestHomeServer.ts"
import { assertOneChain, bodies, message, numbered, timeline } from "./TestRoom.ts"

for (const [where, server] of [
  ["in one process", homeServer],
  ["with encoded messages", encodingLayer]
] as const) {
  layer(server, { excludeTestServices: true })(`Rooms ${where}`, (it) => {
    it.effect("two people chat in a room", () =>
      Effect.gen(function* () {
        const rooms = yield* Rooms
        const events = yield* Events
        const alice = yield* person("alice")
        const bob = yield* person("bob")
        const { room_alias, room_id } = yield* rooms.create(alice, {
          name: "The greenroom",
          topic: "Waiting",
          room_alias_name: "greenroom",
          invite: [bob.userId]
        })
        assert.strictEqual(room_alias, "#greenroom:green.test")
        const before = yield* events.initialSync(bob)
        assert.deepStrictEqual(
          before.rooms.map((room) => [room.room_id, room.membership, room.inviter]),
          [[room_id, "invite", alice.userId]]
        )
        yield* rooms.join(bob, room_alias!)
        const { end } = yield* events.poll(bob, { timeout: 0 })
        const waiting = yield* Effect.forkChild(events.poll(bob, { from: end, timeout: 30_000 }))
        const sent = yield* rooms.send(alice, room_id, "m.room.message", message("hello"), "1")
        const again = yield* rooms.send(alice, room_id, "m.room.message", message("hello"), "1")
        assert.strictEqual(again.event_id, sent.event_id)
        const chunk = JSON.parse((yield* Fiber.join(waiting)).json)
        assert.include(
          chunk.map((event: { event_id: string }) => event.event_id),
          sent.event_id
        )
        const page = yield* rooms.messages(bob, room_id, { limit: 1 })
        assert.deepStrictEqual(
          page.chunk.map((event) => event.content),
          [message("hello")]
        )
        const sync = yield* events.initialSync(bob, 20)
        assert.strictEqual(sync.rooms[0]!.messages!.chunk.at(-1)!.event_id, sent.event_id)
      })
    )

    it.effect("the stream has all events after a token, from memory and from the store alike", () =>
      Effect.gen(function* () {
        const rooms = yield* Rooms
        const events = yield* Events
        const carol = yield* person("carol")
        const start = yield* events.poll(carol, { timeout: 0 })
        const { room_id } = yield* rooms.create(carol, {})
        const sent = yield* Effect.forEach(
          Array.from({ length: 30 }, (_, index) => index),
          (index) => rooms.send(carol, room_id, "m.room.message", message(String(index)))
        )
        const live = yield* events.poll(carol, { from: start.end, timeout: 0, limit: 1000 })
        const idsOf = (json: string) =>
          JSON.parse(json)
            .filter((event: { type: string }) => event.type === "m.room.message")
            .map((event: { event_id: string }) => event.event_id)
        assert.deepStrictEqual(
          idsOf(live.json),
          sent.map((entry) => entry.event_id)
        )
        const stored = yield* events.poll(carol, { from: "START", timeout: 0, limit: 1000 })
        assert.deepStrictEqual(idsOf(stored.json), idsOf(live.json))
      })
    )

    it.effect("the events of many senders in one room make one chain", () =>
      Effect.gen(function* () {
        const rooms = yield* Rooms
        const dora = yield* person("dora")
        const { room_id } = yield* rooms.create(dora, { visibility: "public" })
        const people = yield* Effect.forEach(["e1", "e2", "e3"], person)
        yield* Effect.forEach(people, (entry) => rooms.join(entry, room_id))
        yield* Effect.forEach(
          numbered(300),
          (body, index) => rooms.send(people[index % 3]!, room_id, "m.room.message", message(body), body),
          { concurrency: 64 }
        )
        assert.sameMembers(bodies(yield* timeline(dora, room_id)), numbered(300))
        yield* assertOneChain(dora, room_id)
      })
    )

    it.effect("a room is listed as its m.room.config says, also when that changes after its creation", () =>
      Effect.gen(function* () {
        const rooms = yield* Rooms
        const erin = yield* person("erin")
        const [open, closed] = [
          yield* rooms.create(erin, { name: "open at first" }),
          yield* rooms.create(erin, { visibility: "private", name: "closed at first" })
        ]
        const listed = Effect.map(rooms.publicRooms(), ({ chunk }) =>
          [open, closed].filter(({ room_id }) => chunk.some((publicRoom) => publicRoom.room_id === room_id))
        )
        assert.deepStrictEqual(yield* listed, [open])
        const set = (room: typeof open, visibility: string) =>
          rooms.setState(erin, room.room_id, "m.room.config", "", { visibility })
        yield* set(open, "private")
        yield* set(closed, "public")
        assert.deepStrictEqual(yield* listed, [closed])
        assert.strictEqual((yield* rooms.initialSync(erin, open.room_id)).visibility, "private")
        assert.strictEqual((yield* rooms.initialSync(erin, closed.room_id)).visibility, "public")
        // Later events do not undo it, and a room that is read anew is listed as before.
        yield* rooms.send(erin, open.room_id, "m.room.message", message("still private"))
        yield* (yield* RoomStore).open(open.room_id)
        yield* rooms.send(erin, open.room_id, "m.room.message", message("as before"))
        assert.deepStrictEqual(yield* listed, [closed])
      })
    )
  })
}
