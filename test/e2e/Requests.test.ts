import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import type { Body } from "../support/Curl.ts"
import { done, inPath, loginOf, next, now, people, refused, text } from "../support/People.ts"
import * as RawSocket from "../support/RawSocket.ts"
import { type Person, roomOf, Stage } from "../support/Scene.ts"

layer(Stage.layer(), { excludeTestServices: true })("Requests", (it) => {
  it.effect("a repeated PUT, also one sent while the first is in flight, has one effect", () =>
    Effect.gen(function* () {
      const [alice] = (yield* people("alice")) as [Person]
      const room = yield* roomOf(alice)
      const path = `/rooms/${inPath(room)}/send/m.room.message/once`
      const answers = yield* Effect.forEach(
        Array.from({ length: 10 }),
        () => alice.ask("PUT", path, text("Only once")),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(new Set(answers.map(({ status }) => status)), new Set([200]))
      assert.strictEqual(new Set(answers.map(({ body }) => body.event_id)).size, 1)
      const { body: page } = yield* alice.ask("GET", `/rooms/${inPath(room)}/messages?dir=b&limit=5`)
      assert.lengthOf(
        page.chunk.filter((event: Body) => event.type === "m.room.message"),
        1
      )
      for (let count = 0; count < 20; count++) {
        const rooms = yield* Effect.forEach(
          Array.from({ length: 8 }),
          () => alice.ask("PUT", `/createRoom/${count}`, { name: "One" }),
          { concurrency: "unbounded" }
        )
        assert.lengthOf([...new Set(rooms.map(({ status, text }) => `${status} ${text}`))], 1)
        assert.strictEqual(rooms[0]!.status, 200)
      }
    })
  )

  it.effect("the same transaction ID of another login is another request", () =>
    Effect.gen(function* () {
      const { ask, person } = yield* Stage
      const [alice] = (yield* people("alice")) as [Person]
      const elsewhere = person((yield* ask("POST", "/login", { data: { ...loginOf(alice), user: alice.userId } })).body)
      const room = yield* roomOf(alice)
      const path = `/rooms/${inPath(room)}/send/m.room.message/1`
      const first = yield* alice.ask("PUT", path, text("From the desk"))
      const second = yield* elsewhere.ask("PUT", path, text("From the phone"))
      assert.notStrictEqual(first.body.event_id, second.body.event_id)
    })
  )

  it.effect("a logout ends the token, its long polls and its sockets; other logins stay", () =>
    Effect.gen(function* () {
      const { ask, gateway, person } = yield* Stage
      const [alice] = (yield* people("alice")) as [Person]
      const other = person((yield* ask("POST", "/login", { data: loginOf(alice) })).body)
      const socket = yield* RawSocket.open(gateway.url, { token: alice.token })
      const poll = yield* Effect.forkChild(alice.ask("GET", `/events?from=${yield* now(alice)}&timeout=100000`))
      // Time for the poll to reach the server.
      yield* Effect.sleep("500 millis")
      done(yield* alice.ask("POST", "/logout", {}))
      assert.strictEqual(yield* socket.closed, 4001)
      refused(yield* Fiber.join(poll), 401, "M_UNKNOWN_TOKEN")
      refused(yield* alice.ask("GET", "/initialSync"), 401, "M_UNKNOWN_TOKEN")
      assert.strictEqual((yield* other.ask("GET", "/initialSync")).status, 200)
    })
  )

  it.effect(
    "a deactivated user leaves all rooms and cannot log in again, and the user ID cannot be registered again",
    () =>
      Effect.gen(function* () {
        const { ask } = yield* Stage
        const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
        const room = yield* roomOf(alice, bob)
        const from = yield* now(alice)
        done(yield* bob.ask("POST", "/unregister", {}))
        const left = yield* next(
          alice,
          from,
          ({ state_key, type }) => type === "m.room.member" && state_key === bob.userId
        )
        assert.deepStrictEqual([left.content.membership, left.room_id], ["leave", room])
        refused(yield* bob.ask("GET", "/events?timeout=0"), 401, "M_UNKNOWN_TOKEN")
        refused(yield* ask("POST", "/login", { data: loginOf(bob) }), 403, "M_FORBIDDEN")
        refused(yield* ask("POST", "/register", { data: loginOf(bob) }), 400, "M_USER_IN_USE")
      })
  )

  it.effect("the access token may travel in the header or in the query, and no content type is needed", () =>
    Effect.gen(function* () {
      const { ask } = yield* Stage
      const [alice] = (yield* people("alice")) as [Person]
      assert.strictEqual((yield* ask("GET", "/initialSync", { bearer: alice.token })).status, 200)
      const created = yield* ask("POST", "/createRoom", { bearer: alice.token, data: { name: "Plain" }, headers: {} })
      assert.strictEqual(created.status, 200)
      const empty = yield* ask("POST", "/createRoom", { bearer: alice.token })
      assert.strictEqual(empty.status, 200)
      refused(yield* ask("GET", "/initialSync"), 401, "M_MISSING_TOKEN")
      refused(yield* ask("GET", "/initialSync", { token: "nonsense" }), 401, "M_UNKNOWN_TOKEN")
      refused(yield* ask("POST", "/createRoom", { token: alice.token, data: "{" }), 400, "M_NOT_JSON")
      refused(yield* ask("GET", "/no/such/thing", { token: alice.token }), 404, "M_UNRECOGNIZED")
      refused(yield* ask("PATCH", "/initialSync", { token: alice.token }), 405, "M_UNRECOGNIZED")
    })
  )
})
