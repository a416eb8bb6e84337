import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import type { Answer, Body } from "../support/Curl.ts"
import { done, inPath, next, now, people, pollOf, refused, sendText } from "../support/People.ts"
import { waitFor } from "../support/Polling.ts"
import * as RawSocket from "../support/RawSocket.ts"
import { type Person, roomOf, Stage } from "../support/Scene.ts"

layer(Stage.layer({ GREENROOM_TURN_URIS: "turn:turn.green.test", GREENROOM_TURN_SHARED_SECRET: "hush" }), {
  excludeTestServices: true
})("Event stream", (it) => {
  it.effect("the messages of a room can be paged through in both directions, without a gap or a repetition", () =>
    Effect.gen(function* () {
      const [alice] = (yield* people("alice")) as [Person]
      const room = yield* roomOf(alice)
      const sent = Array.from({ length: 23 }, (_, index) => `Message ${index}`)
      for (const body of sent) yield* sendText(alice, room, body)
      const pageThrough = Effect.fnUntraced(function* (from: string, dir: string) {
        const all: Array<Body> = []
        let position = from
        while (true) {
          const { body } = yield* alice.ask(
            "GET",
            `/rooms/${inPath(room)}/messages?from=${inPath(position)}&dir=${dir}&limit=7`
          )
          if (body.chunk.length === 0) return all
          assert.isAtMost(body.chunk.length, 7)
          all.push(...body.chunk)
          position = body.end
        }
      })
      const backwards = yield* pageThrough("END", "b")
      const forwards = yield* pageThrough("START", "f")
      assert.deepStrictEqual(
        backwards.map(({ event_id }) => event_id),
        forwards.map(({ event_id }) => event_id).toReversed()
      )
      assert.strictEqual(new Set(backwards.map(({ event_id }) => event_id)).size, backwards.length)
      assert.strictEqual(forwards[0].type, "m.room.create")
      assert.deepStrictEqual(
        forwards.filter(({ type }) => type === "m.room.message").map(({ content }) => content.body),
        sent
      )
      refused(yield* alice.ask("GET", `/rooms/${inPath(room)}/messages?limit=-1`), 400, "M_BAD_PAGINATION")
      refused(yield* alice.ask("GET", `/rooms/${inPath(room)}/messages?dir=sideways`), 400, "M_BAD_PAGINATION")
      refused(yield* alice.ask("GET", `/rooms/${inPath(room)}/messages?from=nonsense`), 400, "M_BAD_PAGINATION")
    })
  )

  it.effect("START is the beginning of a user's event stream, END its present end", () =>
    Effect.gen(function* () {
      const [alice] = (yield* people("alice")) as [Person]
      const room = yield* roomOf(alice)
      yield* sendText(alice, room, "In the beginning")
      const fromStart = yield* alice.ask("GET", "/events?from=START&timeout=0&limit=100")
      assert.include(
        fromStart.body.chunk.map(({ type }: Body) => type),
        "m.room.member"
      )
      const found = fromStart.body.chunk.find((event: Body) => event.content.body === "In the beginning")
      assert.strictEqual(found.room_id, room)
      for (const query of ["?from=END&timeout=0", "?timeout=0"]) {
        const { body } = yield* alice.ask("GET", `/events${query}`)
        assert.isFalse(body.chunk.some((event: Body) => event.type.startsWith("m.room.")))
        assert.isString(body.end)
      }
    })
  )

  it.effect("feedback is bundled with its message when a client requests it", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const room = yield* roomOf(alice, bob)
      const message = yield* sendText(alice, room, "Did you get this?")
      const feedback = yield* bob.ask("POST", `/rooms/${inPath(room)}/send/m.room.message.feedback`, {
        type: "read",
        target_event_id: message
      })
      assert.strictEqual(feedback.status, 200)
      const plain = yield* alice.ask("GET", `/rooms/${inPath(room)}/messages?limit=20`)
      const bundled = yield* alice.ask("GET", `/rooms/${inPath(room)}/messages?limit=20&feedback=true`)
      const types = ({ body }: Answer) => body.chunk.map(({ type }: Body) => type)
      assert.include(types(plain), "m.room.message.feedback")
      const found = bundled.body.chunk.find(({ event_id }: Body) => event_id === message)
      assert.include(JSON.stringify(found), feedback.body.event_id)
    })
  )

  it.effect("typing notifications reach the other members of the room, and end", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const room = yield* roomOf(alice, bob)
      const from = yield* now(bob)
      const path = `/rooms/${inPath(room)}/typing/${inPath(alice.userId)}`
      done(yield* alice.ask("PUT", path, { typing: true, timeout: 60_000 }))
      const isTyping = (event: Body) => event.type === "m.typing" && event.room_id === room
      const began = yield* waitFor(pollOf(bob), from, isTyping)
      assert.deepStrictEqual(began.event.content.user_ids, [alice.userId])
      done(yield* alice.ask("PUT", path, { typing: false }))
      const ended = yield* waitFor(pollOf(bob), began.end, isTyping)
      assert.deepStrictEqual(ended.event.content.user_ids, [])
      refused(yield* bob.ask("PUT", path, { typing: true }), 403, "M_FORBIDDEN")
    })
  )

  it.effect("a long poll waits for an event or for its timeout", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const room = yield* roomOf(alice, bob)
      const from = yield* now(bob)
      const waiting = yield* Effect.forkChild(next(bob, from, ({ content }) => content.body === "Wake up"))
      yield* sendText(alice, room, "Wake up")
      assert.strictEqual((yield* Fiber.join(waiting)).room_id, room)
      const { body } = yield* alice.ask("GET", "/events?from=END&timeout=1")
      assert.isArray(body.chunk)
    })
  )

  it.effect("a socket resumes at the position that its client last received", () =>
    Effect.gen(function* () {
      const { gateway } = yield* Stage
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const room = yield* roomOf(alice, bob)
      for (const subprotocol of ["m.json", "m.msgpack"] as const) {
        const first = yield* RawSocket.open(gateway.url, { token: bob.token, subprotocol, from: yield* now(bob) })
        yield* sendText(alice, room, `${subprotocol} 1`)
        yield* first.event(({ content }) => content.body === `${subprotocol} 1`)
        yield* first.close
        yield* first.closed
        yield* sendText(alice, room, `${subprotocol} 2`)
        yield* sendText(alice, room, `${subprotocol} 3`)
        const second = yield* RawSocket.open(gateway.url, { token: bob.token, subprotocol, from: first.position() })
        const isMessage = ({ type }: Body) => type === "m.room.message"
        for (const number of [2, 3]) {
          assert.strictEqual((yield* second.event(isMessage)).content.body, `${subprotocol} ${number}`)
        }
      }
    })
  )

  it.effect("calls are events, and users get TURN credentials", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const room = yield* roomOf(alice, bob)
      const send = (type: string, content: unknown) => alice.ask("POST", `/rooms/${inPath(room)}/send/${type}`, content)
      const offer = { type: "offer", sdp: "v=0" }
      assert.strictEqual(
        (yield* send("m.call.invite", { call_id: "1", version: 0, lifetime: 60_000, offer })).status,
        200
      )
      refused(yield* send("m.call.invite", { call_id: "1" }), 400, "M_BAD_JSON")
      assert.strictEqual((yield* send("m.call.hangup", { call_id: "1", version: 0 })).status, 200)
      const { body } = yield* alice.ask("GET", "/voip/turnServer")
      assert.deepStrictEqual(body.uris, ["turn:turn.green.test"])
      assert.isString(body.password)
      assert.match(body.username, /^[0-9]+:@alice/)
    })
  )
})
