import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import {
  as,
  asDraft,
  askToday,
  type ClientEvent,
  createRoom,
  gatewayWith,
  inPath,
  outcome,
  putState,
  redactEvent,
  register,
  roomWith,
  sendText,
  stateOf,
  type TestUser
} from "../TestGateway.ts"

const asToken = "as-token-of-the-bridge"

const gateway = gatewayWith(
  {},
  {
    appServices: [
      {
        id: "bridge",
        url: null,
        as_token: asToken,
        hs_token: "unused",
        sender_localpart: "bridgebot",
        namespaces: {}
      }
    ]
  }
)

const mark = "com.example.bridge"

/** The content of an event, without what the version of the room adds. */
const contentOf = (user: TestUser, room: string, eventId: string) =>
  Effect.map(as(user)("GET", `/v3/rooms/${inPath(room)}/event/${inPath(eventId)}`), ({ body }) => {
    const { redacts, ...content } = (body as unknown as ClientEvent).content
    return { redacts, content }
  })

layer(gateway, { excludeTestServices: true })("redactions", (it) => {
  it.effect("the body of the request is the content of the redaction, in every version and both APIs", () =>
    Effect.gen(function* () {
      const alice = yield* register("redacts-alice")
      const said = { reason: "better not", [mark]: { source: "network" } }
      const rooms = [
        yield* roomWith(alice, [], { room_version: "10" }),
        yield* roomWith(alice, [], { room_version: "12" }),
        yield* createRoom(alice)
      ]
      for (const room of rooms) {
        const path = (eventId: string) => `/rooms/${inPath(room)}/redact/${inPath(eventId)}`
        const requests = [
          (eventId: string, body: object) => as(alice)("PUT", `/v3${path(eventId)}/1`, body),
          (eventId: string, body: object) => as(alice)("POST", `/v3${path(eventId)}`, body),
          (eventId: string, body: object) => asDraft(alice)("PUT", `${path(eventId)}/1`, body),
          (eventId: string, body: object) => asDraft(alice)("POST", path(eventId), body),
          (eventId: string, body: object) =>
            as(alice)("PUT", `/v3/rooms/${inPath(room)}/send/m.room.redaction/${inPath(eventId)}`, {
              ...body,
              redacts: eventId
            })
        ]
        for (const request of requests) {
          const target = yield* sendText(alice, room, "a slip")
          const { body } = yield* request(target, said)
          assert.deepStrictEqual((yield* contentOf(alice, room, body.event_id)).content, said)
          assert.deepStrictEqual((yield* contentOf(alice, room, target)).content, {})
        }
      }
    })
  )

  it.effect("the body of the request names no other event than the path", () =>
    Effect.gen(function* () {
      const alice = yield* register("redacts-other")
      for (const room_version of ["10", "12"]) {
        const room = yield* roomWith(alice, [], { room_version })
        const [target, other] = [yield* sendText(alice, room, "a slip"), yield* sendText(alice, room, "no slip")]
        const path = `/v3/rooms/${inPath(room)}/redact/${inPath(target)}`
        const refused = yield* as(alice)("PUT", `${path}/1`, { redacts: other })
        assert.strictEqual(outcome(refused), "400 M_INVALID_PARAM")
        const { body } = yield* as(alice)("PUT", `${path}/2`, { redacts: target })
        const { content, redacts } = yield* contentOf(alice, room, body.event_id)
        assert.deepStrictEqual([content, redacts], [{}, target])
        assert.deepStrictEqual((yield* contentOf(alice, room, other)).content, { msgtype: "m.text", body: "no slip" })
      }
    })
  )

  it.effect("the body of the request has the limits of the content of an event", () =>
    Effect.gen(function* () {
      const alice = yield* register("redacts-limits")
      const room = yield* roomWith(alice)
      const target = yield* sendText(alice, room, "stays")
      const redact = (body: object) =>
        Effect.map(as(alice)("POST", `/v3/rooms/${inPath(room)}/redact/${inPath(target)}`, body), outcome)
      assert.strictEqual(yield* redact({ reason: 1 }), "400 M_BAD_JSON")
      assert.strictEqual(yield* redact({ [mark]: 0.5 }), "400 M_BAD_JSON")
      assert.strictEqual(yield* redact({ [mark]: "x".repeat(65_536) }), "413 M_TOO_LARGE")
      assert.strictEqual((yield* contentOf(alice, room, target)).content.body, "stays")
      assert.strictEqual(yield* redact({ reason: null }), "200")
    })
  )

  it.effect("an access control list of servers cannot be redacted, because it would exclude every server then", () =>
    Effect.gen(function* () {
      const alice = yield* register("redacts-acl")
      const room = yield* roomWith(alice)
      const { event_id } = (yield* putState(alice, room, "m.room.server_acl", { allow: ["*"] })).body
      assert.strictEqual(outcome(yield* redactEvent(alice, room, event_id)), "403 M_FORBIDDEN")
      assert.deepStrictEqual((yield* stateOf(alice, room))("m.room.server_acl"), { allow: ["*"] })
    })
  )

  it.effect("a delayed redaction keeps its content", () =>
    Effect.gen(function* () {
      const alice = yield* register("redacts-later")
      const room = yield* roomWith(alice)
      const target = yield* sendText(alice, room, "until then")
      const path = `/v3/rooms/${inPath(room)}/send/m.room.redaction/1?org.matrix.msc4140.delay=3600000`
      const { body } = yield* as(alice)("PUT", path, { redacts: target, [mark]: true })
      const delayed = `/unstable/org.matrix.msc4140/delayed_events/${body.delay_id as string}`
      yield* askToday("POST", delayed, { json: { action: "send" } })
      const { chunk } = (yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/messages?dir=b`)).body
      assert.deepInclude(chunk[0], { type: "m.room.redaction" })
      assert.strictEqual(chunk[0]?.content[mark], true)
    })
  )

  it.effect("a service gives the time of a redaction that it sends as an event", () =>
    Effect.gen(function* () {
      const asService = (method: string, path: string, json: object) => askToday(method, path, { token: asToken, json })
      const bot = { id: "@bridgebot:green.test", token: asToken }
      const room = yield* roomWith(bot)
      const target = yield* sendText(bot, room, "from the network")
      const path = `/v3/rooms/${inPath(room)}/send/m.room.redaction/1?ts=1000000`
      const { body } = yield* asService("PUT", path, { redacts: target, reason: "removed there" })
      const event = yield* as(bot)("GET", `/v3/rooms/${inPath(room)}/event/${inPath(body.event_id)}`)
      assert.strictEqual(event.body.origin_server_ts, 1_000_000)
    })
  )

  it.effect("bridges of mautrix are told that they may send redactions as events", () =>
    Effect.gen(function* () {
      const { body } = yield* askToday("GET", "/versions")
      assert.deepInclude(body.unstable_features as object, { "com.beeper.msc4169": true })
    })
  )
})
