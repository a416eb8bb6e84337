import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, askToday, createRoom, gateway, inPath, joinRoom, register, roomWith } from "../TestGateway.ts"

const ids = (chunk: unknown) => (chunk as ReadonlyArray<{ readonly room_id: string }>).map(({ room_id }) => room_id)

layer(gateway, { excludeTestServices: true })("the directory of public rooms", (it) => {
  it.effect("has public rooms in pages, the largest first, and searches their text", () =>
    Effect.gen(function* () {
      const alice = yield* register("list-alice")
      const bob = yield* register("list-bob")
      const small = yield* createRoom(alice, { name: "Small tea" })
      const large = yield* createRoom(alice, { name: "Large Tea", topic: "100% tea_leaves" })
      const secret = yield* createRoom(alice, { name: "Secret tea", visibility: "private" })
      yield* joinRoom(bob, large)
      const first = yield* askToday("GET", "/v3/publicRooms?limit=1")
      assert.deepStrictEqual(ids(first.body.chunk), [large])
      const second = yield* askToday("GET", `/v3/publicRooms?limit=1&since=${first.body.next_batch}`)
      assert.deepStrictEqual(ids(second.body.chunk), [small])
      assert.sameMembers(ids((yield* askToday("GET", "/v3/publicRooms?limit=0")).body.chunk), [small, large])
      assert.isUndefined(first.body.prev_batch)
      const back = yield* askToday("GET", `/v3/publicRooms?limit=1&since=${second.body.prev_batch}`)
      assert.deepStrictEqual(ids(back.body.chunk), [large])
      assert.deepStrictEqual([back.body.prev_batch, back.body.next_batch], [undefined, first.body.next_batch])
      const search = (generic_search_term: string) =>
        Effect.map(as(bob)("POST", "/v3/publicRooms", { filter: { generic_search_term } }), ({ body }) =>
          ids(body.chunk)
        )
      assert.sameMembers(yield* search("tea"), [small, large])
      assert.deepStrictEqual(yield* search("100% tea_"), [large])
      assert.deepStrictEqual(yield* search("100%_tea"), [])
      assert.strictEqual((yield* askToday("GET", "/v3/publicRooms?since=x")).body.errcode, "M_INVALID_PARAM")
      const listed = `/v3/directory/list/room/${inPath(secret)}`
      assert.strictEqual((yield* as(alice)("GET", listed)).body.visibility, "private")
      assert.strictEqual((yield* as(bob)("PUT", listed, { visibility: "public" })).body.errcode, "M_FORBIDDEN")
      yield* as(alice)("PUT", listed, { visibility: "public" })
      assert.include(yield* search("secret"), secret)
    })
  )

  it.effect("says how many rooms all pages have, and reads on to rooms of the wanted type", () =>
    Effect.gen(function* () {
      const alice = yield* register("total-alice")
      const bob = yield* register("total-bob")
      const space = yield* roomWith(alice, [], {
        visibility: "public",
        name: "Hall of spaces",
        creation_content: { type: "m.space" }
      })
      for (const name of ["Hall one", "Hall two"]) yield* roomWith(alice, [bob], { visibility: "public", name })
      const page = (since?: string, filter: object = {}) =>
        as(bob)("POST", "/v3/publicRooms", { limit: 1, since, filter: { generic_search_term: "hall", ...filter } })
      const first = yield* page()
      const second = yield* page(String(first.body.next_batch))
      const last = yield* page(String(second.body.next_batch))
      const totals = [first, second, last].map(({ body }) => body.total_room_count_estimate)
      assert.deepStrictEqual([...totals, last.body.next_batch], [3, 3, 3, undefined])
      const spaces = yield* page(undefined, { room_types: ["m.space"] })
      assert.deepStrictEqual(ids(spaces.body.chunk), [space])
      assert.notProperty(spaces.body, "total_room_count_estimate")
      const others = yield* page(undefined, { room_types: [null] })
      assert.notInclude(ids(others.body.chunk), space)
    })
  )

  it.effect("has summaries of rooms for users who may see them", () =>
    Effect.gen(function* () {
      const alice = yield* register("summary-alice")
      const bob = yield* register("summary-bob")
      const open = yield* createRoom(alice, { name: "Open", topic: "Tea" })
      const closed = yield* createRoom(alice, { name: "Closed", visibility: "private" })
      const path = (room: string) => `/v1/room_summary/${inPath(room)}`
      const { body } = yield* askToday("GET", path(open))
      assert.deepInclude(body, { name: "Open", topic: "Tea", num_joined_members: 1, join_rule: "public" })
      assert.strictEqual((yield* as(alice)("GET", path(closed))).body.membership, "join")
      assert.strictEqual((yield* as(bob)("GET", path(closed))).body.errcode, "M_NOT_FOUND")
      assert.strictEqual((yield* askToday("GET", path(closed))).body.errcode, "M_NOT_FOUND")
      const nheko = yield* as(bob)("GET", `/unstable/im.nheko.summary/summary/${inPath(open)}`)
      assert.strictEqual(nheko.body.name, "Open")
      yield* as(alice)("POST", `/v3/rooms/${inPath(closed)}/invite`, { user_id: bob.id })
      assert.strictEqual((yield* as(bob)("GET", path(closed))).body.membership, "invite")
      const rule = { join_rule: "restricted", allow: [{ type: "m.room_membership", room_id: closed }] }
      const initial_state = [{ type: "m.room.join_rules", content: rule }]
      const restricted = yield* roomWith(alice, [], { preset: "private_chat", initial_state })
      assert.strictEqual((yield* as(bob)("GET", path(restricted))).body.errcode, "M_NOT_FOUND")
      yield* joinRoom(bob, closed)
      assert.strictEqual((yield* as(bob)("GET", path(restricted))).body.membership, "leave")
      yield* as(alice)("POST", `/v3/rooms/${inPath(closed)}/ban`, { user_id: bob.id })
      for (const room of [closed, restricted]) {
        assert.strictEqual((yield* as(bob)("GET", path(room))).body.errcode, "M_NOT_FOUND")
      }
    })
  )
})
