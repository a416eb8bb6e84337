import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { as, createRoom, gateway, inPath, register, say, type TestUser } from "../TestGateway.ts"

interface Room {
  readonly room_id: string
  readonly membership?: string
  readonly visibility: string
  readonly inviter?: string
  readonly messages?: { readonly chunk: ReadonlyArray<Seen>; readonly start: string; readonly end: string }
  readonly state: ReadonlyArray<Seen>
}
interface Seen {
  readonly event_id: string
  readonly type: string
  readonly room_id: string
  readonly content: { readonly [key: string]: unknown }
}

const bodies = (chunk: ReadonlyArray<Seen> = []) =>
  chunk.flatMap(({ content, type }) => (type === "m.room.message" ? [content.body] : []))

const openHistory = (user: TestUser, room: string) =>
  as(user)("PUT", `/v3/rooms/${inPath(room)}/state/m.room.history_visibility`, { history_visibility: "world_readable" })

layer(gateway, { excludeTestServices: true })("the event stream that /sync has replaced", (it) => {
  it.effect("starts with all rooms and continues with the updates", () =>
    Effect.gen(function* () {
      const alice = yield* register("old-alice")
      const bob = yield* register("old-bob")
      const room = yield* createRoom(alice, { name: "Tea" })
      const closed = yield* createRoom(bob, { visibility: "private" })
      yield* as(bob)("POST", `/v3/rooms/${inPath(closed)}/invite`, { user_id: alice.id })
      for (const text of ["one", "two", "three"]) yield* say(alice, room, text)
      const { body } = yield* as(alice)("GET", "/v3/initialSync?limit=2")
      const rooms = body.rooms as ReadonlyArray<Room>
      const tea = rooms.find(({ room_id }) => room_id === room)
      assert.strictEqual(tea?.membership, "join")
      assert.strictEqual(tea?.visibility, "public")
      assert.deepStrictEqual(bodies(tea?.messages?.chunk), ["two", "three"])
      assert.isTrue(tea?.state.some(({ type }) => type === "m.room.name"))
      assert.deepInclude(
        rooms.find(({ room_id }) => room_id === closed),
        { membership: "invite", inviter: bob.id, visibility: "private" }
      )
      const waiting = yield* Effect.forkChild(as(alice)("GET", `/v3/events?from=${body.end}&timeout=30000`))
      const eventId = yield* say(alice, room, "four")
      const news = (yield* Fiber.join(waiting)).body
      assert.deepInclude(news.chunk.find(({ type }) => type === "m.room.message")!, {
        event_id: eventId,
        room_id: room
      })
      assert.deepStrictEqual((yield* as(alice)("GET", `/v3/events?from=${news.end}&timeout=0`)).body.chunk, [])
      yield* as(alice)("PUT", `/v3/user/${inPath(alice.id)}/rooms/${inPath(room)}/tags/u.tea`, {})
      const tagged = (yield* as(alice)("GET", `/v3/events?from=${news.end}&timeout=30000`)).body
      assert.deepInclude(tagged.chunk.find(({ type }) => type === "m.tag")!, {
        room_id: room,
        content: { tags: { "u.tea": {} } }
      })
      assert.strictEqual((yield* as(alice)("GET", `/v3/events/${inPath(eventId)}`)).body.room_id, room)
      assert.strictEqual((yield* as(bob)("GET", `/v3/events/${inPath(eventId)}`)).body.errcode, "M_NOT_FOUND")
      const older = tea?.messages?.start ?? ""
      const page = yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/messages?dir=b&limit=1&from=${older}`)
      assert.deepStrictEqual(bodies(page.body.chunk), ["one"])
    })
  )

  it.effect("shows only world-readable rooms to users outside", () =>
    Effect.gen(function* () {
      const alice = yield* register("peek-alice")
      const bob = yield* register("peek-bob")
      const room = yield* createRoom(alice, { name: "Open" })
      const sync = `/v3/rooms/${inPath(room)}/initialSync`
      assert.strictEqual((yield* as(bob)("GET", sync)).body.errcode, "M_FORBIDDEN")
      assert.strictEqual((yield* as(bob)("GET", `/v3/events?room_id=${inPath(room)}`)).body.errcode, "M_FORBIDDEN")
      yield* openHistory(alice, room)
      yield* say(alice, room, "hello")
      const { body } = yield* as(bob)("GET", sync)
      const seen = body as unknown as Room
      assert.deepStrictEqual(bodies(seen.messages?.chunk), ["hello"])
      assert.isUndefined(seen.membership)
      const poll = (from: string | undefined) =>
        as(bob)("GET", `/v3/events?room_id=${inPath(room)}&from=${from}&timeout=30000`)
      const waiting = yield* Effect.forkChild(poll(seen.messages?.end))
      yield* say(alice, room, "again")
      const first = (yield* Fiber.join(waiting)).body
      assert.deepStrictEqual(bodies(first.chunk), ["again"])
      yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/state/m.room.history_visibility`, {
        history_visibility: "joined"
      })
      yield* say(alice, room, "secret")
      assert.strictEqual((yield* poll(first.end)).body.errcode, "M_FORBIDDEN")
    })
  )

  it.effect("has rooms that were left if archived=true", () =>
    Effect.gen(function* () {
      const alice = yield* register("left-old-alice")
      const room = yield* createRoom(alice)
      yield* say(alice, room, "bye")
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      const rooms = (query: string) =>
        Effect.map(as(alice)("GET", `/v3/initialSync${query}`), ({ body }) => body.rooms as ReadonlyArray<Room>)
      assert.deepStrictEqual(yield* rooms(""), [])
      const [left] = yield* rooms("?archived=true")
      assert.deepInclude(left, { room_id: room, membership: "leave" })
      assert.deepStrictEqual(bodies(left?.messages?.chunk), ["bye"])
      const { body } = yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/initialSync`)
      assert.strictEqual(body.membership, "leave")
    })
  )
})
