import { assert, layer } from "@effect/vitest"
import { Accounts } from "@greenroom/actors/account/Accounts"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import type { Gateway } from "../../src/Gateway.ts"
import {
  as,
  askToday,
  type ClientEvent,
  createRoom,
  gateway,
  inPath,
  joinRoom,
  register,
  type TestUser
} from "../TestGateway.ts"

const unstable = "/unstable/org.matrix.msc4140"

interface ScheduledEvent {
  readonly delay_id: string
  readonly type: string
  readonly delay_ms: number
  readonly content: unknown
}

const scheduled = (user: TestUser) =>
  Effect.map(
    as(user)("GET", `${unstable}/delayed_events`),
    ({ body }) => body.delayed_events as ReadonlyArray<ScheduledEvent>
  )

const schedule = (user: TestUser, room: string, txnId: string, delay_ms: number, state_key?: string) =>
  Effect.map(
    as(user)("PUT", `${unstable}/rooms/${inPath(room)}/delayed_event/org.example.call/${txnId}`, {
      delay_ms,
      ...(state_key === undefined ? {} : { state_key }),
      content: { txnId }
    }),
    ({ body }) => body.delay_id as string
  )

/** Syncs until `count` call events of the room have come. Returns their transaction IDs. */
const callEvents = Effect.fnUntraced(function* (
  user: TestUser,
  room: string,
  count: number
): Effect.fn.Return<ReadonlyArray<unknown>, never, Gateway> {
  const found: Array<unknown> = []
  let since = ""
  while (found.length < count) {
    const { body } = yield* as(user)("GET", `/v3/sync?timeout=30000${since === "" ? "" : `&since=${since}`}`)
    since = body.next_batch as string
    const rooms = (body.rooms as { join: Record<string, { timeline: { events: ReadonlyArray<ClientEvent> } }> }).join
    for (const { content, type } of rooms[room]?.timeline.events ?? []) {
      if (type === "org.example.call") found.push(content.txnId)
    }
  }
  return found
})

layer(gateway, { excludeTestServices: true })("delayed events", (it) => {
  it.effect("are sent once when their delay has passed", () =>
    Effect.gen(function* () {
      const alice = yield* register("delay-alice")
      const room = yield* createRoom(alice)
      const first = yield* schedule(alice, room, "one", 1)
      assert.strictEqual(yield* schedule(alice, room, "one", 1), first)
      yield* schedule(alice, room, "two", 2, alice.id)
      assert.sameMembers([...(yield* callEvents(alice, room, 2))], ["one", "two"])
      const { body } = yield* as(alice)("GET", `${unstable}/delayed_events/${first}`)
      assert.isString(body.event_id)
      assert.deepStrictEqual(yield* scheduled(alice), [])
      const bob = yield* register("delay-bob")
      yield* joinRoom(bob, room)
      const seenBy = (user: TestUser) =>
        Effect.map(
          as(user)("GET", `/v3/rooms/${inPath(room)}/event/${inPath(body.event_id)}`),
          ({ body }) => (body.unsigned as { readonly delay_id?: string }).delay_id
        )
      assert.deepStrictEqual([yield* seenBy(alice), yield* seenBy(bob)], [first, undefined])
      const ofKey = (stateKey: string) => schedule(alice, room, "state", 3_600_000, stateKey)
      assert.notStrictEqual(yield* ofKey("a"), yield* ofKey("b"), "a transaction ID is of one state key")
    })
  )

  it.effect("are restarted, sent at once and cancelled", () =>
    Effect.gen(function* () {
      const alice = yield* register("act-alice")
      const bob = yield* register("act-bob")
      const room = yield* createRoom(alice)
      const [sent, cancelled] = [
        yield* schedule(alice, room, "sent", 3_600_000),
        yield* schedule(alice, room, "cancelled", 7_200_000)
      ]
      assert.deepStrictEqual(
        (yield* scheduled(alice)).map(({ content, delay_id, delay_ms }) => ({ content, delay_id, delay_ms })),
        [
          { content: { txnId: "sent" }, delay_id: sent, delay_ms: 3_600_000 },
          { content: { txnId: "cancelled" }, delay_id: cancelled, delay_ms: 7_200_000 }
        ]
      )
      assert.deepStrictEqual(yield* scheduled(bob), [])
      const act = (user: TestUser, delayId: string, action: string) =>
        Effect.map(as(user)("POST", `${unstable}/delayed_events/${delayId}/${action}`, {}), ({ status }) => status)
      assert.strictEqual(yield* act(bob, sent, "send"), 404)
      assert.strictEqual(yield* act(alice, sent, "oops"), 404)
      assert.strictEqual(yield* act(alice, sent, "restart"), 200)
      assert.strictEqual(yield* act(alice, sent, "send"), 200)
      assert.strictEqual(yield* act(alice, sent, "send"), 200)
      assert.strictEqual(yield* act(alice, sent, "cancel"), 409)
      // An SFU acts for a client with the delay ID alone, without an access token.
      const byBody = yield* askToday("POST", `${unstable}/delayed_events/${cancelled}`, { json: { action: "cancel" } })
      assert.strictEqual(byBody.status, 200)
      assert.strictEqual(yield* act(alice, cancelled, "restart"), 409)
      assert.deepStrictEqual(yield* callEvents(alice, room, 1), ["sent"])
    })
  )

  it.effect("are scheduled by the query parameter of older clients, up to limits", () =>
    Effect.gen(function* () {
      const alice = yield* register("old-delay-alice")
      const room = yield* createRoom(alice)
      const put = (path: string, delay: number) =>
        as(alice)("PUT", `/v3/rooms/${inPath(room)}/${path}?org.matrix.msc4140.delay=${delay}`, { txnId: "old" })
      const { delay_id } = (yield* put("send/org.example.call/1", 3_600_000)).body
      assert.isString(delay_id)
      const repeat = (txnId: number) =>
        as(alice)("PUT", `/v3/rooms/${inPath(room)}/send/org.example.call/${txnId}?org.matrix.msc4140.delay=3600000`)
      assert.strictEqual((yield* repeat(1)).body.delay_id, delay_id, "a repeat needs no body")
      assert.strictEqual((yield* repeat(9)).body.errcode, "M_NOT_JSON")
      assert.isString((yield* put("state/org.example.call/key", 3_600_000)).body.delay_id)
      assert.strictEqual((yield* put("send/org.example.call/2", 86_400_001)).body.errcode, "M_FORBIDDEN")
      assert.strictEqual((yield* put("send/org.example.call/3", 0)).status, 400)
      assert.strictEqual((yield* scheduled(alice)).length, 2)
      for (let n = 2; n < 100; n++) yield* schedule(alice, room, `t${n}`, 3_600_000)
      const full = yield* put("send/org.example.call/4", 3_600_000)
      assert.strictEqual(full.body.errcode, "M_LIMIT_EXCEEDED")
    })
  )

  it.effect("are cancelled when the account of their user is deactivated", () =>
    Effect.gen(function* () {
      const alice = yield* register("end-alice")
      const delayId = yield* schedule(alice, yield* createRoom(alice), "late", 3_600_000)
      yield* Accounts.use((accounts) => accounts.deactivate(alice.id as UserId))
      const restart = yield* askToday("POST", `${unstable}/delayed_events/${delayId}`, { json: { action: "restart" } })
      assert.strictEqual(restart.status, 409)
    })
  )

  it.effect("that the room refuses when they are sent at once wait for their time", () =>
    Effect.gen(function* () {
      const alice = yield* register("early-alice")
      const bob = yield* register("early-bob")
      const room = yield* createRoom(alice)
      const delayId = yield* schedule(bob, room, "early", 3_600_000)
      const before = yield* scheduled(bob)
      const send = as(bob)("POST", `${unstable}/delayed_events/${delayId}/send`, {})
      assert.strictEqual((yield* send).body.errcode, "M_FORBIDDEN")
      assert.deepStrictEqual(yield* scheduled(bob), before)
      yield* joinRoom(bob, room)
      assert.strictEqual((yield* send).status, 200)
      assert.deepStrictEqual(yield* callEvents(bob, room, 1), ["early"])
    })
  )

  it.effect("that the room refuses are not sent again, and have the error", () =>
    Effect.gen(function* () {
      const alice = yield* register("refuse-alice")
      const bob = yield* register("refuse-bob")
      const room = yield* createRoom(alice)
      const delayId = yield* schedule(bob, room, "outside", 1)
      const readStatus = Effect.map(as(bob)("GET", `${unstable}/delayed_events/${delayId}`), ({ body }) => body)
      let event = yield* readStatus
      while (event.finalised_ts === undefined) event = yield* readStatus
      assert.strictEqual((event.error as unknown as { errcode: string }).errcode, "M_FORBIDDEN")
    })
  )
})
