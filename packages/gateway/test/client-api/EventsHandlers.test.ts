import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { ask, type ClientEvent, createRoom, gateway, inPath, register, type TestUser } from "../TestGateway.ts"

const send = (user: TestUser, room: string, body: string, txnId: string) =>
  ask("PUT", `/rooms/${inPath(room)}/send/m.room.message/${txnId}`, {
    token: user.token,
    json: { msgtype: "m.text", body }
  })

const poll = (user: TestUser, query: string) => ask("GET", `/events?${query}`, { token: user.token })

const messagesOf = (chunk: ReadonlyArray<ClientEvent>) =>
  chunk.filter((event) => event.type === "m.room.message").map((event) => event.event_id)

/** Polls from a token on until `count` messages have come. Checks that each chunk starts where the last one ended. */
const follow = Effect.fnUntraced(function* (user: TestUser, from: string, count: number) {
  const ids: Array<string> = []
  let end = from
  while (ids.length < count) {
    const { body } = yield* poll(user, `from=${end}&timeout=30000`)
    assert.strictEqual(body.start, end)
    ids.push(...messagesOf(body.chunk))
    end = body.end
  }
  return { ids, end }
})

layer(gateway, { excludeTestServices: true })("EventsHandlers", (it) => {
  it.effect("a long poll waits for the next message, and the next poll continues from its end", () =>
    Effect.gen(function* () {
      const alice = yield* register("poll-alice")
      const room = yield* createRoom(alice)
      const { body: now } = yield* poll(alice, "timeout=0")
      assert.deepStrictEqual(now.chunk, [])
      const waiting = yield* Effect.forkChild(follow(alice, now.end, 2))
      const one = yield* send(alice, room, "one", "1")
      const two = yield* send(alice, room, "two", "2")
      const followed = yield* Fiber.join(waiting)
      assert.deepStrictEqual(followed.ids, [one.body.event_id, two.body.event_id])
      const next = yield* poll(alice, `from=${followed.end}&timeout=0`)
      assert.deepStrictEqual(messagesOf(next.body.chunk), [])
    })
  )

  it.effect("START returns all events, END none", () =>
    Effect.gen(function* () {
      const alice = yield* register("start-alice")
      const room = yield* createRoom(alice)
      const start = yield* poll(alice, "from=START&timeout=0")
      const types = start.body.chunk.filter((event) => event.room_id === room).map((event) => event.type)
      assert.deepStrictEqual(
        types.slice(0, 2),
        ["m.room.create", "m.room.member"],
        "the creator has been a member from the start"
      )
      assert.includeMembers(types, ["m.room.power_levels", "m.room.join_rules"])
      const end = yield* poll(alice, "from=END&timeout=0")
      assert.deepStrictEqual(end.body.chunk, [])
    })
  )

  it.effect("the creator of a room receives its events from the creation on", () =>
    Effect.gen(function* () {
      const alice = yield* register("maker-alice")
      const { body: now } = yield* poll(alice, "timeout=0")
      const room = yield* createRoom(alice)
      const { body } = yield* poll(alice, `from=${now.end}&timeout=0`)
      const types = body.chunk.filter((event) => event.room_id === room).map((event) => event.type)
      assert.deepStrictEqual(types.slice(0, 2), ["m.room.create", "m.room.member"])
    })
  )

  it.effect("a repeated PUT sends one message and gives the same answer", () =>
    Effect.gen(function* () {
      const alice = yield* register("txn-alice")
      const room = yield* createRoom(alice)
      const { body: now } = yield* poll(alice, "timeout=0")
      const answers = yield* Effect.all(
        [1, 2, 3].map(() => send(alice, room, "once", "same")),
        {
          concurrency: "unbounded"
        }
      )
      assert.strictEqual(new Set(answers.map(({ body }) => body.event_id)).size, 1)
      const { body } = yield* poll(alice, `from=${now.end}&timeout=0`)
      assert.strictEqual(messagesOf(body.chunk).length, 1)
    })
  )

  it.effect("an event is found by its ID, by users who may see it", () =>
    Effect.gen(function* () {
      const alice = yield* register("event-alice")
      const eve = yield* register("event-eve")
      const room = yield* createRoom(alice)
      const { body: sent } = yield* send(alice, room, "hello", "1")
      const seen = yield* ask("GET", `/events/${inPath(sent.event_id)}`, { token: alice.token })
      assert.strictEqual(seen.body.event_id, sent.event_id)
      assert.strictEqual(seen.body.user_id, alice.id)
      const hidden = yield* ask("GET", `/events/${inPath(sent.event_id)}`, { token: eve.token })
      assert.strictEqual(hidden.status, 404)
      assert.strictEqual(hidden.body.errcode, "M_NOT_FOUND")
    })
  )

  it.effect("initialSync has the rooms of the user, and the token from which the stream continues", () =>
    Effect.gen(function* () {
      const alice = yield* register("sync-alice")
      const room = yield* createRoom(alice, { name: "A room" })
      const sync = yield* ask("GET", "/initialSync?limit=1", { token: alice.token })
      const rooms = sync.body.rooms as ReadonlyArray<{ room_id: string; membership: string }>
      assert.deepStrictEqual(
        rooms.map(({ membership, room_id }) => [room_id, membership]),
        [[room, "join"]]
      )
      const { body: sent } = yield* send(alice, room, "hello", "1")
      const { ids } = yield* follow(alice, sync.body.end, 1)
      assert.deepStrictEqual(ids, [sent.event_id])
    })
  )
})
