import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import {
  as,
  gateway,
  inPath,
  joinRoom,
  redactEvent,
  register,
  roomWith,
  sendText,
  type TestUser
} from "../TestGateway.ts"

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
      readonly start: string
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

const request = (user: TestUser, search_term: string, more: object = {}, next?: string) =>
  as(user)("POST", `/v3/search${next === undefined ? "" : `?next_batch=${inPath(next)}`}`, {
    search_categories: { room_events: { search_term, ...more } }
  })
const search = (user: TestUser, search_term: string, more: object = {}, next?: string) =>
  Effect.map(
    request(user, search_term, more, next),
    ({ body }) => (body.search_categories as { readonly room_events: Found }).room_events
  )
const bodies = ({ results }: Found) => results.map(({ result }) => result.content.body)

layer(gateway, { excludeTestServices: true })("search", (it) => {
  it.effect("finds events in rooms of the user by time or by rank, in pages", () =>
    Effect.gen(function* () {
      const alice = yield* register("search-alice")
      const bob = yield* register("search-bob")
      const room = yield* roomWith(alice, [bob], { name: "Martian matters" })
      const other = yield* roomWith(bob)
      yield* sendText(alice, room, "Martians and men")
      yield* sendText(alice, room, "nothing of the kind")
      yield* sendText(bob, room, "men are from Mars, martians are not men, says every martian")
      yield* sendText(bob, other, "men elsewhere")
      const recent = yield* search(alice, "men", { order_by: "recent" })
      assert.deepStrictEqual(bodies(recent), [
        "men are from Mars, martians are not men, says every martian",
        "Martians and men"
      ])
      assert.deepStrictEqual([recent.count, recent.highlights], [2, ["men"]])
      assert.lengthOf(bodies(yield* search(alice, "martians men")), 2)
      assert.deepStrictEqual(bodies(yield* search(alice, '"and men"')), ["Martians and men"])
      assert.lengthOf((yield* search(alice, "matters", { keys: ["content.name"] })).results, 1)
      assert.lengthOf((yield* search(alice, "matters", { keys: ["content.body"] })).results, 0)
      const first = yield* search(bob, "men", { order_by: "recent", filter: { limit: 2 } })
      const rest = yield* search(bob, "men", { order_by: "recent", filter: { limit: 2 } }, first.next_batch)
      assert.deepStrictEqual(
        [...bodies(first), ...bodies(rest)],
        ["men elsewhere", "men are from Mars, martians are not men, says every martian", "Martians and men"]
      )
      assert.isUndefined(rest.next_batch)
      assert.deepStrictEqual(bodies(yield* search(bob, "men", { filter: { rooms: [other] } })), ["men elsewhere"])
      assert.deepStrictEqual(bodies(yield* search(bob, "men", { filter: { senders: [alice.id] } })), [
        "Martians and men"
      ])
    })
  )

  it.effect("does not find redacted events, or events that the user may not see", () =>
    Effect.gen(function* () {
      const alice = yield* register("hide-alice")
      const bob = yield* register("hide-bob")
      const carol = yield* register("hide-carol")
      const state = { type: "m.room.history_visibility", state_key: "", content: { history_visibility: "joined" } }
      const room = yield* roomWith(alice, [carol], { initial_state: [state] })
      yield* sendText(alice, room, "secret before Bob")
      yield* joinRoom(bob, room)
      const redacted = yield* sendText(alice, room, "secret by mistake")
      yield* sendText(alice, room, "secret for Bob")
      yield* redactEvent(alice, room, redacted)
      yield* as(carol)("POST", `/v3/rooms/${inPath(room)}/leave`)
      yield* sendText(alice, room, "secret after Carol")
      const order = { order_by: "recent" }
      assert.deepStrictEqual(bodies(yield* search(bob, "secret", order)), ["secret after Carol", "secret for Bob"])
      const ofCarol = yield* search(carol, "secret", order)
      assert.deepStrictEqual(bodies(ofCarol), ["secret for Bob", "secret before Bob"])
      assert.strictEqual(ofCarol.count, 2)
      // What later members say changes neither the number of matches nor the next page.
      const page = yield* search(carol, "secret", { ...order, filter: { limit: 1 } })
      assert.deepStrictEqual(bodies(page), ["secret for Bob"])
      const rest = yield* search(carol, "secret", { ...order, filter: { limit: 1 } }, page.next_batch)
      assert.deepStrictEqual(bodies(rest), ["secret before Bob"])
      yield* sendText(alice, room, "mystery")
      assert.strictEqual((yield* search(carol, "mystery")).count, 0)
      assert.strictEqual((yield* search(bob, "secret", order)).count, 2)
    })
  )

  it.effect("returns results with context, profiles, state and groups", () =>
    Effect.gen(function* () {
      const alice = yield* register("around-alice")
      const bob = yield* register("around-bob")
      yield* as(alice)("PUT", `/v3/profile/${inPath(alice.id)}/displayname`, { displayname: "Alice" })
      const room = yield* roomWith(alice, [bob])
      yield* sendText(alice, room, "before")
      const event = yield* sendText(alice, room, "the needle")
      yield* sendText(bob, room, "after")
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

  it.effect("returns few megabytes of events around results, however large these events are", () =>
    Effect.gen(function* () {
      const alice = yield* register("large-alice")
      const room = yield* roomWith(alice, [])
      const long = "x".repeat(60_000)
      for (let index = 0; index < 40; index++) yield* sendText(alice, room, `haystack ${index} ${long}`)
      const { results } = yield* search(alice, "haystack", {
        filter: { limit: 40 },
        event_context: { before_limit: 25, after_limit: 25 }
      })
      assert.lengthOf(results, 40)
      const around = results.flatMap(({ context }) => [...context!.events_before, ...context!.events_after])
      assert.isAbove(around.length, 25)
      assert.isBelow(around.length * long.length, 8 * 1024 * 1024)
      for (const { context } of results) assert.isString(context!.start)
    })
  )

  it.effect("refuses a thousand words, unknown keys and invalid tokens", () =>
    Effect.gen(function* () {
      const alice = yield* register("refuse-alice")
      const many = Array.from({ length: 1_000 }, (_, index) => `w${index}`).join(" ")
      assert.strictEqual((yield* request(alice, many)).body.errcode, "M_INVALID_PARAM")
      assert.strictEqual((yield* request(alice, "x", { keys: ["content.secret"] })).body.errcode, "M_INVALID_PARAM")
      assert.strictEqual((yield* request(alice, "x", {}, "nonsense")).body.errcode, "M_INVALID_PARAM")
      for (const odd of ["", "   ", "' & | ! ( <->", '"', "\0", "-x"]) {
        assert.strictEqual((yield* request(alice, odd)).status, 200, odd)
      }
    })
  )
})
