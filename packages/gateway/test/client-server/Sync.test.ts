import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import {
  as,
  createRoom,
  gateway,
  inPath,
  joinRoom,
  logIn,
  putState,
  register,
  roomWith,
  sendText
} from "../TestGateway.ts"
import { type Answer, bodies, type Events, memberships, type SyncedRoom, sync, syncUntil, types } from "./SyncClient.ts"

layer(gateway, { excludeTestServices: true })("sync", (it) => {
  it.effect("returns all rooms first and then updates, each event once", () =>
    Effect.gen(function* () {
      const alice = yield* register("sync-alice")
      const room = yield* createRoom(alice, { name: "Tea" })
      yield* sendText(alice, room, "first")
      const first = yield* sync(alice)
      const joined = first.rooms.join[room]
      assert.deepStrictEqual(bodies(joined), ["first"])
      assert.deepInclude(joined?.summary, { "m.joined_member_count": 1, "m.invited_member_count": 0 })
      assert.include(
        first.account_data.events.map(({ type }) => type),
        "m.push_rules"
      )
      assert.deepStrictEqual((yield* sync(alice, { since: first.next_batch })).rooms.join, {})
      yield* sendText(alice, room, "second")
      const second = yield* sync(alice, { since: first.next_batch })
      assert.deepStrictEqual(bodies(second.rooms.join[room]), ["second"])
      assert.deepStrictEqual(second.rooms.join[room]?.state, { events: [] })
      assert.isFalse(second.rooms.join[room]?.timeline.limited)
      const repeated = yield* sync(alice, { since: first.next_batch })
      assert.deepStrictEqual(bodies(repeated.rooms.join[room]), ["second"])
    })
  )

  it.effect("a limited timeline has the newest events, the state changes before them and a token to read on", () =>
    Effect.gen(function* () {
      const alice = yield* register("gap-alice")
      const room = yield* createRoom(alice)
      yield* putState(alice, room, "m.room.topic", { topic: "old" })
      const { next_batch: since } = yield* sync(alice)
      yield* sendText(alice, room, "1")
      yield* putState(alice, room, "m.room.topic", { topic: "new" })
      for (const text of ["2", "3", "4"]) yield* sendText(alice, room, text)
      const filter = { room: { timeline: { limit: 2 } } }
      const joined = (yield* sync(alice, { since, filter })).rooms.join[room]
      assert.isTrue(joined?.timeline.limited)
      assert.deepStrictEqual(bodies(joined), ["3", "4"])
      assert.deepStrictEqual(types(joined?.state), ["m.room.topic"])
      assert.deepStrictEqual(joined?.state?.events[0]?.content, { topic: "new" })
      const older = yield* as(alice)(
        "GET",
        `/v3/rooms/${inPath(room)}/messages?dir=b&from=${joined?.timeline.prev_batch}&to=${since}`
      )
      const found = older.body.chunk.map(({ content }) => content.body ?? "topic")
      assert.deepStrictEqual(found, ["2", "topic", "1"])
    })
  )

  it.effect("use_state_after returns the state at the end of the timeline, under the stable or unstable name", () =>
    Effect.gen(function* () {
      const alice = yield* register("after-alice")
      const room = yield* createRoom(alice)
      const { next_batch: since } = yield* sync(alice)
      yield* putState(alice, room, "m.room.topic", { topic: "new" })
      const stable = (yield* sync(alice, { since, use_state_after: true })).rooms.join[room]
      assert.deepStrictEqual(types(stable?.state_after), ["m.room.topic"])
      assert.isUndefined(stable?.state)
      const unstable = yield* sync(alice, { since, "org.matrix.msc4222.use_state_after": true })
      assert.deepStrictEqual(types(unstable.rooms.join[room]?.["org.matrix.msc4222.state_after"]), ["m.room.topic"])
    })
  )

  it.effect("a waiting request is answered with the next message, receipt or account data", () =>
    Effect.gen(function* () {
      const alice = yield* register("wait-alice")
      const bob = yield* register("wait-bob")
      const room = yield* createRoom(alice)
      yield* joinRoom(bob, room)
      const { next_batch: since } = yield* sync(bob)
      const waiting = yield* Effect.forkChild(sync(bob, { since, timeout: 60_000 }))
      yield* sendText(alice, room, "Hello Bob")
      const answer = yield* Fiber.join(waiting)
      assert.deepStrictEqual(bodies(answer.rooms.join[room]), ["Hello Bob"])
      assert.deepStrictEqual(memberships(answer.rooms.join[room]), ["join"])
      const again = yield* Effect.forkChild(sync(bob, { since: answer.next_batch, timeout: 60_000 }))
      const [message] = answer.rooms.join[room]?.timeline.events ?? []
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/receipt/m.read/${inPath(message?.event_id ?? "")}`, {})
      const seen = yield* Fiber.join(again)
      assert.strictEqual(seen.rooms.join[room]?.ephemeral?.events[0]?.type, "m.receipt")
      const data = yield* Effect.forkChild(sync(bob, { since: seen.next_batch, timeout: 60_000 }))
      yield* as(bob)("PUT", `/v3/user/${inPath(bob.id)}/account_data/org.example`, { a: 1 })
      assert.strictEqual((yield* Fiber.join(data)).account_data.events[0]?.type, "org.example")
    })
  )

  it.effect("an invitation has stripped state, a join returns the whole room, and a leave ends it", () =>
    Effect.gen(function* () {
      const alice = yield* register("life-alice")
      const bob = yield* register("life-bob")
      const room = yield* createRoom(alice, { visibility: "private", name: "Tea" })
      yield* sendText(alice, room, "before")
      const start = yield* sync(bob)
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/invite`, { user_id: bob.id })
      const invited = yield* sync(bob, { since: start.next_batch })
      const stripped = invited.rooms.invite[room]?.invite_state.events ?? []
      assert.includeMembers(types({ events: stripped }), ["m.room.create", "m.room.name", "m.room.member"])
      assert.isAbove(Number(stripped.find(({ state_key }) => state_key === bob.id)?.origin_server_ts), 0)
      assert.deepStrictEqual(invited.rooms.join, {})
      yield* joinRoom(bob, room)
      const entered = yield* sync(bob, { since: invited.next_batch })
      const joined = entered.rooms.join[room]
      const eventTypes = [...types(joined?.state), ...types(joined?.timeline)]
      assert.includeMembers(eventTypes, ["m.room.create", "m.room.power_levels", "m.room.member"])
      assert.deepStrictEqual(bodies(joined), ["before"])
      assert.deepStrictEqual(memberships(joined), ["leave", "invite", "join"])
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/kick`, { user_id: bob.id })
      yield* sendText(alice, room, "after")
      const ended = yield* sync(bob, { since: entered.next_batch })
      assert.deepStrictEqual(ended.rooms.join, {})
      assert.deepStrictEqual(types(ended.rooms.leave[room]?.timeline), ["m.room.member"])
      assert.deepStrictEqual(memberships(ended.rooms.leave[room]), ["leave"])
      const later = yield* sync(bob, { since: ended.next_batch })
      assert.deepStrictEqual(later.rooms.leave, {})
      assert.notProperty((yield* sync(bob)).rooms.leave, room)
      const withLeft = yield* sync(bob, { filter: { room: { include_leave: true } } })
      assert.deepStrictEqual(bodies(withLeft.rooms.leave[room]), ["before"])
    })
  )

  it.effect("a user who left and joined again gets the state changes of the gap, and no messages", () =>
    Effect.gen(function* () {
      const alice = yield* register("away-alice")
      const bob = yield* register("away-bob")
      const carol = yield* register("away-carol")
      const room = yield* createRoom(alice)
      const path = `/v3/rooms/${inPath(room)}`
      yield* as(alice)("PUT", `${path}/state/m.room.history_visibility/`, { history_visibility: "joined" })
      yield* joinRoom(bob, room)
      const { next_batch: since } = yield* sync(bob)
      yield* as(bob)("POST", `${path}/leave`, {})
      yield* sendText(alice, room, "secret")
      yield* joinRoom(carol, room)
      yield* as(alice)("PUT", `${path}/state/m.room.topic/`, { topic: "replaced meanwhile" })
      yield* as(alice)("PUT", `${path}/state/m.room.topic/`, { topic: "Tea" })
      yield* joinRoom(bob, room)
      yield* sendText(alice, room, "welcome back")
      const joined = (yield* sync(bob, { since })).rooms.join[room]
      assert.deepStrictEqual(bodies(joined), ["welcome back"])
      assert.isTrue(joined?.timeline.limited)
      const topics = joined?.timeline.events.filter(({ type }) => type === "m.room.topic")
      assert.deepStrictEqual(
        topics?.map(({ content }) => content.topic),
        ["Tea"]
      )
      assert.isTrue(joined?.timeline.events.some(({ state_key }) => state_key === carol.id))
      yield* as(bob)("POST", `${path}/leave`, {})
      yield* sendText(alice, room, "secret again")
      yield* joinRoom(bob, room)
      yield* as(bob)("POST", `${path}/leave`, {})
      const left = (yield* sync(bob, { since })).rooms.leave[room]
      assert.deepStrictEqual(bodies(left), ["welcome back"])
    })
  )

  it.effect("a room that a user joined and left since the former answer comes with its whole state", () =>
    Effect.gen(function* () {
      const alice = yield* register("brief-alice")
      const bob = yield* register("brief-bob")
      const room = yield* createRoom(alice, { name: "Tea" })
      const filter = { room: { timeline: { limit: 2 } } }
      const { next_batch: since } = yield* sync(bob, { filter })
      yield* joinRoom(bob, room)
      for (const text of ["1", "2"]) yield* sendText(alice, room, text)
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      yield* sendText(alice, room, "secret")
      const left = (yield* sync(bob, { filter, since })).rooms.leave[room]
      assert.deepStrictEqual(types(left?.timeline), ["m.room.message", "m.room.member"])
      assert.includeMembers(types(left?.state), ["m.room.create", "m.room.power_levels", "m.room.name"])
    })
  )

  it.effect("the timeline of a room that a user has joined again is limited, also if the room has few events", () =>
    Effect.gen(function* () {
      const alice = yield* register("again-alice")
      const bob = yield* register("again-bob")
      const room = yield* createRoom(alice)
      yield* joinRoom(bob, room)
      const filter = { room: { timeline: { limit: 100 } } }
      const first = yield* sync(bob, { filter })
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      const { next_batch: since } = yield* sync(bob, { filter, since: first.next_batch })
      yield* joinRoom(bob, room)
      const joined = (yield* sync(bob, { filter, since })).rooms.join[room]
      assert.strictEqual(types(joined?.timeline)[0], "m.room.create")
      assert.isTrue(joined?.timeline.limited)
    })
  )

  it.effect("users who reject an invitation or retract a knock get their own event, and no others of the room", () =>
    Effect.gen(function* () {
      const alice = yield* register("refuse-alice")
      const bob = yield* register("refuse-bob")
      const room = yield* createRoom(alice, { visibility: "private", name: "Tea" })
      const state = (type: string) => `/v3/rooms/${inPath(room)}/state/${type}/`
      yield* as(alice)("PUT", state("m.room.history_visibility"), { history_visibility: "joined" })
      const { next_batch: since } = yield* sync(bob)
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/invite`, { user_id: bob.id })
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      yield* as(alice)("PUT", state("m.room.topic"), { topic: "Secrets" })
      const refused = yield* sync(bob, { since })
      const seesOwnEventAlone = ({ rooms }: Answer) => {
        const left = rooms.leave[room]
        assert.deepStrictEqual(
          left?.timeline.events.map(({ content, state_key }) => [state_key, content.membership]),
          [[bob.id, "leave"]]
        )
        assert.deepStrictEqual(left?.state?.events ?? [], [])
      }
      seesOwnEventAlone(refused)
      assert.deepStrictEqual((yield* sync(bob, { since: refused.next_batch })).rooms.leave, {})
      seesOwnEventAlone(yield* sync(bob, { filter: { room: { include_leave: true } } }))
      yield* as(alice)("PUT", state("m.room.join_rules"), { join_rule: "knock" })
      yield* as(bob)("POST", `/v3/knock/${inPath(room)}`, {})
      const knocked = yield* sync(bob, { since: refused.next_batch })
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      seesOwnEventAlone(yield* sync(bob, { since: knocked.next_batch }))
    })
  )

  it.effect("lazy loading returns the members of the timeline", () =>
    Effect.gen(function* () {
      const alice = yield* register("lazy-alice")
      const users = [yield* register("lazy-bob"), yield* register("lazy-carol"), yield* register("lazy-dan")]
      const room = yield* createRoom(alice, { name: "Named" })
      for (const user of users) yield* joinRoom(user, room)
      for (const n of [1, 2]) yield* sendText(users[0]!, room, `${n}`)
      const filter = { room: { timeline: { limit: 2 }, state: { lazy_load_members: true } } }
      const first = yield* sync(alice, { filter })
      const members = (room: SyncedRoom | undefined) =>
        room?.state?.events.filter(({ type }) => type === "m.room.member").map(({ state_key }) => state_key)
      assert.sameMembers(members(first.rooms.join[room]) ?? [], [alice.id, users[0]!.id])
      yield* sendText(users[2]!, room, "3")
      const next = yield* sync(alice, { filter, since: first.next_batch })
      assert.deepStrictEqual(members(next.rooms.join[room]), [users[2]!.id])
    })
  )

  it.effect(
    "lazy loading sends a membership to a device once, unless it changed or the filter includes redundant members",
    () =>
      Effect.gen(function* () {
        const alice = yield* register("once-alice")
        const bob = yield* register("once-bob")
        const room = yield* createRoom(alice, { name: "Named" })
        yield* joinRoom(bob, room)
        const lazy = { lazy_load_members: true }
        const filter = { room: { timeline: { limit: 1 }, state: lazy } }
        const bobs = (answer: Answer) =>
          answer.rooms.join[room]?.state?.events.filter(({ state_key }) => state_key === bob.id).length
        yield* sendText(alice, room, "0")
        const first = yield* sync(alice, { filter })
        assert.strictEqual(bobs(first), 0)
        yield* sendText(bob, room, "1")
        const lost = yield* sync(alice, { filter, since: first.next_batch })
        assert.strictEqual(bobs(lost), 1)
        const repeated = yield* sync(alice, { filter, since: first.next_batch })
        assert.strictEqual(bobs(repeated), 1, "the first answer may be lost")
        for (const [text, options, sent] of [
          ["2", { filter }, 0],
          ["3", { filter: { room: { ...filter.room, state: { ...lazy, include_redundant_members: true } } } }, 1],
          ["4", { filter, full_state: true }, 1],
          ["5", { filter }, 0],
          ["6", { filter, timeout: 10_000 }, 0]
        ] as const) {
          const { next_batch: since } = yield* sync(alice, { filter, since: repeated.next_batch })
          yield* sendText(bob, room, text)
          assert.strictEqual(bobs(yield* sync(alice, { since, ...options })), sent, text)
        }
        const known = yield* sync(alice, { filter, since: repeated.next_batch })
        const waiting = yield* Effect.forkChild(
          syncUntil(alice, known.next_batch, ({ rooms }) => rooms.join[room] !== undefined, { filter })
        )
        yield* sendText(bob, room, "7")
        assert.strictEqual(bobs(yield* Fiber.join(waiting)), 0)
        const { next_batch: since } = yield* sync(alice, { filter, since: known.next_batch })
        const membership = `/v3/rooms/${inPath(room)}/state/m.room.member/${inPath(bob.id)}`
        yield* as(bob)("PUT", membership, { membership: "join", displayname: "Bob" })
        yield* sendText(bob, room, "8")
        assert.strictEqual(bobs(yield* sync(alice, { filter, since })), 1, "it has changed")
        const other = yield* logIn("once-alice")
        const elsewhere = { ...alice, token: other.body.access_token }
        assert.strictEqual(bobs(yield* sync(elsewhere, { filter })), 1, "another device has no members yet")
      })
  )

  it.effect("lazy loading returns the members who give a room without a name its name", () =>
    Effect.gen(function* () {
      const alice = yield* register("hero-alice")
      const [bob, carol] = [yield* register("hero-bob"), yield* register("hero-carol")]
      const room = yield* createRoom(alice)
      yield* joinRoom(bob, room)
      yield* sendText(alice, room, "1")
      const filter = { room: { timeline: { limit: 1 }, state: { lazy_load_members: true } } }
      const namesOf = (answer: Answer, key: "state" | "state_after" = "state") => {
        const { [key]: state, summary } = answer.rooms.join[room] ?? {}
        return {
          heroes: summary?.["m.heroes"],
          members: state?.events.filter(({ type }) => type === "m.room.member").map(({ state_key }) => state_key)
        }
      }
      const first = yield* sync(alice, { filter })
      assert.deepStrictEqual(namesOf(first).heroes, [bob.id])
      assert.sameMembers(namesOf(first).members ?? [], [alice.id, bob.id])
      const after = yield* sync(alice, { filter, use_state_after: true })
      assert.sameMembers(namesOf(after, "state_after").members ?? [], [alice.id, bob.id])
      yield* joinRoom(carol, room)
      yield* sendText(alice, room, "2")
      const next = yield* sync(alice, { filter, since: after.next_batch })
      assert.deepStrictEqual(namesOf(next).heroes, [bob.id, carol.id])
      assert.deepStrictEqual(namesOf(next).members, [carol.id], "the client has the membership of bob")
      const elsewhere = { ...alice, token: (yield* logIn("hero-alice")).body.access_token }
      const other = yield* sync(elsewhere, { filter, since: after.next_batch })
      assert.sameMembers(namesOf(other).members ?? [], [alice.id, bob.id, carol.id], "another device has none")
      yield* putState(alice, room, "m.room.name", { name: "Named" })
      const named = yield* sync(elsewhere, { filter })
      assert.deepStrictEqual(namesOf(named), { heroes: undefined, members: [alice.id] })
      yield* putState(alice, room, "m.room.name", { name: "" })
      assert.deepStrictEqual(namesOf(yield* sync(elsewhere, { filter })).heroes, [bob.id, carol.id])
      const alias = "#hero:green.test"
      yield* as(alice)("PUT", `/v3/directory/room/${inPath(alias)}`, { room_id: room })
      yield* putState(alice, room, "m.room.canonical_alias", { alias })
      assert.isUndefined(namesOf(yield* sync(elsewhere, { filter })).heroes, "the alias names the room")
    })
  )

  it.effect("a room is named after its members, then after former ones, and not after users who knock", () =>
    Effect.gen(function* () {
      const alice = yield* register("former-hero-alice")
      const [bob, carol, dan] = yield* Effect.all(
        ["bob", "carol", "dan"].map((name) => register(`former-hero-${name}`))
      )
      const room = yield* roomWith(alice, [bob!])
      yield* as(bob!)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      yield* joinRoom(carol!, room)
      yield* putState(alice, room, "m.room.join_rules", { join_rule: "knock" })
      yield* as(dan!)("POST", `/v3/knock/${inPath(room)}`, {})
      const { summary } = (yield* sync(alice)).rooms.join[room] ?? {}
      assert.deepStrictEqual(summary?.["m.heroes"], [carol!.id, bob!.id])
    })
  )

  it.effect("lazy loading returns members who left, in state_after and after a gap", () =>
    Effect.gen(function* () {
      const alice = yield* register("gone-alice")
      const bob = yield* register("gone-bob")
      const room = yield* createRoom(alice)
      const path = `/v3/rooms/${inPath(room)}`
      const lazy = (limit: number) => ({ room: { timeline: { limit }, state: { lazy_load_members: true } } })
      const bobIn = (events: Events | undefined) =>
        events?.events.find(({ state_key }) => state_key === bob.id)?.content.membership
      const invitedJoin = Effect.andThen(
        as(alice)("POST", `${path}/invite`, { user_id: bob.id }),
        as(bob)("POST", `${path}/join`, {})
      )
      const kick = as(alice)("POST", `${path}/kick`, { user_id: bob.id })

      yield* invitedJoin
      const { next_batch: since } = yield* sync(bob)
      const { next_batch: aliceSince } = yield* sync(alice)
      yield* kick
      const own = yield* sync(bob, { since, filter: lazy(20), use_state_after: true })
      assert.strictEqual(bobIn(own.rooms.leave[room]?.state_after), "leave")
      for (const text of ["1", "2"]) yield* sendText(alice, room, text)
      const afterGap = yield* sync(alice, { since: aliceSince, filter: lazy(1) })
      assert.isTrue(afterGap.rooms.join[room]?.timeline.limited)
      assert.strictEqual(bobIn(afterGap.rooms.join[room]?.state), "leave")
    })
  )

  it.effect("invalid tokens and filters are refused, and a token from the future is ignored", () =>
    Effect.gen(function* () {
      const alice = yield* register("wrong-alice")
      const room = yield* createRoom(alice)
      for (const wrong of [
        "since=nonsense",
        "filter=99999",
        `filter=${inPath("{")}`,
        "timeout=soon",
        "full_state=yes"
      ]) {
        const { body, status } = yield* as(alice)("GET", `/v3/sync?${wrong}`)
        assert.deepStrictEqual([status, body.errcode], [400, "M_INVALID_PARAM"], wrong)
      }
      const future = yield* sync(alice, { since: "s999999999_0" })
      assert.property(future.rooms.join, room)
    })
  )
})
