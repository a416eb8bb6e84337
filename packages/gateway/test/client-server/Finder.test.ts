import { assert, layer } from "@effect/vitest"
import { ReportStore } from "@greenroom/store/ReportStore"
import { Effect } from "effect"
import { askToday, createRoom, gateway, inPath, register, type TestUser } from "../TestGateway.ts"

const as = (user: TestUser) => (method: string, path: string, json?: unknown) =>
  askToday(method, path, { token: user.token, json })

const say = (user: TestUser, room: string, text: string) =>
  Effect.map(
    as(user)("PUT", `/v3/rooms/${inPath(room)}/send/m.room.message/${text}`, { msgtype: "m.text", body: text }),
    ({ body }) => body.event_id
  )

layer(gateway, { excludeTestServices: true })("finding, forgetting and reporting", (it) => {
  it.effect("finds users who share a room or are in a public one, by ID or name; no others", () =>
    Effect.gen(function* () {
      const alice = yield* register("find-alice")
      const bob = yield* register("find-bob")
      const carol = yield* register("find-carol")
      yield* register("find-hermit")
      const room = yield* createRoom(alice, { visibility: "private", invite: [bob.id] })
      yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
      yield* createRoom(carol)
      yield* as(bob)("PUT", `/v3/profile/${inPath(bob.id)}/displayname`, { displayname: "Robert 100%" })
      const search = (user: TestUser, search_term: string) =>
        Effect.map(as(user)("POST", "/v3/user_directory/search", { search_term }), ({ body }) =>
          (body.results as ReadonlyArray<{ readonly user_id: string }>).map(({ user_id }) => user_id)
        )
      assert.sameMembers(yield* search(alice, "find-"), [bob.id, carol.id])
      assert.deepStrictEqual(yield* search(alice, "robert"), [bob.id])
      assert.deepStrictEqual(yield* search(alice, "100%"), [bob.id])
      assert.deepStrictEqual(yield* search(carol, "find-bob"), [])
      assert.deepStrictEqual(yield* search(alice, "%"), [bob.id])
      const mutual = yield* as(alice)("GET", `/v1/mutual_rooms?user_id=${inPath(bob.id)}`)
      assert.deepStrictEqual(mutual.body, { joined: [room], count: 1 } as never)
      const wrong = yield* as(alice)("GET", `/v1/mutual_rooms?user_id=${inPath(bob.id)}&from=t1_2`)
      assert.strictEqual(wrong.body.errcode, "M_INVALID_PARAM")
    })
  )

  it.effect("a room that was left can be forgotten, and then it is gone until it is joined again", () =>
    Effect.gen(function* () {
      const alice = yield* register("forget-alice")
      const bob = yield* register("forget-bob")
      const room = yield* createRoom(alice)
      const forget = as(bob)("POST", `/v3/rooms/${inPath(room)}/forget`, {})
      assert.strictEqual((yield* forget).body.errcode, "M_NOT_FOUND")
      yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
      assert.strictEqual((yield* forget).body.errcode, "M_UNKNOWN")
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      const messages = as(bob)("GET", `/v3/rooms/${inPath(room)}/messages?dir=b`)
      assert.strictEqual((yield* messages).status, 200)
      assert.strictEqual((yield* forget).status, 200)
      assert.strictEqual((yield* messages).body.errcode, "M_FORBIDDEN")
      const filter = inPath(JSON.stringify({ room: { include_leave: true } }))
      const { body } = yield* as(bob)("GET", `/v3/sync?filter=${filter}`)
      assert.deepStrictEqual((body.rooms as { readonly leave: object }).leave, {})
      yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
      assert.strictEqual((yield* messages).status, 200)
    })
  )

  it.effect("the event next to a moment is found in both directions", () =>
    Effect.gen(function* () {
      const alice = yield* register("moment-alice")
      const room = yield* createRoom(alice)
      const first = yield* say(alice, room, "first")
      const second = yield* say(alice, room, "second")
      const read = (id: string) =>
        Effect.map(as(alice)("GET", `/v3/rooms/${inPath(room)}/event/${inPath(id)}`), ({ body }) =>
          Number(body.origin_server_ts)
        )
      const at = (ts: number, dir: string) =>
        Effect.map(
          as(alice)("GET", `/v1/rooms/${inPath(room)}/timestamp_to_event?ts=${ts}&dir=${dir}`),
          ({ body }) => body
        )
      const [one, two] = [yield* read(first), yield* read(second)]
      assert.strictEqual((yield* at(two + 1_000, "b")).event_id, second)
      if (two > one) assert.strictEqual((yield* at(one + 1, "f")).event_id, second)
      assert.strictEqual((yield* at(two + 1_000, "f")).errcode, "M_NOT_FOUND")
      const created = yield* at(0, "f")
      assert.isString(created.event_id)
    })
  )

  it.effect("users who may see events, rooms and users report them", () =>
    Effect.gen(function* () {
      const alice = yield* register("report-alice")
      const eve = yield* register("report-eve")
      const room = yield* createRoom(alice, { visibility: "private" })
      const event = yield* say(alice, room, "spam")
      const path = `/v3/rooms/${inPath(room)}/report/${inPath(event)}`
      assert.strictEqual((yield* as(eve)("POST", path, { reason: "x" })).body.errcode, "M_NOT_FOUND")
      assert.strictEqual((yield* as(alice)("POST", path, { reason: "spam", score: -100 })).status, 200)
      assert.strictEqual((yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/report`, {})).status, 200)
      assert.strictEqual(
        (yield* as(alice)("POST", `/v3/users/${inPath(eve.id)}/report`, { reason: "Eve" })).status,
        200
      )
      const long = yield* as(alice)("POST", path, { reason: "x".repeat(3_000) })
      assert.strictEqual(long.body.errcode, "M_INVALID_PARAM")
      const reports = yield* ReportStore.use((store) => store.list(10))
      assert.deepStrictEqual(
        reports.map(({ eventId, userId }) => eventId ?? userId),
        [eve.id, undefined, event]
      )
    })
  )
})
