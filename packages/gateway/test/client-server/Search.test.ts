import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, gateway, inPath, register, say, type TestUser } from "../TestGateway.ts"

interface Found {
  readonly count: number
  readonly highlights: ReadonlyArray<string>
  readonly results: ReadonlyArray<{
    readonly rank: number
    readonly result: {
      readonly event_id: string
      readonly room_id: string
      readonly content: { readonly body: string }
    }
    readonly context?: {
      readonly events_before: ReadonlyArray<{ readonly content: { readonly body: string } }>
      readonly events_after: ReadonlyArray<{ readonly content: { readonly body: string } }>
      readonly profile_info?: { readonly [userId: string]: { readonly displayname?: string } }
    }
  }>
  readonly state?: { readonly [roomId: string]: ReadonlyArray<{ readonly type: string }> }
  readonly groups?: {
    readonly [key: string]: { readonly [value: string]: { readonly results: ReadonlyArray<string> } }
  }
  readonly next_batch?: string
}

let transactions = 0

const ask = (user: TestUser, search_term: string, more: object = {}, next?: string) =>
  as(user)("POST", `/v3/search${next === undefined ? "" : `?next_batch=${inPath(next)}`}`, {
    search_categories: { room_events: { search_term, ...more } }
  })
const search = (user: TestUser, search_term: string, more: object = {}, next?: string) =>
  Effect.map(
    ask(user, search_term, more, next),
    ({ body }) => (body.search_categories as { readonly room_events: Found }).room_events
  )
const bodies = ({ results }: Found) => results.map(({ result }) => result.content.body)

const roomOf = Effect.fnUntraced(function* (owner: TestUser, options: object, ...others: ReadonlyArray<TestUser>) {
  const { body } = yield* as(owner)("POST", "/v3/createRoom", { preset: "public_chat", ...options })
  for (const user of others) yield* as(user)("POST", `/v3/join/${inPath(body.room_id)}`, {})
  return body.room_id
})

layer(gateway, { excludeTestServices: true })("search", (it) => {
  it.effect("finds words in rooms of the user, the newest or the closest first, page by page", () =>
    Effect.gen(function* () {
      const alice = yield* register("search-alice")
      const bob = yield* register("search-bob")
      const room = yield* roomOf(alice, { name: "Martian matters" }, bob)
      const other = yield* roomOf(bob, {})
      yield* say(alice, room, "Martians and men")
      yield* say(alice, room, "nothing of the kind")
      yield* say(bob, room, "men are from Mars, martians are not men, says every martian")
      yield* say(bob, other, "men elsewhere")
      const recent = yield* search(alice, "men", { order_by: "recent" })
      assert.deepStrictEqual(bodies(recent), [
        "men are from Mars, martians are not men, says every martian",
        "Martians and men"
      ])
      assert.deepStrictEqual([recent.count, recent.highlights], [2, ["men"]])
      assert.deepStrictEqual(bodies(yield* search(alice, "martians men")).length, 2)
      assert.deepStrictEqual(bodies(yield* search(alice, '"and men"')), ["Martians and men"])
      assert.strictEqual((yield* search(alice, "matters", { keys: ["content.name"] })).results.length, 1)
      assert.strictEqual((yield* search(alice, "matters", { keys: ["content.body"] })).results.length, 0)
      const first = yield* search(bob, "men", { order_by: "recent", filter: { limit: 2 } })
      const rest = yield* search(bob, "men", { order_by: "recent", filter: { limit: 2 } }, first.next_batch)
      assert.deepStrictEqual([...bodies(first), ...bodies(rest)].length, 3)
      assert.isUndefined(rest.next_batch)
      assert.deepStrictEqual(bodies(yield* search(bob, "men", { filter: { rooms: [other] } })), ["men elsewhere"])
      assert.deepStrictEqual(bodies(yield* search(bob, "men", { filter: { senders: [alice.id] } })), [
        "Martians and men"
      ])
    })
  )

  it.effect("does not find events that the user may not see, or that were redacted", () =>
    Effect.gen(function* () {
      const alice = yield* register("hide-alice")
      const bob = yield* register("hide-bob")
      const carol = yield* register("hide-carol")
      const state = { type: "m.room.history_visibility", state_key: "", content: { history_visibility: "joined" } }
      const room = yield* roomOf(alice, { initial_state: [state] }, carol)
      yield* say(alice, room, "secret before Bob")
      yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
      const redacted = yield* say(alice, room, "secret by mistake")
      yield* say(alice, room, "secret for Bob")
      yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/redact/${inPath(redacted)}/x${transactions++}`, {})
      yield* as(carol)("POST", `/v3/rooms/${inPath(room)}/leave`)
      yield* say(alice, room, "secret after Carol")
      const order = { order_by: "recent" }
      assert.deepStrictEqual(bodies(yield* search(bob, "secret", order)), ["secret after Carol", "secret for Bob"])
      assert.deepStrictEqual(bodies(yield* search(carol, "secret", order)), ["secret for Bob", "secret before Bob"])
    })
  )

  it.effect("results come with their context, profiles, state and groups", () =>
    Effect.gen(function* () {
      const alice = yield* register("around-alice")
      const bob = yield* register("around-bob")
      yield* as(alice)("PUT", `/v3/profile/${inPath(alice.id)}/displayname`, { displayname: "Alice" })
      const room = yield* roomOf(alice, {}, bob)
      yield* say(alice, room, "before")
      const event = yield* say(alice, room, "the needle")
      yield* say(bob, room, "after")
      const found = yield* search(bob, "needle", {
        event_context: { before_limit: 1, after_limit: 1, include_profile: true },
        include_state: true,
        groupings: { group_by: [{ key: "room_id" }, { key: "sender" }] }
      })
      const { context } = found.results[0]!
      assert.deepStrictEqual(
        context?.events_before.map(({ content }) => content.body),
        ["before"]
      )
      assert.deepStrictEqual(
        context?.events_after.map(({ content }) => content.body),
        ["after"]
      )
      assert.strictEqual(context?.profile_info?.[alice.id]?.displayname, "Alice")
      assert.isTrue(found.state?.[room]?.some(({ type }) => type === "m.room.create"))
      assert.deepStrictEqual(found.groups?.room_id?.[room]?.results, [event])
      assert.deepStrictEqual(found.groups?.sender?.[alice.id]?.results, [event])
    })
  )

  it.effect("a search of a thousand words, unknown keys and wrong tokens are refused", () =>
    Effect.gen(function* () {
      const alice = yield* register("refuse-alice")
      const many = Array.from({ length: 1_000 }, (_, index) => `w${index}`).join(" ")
      assert.strictEqual((yield* ask(alice, many)).body.errcode, "M_INVALID_PARAM")
      assert.strictEqual((yield* ask(alice, "x", { keys: ["content.secret"] })).body.errcode, "M_INVALID_PARAM")
      assert.strictEqual((yield* ask(alice, "x", {}, "nonsense")).body.errcode, "M_INVALID_PARAM")
      for (const odd of ["", "   ", "' & | ! ( <->", '"', "\0", "-x"]) {
        assert.strictEqual((yield* ask(alice, odd)).status, 200, odd)
      }
    })
  )
})
