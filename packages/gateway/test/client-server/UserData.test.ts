import { assert, layer } from "@effect/vitest"
import { maxEntries } from "@greenroom/actors/user/AccountData"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { Gateway } from "../../src/Gateway.ts"
import {
  as,
  createRoom,
  gateway,
  inPath,
  logIn,
  outcome,
  redactEvent,
  register,
  roomWith,
  sendText,
  type TestUser
} from "../TestGateway.ts"
import { sync } from "./SyncClient.ts"

interface Rule {
  readonly rule_id: string
  readonly enabled: boolean
  readonly actions: ReadonlyArray<unknown>
}
type Ruleset = { readonly [kind: string]: ReadonlyArray<Rule> }

layer(gateway, { excludeTestServices: true })("account data, filters, push rules and receipts", (it) => {
  it.effect("account data is stored for the account and for rooms, for its owner alone", () =>
    Effect.gen(function* () {
      const alice = yield* register("data-alice")
      const bob = yield* register("data-bob")
      const room = yield* createRoom(alice)
      const own = `/v3/user/${inPath(alice.id)}`
      const path = `${own}/account_data/org.example.colour`
      assert.strictEqual((yield* as(alice)("GET", path)).body.errcode, "M_NOT_FOUND")
      yield* as(alice)("PUT", path, { colour: "green" })
      assert.deepStrictEqual((yield* as(alice)("GET", path)).body, { colour: "green" } as never)
      yield* as(alice)("PUT", `${own}/rooms/${inPath(room)}/account_data/org.example.colour`, { colour: "red" })
      const inRoom = yield* as(alice)("GET", `${own}/rooms/${inPath(room)}/account_data/org.example.colour`)
      assert.deepStrictEqual(inRoom.body, { colour: "red" } as never)
      assert.strictEqual((yield* as(bob)("GET", path)).body.errcode, "M_FORBIDDEN")
      assert.strictEqual((yield* as(bob)("PUT", path, {})).body.errcode, "M_FORBIDDEN")
      const filter = inPath(JSON.stringify({ account_data: { types: ["org.example.*"] } }))
      const { account_data } = (yield* as(alice)("GET", `/v3/sync?filter=${filter}`)).body
      assert.deepStrictEqual(account_data as object, {
        events: [{ type: "org.example.colour", content: { colour: "green" } }]
      })
      const controlled = yield* as(alice)("PUT", `${own}/account_data/m.push_rules`, {})
      assert.strictEqual(outcome(controlled), "405 M_BAD_JSON")
      const rules = yield* as(alice)("GET", `${own}/account_data/m.push_rules`)
      assert.deepStrictEqual(rules.body, (yield* as(alice)("GET", "/v3/pushrules/")).body, "no rule has been changed")
      const large = yield* as(alice)("PUT", path, { text: "x".repeat(300_000) })
      assert.strictEqual(large.body.errcode, "M_TOO_LARGE")
    })
  )

  it.effect("a user with as much account data as a user may have can replace it, and add none", () =>
    Effect.gen(function* () {
      const alice = yield* register("most-alice")
      const sql = yield* SqlClient.SqlClient
      yield* sql`
        INSERT INTO account_data (user_id, room_id, type, content)
        SELECT ${alice.id}, '', 'org.example.' || n, '{"a":1}' FROM generate_series(2, ${maxEntries}::integer) AS n`
      const put = (type: string) =>
        Effect.map(as(alice)("PUT", `/v3/user/${inPath(alice.id)}/account_data/org.example.${type}`, { a: 2 }), outcome)
      assert.deepStrictEqual(
        [yield* put("1"), yield* put("0"), yield* put("2")],
        ["200", "403 M_USER_LIMIT_EXCEEDED", "200"]
      )
    })
  )

  it.effect("account data is deleted by DELETE or an empty object, and /sync has the deletion once", () =>
    Effect.gen(function* () {
      const alice = yield* register("delete-alice")
      const room = yield* createRoom(alice)
      const own = `/user/${inPath(alice.id)}`
      const contentsOf = (answer: { readonly events?: unknown } | undefined) =>
        (answer?.events as ReadonlyArray<{ readonly type: string; readonly content: object }> | undefined)
          ?.filter(({ type }) => type === "org.example.colour")
          .map(({ content }) => content)
      const sync = (since?: string) =>
        Effect.map(as(alice)("GET", `/v3/sync${since === undefined ? "" : `?since=${since}`}`), ({ body }) => {
          const rooms = body.rooms as { readonly join: { readonly [id: string]: { readonly account_data: object } } }
          return {
            since: String(body.next_batch),
            seen: [contentsOf(body.account_data as object), contentsOf(rooms.join[room]?.account_data)]
          }
        })
      for (const path of [
        `${own}/account_data/org.example.colour`,
        `${own}/rooms/${inPath(room)}/account_data/org.example.colour`
      ]) {
        const changes = [
          as(alice)("PUT", `/v3${path}`, {}),
          as(alice)("DELETE", `/unstable/org.matrix.msc3391${path}`),
          as(alice)("DELETE", `/unstable/org.matrix.msc3391${path}`)
        ]
        for (const [index, change] of changes.entries()) {
          if (index < 2) yield* as(alice)("PUT", `/v3${path}`, { colour: "green" })
          const { since } = yield* sync()
          assert.strictEqual((yield* change).status, 200)
          assert.strictEqual((yield* as(alice)("GET", `/v3${path}`)).body.errcode, "M_NOT_FOUND")
          assert.deepStrictEqual(
            (yield* sync(since)).seen.flatMap((found) => found ?? []),
            index < 2 ? [{}] : []
          )
          assert.deepStrictEqual(
            (yield* sync()).seen.flatMap((found) => found ?? []),
            []
          )
        }
      }
      const controlled = yield* as(alice)("DELETE", `/v3${own}/account_data/m.push_rules`)
      assert.deepStrictEqual([controlled.status, controlled.body.errcode], [405, "M_BAD_JSON"])
    })
  )

  it.effect("the notification settings of a device are deleted with the device", () =>
    Effect.gen(function* () {
      const alice = yield* register("settings-alice")
      const login = yield* logIn("settings-alice", undefined, { device_id: "PHONE" })
      const own = `/v3/user/${inPath(alice.id)}/account_data`
      const types = ["PHONE", "OTHER"].map((device) => `m.local_notification_settings.${device}`)
      for (const type of types) yield* as(alice)("PUT", `${own}/${type}`, { is_silenced: true })
      yield* as({ id: alice.id, token: login.body.access_token })("POST", "/v3/logout", {})
      const left = yield* Effect.forEach(types, (type) => as(alice)("GET", `${own}/${type}`))
      assert.deepStrictEqual(
        left.map(({ status }) => status),
        [404, 200]
      )
    })
  )

  it.effect("tags of a room are set and removed, and concurrent ones are all stored", () =>
    Effect.gen(function* () {
      const alice = yield* register("tags-alice")
      const room = yield* createRoom(alice)
      const tags = `/v3/user/${inPath(alice.id)}/rooms/${inPath(room)}/tags`
      const names = ["u.one", "u.two", "u.three", "m.favourite"]
      yield* Effect.forEach(names, (tag) => as(alice)("PUT", `${tags}/${tag}`, { order: 0.5 }), {
        concurrency: "unbounded"
      })
      const { body } = yield* as(alice)("GET", tags)
      assert.sameMembers(Object.keys(body.tags as object), names)
      yield* as(alice)("DELETE", `${tags}/u.one`)
      assert.notProperty((yield* as(alice)("GET", tags)).body.tags, "u.one")
    })
  )

  it.effect("refused and missing tags store nothing, and account data is limited in size", () =>
    Effect.gen(function* () {
      const alice = yield* register("full-alice")
      const user = `/v3/user/${inPath(alice.id)}`
      const entry = (room: string) => as(alice)("GET", `${user}/rooms/${inPath(room)}/account_data/m.tag`)
      const tags = (room: string) => `${user}/rooms/${inPath(room)}/tags`
      const large = yield* as(alice)("PUT", `${tags("!large:green.test")}/u.a`, { x: "x".repeat(300_000) })
      assert.deepStrictEqual([large.status, large.body.errcode], [413, "M_TOO_LARGE"])
      assert.strictEqual((yield* as(alice)("DELETE", `${tags("!none:green.test")}/u.a`)).status, 200)
      for (const room of ["!large:green.test", "!none:green.test"]) {
        assert.strictEqual((yield* entry(room)).body.errcode, "M_NOT_FOUND")
      }
      const put = (type: string, size: number) =>
        as(alice)("PUT", `${user}/account_data/org.example.${type}`, { x: "x".repeat(size) })
      for (let index = 0; index < 64; index++) assert.strictEqual((yield* put(`${index}`, 260_000)).status, 200)
      const { body: full } = yield* put("more", 260_000)
      assert.strictEqual(full.errcode, "M_USER_LIMIT_EXCEEDED")
      const { url } = yield* Gateway
      assert.strictEqual(full.info_uri, `${url}/`, "the page about the limit")
      assert.strictEqual((yield* put("0", 200_000)).status, 200)
      assert.strictEqual((yield* put("small", 1_000)).status, 200)
    })
  )

  it.effect("equal filters have one ID, which only their owner can read", () =>
    Effect.gen(function* () {
      const alice = yield* register("filter-alice")
      const bob = yield* register("filter-bob")
      const path = `/v3/user/${inPath(alice.id)}/filter`
      const filter = { room: { timeline: { limit: 10, lazy_load_members: true } } }
      const first = yield* as(alice)("POST", path, filter)
      assert.deepStrictEqual((yield* as(alice)("POST", path, filter)).body, first.body)
      assert.deepStrictEqual((yield* as(alice)("GET", `${path}/${first.body.filter_id}`)).body, filter as never)
      assert.strictEqual((yield* as(bob)("GET", `${path}/${first.body.filter_id}`)).body.errcode, "M_FORBIDDEN")
      assert.strictEqual((yield* as(alice)("GET", `${path}/999999`)).body.errcode, "M_NOT_FOUND")
      const wrong = yield* as(alice)("POST", path, { room: { timeline: { limit: "many" } } })
      assert.strictEqual(wrong.body.errcode, "M_BAD_JSON")
    })
  )

  it.effect("push rules are the default rules with the changes of the user", () =>
    Effect.gen(function* () {
      const alice = yield* register("push-alice")
      const all = Effect.map(as(alice)("GET", "/v3/pushrules/"), ({ body }) => body.global as Ruleset)
      assert.strictEqual((yield* all).override?.[0]?.rule_id, ".m.rule.master")
      const rule = "/v3/pushrules/global/content/tea"
      assert.strictEqual((yield* as(alice)("PUT", rule, { actions: ["notify"] })).body.errcode, "M_UNKNOWN")
      yield* as(alice)("PUT", rule, { actions: ["notify", "dont_notify"], pattern: "tea" })
      assert.deepInclude((yield* all).content?.[0], {
        rule_id: "tea",
        enabled: true,
        actions: ["notify", "dont_notify"]
      })
      // Older clients read the rules of a kind, which the specification does not have.
      const ofKind = yield* as(alice)("GET", "/v3/pushrules/global/content/")
      assert.deepStrictEqual(ofKind.body, (yield* all).content as never)
      assert.strictEqual((yield* as(alice)("GET", "/v3/pushrules/global/no-kind")).body.errcode, "M_NOT_FOUND")
      yield* as(alice)("PUT", `${rule}/enabled`, { enabled: false })
      assert.deepStrictEqual((yield* as(alice)("GET", `${rule}/enabled`)).body, { enabled: false } as never)
      yield* as(alice)("PUT", `${rule}/actions`, { actions: ["notify"] })
      assert.deepStrictEqual((yield* as(alice)("GET", `${rule}/actions`)).body, { actions: ["notify"] } as never)
      const noActions = yield* as(alice)("PUT", `${rule}/actions`, { actions: "notify" })
      assert.strictEqual(noActions.body.errcode, "M_BAD_JSON")
      const noRule = yield* as(alice)("GET", "/v3/pushrules/global/content/coffee/actions")
      assert.strictEqual(noRule.body.errcode, "M_NOT_FOUND")
      yield* as(alice)("PUT", "/v3/pushrules/global/override/.m.rule.master/enabled", { enabled: true })
      assert.isTrue((yield* all).override?.[0]?.enabled)
      yield* as(alice)("DELETE", rule)
      assert.strictEqual((yield* as(alice)("GET", rule)).body.errcode, "M_NOT_FOUND")
      assert.strictEqual((yield* as(alice)("GET", "/v3/pushrules/global/odd/tea")).body.errcode, "M_NOT_FOUND")
      const refused = yield* as(alice)("PUT", "/v3/pushrules/global/room/.mine", { actions: [] })
      assert.strictEqual(refused.body.errcode, "M_INVALID_PARAM")
      const kept = yield* as(alice)("GET", `/v3/user/${inPath(alice.id)}/account_data/m.push_rules`)
      assert.deepStrictEqual(kept.body.global, yield* all)
    })
  )

  it.effect("concurrent push rules are all stored", () =>
    Effect.gen(function* () {
      const alice = yield* register("push-many")
      const names = Array.from({ length: 10 }, (_, i) => `rule${i}`)
      yield* Effect.forEach(names, (name) => as(alice)("PUT", `/v3/pushrules/global/room/${name}`, { actions: [] }), {
        concurrency: "unbounded"
      })
      const { body } = yield* as(alice)("GET", "/v3/pushrules/")
      assert.sameMembers(
        (body.global as Ruleset).room!.map((rule) => rule.rule_id),
        names
      )
    })
  )

  it.effect("receipts need a member and an event of the room, and the read marker does not move back", () =>
    Effect.gen(function* () {
      const alice = yield* register("receipts-alice")
      const eve = yield* register("receipts-eve")
      const room = yield* createRoom(alice, { visibility: "private" })
      const [first, second] = [yield* sendText(alice, room, "1"), yield* sendText(alice, room, "2")]
      const receipt = (user: TestUser, type: string, id: string, json: object = {}) =>
        as(user)("POST", `/v3/rooms/${inPath(room)}/receipt/${type}/${inPath(id)}`, json)
      assert.strictEqual((yield* receipt(alice, "m.read", second, { thread_id: "main" })).status, 200)
      assert.strictEqual((yield* receipt(eve, "m.read", second)).body.errcode, "M_FORBIDDEN")
      assert.strictEqual((yield* receipt(alice, "m.read", "$no:green.test")).body.errcode, "M_NOT_FOUND")
      assert.strictEqual((yield* receipt(alice, "m.read", first, { thread_id: "" })).body.errcode, "M_INVALID_PARAM")
      assert.strictEqual((yield* receipt(alice, "m.heard", first)).body.errcode, "M_INVALID_PARAM")
      const relate = (relation: object) => sendText(alice, room, "x", { "m.relates_to": relation })
      const reply = yield* relate({ rel_type: "m.thread", event_id: first })
      const edit = yield* relate({ rel_type: "m.replace", event_id: reply })
      const status = (id: string, thread_id: string) =>
        Effect.map(receipt(alice, "m.read", id, { thread_id }), ({ body, status }) => `${status} ${body.errcode ?? ""}`)
      for (const id of [first, reply, edit]) assert.strictEqual(yield* status(id, first), "200 ", id)
      assert.strictEqual(yield* status(second, first), "400 M_INVALID_PARAM")
      assert.strictEqual(yield* status(reply, second), "400 M_INVALID_PARAM")
      for (const id of [reply, edit]) assert.strictEqual(yield* status(id, "main"), "400 M_INVALID_PARAM", id)
      assert.strictEqual(yield* status(second, "main"), "200 ")
      yield* redactEvent(alice, room, reply)
      assert.strictEqual(yield* status(reply, first), "200 ", "what remains of it does not name its thread")
      const elsewhere = yield* sendText(alice, yield* createRoom(alice), "elsewhere")
      assert.strictEqual(yield* status(reply, elsewhere), "400 M_INVALID_PARAM")
      const markers = `/v3/rooms/${inPath(room)}/read_markers`
      yield* as(alice)("POST", markers, { "m.fully_read": second, "m.read.private": second })
      yield* as(alice)("POST", markers, { "m.fully_read": first })
      const newest = yield* sendText(alice, room, "3")
      const partly = yield* as(alice)("POST", markers, { "m.fully_read": newest, "m.read": "$no:green.test" })
      assert.strictEqual(partly.body.errcode, "M_NOT_FOUND")
      const kept = yield* as(alice)(
        "GET",
        `/v3/user/${inPath(alice.id)}/rooms/${inPath(room)}/account_data/m.fully_read`
      )
      assert.deepStrictEqual(kept.body, { event_id: second } as never)
    })
  )

  it.effect("a receipt does not move back, and ends with the membership", () =>
    Effect.gen(function* () {
      const alice = yield* register("back-alice")
      const bob = yield* register("back-bob")
      const room = yield* roomWith(alice, [bob])
      const [first, second] = [yield* sendText(alice, room, "1"), yield* sendText(alice, room, "2")]
      const receipt = (id: string) => as(bob)("POST", `/v3/rooms/${inPath(room)}/receipt/m.read/${inPath(id)}`, {})
      yield* receipt(second)
      assert.strictEqual((yield* receipt(first)).status, 200)
      const { ephemeral } = (yield* sync(alice)).rooms.join[room] ?? {}
      const receipts = ephemeral?.events.find(({ type }) => type === "m.receipt")
      assert.deepStrictEqual(Object.keys(receipts?.content ?? {}), [second])
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      assert.strictEqual((yield* receipt(second)).body.errcode, "M_FORBIDDEN")
    })
  )
})
