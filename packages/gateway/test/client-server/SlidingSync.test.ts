import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { as, askToday, createRoom, gateway, inPath, register, sendText } from "../TestGateway.ts"
import { type Answer, bodies, inviteAndJoin, list, request, sync, types } from "./SlidingSyncClient.ts"

/** Lists with overlapping ranges over all rooms. Each requires `types` types of state of its own. */
const manyLists = (count: number, types: number) => ({
  lists: Object.fromEntries(
    Array.from({ length: count }, (_, index) => [
      `list${index}`,
      {
        ranges: Array.from({ length: 100 }, (_, from) => [from % 7, 9_000_000_000]),
        required_state: Array.from({ length: types }, (_, n) => [`type${index}.${n}`, ""])
      }
    ])
  )
})

layer(gateway, { excludeTestServices: true })("sliding sync", (it) => {
  it.effect("is announced in /versions", () =>
    Effect.gen(function* () {
      const { body } = yield* askToday("GET", "/versions")
      assert.deepInclude(body.unstable_features as object, { "org.matrix.simplified_msc3575": true })
    })
  )

  it.effect("accepts the stable path and names, and continues a connection of the unstable ones", () =>
    Effect.gen(function* () {
      const alice = yield* register("stable-alice")
      const room = yield* createRoom(alice, { name: "a" })
      const body = {
        conn_id: "stable",
        lists: {
          all: {
            range: [0, 9],
            timeline_limit: 1,
            required_state: { include: [{ type: "m.room.create" }], lazy_members: true }
          }
        }
      }
      const ask = (more: object) =>
        Effect.map(as(alice)("POST", "/v4/sync", { ...body, ...more }), (answer) => answer.body as unknown as Answer)
      const first = yield* ask({})
      assert.deepStrictEqual(first.lists, { all: { count: 1 } })
      assert.deepInclude(first.rooms[room], { initial: true, membership: "join", name: "a", lists: ["all"] })
      const waiting = yield* Effect.forkChild(ask({ pos: first.pos, timeout: 30_000 }))
      yield* sendText(alice, room, "hello")
      const second = yield* Fiber.join(waiting)
      assert.deepStrictEqual(bodies(second.rooms[room]), ["hello"])
      const third = yield* sync(alice, body, second.pos)
      assert.deepStrictEqual(third.rooms, {})
      const unknown = yield* as(alice)("POST", "/v4/sync", { ...body, pos: "nothing" })
      assert.deepStrictEqual([unknown.status, unknown.body.errcode], [400, "M_UNKNOWN_POS"])
    })
  )

  it.effect("returns a window of the most recent rooms and its updates, each event once", () =>
    Effect.gen(function* () {
      const alice = yield* register("window-alice")
      const rooms: Array<string> = []
      for (const name of ["a", "b", "c"]) rooms.push(yield* createRoom(alice, { name }))
      const [a = "", b = "", c = ""] = rooms
      yield* sendText(alice, a, "first")

      const first = yield* sync(alice, list([[0, 1]]))
      assert.deepStrictEqual(first.lists, { all: { count: 3 } })
      assert.sameMembers(Object.keys(first.rooms), [a, c])
      assert.deepInclude(first.rooms[a], { initial: true, membership: "join", name: "a", limited: true, num_live: 0 })
      assert.deepStrictEqual(bodies(first.rooms[a]), ["first"])
      assert.deepStrictEqual(types(first.rooms[a]?.required_state), ["m.room.create"])

      const nothing = yield* sync(alice, list([[0, 1]]), first.pos)
      assert.deepStrictEqual(nothing.rooms, {})
      assert.deepStrictEqual(nothing.lists, { all: { count: 3 } })

      yield* sendText(alice, a, "second")
      const second = yield* sync(alice, list([[0, 1]]), nothing.pos)
      assert.deepStrictEqual(Object.keys(second.rooms), [a])
      assert.notProperty(second.rooms[a], "initial")
      assert.deepInclude(second.rooms[a], { num_live: 1, limited: false })
      assert.deepStrictEqual(bodies(second.rooms[a]), ["second"])
      assert.isAbove(second.rooms[a]?.bump_stamp ?? 0, first.rooms[a]?.bump_stamp ?? 0)
      assert.deepStrictEqual(second.rooms[a]?.required_state, [])

      // A larger window returns the rooms that it adds.
      const third = yield* sync(alice, list([[0, 9]]), second.pos)
      assert.deepStrictEqual(Object.keys(third.rooms), [b])
      assert.isTrue(third.rooms[b]?.initial)
    })
  )

  it.effect("a room that returns to the window continues where the client left it", () =>
    Effect.gen(function* () {
      const alice = yield* register("back-alice")
      const a = yield* createRoom(alice, { name: "a" })
      const b = yield* createRoom(alice, { name: "b" })
      const narrow = list([[0, 0]], { timeline_limit: 10 })
      const first = yield* sync(alice, narrow)
      assert.deepStrictEqual(Object.keys(first.rooms), [b])
      yield* sendText(alice, a, "in a")
      const second = yield* sync(alice, narrow, first.pos)
      assert.deepStrictEqual(Object.keys(second.rooms), [a])
      yield* sendText(alice, b, "one")
      yield* sendText(alice, a, "two")
      const third = yield* sync(alice, narrow, second.pos)
      assert.deepStrictEqual(Object.keys(third.rooms), [a])
      yield* sendText(alice, b, "three")
      const fourth = yield* sync(alice, narrow, third.pos)
      assert.deepStrictEqual(Object.keys(fourth.rooms), [b])
      assert.notProperty(fourth.rooms[b], "initial")
      assert.deepStrictEqual(bodies(fourth.rooms[b]), ["one", "three"])
    })
  )

  it.effect("a repeated position is answered again; an older, foreign or malformed one is M_UNKNOWN_POS", () =>
    Effect.gen(function* () {
      const alice = yield* register("repeat-alice")
      const bob = yield* register("repeat-bob")
      const a = yield* createRoom(alice, { name: "a" })
      const b = yield* createRoom(alice, { name: "b" })
      const first = yield* sync(alice, list([[0, 0]]))
      yield* sendText(alice, a, "hello")
      const second = yield* sync(alice, list([[0, 0]]), first.pos)
      const again = yield* sync(alice, list([[0, 0]]), first.pos)
      assert.deepStrictEqual(Object.keys(again.rooms), Object.keys(second.rooms))
      assert.deepStrictEqual(bodies(again.rooms[a]), ["hello"])
      yield* sendText(alice, b, "more")
      const third = yield* sync(alice, list([[0, 0]]), again.pos)
      assert.deepStrictEqual(bodies(third.rooms[b]), ["more"])
      yield* sendText(alice, a, "still more")
      yield* sync(alice, list([[0, 0]]), third.pos)

      for (const [user, pos] of [
        [alice, first.pos],
        [bob, third.pos],
        [alice, "nonsense"],
        [alice, third.pos.replace(/_[^_]*$/, "_elsewhere")]
      ] as const) {
        const refused = yield* request(user, list([[0, 0]]), pos)
        assert.strictEqual(refused.status, 400)
        assert.strictEqual(refused.body.errcode, "M_UNKNOWN_POS")
      }
    })
  )

  it.effect("a waiting request is answered with the next message, or empty after its timeout", () =>
    Effect.gen(function* () {
      const alice = yield* register("wait-alice")
      const bob = yield* register("wait-bob")
      const room = yield* createRoom(alice)
      yield* inviteAndJoin(alice, bob, room)
      const first = yield* sync(bob, list([[0, 9]]))
      const waiting = yield* Effect.forkChild(sync(bob, list([[0, 9]]), first.pos, 20_000))
      yield* sendText(alice, room, "wake up")
      const answer = yield* Fiber.join(waiting)
      assert.deepStrictEqual(bodies(answer.rooms[room]), ["wake up"])
      assert.strictEqual(answer.rooms[room]?.notification_count, 1)
      const late = yield* sync(bob, list([[0, 9]]), answer.pos, 1)
      assert.deepStrictEqual(late.rooms, {})
    })
  )

  it.effect("a subscription returns more of the timeline of a room that its window has shown", () =>
    Effect.gen(function* () {
      const alice = yield* register("sub-alice")
      const room = yield* createRoom(alice, { name: "subscribed" })
      for (const text of ["1", "2", "3"]) yield* sendText(alice, room, text)
      const first = yield* sync(alice, list([[0, 9]]))
      assert.deepStrictEqual(bodies(first.rooms[room]), ["3"])
      const open = {
        ...list([[0, 9]]),
        room_subscriptions: { [room]: { timeline_limit: 3, required_state: [["m.room.name", ""]] } }
      }
      const opened = yield* sync(alice, open, first.pos)
      assert.deepStrictEqual(bodies(opened.rooms[room]), ["1", "2", "3"])
      assert.isTrue(opened.rooms[room]?.unstable_expanded_timeline)
      assert.deepStrictEqual(types(opened.rooms[room]?.required_state), ["m.room.name"])
      assert.deepStrictEqual((yield* sync(alice, open, opened.pos)).rooms, {})

      const stranger = yield* register("sub-stranger")
      const refused = yield* sync(stranger, { room_subscriptions: { [room]: { timeline_limit: 3 } } })
      assert.deepStrictEqual(refused.rooms, {})
    })
  )

  it.effect("a window of many rooms has the most recent ones", () =>
    Effect.gen(function* () {
      const alice = yield* register("recent-alice")
      const rooms: Array<string> = []
      for (let count = 0; count < 40; count++) rooms.push(yield* createRoom(alice))
      const active = [3, 35, 18, 7, 22].map((index) => rooms[index]!)
      for (const room of active) yield* sendText(alice, room, "news")
      for (const [from, to] of [
        [0, 0],
        [0, 2],
        [1, 4],
        [0, 39]
      ] as const) {
        const answer = yield* sync(alice, { ...list([[from, to]]), conn_id: `window${from}.${to}` })
        const newest = [...active.toReversed(), ...rooms.toReversed().filter((room) => !active.includes(room))]
        assert.sameMembers(Object.keys(answer.rooms), newest.slice(from, to + 1))
      }
    })
  )

  it.effect("large windows and many connections are bounded, and invalid requests are refused", () =>
    Effect.gen(function* () {
      const alice = yield* register("bound-alice")
      const room = yield* createRoom(alice)
      const overlapping = yield* sync(alice, manyLists(100, 10))
      assert.strictEqual(overlapping.rooms[room]?.lists?.length, 100)
      const huge = yield* sync(alice, list([[0, 9_000_000_000]], { timeline_limit: 1_000_000 }))
      assert.deepStrictEqual(Object.keys(huge.rooms), [room])
      let first: Answer | undefined
      for (let count = 0; count < 25; count++) {
        const answer = yield* sync(alice, { ...list([[0, 0]]), conn_id: `c${count}` })
        first ??= answer
      }
      yield* createRoom(alice)
      const messages = `/v3/rooms/${inPath(room)}/messages?dir=b&limit=1&from=${inPath(huge.pos)}`
      assert.strictEqual((yield* as(alice)("GET", messages)).status, 200)
      const forgotten = yield* request(alice, { ...list([[0, 0]]), conn_id: "c0" }, first?.pos)
      assert.strictEqual(forgotten.body.errcode, "M_UNKNOWN_POS")
      for (const wrong of [
        { lists: { all: { ranges: [[0]] } } },
        { lists: { all: { ranges: "all" } } },
        { lists: [] },
        { room_subscriptions: { x: 1 } },
        { extensions: { typing: 1 } },
        manyLists(101, 0),
        manyLists(10, 150),
        list([[0, 0]], { required_state: Array.from({ length: 300 }, () => ["*", "*"]) }),
        { room_subscriptions: Object.fromEntries(Array.from({ length: 10_000 }, (_, n) => [`!${n}:x`, {}])) }
      ]) {
        const refused = yield* request(alice, wrong)
        assert.strictEqual(refused.status, 400, JSON.stringify(wrong))
      }
      for (const wrong of [
        { set_presence: "asleep" },
        list([[5, 2]]),
        list([
          [0, 2],
          [9, 8]
        ]),
        { lists: { all: { range: [1, 0] } } },
        { extensions: { to_device: { enabled: true, limit: 0 } } },
        { extensions: { to_device: { enabled: true, since: "nonsense" } } }
      ]) {
        const refused = yield* request(alice, wrong)
        assert.deepStrictEqual([refused.status, refused.body.errcode], [400, "M_INVALID_PARAM"], JSON.stringify(wrong))
      }
    })
  )
})
