import { assert, layer } from "@effect/vitest"
import { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { encode } from "@greenroom/protocol/MessagePack"
import { closeCodes } from "@greenroom/protocol/SocketFrame"
import { AccountStore } from "@greenroom/store/AccountStore"
import { Effect, Fiber } from "effect"
import { maxSocketsPerUser } from "../../src/socket/Sockets.ts"
import { ask, createRoom, gateway, inPath, register } from "../TestGateway.ts"
import { connect, type TestSocket } from "./TestSocket.ts"

const text = (body: string) => ({ msgtype: "m.text", body })

/** Takes chunks until `count` messages have come. Checks that each chunk starts where the last one ended. */
const follow = Effect.fnUntraced(function* (socket: TestSocket, count: number) {
  const bodies: Array<unknown> = []
  let start: string | undefined
  let end: string | undefined
  while (bodies.length < count) {
    const chunk = yield* socket.chunk
    if (end !== undefined) assert.strictEqual(chunk.start, end)
    start ??= chunk.start
    end = chunk.end
    const messages = chunk.chunk.filter((event) => event.type === "m.room.message")
    bodies.push(...messages.map((event) => (event.content as { readonly body: string }).body))
  }
  return { bodies, start, end: end ?? "" }
})

layer(gateway, { excludeTestServices: true })("Sockets", (it) => {
  for (const subprotocol of ["m.json", "m.msgpack"] as const) {
    it.effect(`events reach a client by ${subprotocol} in order`, () =>
      Effect.gen(function* () {
        const alice = yield* register(`${subprotocol}-alice`)
        const bob = yield* register(`${subprotocol}-bob`)
        const room = RoomId.make(yield* createRoom(alice, { visibility: "public" }))
        yield* ask("POST", `/join/${inPath(room)}`, { token: bob.token })
        const reader = yield* connect(bob, subprotocol)
        const writer = yield* connect(alice, subprotocol)
        assert.strictEqual(writer.socket.protocol, subprotocol)
        const bodies = Array.from({ length: 50 }, (_, i) => `message ${i}`)
        for (const [id, body] of bodies.entries()) {
          yield* writer.ask(id, {
            method: "send",
            params: { room_id: room, type: "m.room.message", content: text(body), txn_id: String(id) }
          })
          const answer = yield* writer.answer
          assert.strictEqual(answer.id, id)
          assert.property(answer, "result")
        }
        const { bodies: seen } = yield* follow(reader, bodies.length)
        assert.deepStrictEqual(seen, bodies)
      }).pipe(Effect.scoped)
    )
  }

  it.effect("a socket that is opened with `from` continues at that token", () =>
    Effect.gen(function* () {
      const alice = yield* register("back-alice")
      const room = RoomId.make(yield* createRoom(alice))
      const send = (body: string) =>
        ask("POST", `/rooms/${inPath(room)}/send/m.room.message`, { token: alice.token, json: text(body) })
      const first = yield* Effect.scoped(
        Effect.gen(function* () {
          const socket = yield* connect(alice, "m.json")
          yield* send("one")
          return yield* follow(socket, 1)
        })
      )
      yield* send("two")
      const again = yield* connect(alice, undefined, `&from=${inPath(first.end)}`)
      const { bodies, start } = yield* follow(again, 1)
      assert.strictEqual(start, first.end)
      assert.deepStrictEqual(bodies, ["two"])
    }).pipe(Effect.scoped)
  )

  it.effect("a socket is refused without a valid access token, subprotocol and stream token", () =>
    Effect.gen(function* () {
      const alice = yield* register("refused-alice")
      const unknown = yield* Effect.flip(connect({ token: "none" }, "m.json"))
      assert.strictEqual(unknown.status, 401)
      assert.strictEqual(unknown.body.errcode, "M_UNKNOWN_TOKEN")
      const missing = yield* Effect.flip(connect({ token: "" }, "m.json"))
      assert.strictEqual(missing.body.errcode, "M_MISSING_TOKEN")
      const subprotocol = yield* Effect.flip(connect(alice, "m.other"))
      assert.strictEqual(subprotocol.status, 400)
      const from = yield* Effect.flip(connect(alice, "m.json", "&from=nonsense"))
      assert.strictEqual(from.body.errcode, "M_BAD_PAGINATION")
      const plain = yield* ask("GET", "/socket", { token: alice.token })
      assert.strictEqual(plain.status, 400)
    }).pipe(Effect.scoped)
  )

  it.effect("an error has the ID of its request", () =>
    Effect.gen(function* () {
      const alice = yield* register("error-alice")
      const socket = yield* connect(alice, "m.json")
      yield* socket.ask(7, {
        method: "send",
        params: { room_id: RoomId.make("!none:green.test"), type: "m.room.message", content: text("hello") }
      })
      const refused = yield* socket.answer
      assert.strictEqual(refused.id, 7)
      assert.strictEqual("error" in refused ? refused.error.errcode : "", "M_FORBIDDEN")
      yield* socket.ask(8, { method: "messages", params: { room_id: RoomId.make("!none:green.test"), limit: -1 } })
      const page = yield* socket.answer
      assert.strictEqual("error" in page ? page.error.errcode : "", "M_BAD_PAGINATION")
      yield* socket.ask(9, { method: "ping", params: {} })
      assert.deepStrictEqual(yield* socket.answer, { id: 9, result: {} })
    }).pipe(Effect.scoped)
  )

  it.effect("malformed frames are answered with an error, and many of them close the socket", () =>
    Effect.gen(function* () {
      const alice = yield* register("rubbish-alice")
      const { answer, closed, socket } = yield* connect(alice, "m.json")
      for (const rubbish of ["{", "[]", '{"id":1}', '{"id":1,"method":"fly"}', '{"id":1,"method":"send","params":5}']) {
        socket.send(rubbish)
        const refused = yield* answer
        assert.property(refused, "error", rubbish)
      }
      for (let i = 0; i < 30; i++) socket.send("rubbish")
      assert.strictEqual((yield* closed).code, closeCodes.tooManyRequests)
    }).pipe(Effect.scoped)
  )

  it.effect("a binary frame with values that JSON does not have is answered with an error", () =>
    Effect.gen(function* () {
      const alice = yield* register("binary-alice")
      const { answer, socket } = yield* connect(alice, "m.msgpack")
      const params = { room_id: "!a:green.test", type: "org.example", content: { file: new Uint8Array(4) } }
      socket.send(encode({ id: 5, method: "send", params }))
      const refused = yield* answer
      assert.deepStrictEqual([refused.id, "error" in refused && refused.error.errcode], [5, "M_BAD_JSON"])
    }).pipe(Effect.scoped)
  )

  it.effect("frames of the wrong type or size close the socket", () =>
    Effect.gen(function* () {
      const alice = yield* register("frame-alice")
      const wrongType = yield* connect(alice, "m.msgpack")
      wrongType.socket.send("text")
      assert.strictEqual((yield* wrongType.closed).code, closeCodes.wrongFrameType)
      const tooBig = yield* connect(alice, "m.json")
      tooBig.socket.send("x".repeat(300_000))
      assert.strictEqual((yield* tooBig.closed).code, closeCodes.tooBig)
    }).pipe(Effect.scoped)
  )

  it.effect("every request of a flood is answered", () =>
    Effect.gen(function* () {
      const alice = yield* register("flood-alice")
      const socket = yield* connect(alice, "m.json")
      const ids = Array.from({ length: 500 }, (_, id) => id)
      yield* Effect.forEach(ids, (id) => socket.ask(id, { method: "ping", params: {} }))
      const answered = yield* Effect.forEach(ids, () => socket.answer)
      assert.deepStrictEqual(new Set(answered.map(({ id }) => id)), new Set(ids))
    }).pipe(Effect.scoped)
  )

  it.effect("a flood of one client does not delay another one", () =>
    Effect.gen(function* () {
      const flooding = yield* connect(yield* register("flood-bob"), "m.json")
      const other = yield* connect(yield* register("flood-carol"), "m.json")
      const count = 4_000
      let pongs = 0
      flooding.socket.on("pong", () => pongs++)
      for (let id = 0; id < count; id++) {
        flooding.socket.ping()
        yield* flooding.ask(id, { method: "ping", params: {} })
      }
      yield* other.ask(1, { method: "ping", params: {} })
      assert.strictEqual((yield* other.answer).id, 1)
      assert.isBelow(pongs, count / 2, "answered before most of the flood")
      for (let id = 0; id < count; id++) yield* flooding.answer
    }).pipe(Effect.scoped)
  )

  it.effect("the sockets of a user are limited in number, and another may be opened when one closes", () =>
    Effect.gen(function* () {
      const alice = yield* register("many-alice")
      const bob = yield* register("many-bob")
      const sockets = yield* Effect.forEach(Array.from({ length: maxSocketsPerUser }), () => connect(alice, "m.json"))
      const { body, status } = yield* Effect.flip(connect(alice, "m.json"))
      assert.deepStrictEqual([status, body.errcode], [429, "M_LIMIT_EXCEEDED"])
      assert.isAbove(body.retry_after_ms, 0)
      yield* connect(bob, "m.json")
      sockets[0]!.socket.close()
      yield* sockets[0]!.closed
      yield* Effect.retry(connect(alice, "m.json"), { times: 100 })
    }).pipe(Effect.scoped)
  )

  it.effect("sockets close when the rows of their session are deleted, as by the command line", () =>
    Effect.gen(function* () {
      const alice = yield* register("ended-alice")
      const bob = yield* register("ended-bob")
      const ended = yield* connect(alice, "m.json")
      const other = yield* connect(bob, "m.json")
      const closed = yield* Effect.forkChild(ended.closed, { startImmediately: true })
      yield* (yield* AccountStore).revokeAll(UserId.make(alice.id))
      assert.strictEqual((yield* Fiber.join(closed)).code, closeCodes.unknownToken)
      assert.strictEqual(other.socket.readyState, other.socket.OPEN)
    }).pipe(Effect.scoped)
  )

  it.effect("a logout closes the sockets of its access token, and no others", () =>
    Effect.gen(function* () {
      const alice = yield* register("logout-alice")
      const { body } = yield* ask("POST", "/login", {
        json: { type: "m.login.password", user: "logout-alice", password: "secret-logout-alice" }
      })
      const other = { id: UserId.make(alice.id), token: body.access_token }
      const ended = yield* connect(alice, "m.json")
      const kept = yield* connect(other, "m.json")
      yield* ask("POST", "/logout", { token: alice.token })
      assert.strictEqual((yield* ended.closed).code, closeCodes.unknownToken)
      yield* kept.ask(1, { method: "ping", params: {} })
      assert.deepStrictEqual(yield* kept.answer, { id: 1, result: {} })
    }).pipe(Effect.scoped)
  )
})
