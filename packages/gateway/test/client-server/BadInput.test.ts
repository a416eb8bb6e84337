/**
 * Input that is too large, malformed or unknown gets a documented error, and changes nothing.
 */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, askToday, gateway, inPath, outcome, register, sendText } from "../TestGateway.ts"

const hasOutcome = (expected: string, name: string, request: ReturnType<ReturnType<typeof as>>) =>
  Effect.map(request, (answer) => assert.strictEqual(outcome(answer), expected, name))

layer(gateway, { excludeTestServices: true })("bad input", (it) => {
  it.effect("large filters, tokens of other servers and searches of a thousand words are refused", () =>
    Effect.gen(function* () {
      const alice = yield* register("large-alice")
      const rooms = Array.from({ length: 50_000 }, (_, index) => `!${index}:large.green.test`)
      const filters = `/v3/user/${inPath(alice.id)}/filter`
      yield* hasOutcome("413 M_TOO_LARGE", "filter", as(alice)("POST", filters, { room: { rooms } }))
      for (const token of [
        "s72594_4483_1934_2_3_1_1",
        "t392-516_47314_0_7_1",
        "m1",
        "s-1_-1",
        "%00",
        "x".repeat(5_000)
      ]) {
        yield* hasOutcome("400 M_INVALID_PARAM", token, as(alice)("GET", `/v3/sync?since=${inPath(token)}`))
        yield* hasOutcome("400 M_INVALID_PARAM", token, as(alice)("GET", `/v3/notifications?from=${inPath(token)}`))
      }
      const search_term = Array.from({ length: 1_000 }, (_, index) => `word${index}`).join(" ")
      const search = as(alice)("POST", "/v3/search", { search_categories: { room_events: { search_term } } })
      yield* hasOutcome("400 M_INVALID_PARAM", "search", search)
    })
  )

  it.effect("the hierarchy of spaces that contain each other and chains of relations are bounded", () =>
    Effect.gen(function* () {
      const alice = yield* register("circle-alice")
      const space = { preset: "public_chat", creation_content: { type: "m.space" } }
      const [first, second] = [
        (yield* as(alice)("POST", "/v3/createRoom", space)).body.room_id,
        (yield* as(alice)("POST", "/v3/createRoom", space)).body.room_id
      ]
      const put = (parent: string, child: string) =>
        as(alice)("PUT", `/v3/rooms/${inPath(parent)}/state/m.space.child/${inPath(child)}`, { via: ["green.test"] })
      yield* Effect.all([put(first, second), put(second, first), put(first, first)])
      const hierarchy = yield* as(alice)("GET", `/v1/rooms/${inPath(first)}/hierarchy?limit=1000&max_depth=100000`)
      assert.lengthOf(hierarchy.body.rooms as ReadonlyArray<object>, 2)

      const root = yield* sendText(alice, first, "root")
      let last = root
      for (let index = 0; index < 30; index++) {
        last = yield* sendText(alice, first, `${index}`, {
          "m.relates_to": { rel_type: "m.reference", event_id: last }
        })
      }
      const relations = yield* as(alice)(
        "GET",
        `/v1/rooms/${inPath(first)}/relations/${inPath(root)}?recurse=true&limit=100000`
      )
      assert.deepStrictEqual([relations.status, relations.body.recursion_depth], [200, 3])
    })
  )

  it.effect("receipts for unknown events, and JSON that events cannot have, are refused", () =>
    Effect.gen(function* () {
      const alice = yield* register("odd-alice")
      const { body } = yield* as(alice)("POST", "/v3/createRoom", {})
      const room = `/v3/rooms/${inPath(body.room_id)}`
      for (const [event, expected] of [
        ["$nothing", "404 M_NOT_FOUND"],
        ["$nothing:other.test", "404 M_NOT_FOUND"],
        ["nothing", "400 M_INVALID_PARAM"]
      ] as const) {
        yield* hasOutcome(expected, event, as(alice)("POST", `${room}/receipt/m.read/${inPath(event)}`, {}))
      }
      const markers = { "m.fully_read": "$nothing", "m.read": "$nothing" }
      yield* hasOutcome("404 M_NOT_FOUND", "markers", as(alice)("POST", `${room}/read_markers`, markers))
      // One refused marker of a request moves none of its markers.
      const eventId = yield* sendText(alice, body.room_id, "x")
      const some = { "m.fully_read": eventId, "m.read": "$nothing" }
      yield* hasOutcome("404 M_NOT_FOUND", "some markers", as(alice)("POST", `${room}/read_markers`, some))
      const marker = `/v3/user/${inPath(alice.id)}/rooms/${inPath(body.room_id)}/account_data/m.fully_read`
      yield* hasOutcome("404 M_NOT_FOUND", "marker", as(alice)("GET", marker))
      const send = (text: string) =>
        askToday("PUT", `${room}/send/m.room.message/odd`, { token: alice.token, body: text })
      const deep = `{"a":${"[".repeat(20_000)}${"]".repeat(20_000)}}`
      for (const text of [deep, '{"n":1.5}', '{"n":9007199254740993}']) {
        yield* hasOutcome("400 M_BAD_JSON", text.slice(0, 30), send(text))
      }
      // The last of two equal keys counts, as in JavaScript.
      const sent = yield* send('{"msgtype":"m.text","body":"first","body":"last"}')
      const event = yield* as(alice)("GET", `${room}/event/${inPath(sent.body.event_id)}`)
      assert.deepStrictEqual(event.body.content, { msgtype: "m.text", body: "last" })
    })
  )

  it.effect("keys with the wrong ID and claims without an algorithm are refused; an empty device ID is ignored", () =>
    Effect.gen(function* () {
      const alice = yield* register("keys-alice")
      for (const [keys, expected] of [
        [{ "ed25519:one": "two" }, "400 M_INVALID_PARAM"],
        [{ "ed25519:one": "one" }, "200"]
      ] as const) {
        const master_key = { user_id: alice.id, usage: ["master"], keys }
        yield* hasOutcome(expected, expected, as(alice)("POST", "/v3/keys/device_signing/upload", { master_key }))
      }
      for (const devices of [{ A: 5 }, { A: null }, "all", [{}]]) {
        const claims = { one_time_keys: { [alice.id]: devices } }
        yield* hasOutcome("400 M_BAD_JSON", "claims", as(alice)("POST", "/v3/keys/claim", claims))
      }
      const { body } = yield* askToday("POST", "/v3/login", {
        json: { type: "m.login.password", user: "keys-alice", password: "secret-keys-alice", device_id: "" }
      })
      assert.isNotEmpty(body.device_id)
      const device = yield* askToday("GET", `/v3/devices/${inPath(body.device_id as string)}`, {
        token: body.access_token
      })
      assert.strictEqual(device.status, 200, device.text)
    })
  )
})
