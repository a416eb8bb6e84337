/** Rooms with a policy server: events that it refuses are not sent, and events without its signature are soft-failed. */
import { createHash } from "node:crypto"
import { assert, describe, it, vi } from "@effect/vitest"
import { PolicyServer } from "@greenroom/actors/federation/PolicyServer"
import { ServerServerClient } from "@greenroom/actors/federation/ServerServerClient"
import type { PolicyOptions } from "@greenroom/actors/policy/PolicyConfig"
import { defineRule, flood } from "@greenroom/actors/policy/PolicyRules"
import { Rooms } from "@greenroom/actors/room/Rooms"
import type { Session } from "@greenroom/actors/runtime/Session"
import type { StreamedEvent } from "@greenroom/actors/sync/EventStream"
import type { Event } from "@greenroom/protocol/Event"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { encodeBase64, exportVerifyKey, generateSigningKey, verifyKeyOf } from "@greenroom/room/Signing"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Effect, Option, Result } from "effect"
import { homeServers, isMessage, message, readsIn, type TestServer } from "./support/HomeServers.ts"
import { HostileServer, policyPath } from "./support/HostileServer.ts"

vi.setConfig({ testTimeout: 120_000 })

const rules = [
  flood({ events: 5, seconds: 3_600 }),
  defineRule(({ text }) => (text.includes("spam") ? "No spam here" : undefined))
]

const isMembership =
  (userId: string, membership: string) =>
  (event: StreamedEvent): boolean =>
    event.type === "m.room.member" && event.state_key === userId && event.content.membership === membership

const inRooms = <A, E>(server: TestServer, use: (rooms: Rooms["Service"]) => Effect.Effect<A, E>) =>
  server.run(Effect.flatMap(Rooms, use))

const say = (server: TestServer, session: Session, roomId: RoomId, text: string) =>
  Effect.match(
    inRooms(server, (rooms) => rooms.send(session, roomId, "m.room.message", message(text))),
    { onSuccess: () => "sent", onFailure: ({ _tag, error }) => `${_tag}: ${error}` }
  )

const setState = (server: TestServer, session: Session, roomId: RoomId, type: string, content: JsonObject) =>
  inRooms(server, (rooms) => rooms.setState(session, roomId, type, "", content))

const join = (server: TestServer, session: Session, roomId: RoomId, through: TestServer) =>
  inRooms(server, (rooms) => rooms.join(session, roomId, {}, undefined, [through.serverName]))

/** Alice of red, Bob of blue and a user of the policy server guard in a room with m.room.policy. */
const sceneWith = Effect.fnUntraced(function* (policyOptions: PolicyOptions) {
  const evil = new HostileServer("evil.test", "today")
  const port = yield* freePort
  yield* evil.listen(port)
  const servers = yield* homeServers(["red.test", "blue.test", "guard.test"], {
    options: { "guard.test": { policy: policyOptions }, "blue.test": { policyServers: { sendAnyway: true } } },
    others: { "evil.test": port }
  })
  const [red, blue, guard] = servers as [TestServer, TestServer, TestServer]
  const [alice, bob, keeper] = [yield* red.person("alice"), yield* blue.person("bob"), yield* guard.person("keeper")]
  const { room_id: room } = yield* inRooms(red, (rooms) =>
    rooms.create(alice, { room_version: "12", visibility: "public" })
  )
  yield* join(blue, bob, room, red)
  yield* join(guard, keeper, room, red)
  yield* red.sees(alice, isMembership(keeper.userId, "join"))
  const { publicKey } = yield* guard.run(Effect.map(PolicyServer, (policy) => policy))
  const policy = { via: guard.serverName, public_keys: { ed25519: Option.getOrThrow(publicKey) } }
  yield* setState(red, alice, room, "m.room.policy", policy)
  for (const [server, session] of [
    [blue, bob],
    [guard, keeper]
  ] as const) {
    yield* server.sees(session, ({ type }) => type === "m.room.policy")
  }
  return { evil, red, blue, guard, alice, bob, keeper, room }
})

const scene = sceneWith({ rules })

describe("Policy servers", () => {
  it.live("events that the policy server refuses are not sent, and the sender gets the reason", () =>
    Effect.gen(function* () {
      const { alice, blue, bob, guard, keeper, red, room } = yield* scene
      assert.strictEqual(yield* say(red, alice, room, "hello"), "sent")
      yield* blue.sees(bob, isMessage("hello"))
      assert.strictEqual(yield* say(red, alice, room, "buy spam"), "M_FORBIDDEN: No spam here")
      assert.strictEqual(yield* say(blue, bob, room, "spam too"), "M_FORBIDDEN: No spam here")
      assert.strictEqual(yield* say(guard, keeper, room, "spam of the guard"), "M_FORBIDDEN: No spam here")
      yield* setState(red, alice, room, "m.room.topic", { topic: "no advertisements" })
      yield* blue.sees(bob, ({ type }) => type === "m.room.topic")
      for (let count = 0; count < 4; count++) {
        assert.strictEqual(yield* say(blue, bob, room, `message ${count}`), "sent")
      }
      assert.match(yield* say(blue, bob, room, "one too many"), /M_FORBIDDEN: You are sending messages too fast/)
      yield* red.sees(alice, isMessage("message 3"))
      assert.deepStrictEqual(yield* readsIn(red, alice, room), [
        "hello",
        ...[0, 1, 2, 3].map((count) => `message ${count}`)
      ])

      // A policy server that is lost can be replaced: m.room.policy needs no signature.
      yield* guard.stop
      assert.match(yield* say(red, alice, room, "who is there?"), /M_CONNECTION_FAILED/)
      assert.strictEqual(yield* say(blue, bob, room, "I send anyway"), "sent")
      yield* setState(red, alice, room, "m.room.policy", {})
      assert.strictEqual(yield* say(red, alice, room, "spam at last"), "sent")
      yield* blue.sees(bob, isMessage("spam at last"))
    })
  )

  it.live("a refusal has status 400, and a server that is no policy server does not know the request", () =>
    Effect.gen(function* () {
      const { alice, blue, evil, guard, red, room } = yield* scene
      const mallory = "@mallory:evil.test"
      const known = yield* evil.join({ serverName: red.serverName, federationPort: red.settings.port }, room, mallory)
      yield* red.sees(alice, isMembership(mallory, "join"))
      const pdu = evil.toPdu(evil.event(known, { sender: mallory, content: message("spam") }))
      const answerOf = (server: TestServer) =>
        Effect.flip(
          blue.run(Effect.flatMap(ServerServerClient, (client) => client.askPolicy(server.serverName, pdu, 10_000)))
        )
      assert.deepInclude(yield* answerOf(guard), { status: 400, errcode: "M_FORBIDDEN", error: "No spam here" })
      assert.deepInclude(yield* answerOf(red), { status: 404, errcode: "M_UNRECOGNIZED" })
    })
  )

  it.live("a membership of a server that is kept out is refused without asking the policy server", () =>
    Effect.gen(function* () {
      const { alice, evil, guard, red, room } = yield* scene
      const at = { serverName: red.serverName, federationPort: red.settings.port }
      const user = encodeURIComponent("@mallory:evil.test")
      const made = yield* evil.ask(at, "GET", `/v1/make_join/${encodeURIComponent(room)}/${user}?ver=12`)
      const version = evil.useVersion(room, "12")
      const join = Result.getOrThrow(version.complete(made.body.event, evil.key, Date.now()))
      const sendJoin = evil.ask(
        at,
        "PUT",
        `/v2/send_join/${encodeURIComponent(room)}/${join.event_id}`,
        version.toPdu(join)
      )
      yield* setState(red, alice, room, "m.room.server_acl", { allow: ["*"], deny: ["evil.test"] })
      yield* guard.stop
      const { body, status } = yield* sendJoin
      assert.deepStrictEqual([status, body.errcode], [403, "M_FORBIDDEN"], body.error)
    })
  )

  it.live(
    "an event without a valid signature of the policy server is shown only if the policy server signs it on request",
    () =>
      Effect.gen(function* () {
        const { alice, blue, bob, evil, red, room } = yield* scene
        const at = { serverName: red.serverName, federationPort: red.settings.port }
        const mallory = "@mallory:evil.test"
        const known = yield* evil.join(at, room, mallory)
        yield* red.sees(alice, isMembership(mallory, "join"))
        const text = (body: string) => evil.event(known, { sender: mallory, content: message(body) })
        // Soft failures are not errors in the answer to a transaction.
        assert.deepStrictEqual(yield* evil.tell(at, text("spam by mallory")), [undefined])
        assert.deepStrictEqual(yield* evil.tell(at, text("a good message")), [undefined])
        const forged = text("spam with a forged signature")
        const signatures = { ...forged.signatures, "guard.test": { "ed25519:policy_server": "A".repeat(86) } }
        assert.deepStrictEqual(yield* evil.tell(at, { ...forged, signatures }), [undefined])
        assert.deepStrictEqual(yield* readsIn(red, alice, room), ["a good message"])
        assert.strictEqual(yield* say(red, alice, room, "and so on"), "sent")
        yield* blue.sees(bob, isMessage("and so on"))
      })
  )

  it.live("the policy server judges an event once, and signs for rooms whose m.room.policy names its key", () =>
    Effect.gen(function* () {
      const { alice, evil, guard, keeper, red, room } = yield* scene
      const mallory = "@mallory:evil.test"
      const known = yield* evil.join({ serverName: red.serverName, federationPort: red.settings.port }, room, mallory)
      yield* guard.sees(keeper, isMembership(mallory, "join"))
      const ask = (event: Event) =>
        Effect.match(guard.run(PolicyServer.use((policy) => policy.sign(evil.toPdu(event)))), {
          onSuccess: (keys) => Object.keys(keys).join(),
          onFailure: ({ _tag }) => _tag
        })
      const text = (body: string) => evil.event(known, { sender: mallory, content: message(body) })
      const repeated = text("a good message")
      const answers = yield* Effect.replicateEffect(ask(repeated), 6)
      assert.deepStrictEqual([...answers, yield* ask(text("another"))], Array(7).fill("ed25519:policy_server"))
      const policy = evil.event(known, { sender: mallory, type: "m.room.policy", state_key: "", content: {} })
      assert.strictEqual(yield* ask(policy), "M_BAD_JSON")

      const foreign = {
        via: guard.serverName,
        public_keys: { ed25519: encodeBase64(exportVerifyKey(verifyKeyOf(evil.key))) }
      }
      const { event_id } = yield* setState(red, alice, room, "m.room.policy", foreign)
      yield* guard.sees(keeper, (event) => "event_id" in event && event.event_id === event_id)
      assert.strictEqual(yield* ask(text("for another key")), "M_NOT_FOUND")
      const notFound = "M_NOT_FOUND: This server is not the policy server of the room"
      assert.strictEqual(yield* say(red, alice, room, "hello"), notFound, "the error as the policy server gave it")
    })
  )

  it.live("users and servers that a policy list bans or takes down are refused", () =>
    Effect.gen(function* () {
      const lists: Array<RoomId> = []
      const { alice, blue, bob, guard, keeper, red, room } = yield* sceneWith({ rules, lists })
      const dora = yield* blue.person("dora")
      yield* join(blue, dora, room, red)
      for (const user of [bob, dora]) assert.strictEqual(yield* say(blue, user, room, "hello"), "sent")
      const { room_id: list } = yield* inRooms(guard, (rooms) => rooms.create(keeper, { room_version: "12" }))
      const rule = (type: string, key: string, content: JsonObject) =>
        inRooms(guard, (rooms) => rooms.setState(keeper, list, `m.policy.rule.${type}`, key, content))
      yield* rule("user", "1", { entity: "@b?b:blue.test", recommendation: "org.matrix.msc4204.takedown" })
      yield* rule("server", "2", { entity: "red.*", recommendation: "m.takedown", reason: "floods" })
      const sha256 = createHash("sha256").update(dora.userId).digest("base64")
      yield* rule("user", "3", { "org.matrix.msc4205.hashes": { sha256 }, recommendation: "m.takedown" })
      lists.push(list)
      // Lists are named in the configuration.
      yield* guard.stop
      yield* guard.start
      for (const user of [bob, dora]) {
        assert.strictEqual(yield* say(blue, user, room, "hello again"), "M_FORBIDDEN: Banned by a policy list")
      }
      assert.strictEqual(yield* say(red, alice, room, "hello"), "M_FORBIDDEN: Banned by a policy list: floods")
      assert.strictEqual(yield* say(guard, keeper, room, "hello"), "sent")
    })
  )

  it.live("a policy server from before version 1.18 of the specification is asked by the unstable path", () =>
    Effect.gen(function* () {
      const evil = new HostileServer("evil.test", "today")
      const port = yield* freePort
      yield* evil.listen(port)
      const servers = yield* homeServers(["red.test"], { others: { "evil.test": port } })
      const red = servers[0]!
      const alice = yield* red.person("alice")
      const { room_id: room } = yield* inRooms(red, (rooms) =>
        rooms.create(alice, { room_version: "12", visibility: "public" })
      )
      const mallory = "@mallory:evil.test"
      yield* evil.join({ serverName: red.serverName, federationPort: red.settings.port }, room, mallory)
      yield* red.sees(alice, isMembership(mallory, "join"))
      const key = generateSigningKey(evil.serverName, "ed25519:policy_server")
      const version = evil.useVersion(room, "12")
      evil.respond = ({ body, path }) => {
        if (path !== `${policyPath}unstable/org.matrix.msc4284/sign`) {
          return { status: 404, body: { errcode: "M_UNRECOGNIZED", error: "There is no such endpoint" } }
        }
        if (JSON.stringify(body).includes("spam")) return { status: 200, body: {} }
        const event = Result.getOrThrow(version.fromPdu(body))
        return { status: 200, body: { ...version.sign({ ...event, signatures: {} }, key).signatures } }
      }
      const former = { via: evil.serverName, public_key: encodeBase64(exportVerifyKey(verifyKeyOf(key))) }
      yield* setState(red, alice, room, "org.matrix.msc4284.policy", former)
      assert.match(yield* say(red, alice, room, "spam"), /^M_FORBIDDEN/)
      assert.strictEqual(yield* say(red, alice, room, "hello"), "sent")
      assert.deepStrictEqual(yield* readsIn(red, alice, room), ["hello"])
    })
  )
})
