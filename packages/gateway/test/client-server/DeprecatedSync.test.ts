import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import {
  as,
  type ClientEvent,
  createRoom,
  gateway,
  inPath,
  messageBodies,
  putState,
  register,
  sendText
} from "../TestGateway.ts"

interface Room {
  readonly room_id: string
  readonly membership?: string
  readonly visibility: string
  readonly inviter?: string
  readonly messages?: { readonly chunk: ReadonlyArray<ClientEvent>; readonly start: string; readonly end: string }
  readonly state: ReadonlyArray<ClientEvent>
}

layer(gateway, { excludeTestServices: true })("the event stream that /sync replaced", (it) => {
  it.effect("starts with all rooms and continues with updates", () =>
    Effect.gen(function* () {
      const alice = yield* register("old-alice")
      const bob = yield* register("old-bob")
      const room = yield* createRoom(alice, { name: "Tea" })
      const closed = yield* createRoom(bob, { visibility: "private" })
      yield* as(bob)("POST", `/v3/rooms/${inPath(closed)}/invite`, { user_id: alice.id })
      for (const text of ["one", "two", "three"]) yield* sendText(alice, room, text)
      const { body } = yield* as(alice)("GET", "/v3/initialSync?limit=2")
      const rooms = body.rooms as ReadonlyArray<Room>
      const tea = rooms.find(({ room_id }) => room_id === room)
      assert.strictEqual(tea?.membership, "join")
      assert.strictEqual(tea?.visibility, "public")
      assert.deepStrictEqual(messageBodies(tea?.messages?.chunk), ["two", "three"])
      assert.isTrue(tea?.state.some(({ type }) => type === "m.room.name"))
      assert.deepInclude(
        rooms.find(({ room_id }) => room_id === closed),
        { membership: "invite", inviter: bob.id, visibility: "private" }
      )
      const waiting = yield* Effect.forkChild(as(alice)("GET", `/v3/events?from=${body.end}&timeout=30000`))
      const eventId = yield* sendText(alice, room, "four")
      const update = (yield* Fiber.join(waiting)).body
      assert.deepInclude(update.chunk.find(({ type }) => type === "m.room.message")!, {
        event_id: eventId,
        room_id: room
      })
      assert.deepStrictEqual((yield* as(alice)("GET", `/v3/events?from=${update.end}&timeout=0`)).body.chunk, [])
      yield* as(alice)("PUT", `/v3/user/${inPath(alice.id)}/rooms/${inPath(room)}/tags/u.tea`, {})
      const tagged = (yield* as(alice)("GET", `/v3/events?from=${update.end}&timeout=30000`)).body
      assert.deepInclude(tagged.chunk.find(({ type }) => type === "m.tag")!, {
        room_id: room,
        content: { tags: { "u.tea": {} } }
      })
      assert.strictEqual((yield* as(alice)("GET", `/v3/events/${inPath(eventId)}`)).body.room_id, room)
      assert.strictEqual((yield* as(bob)("GET", `/v3/events/${inPath(eventId)}`)).body.errcode, "M_NOT_FOUND")
      const older = tea?.messages?.start ?? ""
      const page = yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/messages?dir=b&limit=1&from=${older}`)
      assert.deepStrictEqual(messageBodies(page.body.chunk), ["one"])
    })
  )

  it.effect("refuses a token of a lost future, as the event stream of a room does", () =>
    Effect.gen(function* () {
      const alice = yield* register("lost-alice")
      const room = yield* createRoom(alice)
      yield* sendText(alice, room, "one")
      const lost = "t1_999999999_1_lostlostlost"
      for (const from of [lost, "nonsense"]) {
        for (const inRoom of ["", `room_id=${inPath(room)}&`]) {
          const { body, status } = yield* as(alice)("GET", `/v3/events?${inRoom}from=${from}&timeout=0`)
          assert.deepStrictEqual([status, body.errcode], [400, "M_INVALID_PARAM"])
          assert.match(body.error, /^from: /)
        }
      }
    })
  )

  it.effect("shows world-readable rooms to users who have not joined, and no other rooms", () =>
    Effect.gen(function* () {
      const alice = yield* register("peek-alice")
      const bob = yield* register("peek-bob")
      const room = yield* createRoom(alice, { name: "Open" })
      const sync = `/v3/rooms/${inPath(room)}/initialSync`
      assert.strictEqual((yield* as(bob)("GET", sync)).body.errcode, "M_FORBIDDEN")
      assert.strictEqual((yield* as(bob)("GET", `/v3/events?room_id=${inPath(room)}`)).body.errcode, "M_FORBIDDEN")
      yield* putState(alice, room, "m.room.history_visibility", { history_visibility: "world_readable" })
      yield* sendText(alice, room, "hello")
      const { body } = yield* as(bob)("GET", sync)
      const seen = body as unknown as Room
      assert.deepStrictEqual(messageBodies(seen.messages?.chunk), ["hello"])
      assert.isUndefined(seen.membership)
      const poll = (from: string | undefined) =>
        as(bob)("GET", `/v3/events?room_id=${inPath(room)}&from=${from}&timeout=30000`)
      const waiting = yield* Effect.forkChild(poll(seen.messages?.end))
      yield* sendText(alice, room, "again")
      const first = (yield* Fiber.join(waiting)).body
      assert.deepStrictEqual(messageBodies(first.chunk), ["again"])
      yield* putState(alice, room, "m.room.history_visibility", { history_visibility: "joined" })
      yield* sendText(alice, room, "secret")
      assert.strictEqual((yield* poll(first.end)).body.errcode, "M_FORBIDDEN")
    })
  )

  it.effect("has left rooms if archived=true", () =>
    Effect.gen(function* () {
      const alice = yield* register("left-old-alice")
      const room = yield* createRoom(alice)
      yield* sendText(alice, room, "bye")
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      const rooms = (query: string) =>
        Effect.map(as(alice)("GET", `/v3/initialSync${query}`), ({ body }) => body.rooms as ReadonlyArray<Room>)
      assert.deepStrictEqual(yield* rooms(""), [])
      const [left] = yield* rooms("?archived=true")
      assert.deepInclude(left, { room_id: room, membership: "leave" })
      assert.deepStrictEqual(messageBodies(left?.messages?.chunk), ["bye"])
      const { body } = yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/initialSync`)
      assert.strictEqual(body.membership, "leave")
    })
  )
})
