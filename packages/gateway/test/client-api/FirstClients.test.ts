/**
 * Behaviour beyond the draft that the clients of the first year of the API rely on.
 */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import {
  asDraft,
  ask,
  type ClientEvent,
  createRoom,
  gateway,
  inPath,
  outcome,
  register,
  type TestUser
} from "../TestGateway.ts"

/** Polls from a token on until an event passes. Returns that event. */
const pollFor = Effect.fnUntraced(function* (user: TestUser, start: string, passes: (event: ClientEvent) => boolean) {
  let from = start
  while (true) {
    const { body } = yield* asDraft(user)("GET", `/events?from=${from}&timeout=5000`)
    const found = body.chunk.find(passes)
    if (found !== undefined) return found
    from = body.end
  }
})

const currentToken = (user: TestUser) => Effect.map(asDraft(user)("GET", "/events?timeout=0"), ({ body }) => body.end)

layer(gateway, { excludeTestServices: true })("the first clients", (it) => {
  it.effect("resolve aliases and read public profiles without an access token", () =>
    Effect.gen(function* () {
      const alice = yield* register("open-alice")
      const room = yield* createRoom(alice, { room_alias_name: "open-hall" })
      const hall = `/directory/room/${inPath("#open-hall:green.test")}`
      assert.deepStrictEqual((yield* ask("GET", hall)).body as unknown, { room_id: room, servers: ["green.test"] })
      assert.strictEqual(outcome(yield* ask("PUT", hall, { json: { room_id: room } })), "401 M_MISSING_TOKEN")
      const profile = `/profile/${inPath(alice.id)}`
      yield* asDraft(alice)("PUT", `${profile}/displayname`, { displayname: "Alice" })
      yield* asDraft(alice)("PUT", `${profile}/location`, { location: "London", visibility: "rooms" })
      assert.deepStrictEqual((yield* ask("GET", profile)).body as unknown, { displayname: "Alice" })
      assert.deepStrictEqual((yield* ask("GET", `${profile}/displayname`)).body as unknown, { displayname: "Alice" })
      assert.strictEqual(outcome(yield* ask("GET", `${profile}/location`)), "404 M_NOT_FOUND")
      assert.strictEqual(
        outcome(yield* ask("PUT", `${profile}/displayname`, { json: { displayname: "Eve" } })),
        "401 M_MISSING_TOKEN"
      )
      for (const path of [hall, profile]) {
        assert.strictEqual(outcome(yield* ask("GET", path, { token: "wrong" })), "401 M_UNKNOWN_TOKEN")
      }
      // The server asks other servers without an access token of the client, too. This one cannot be reached.
      for (const path of [
        "/directory/room/%23hall:red.test",
        "/profile/@a:red.test",
        `/profile/${inPath("@a:red.test")}/displayname`
      ]) {
        assert.strictEqual(outcome(yield* ask("GET", path)), "404 M_NOT_FOUND")
      }
    })
  )

  it.effect("get null for an unset display name or avatar, and an error for an unknown user", () =>
    Effect.gen(function* () {
      const alice = yield* register("plain-alice")
      for (const field of ["displayname", "avatar_url"]) {
        const { body, status } = yield* asDraft(alice)("GET", `/profile/${inPath(alice.id)}/${field}`)
        assert.deepStrictEqual([status, body as unknown], [200, { [field]: null }])
        const nobody = yield* asDraft(alice)("GET", `/profile/${inPath("@nobody:green.test")}/${field}`)
        assert.strictEqual(outcome(nobody), "404 M_NOT_FOUND")
      }
    })
  )

  it.effect("may send null for unset fields", () =>
    Effect.gen(function* () {
      const stage = { type: "m.login.password", session: null, fallback: null, password: "secret" }
      const alice = yield* ask("POST", "/register", { json: { ...stage, user: "null-alice" } })
      assert.strictEqual(alice.body.user_id, "@null-alice:green.test")
      assert.strictEqual((yield* ask("POST", "/register", { json: { ...stage, user: null } })).status, 200)
      assert.strictEqual((yield* ask("POST", "/login", { json: { ...stage, user: "null-alice" } })).status, 200)
      const nobody = yield* ask("POST", "/login", { json: { ...stage, user: null } })
      assert.strictEqual(outcome(nobody), "400 M_BAD_JSON")
      const untyped = yield* ask("POST", "/login", { json: { ...stage, user: "null-alice", type: null } })
      assert.strictEqual(outcome(untyped), "400 M_BAD_JSON")
      const owner: TestUser = { id: alice.body.user_id, token: alice.body.access_token }
      const bob = yield* register("null-bob")
      const room = yield* createRoom(owner)
      assert.strictEqual((yield* ask("POST", `/join/${inPath(room)}`, { token: bob.token })).status, 200)
      const kick = { user_id: bob.id, reason: null }
      assert.strictEqual((yield* asDraft(owner)("POST", `/rooms/${inPath(room)}/kick`, kick)).status, 200)
    })
  )

  it.effect("may send typing as 1 and 0", () =>
    Effect.gen(function* () {
      const alice = yield* register("digit-alice")
      const room = yield* createRoom(alice)
      const typing = `/rooms/${inPath(room)}/typing/${inPath(alice.id)}`
      const start = yield* currentToken(alice)
      const typists = (event: object) => "type" in event && event.type === "m.typing"
      assert.strictEqual((yield* asDraft(alice)("PUT", typing, { typing: 1 })).status, 200)
      assert.deepStrictEqual((yield* pollFor(alice, start, typists)).content.user_ids, [alice.id])
      const afterwards = yield* currentToken(alice)
      assert.strictEqual((yield* asDraft(alice)("PUT", typing, { typing: 0 })).status, 200)
      assert.deepStrictEqual((yield* pollFor(alice, afterwards, typists)).content.user_ids, [])
      assert.strictEqual(outcome(yield* asDraft(alice)("PUT", typing, { typing: "yes" })), "400 M_BAD_JSON")
    })
  )

  it.effect("create public rooms by default, which others join by alias", () =>
    Effect.gen(function* () {
      const alice = yield* register("public-alice")
      const bob = yield* register("public-bob")
      const room = yield* createRoom(alice, { room_alias_name: "public-hall" })
      const joined = yield* asDraft(bob)("POST", `/join/${inPath("#public-hall:green.test")}`, {})
      assert.deepStrictEqual([joined.status, joined.body.room_id], [200, room])
      assert.include(
        (yield* ask("GET", "/publicRooms")).body.chunk.map(({ room_id }) => room_id),
        room
      )
    })
  )

  it.effect("page through the public rooms", () =>
    Effect.gen(function* () {
      const alice = yield* register("listing-alice")
      const made = [yield* createRoom(alice), yield* createRoom(alice), yield* createRoom(alice)]
      const listed: Array<string> = []
      let from = "START"
      while (from !== "END") {
        const { body, status } = yield* ask("GET", `/publicRooms?limit=2&from=${from}`)
        assert.deepStrictEqual([status, body.start], [200, from])
        assert.isAtMost(body.chunk.length, 2)
        listed.push(...body.chunk.map(({ room_id }) => String(room_id)))
        from = body.end
      }
      assert.includeMembers(listed, made)
      assert.lengthOf(new Set(listed), listed.length)
      assert.deepStrictEqual((yield* ask("GET", "/publicRooms?from=END")).body.chunk, [])
      assert.strictEqual(outcome(yield* ask("GET", "/publicRooms?from=nonsense")), "400 M_BAD_PAGINATION")
    })
  )

  it.effect("read the membership of a member event beside its content", () =>
    Effect.gen(function* () {
      const alice = yield* register("beside-alice")
      const room = inPath(yield* createRoom(alice))
      const memberships = (events: unknown) =>
        (events as ReadonlyArray<{ type: string; membership?: string }>)
          .filter(({ type }) => type === "m.room.member")
          .map(({ membership }) => membership)
      assert.deepStrictEqual(memberships((yield* asDraft(alice)("GET", `/rooms/${room}/state`)).body), ["join"])
      assert.deepStrictEqual(memberships((yield* asDraft(alice)("GET", "/events?from=START&timeout=0")).body.chunk), [
        "join"
      ])
      assert.deepStrictEqual(memberships((yield* asDraft(alice)("GET", `/rooms/${room}/members`)).body.chunk), ["join"])
    })
  )

  it.effect("page from START to END and from END to START without a direction", () =>
    Effect.gen(function* () {
      const alice = yield* register("way-alice")
      const room = inPath(yield* createRoom(alice))
      for (const body of ["one", "two"]) {
        yield* asDraft(alice)("POST", `/rooms/${room}/send/m.room.message`, { msgtype: "m.text", body })
      }
      const page = (query: string) =>
        Effect.map(asDraft(alice)("GET", `/rooms/${room}/messages?${query}`), ({ body }) =>
          body.chunk.map(({ content, type }) => content.body ?? type)
        )
      assert.deepStrictEqual(yield* page("from=END&to=START&limit=2"), ["two", "one"])
      assert.deepStrictEqual(yield* page("limit=1"), ["two"])
      for (const query of ["from=START&to=END&limit=2", "from=START&limit=2", "to=END&limit=2"]) {
        assert.deepStrictEqual(yield* page(query), ["m.room.create", "m.room.member"])
      }
    })
  )

  it.effect("receive the presence of users who join a room", () =>
    Effect.gen(function* () {
      const alice = yield* register("enter-alice")
      const bob = yield* register("enter-bob")
      yield* asDraft(bob)("PUT", `/presence/${inPath(bob.id)}/status`, {
        presence: "unavailable",
        status_msg: "knitting"
      })
      for (const joinBy of [
        (room: string) => asDraft(bob)("POST", `/join/${room}`),
        (room: string) =>
          asDraft(bob)("PUT", `/rooms/${room}/state/m.room.member/${inPath(bob.id)}`, { membership: "join" })
      ]) {
        const room = inPath(yield* createRoom(alice))
        const start = yield* currentToken(alice)
        assert.strictEqual((yield* joinBy(room)).status, 200)
        const isBob = ({ content, type }: ClientEvent) => type === "m.presence" && content.user_id === bob.id
        const { content } = yield* pollFor(alice, start, isBob)
        assert.deepInclude(content, { user_id: bob.id, presence: "unavailable", status_msg: "knitting" })
        yield* asDraft(bob)("POST", `/rooms/${room}/leave`)
      }
    })
  )

  it.effect("read the push rules", () =>
    Effect.gen(function* () {
      const alice = yield* register("push-alice")
      const { body, status } = yield* asDraft(alice)("GET", "/pushrules/")
      assert.strictEqual(status, 200)
      assert.hasAllKeys(body.global as object, ["content", "override", "room", "sender", "underride"])
      assert.strictEqual(outcome(yield* ask("GET", "/pushrules/")), "401 M_MISSING_TOKEN")
    })
  )
})
