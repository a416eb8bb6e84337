/**
 * The power of a lying home server in today's dialect of federation, in rooms of versions 6, 11 and 12: none. Beside
 * the threats of the draft (`Hostility.test.ts`) those that the room versions were made against.
 */
import { assert, layer, vi } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { parse as parseExact } from "@greenroom/protocol/ExactJson"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { encodeBase64, exportVerifyKey, generateSigningKey, signJson, verifyKeyOf } from "@greenroom/room/Signing"
import { Context, Effect, Fiber, Layer, Result } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import {
  type HostileNetwork,
  type HostileScene,
  hostileNetwork,
  ids,
  isHealthy,
  leavesRoomAsItWas,
  refusalsOf,
  refused,
  talk
} from "./support/HostileNetwork.ts"
import { type EventPlaceLie, imaginedHash } from "./support/HostileServer.ts"
import {
  change,
  expectOk,
  getState,
  type HomeServer,
  isMember,
  meetAgain,
  readBack,
  say,
  sees,
  setState,
  stateOf
} from "./support/Network.ts"
import { createRoom, joinThrough, nothing, type TodaysScene, todaysScene } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 180_000 })

class World extends Context.Service<World, HostileNetwork>()("greenroom/test/TodaysHostility") {
  static readonly layer = Layer.effect(World, hostileNetwork(["red.test", "blue.test"], { dialect: "today" }))
}

const versions = ["6", "11", "12"]

/** Alice of red, Bob of blue and Mallory of evil in a public room of a version. */
const sceneOf = (version: string) => Effect.flatMap(World, (network) => todaysScene(network, version))

type Scene = TodaysScene

/**
 * Tells both servers an event with the signature of red by a key that red does not have. It is refused; or kept unseen, where
 * red was asked for its keys just before, and may have another one the next time.
 */
const forgedSignature = Effect.fnUntraced(function* ({ blue, evil, red }: HostileScene, event: Event) {
  for (const server of [red, blue]) {
    const [answer] = yield* evil.tell(server, event)
    if (answer !== undefined) assert.match(answer, /signature/)
  }
})

const memberOf = ({ evil, mallory, room }: Scene, userId: string, membership: string, content: Body = {}, place = {}) =>
  evil.event(
    room,
    { type: "m.room.member", state_key: userId, sender: mallory, content: { membership, ...content } },
    place
  )

/** Power levels of the scene's room with one more user. */
const levelsOf = ({ room }: Scene, changes: Body) => {
  const levels = room.state.get("m.room.power_levels\0")!
  return { ...levels.content, users: { ...(levels.content.users as object), ...changes } }
}

const room = (kind: string, roomId: string, rest = "") => `/v1/${kind}/${encodeURIComponent(roomId)}${rest}`

layer(World.layer, { excludeTestServices: true, timeout: "3 minutes" })("TodaysHostility", (it) => {
  for (const version of versions) {
    const scene = sceneOf(version)
    const named = (text: string) => `version ${version}: ${text}`

    it.effect(named("a server that speaks in another's name, or to another, is not heard"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, blue, evil, mallory, red } = here
        yield* leavesRoomAsItWas(
          here,
          Effect.gen(function* () {
            const pdu = evil.toPdu(evil.event(here.room, { sender: mallory }))
            const transaction = { origin: "blue.test", origin_server_ts: 1, pdus: [pdu], edus: [] }
            const ask = (id: string, lies: Body) => evil.ask(red, "PUT", `/v1/send/${id}`, transaction, lies)
            assert.strictEqual((yield* ask("t1", { head: { origin: blue.serverName } })).status, 401)
            assert.strictEqual((yield* ask("t2", { head: { origin: red.serverName } })).status, 401)
            assert.strictEqual((yield* ask("t3", { head: { destination: blue.serverName } })).status, 401)
            assert.strictEqual((yield* ask("t4", { head: { uri: "/_matrix/federation/v1/send/t5" } })).status, 401)
            assert.strictEqual((yield* ask("t6", { head: { method: "GET" } })).status, 401)
            assert.strictEqual((yield* ask("t7", { authorization: "" })).status, 401)
            assert.strictEqual((yield* ask("t8", {})).status, 400)
            const asAlice = evil.event(here.room, { sender: alice.userId })
            yield* refused(here, [asAlice], /signature/)
            yield* forgedSignature(here, evil.remake(asAlice, {}, [red.serverName]))
          })
        )
      })
    )

    it.effect(named("what another said cannot be altered"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, blue, bob, cut, evil, mend, red, room_id } = here
        yield* cut(red, blue)
        const id = yield* say(alice, room_id, "what alice said")
        const original = evil.toPdu(yield* evil.receives(({ event_id }) => event_id === id))
        const send = (changes: Body) => evil.send(blue, [{ ...original, ...changes }])
        // With its hash: the event stays the same, and without its words. With another hash it is another one, of nobody.
        yield* send({ content: { msgtype: "m.text", body: "what alice never said" } })
        const { body } = yield* send({ hashes: { sha256: "A".repeat(43) } })
        for (const answer of Object.values(body.pdus)) assert.match((answer as Body).error, /signature/)
        yield* mend(red, blue)
        yield* meetAgain([alice, bob])
        yield* talk(here)
        for (const person of [alice, bob]) {
          const words = (yield* readBack(person, room_id)).map(({ content }) => content.body)
          assert.notInclude(words, "what alice never said")
        }
      })
    )

    it.effect(named("a transaction that is repeated, or comes before its predecessor, has one effect in order"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, blue, bob, evil, mallory, red, room_id } = here
        const text = (body: string) => ({ sender: mallory, content: { msgtype: "m.text", body } })
        const first = evil.event(here.room, text("first"))
        const second = evil.event(here.room, text("second"), { prevEvents: [first] })
        evil.respond = ({ path }) =>
          path === `/v1/event/${first.event_id}`
            ? { status: 200, body: { origin: "evil.test", origin_server_ts: 1, pdus: [evil.toPdu(first)] } }
            : nothing
        for (const server of [red, blue]) {
          assert.deepStrictEqual(yield* evil.tell(server, second), [undefined])
          assert.deepStrictEqual(yield* evil.tell(server, first, second), [undefined, undefined])
          const again = { transactionId: `again${here.number}` }
          const answers = [
            yield* evil.send(
              server,
              [second, first].map((event) => evil.toPdu(event)),
              again
            ),
            yield* evil.send(server, [], again)
          ]
          assert.deepStrictEqual(answers[1], answers[0])
        }
        for (const person of [alice, bob]) {
          const read = (yield* readBack(person, room_id)).toReversed()
          const said = read.filter(({ sender }) => sender === mallory).map(({ content }) => content.body ?? "join")
          assert.deepStrictEqual(said, ["join", "first", "second"])
        }
        yield* talk(here)
      })
    )

    it.effect(named("nobody is made a member, removed or banned without the right, nor given power"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, bob, evil, mallory, room: known } = here
        const stranger = "@stranger:evil.test"
        const crown = { type: "m.room.power_levels", state_key: "", content: levelsOf(here, { [mallory]: 100 }) }
        yield* leavesRoomAsItWas(
          here,
          Effect.gen(function* () {
            yield* refused(here, [memberOf(here, "@victim:blue.test", "join")], /join for themselves/)
            yield* refused(here, [memberOf(here, alice.userId, "leave")], /kick|lower/)
            yield* refused(here, [memberOf(here, bob.userId, "ban"), memberOf(here, alice.userId, "ban")], /ban/)
            yield* refused(here, [evil.event(known, { sender: stranger })], /in the room/)
            const crowned = evil.event(known, { ...crown, sender: mallory })
            yield* refused(here, [crowned], /power level/)
            // A rejected event authorises nothing, neither where it is named nor where it is followed.
            const after = { prevEvents: [crowned], state: [crowned] }
            const topic = { type: "m.room.topic", state_key: "", sender: mallory, content: { topic: "evil" } }
            yield* refused(here, [evil.event(known, topic, after)], /rejected|./)
            yield* refused(here, [evil.event(known, topic, { prevEvents: [crowned] })], /power level/)
            // The room begins once.
            const create = { type: "m.room.create", state_key: "", sender: mallory, content: { room_version: version } }
            if (version !== "12") yield* refused(here, [evil.event(known, create)], /./)
          })
        )
      })
    )

    it.effect(named("a past in which one had the right brings back nothing: the state is not reset"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, bob, evil, mallory, room: known, room_id } = here
        const before = (yield* getState(alice, room_id, "m.room.power_levels")).body
        const users = { ...before.users, [mallory]: 50 }
        yield* expectOk(setState(alice, room_id, "m.room.power_levels", { ...before, users }))
        const promoted = yield* evil.receives(
          (event) => event.type === "m.room.power_levels" && (event.content.users as Body)[mallory] === 50
        )
        const topic = { type: "m.room.topic", state_key: "", sender: mallory, content: { topic: "while I could" } }
        const then = { prevEvents: [promoted], state: [promoted] }
        const allowed = evil.event(known, topic, then)
        yield* expectOk(setState(alice, room_id, "m.room.power_levels", before))
        yield* expectOk(change(alice, room_id, "ban", mallory))
        const ban = yield* evil.receives(isMember(mallory, "ban") as (event: Event) => boolean)
        yield* sees(bob, (event) => event.event_id === ban.event_id)
        yield* leavesRoomAsItWas(
          here,
          Effect.gen(function* () {
            yield* refused(here, [allowed], /./)
            const kick = {
              type: "m.room.member",
              state_key: bob.userId,
              sender: mallory,
              content: { membership: "ban" }
            }
            yield* refused(
              here,
              [evil.event(known, kick, then), evil.event(known, kick, { ...then, prevEvents: [allowed] })],
              /./
            )
            yield* refused(here, [evil.event(known, { sender: mallory }, { prevEvents: [ban] })], /in the room/)
            const back = { type: "m.room.member", state_key: mallory, sender: mallory, content: { membership: "join" } }
            yield* refused(here, [evil.event(known, back), evil.event(known, back, { prevEvents: [ban] })], /banned/i)
            // All of the past at once, tied to what is there now.
            const both = { prevEvents: [allowed, ban], state: [promoted] }
            yield* refused(here, [evil.event(known, topic, both)], /./)
          })
        )
      })
    )

    it.effect(named("a state that is made up where predecessors are missing changes nothing"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, blue, bob, evil, mallory, red, room: known, room_id } = here
        const crowned = evil.event(known, {
          type: "m.room.power_levels",
          state_key: "",
          sender: mallory,
          content: levelsOf(here, { [mallory]: 100 })
        })
        const state = [...known.state.values()].filter(({ type }) => type !== "m.room.power_levels")
        let answer = [...state, crowned]
        evil.respond = ({ path }) => {
          if (path.startsWith("/v1/state/")) {
            return { status: 200, body: { pdus: answer.map((event) => evil.toPdu(event)), auth_chain: [] } }
          }
          if (path.startsWith("/v1/state_ids/"))
            return { status: 200, body: { pdu_ids: ids(answer), auth_chain_ids: [] } }
          const asked = answer.find((event) => path === `/v1/event/${event.event_id}`)
          return asked === undefined
            ? nothing
            : { status: 200, body: { origin: "evil.test", origin_server_ts: 1, pdus: [evil.toPdu(asked)] } }
        }
        // A message that follows all that there is, and something that nobody has, before which there were no power levels.
        const before = yield* Effect.forEach([alice, bob], (person) => stateOf(person, room_id))
        answer = state
        const emptied = evil.event(known, { sender: mallory }, { prevEvents: [...known.extremities, imaginedHash()] })
        for (const server of [red, blue]) assert.deepStrictEqual(yield* evil.tell(server, emptied), [undefined])
        assert.deepStrictEqual(yield* Effect.forEach([alice, bob], (person) => stateOf(person, room_id)), before)
        answer = [...state, crowned]
        const lie = { state: [crowned], prevEvents: [imaginedHash()] }
        const topic = { type: "m.room.topic", state_key: "", sender: mallory, content: { topic: "evil" } }
        yield* leavesRoomAsItWas(
          here,
          refused(here, [memberOf(here, alice.userId, "ban", {}, lie), evil.event(known, topic, lie)], /./)
        )
      })
    )

    it.effect(named("an invite by a token needs the right key, the right user and the sender of the token"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, bob, evil, mallory, room: known, room_id } = here
        const key = generateSigningKey("identity.test" as never, "ed25519:0")
        const otherKey = generateSigningKey("identity.test" as never, "ed25519:0")
        const public_key = encodeBase64(exportVerifyKey(verifyKeyOf(key)))
        const stored = { display_name: "m...", key_validity_url: "https://identity.test/valid", public_key }
        yield* expectOk(setState(alice, room_id, "m.room.third_party_invite", stored, "token"))
        const left = yield* evil.receives(
          (event) => event.type === "m.room.third_party_invite" && event.room_id === room_id
        )
        yield* sees(bob, (event) => event.event_id === left.event_id)
        const sign = (mxid: string, by = key, token = "token") =>
          Result.getOrThrow(signJson({ mxid, token, sender: alice.userId }, by))
        const invited = `@invited${here.number}:evil.test`
        const invite = (signed: Body, sender = alice.userId, state_key = invited) =>
          evil.event(
            known,
            {
              type: "m.room.member",
              state_key,
              sender,
              content: { membership: "invite", third_party_invite: { display_name: "m...", signed } }
            },
            { prevEvents: [left], state: [left] }
          )
        yield* leavesRoomAsItWas(
          here,
          Effect.gen(function* () {
            yield* refused(here, [invite(sign(invited, otherKey))], /token|key|sign/)
            yield* refused(here, [invite(sign("@another:evil.test"))], /token|signed/)
            yield* refused(here, [invite(sign(invited), mallory)], /token|./)
            yield* refused(here, [invite(sign(invited, key, "unknown"))], /token|./)
            yield* refused(here, [invite({ mxid: invited, token: "token", signatures: {} })], /token|./)
          })
        )
        yield* expectOk(change(alice, room_id, "ban", invited))
        const ban = yield* evil.receives(isMember(invited, "ban") as (event: Event) => boolean)
        yield* sees(bob, (event) => event.event_id === ban.event_id)
        const banned = evil.event(
          known,
          { ...invite(sign(invited)), sender: alice.userId },
          { prevEvents: [ban], state: [left, ban] }
        )
        yield* refused(here, [banned], /banned/i)
        yield* talk(here)
      })
    )

    it.effect(named("what has no canonical form, is too large or names too much is refused for itself alone"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { evil, mallory, red, room: known } = here
        const good = evil.toPdu(evil.event(known, { sender: mallory, content: { body: "good" } }))
        const count = red.select(`SELECT count(*)::int AS count FROM events`)
        const [before] = yield* count
        const many = (length: number) => Array.from({ length }, () => imaginedHash().event_id)
        const bad: ReadonlyArray<unknown> = [
          null,
          7,
          "pdu",
          [],
          {},
          { ...good, room_id: undefined },
          { ...good, room_id: "!nowhere:red.test" },
          { ...good, room_id: here.room_id.toUpperCase() },
          { ...good, sender: "mallory" },
          { ...good, sender: `@${"x".repeat(300)}:evil.test` },
          { ...good, type: "x".repeat(256) },
          { ...good, type: "é".repeat(128) },
          { ...good, state_key: "x".repeat(256) },
          { ...good, state_key: null },
          { ...good, depth: -1 },
          { ...good, depth: 1.5 },
          { ...good, depth: 2 ** 60 },
          { ...good, depth: "1" },
          { ...good, origin_server_ts: "now" },
          { ...good, content: { number: 1.5 } },
          { ...good, content: { number: 2 ** 60 } },
          { ...good, content: { body: "x".repeat(70_000) } },
          { ...good, content: [] },
          { ...good, prev_events: many(21) },
          { ...good, prev_events: many(5_000) },
          { ...good, prev_events: "none" },
          { ...good, prev_events: [["$a", {}]] },
          { ...good, auth_events: many(11) },
          { ...good, auth_events: [7] },
          { ...good, hashes: {} },
          { ...good, signatures: { "evil.test": 7 } },
          { ...good, signatures: {} }
        ]
        yield* leavesRoomAsItWas(
          here,
          Effect.gen(function* () {
            for (const pdu of bad) {
              const { body, status } = yield* evil.send(red, [pdu as Body])
              assert.strictEqual(status, 200, JSON.stringify(pdu)?.slice(0, 200))
              for (const answer of Object.values(body.pdus)) assert.isString((answer as Body).error)
            }
            const notJson = yield* evil.ask(red, "PUT", "/v1/send/notjson", undefined, { raw: '{"pdus": [' })
            assert.deepStrictEqual([notJson.status, notJson.body.errcode], [400, "M_NOT_JSON"])
            for (const parts of [{ pdus: 51 }, { edus: 101 }, { pdus: 1000, edus: 1000 }]) {
              const many = (count = 0, entry: Body = {}) => Array.from({ length: count }, () => entry)
              const { body, status } = yield* evil.send(red, many(parts.pdus, good), { edus: many(parts.edus) })
              assert.deepStrictEqual([status, body.errcode], [400, "M_BAD_JSON"])
            }
            const raw = `{"pdus": [], "edus": [], "padding": "${"x".repeat(9 * 1024 * 1024)}"}`
            const padded = yield* evil.ask(red, "PUT", "/v1/send/padded", undefined, { raw })
            assert.deepStrictEqual([padded.status, padded.body.errcode], [413, "M_TOO_LARGE"])
            // Auth events twice, of another kind, or that nobody has.
            const event = evil.event(known, { sender: mallory })
            const twice = evil.remake(event, { auth_events: [...event.auth_events, event.auth_events[0]] })
            const member = known.state.get(`m.room.member\0${here.alice.userId}`)!
            const odd = evil.remake(event, { auth_events: [...event.auth_events, member.event_id] })
            const missing = evil.remake(event, { auth_events: [imaginedHash().event_id] })
            yield* refused(here, [twice, odd, missing], /auth events|authorise|names/)
          })
        )
        const [after] = yield* count
        // The words of Alice and Bob, and what is kept as rejected: the two whose auth events are known.
        assert.isAtMost(after.count - before.count, 4)
      })
    )

    it.effect(named("events of another room, and a room's ID of another, are worth nothing here"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, evil, mallory, red, room: known } = here
        const otherId = yield* createRoom(alice, version, { power_level_content_override: { users_default: 100 } })
        const other = yield* evil.join(red, otherId, mallory)
        const levels = other.state.get("m.room.power_levels\0")!
        const topic = { type: "m.room.topic", state_key: "", sender: mallory, content: { topic: "evil" } }
        yield* leavesRoomAsItWas(
          here,
          Effect.gen(function* () {
            const borrowed = evil.event(known, topic, { state: [levels] })
            assert.notInclude(yield* refusalsOf(evil, red, [borrowed]), "taken")
            const across = evil.event(known, topic, { state: [...other.state.values()], prevEvents: other.extremities })
            assert.notInclude(yield* refusalsOf(evil, red, [across]), "taken")
          })
        )
      })
    )

    it.effect(named("an endless chain of missing predecessors ends soon, and holds up nobody"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { blue, evil, mallory, red, room: known } = here
        const chain = new Map<string, Event>()
        const link = (after: Pick<Event, "event_id" | "depth">): Event => {
          const event = evil.event(known, { sender: mallory }, { prevEvents: [after] })
          chain.set(event.event_id, event)
          return event
        }
        let last = link(imaginedHash())
        for (let length = 0; length < 1000; length++) last = link(last)
        const back = (from: ReadonlyArray<string>, limit: number): ReadonlyArray<Body> => {
          const pdus: Array<Body> = []
          let event = chain.get(from[0]!)
          while (event !== undefined && pdus.length < limit) {
            event = chain.get(event.prev_events[0]!)
            if (event !== undefined) pdus.push(evil.toPdu(event))
          }
          return pdus
        }
        evil.respond = ({ body, path }) => {
          const about = { origin: "evil.test", origin_server_ts: 1 }
          if (path.startsWith("/v1/get_missing_events/")) {
            return { status: 200, body: { events: back(body.latest_events, 1000) } }
          }
          const event = chain.get(/^\/v1\/event\/(.*)$/.exec(path)?.[1] ?? "")
          if (event !== undefined) return { status: 200, body: { ...about, pdus: [evil.toPdu(event)] } }
          const of = /[?&]v=([^&]+)/.exec(path)?.[1]
          return of === undefined ? nothing : { status: 200, body: { ...about, pdus: back([of], 1000) } }
        }
        const count = (server: HomeServer) => server.select("SELECT count(*)::int AS count FROM events")
        evil.asked.length = 0
        yield* leavesRoomAsItWas(
          here,
          Effect.gen(function* () {
            const before = yield* Effect.forEach([red, blue], count)
            yield* refused(here, [last], /predecessors/)
            const unknown = Array.from({ length: 50 }, () =>
              evil.event(known, { sender: mallory }, { prevEvents: [imaginedHash()] })
            )
            yield* refused(here, unknown, /predecessors/)
            assert.deepStrictEqual(yield* Effect.forEach([red, blue], count), before)
          })
        )
        assert.isBelow(evil.asked.length, 140)
      })
    )

    it.effect(named("a server outside of a room learns nothing of it, be it private or left again"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, evil, mallory, red, room: known, room_id } = here
        const secret = yield* createRoom(alice, version, { preset: "private_chat" })
        const secretId = yield* say(alice, secret, "a secret")
        const learnsNothing = Effect.fnUntraced(function* (roomId: string, eventId: string) {
          const id = encodeURIComponent(eventId)
          for (const path of [
            `/v1/event/${id}`,
            room("state", roomId, `?event_id=${id}`),
            room("state_ids", roomId, `?event_id=${id}`),
            room("event_auth", roomId, `/${id}`),
            room("backfill", roomId, `?v=${id}&limit=10`),
            room("timestamp_to_event", roomId, `?ts=1&dir=f`)
          ]) {
            const { body, status } = yield* evil.ask(red, "GET", path)
            assert.deepStrictEqual([path, status, body.errcode], [path, 404, "M_NOT_FOUND"])
          }
          const missing = { earliest_events: [], latest_events: [eventId], limit: 10 }
          assert.strictEqual((yield* evil.ask(red, "POST", room("get_missing_events", roomId), missing)).status, 404)
        })
        yield* learnsNothing(secret, secretId)
        for (const handshake of ["make_join", "make_leave", "make_knock"]) {
          const path = room(handshake, secret, `/${encodeURIComponent(mallory)}?ver=${version}`)
          assert.include([403, 404], (yield* evil.ask(red, "GET", path)).status)
        }
        const outside = { ...known, roomId: secret, extremities: [imaginedHash(5)] }
        const intrusion = evil.event(outside, {
          type: "m.room.member",
          state_key: mallory,
          sender: mallory,
          content: { membership: "join" }
        })
        const pdu = { ...known.version!.toPdu(intrusion) }
        const path = `/v2/send_join/${encodeURIComponent(secret)}/${encodeURIComponent(intrusion.event_id)}`
        const sent = yield* evil.ask(red, "PUT", path, pdu)
        assert.include([403, 404], sent.status)
        assert.isUndefined(sent.body.state)
        const { body } = yield* evil.send(red, [pdu])
        for (const answer of Object.values(body.pdus)) assert.match((answer as Body).error, /There is no room/)

        yield* expectOk(change(alice, room_id, "kick", mallory))
        const later = yield* say(alice, room_id, "mallory is gone")
        yield* learnsNothing(room_id, later)
        assert.isFalse(evil.received.some(({ event_id }) => event_id === later || event_id === secretId))
        yield* talk(here)
      })
    )

    it.effect(named("a room whose server lies about where it is, its version or its state is not joined"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, bob, evil, mallory, red, room: known, room_id } = here
        const curious = yield* red.register(`curious${here.number}`)
        // A room of red, which has never heard of it from evil; and one of evil's own.
        const target = version === "12" ? `!${"A".repeat(43)}` : `!trap${here.number}:evil.test`
        const template = { type: "m.room.member", room_id: target, sender: curious.userId, state_key: curious.userId }
        const made = { ...template, content: { membership: "join" }, depth: 5, prev_events: [], auth_events: [] }
        const state = [...known.state.values()]
        const create = known.state.get("m.room.create\0")!
        const forged = evil.remake(create, version === "12" ? {} : { room_id: target }, [red.serverName])
        const asAlice = { ...evil.toPdu(create), room_id: target }
        const pdus = (events: ReadonlyArray<Event>) => events.map((event) => evil.toPdu(event))
        const makes: ReadonlyArray<Body> = [
          { room_version: version, event: { ...made, room_id: here.room_id } },
          { room_version: version, event: { ...made, sender: alice.userId } },
          { room_version: version, event: { ...made, state_key: alice.userId } },
          { room_version: version, event: { ...made, type: "m.room.power_levels" } },
          { room_version: "nonsense", event: made },
          { room_version: version, event: made },
          { room_version: version === "11" ? "10" : "11", event: made }
        ]
        const states: ReadonlyArray<Body> = [
          { state: pdus(state), auth_chain: pdus(state) },
          { state: [asAlice], auth_chain: [asAlice] },
          { state: pdus([forged]), auth_chain: pdus([forged]) },
          { state: [], auth_chain: [] },
          { state: [7, null, {}], auth_chain: [{}] },
          {}
        ]
        for (const make of makes) {
          for (const body of make === makes[5] ? states : states.slice(0, 1)) {
            evil.respond = ({ path }) =>
              path.startsWith("/v1/make_join")
                ? { status: 200, body: make }
                : path.includes("/send_join")
                  ? { status: 200, body }
                  : nothing
            const asked = `//_matrix/client/v3/join/${encodeURIComponent(target)}?via=evil.test`
            const { status } = yield* curious.ask("POST", asked, {})
            assert.include([400, 403, 404], status, JSON.stringify(make).slice(0, 200))
          }
        }
        const unknownVersion = {
          errcode: "M_INCOMPATIBLE_ROOM_VERSION",
          error: "It has version 99",
          room_version: "99"
        }
        evil.respond = () => ({ status: 400, body: unknownVersion })
        const newer = `//_matrix/client/v3/join/${encodeURIComponent(`!newer${here.number}:evil.test`)}?via=evil.test`
        assert.strictEqual((yield* curious.ask("POST", newer, {})).body.errcode, "M_INCOMPATIBLE_ROOM_VERSION")
        const { joined_rooms } = yield* expectOk(curious.ask("GET", "//_matrix/client/v3/joined_rooms"))
        assert.deepStrictEqual(joined_rooms, [])
        yield* talk({ alice, bob, room_id })
        assert.isNotEmpty(mallory)
      })
    )

    it.effect(named("a flood of PDUs and EDUs, and a server that never answers, hold up nobody"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { evil, mallory, red, room: known, room_id } = here
        const pdus = Array.from({ length: 50 }, (_, index) =>
          evil.toPdu(evil.event(known, { sender: `@flood${index}:evil.test` }))
        )
        const edus = Array.from({ length: 100 }, (_, index) => ({
          edu_type: "m.typing",
          content: { room_id, user_id: `@flood${index}:evil.test`, typing: true }
        }))
        yield* leavesRoomAsItWas(
          here,
          Effect.gen(function* () {
            const flood = yield* Effect.forkChild(
              Effect.forEach(Array.from({ length: 30 }), () => evil.send(red, pdus, { edus }), {
                concurrency: "unbounded"
              })
            )
            yield* isHealthy(red)
            for (const { body, status } of yield* Fiber.join(flood)) {
              assert.include([200, 429], status)
              if (status === 200) for (const entry of Object.values(body.pdus)) assert.deepStrictEqual(entry, {})
            }
          })
        )
        evil.respond = () => "never"
        const held = yield* Effect.forkChild(
          evil.tell(red, evil.event(known, { sender: mallory }, { prevEvents: [imaginedHash()] }))
        )
        yield* talk(here)
        yield* isHealthy(red)
        yield* Fiber.interrupt(held)
        evil.respond = () => nothing
        evil.hangUp()
      })
    )

    if (version !== "6") {
      it.effect(named("a restricted room takes no join that one of its members has not authorised"), () =>
        Effect.gen(function* () {
          const here = yield* scene
          const { alice, blue, bob, evil, red, number } = here
          const club = yield* createRoom(alice, version)
          const guarded = yield* createRoom(alice, version, {
            initial_state: [
              {
                type: "m.room.join_rules",
                state_key: "",
                content: { join_rule: "restricted", allow: [{ type: "m.room_membership", room_id: club }] }
              }
            ]
          })
          yield* expectOk(joinThrough(bob, club, red))
          yield* expectOk(joinThrough(bob, guarded, red))
          yield* sees(alice, (event) => event.room_id === guarded && isMember(bob.userId, "join")(event))
          const spy = `@spy${number}:evil.test`
          // A member of the club comes in; a second user of the same server is in no club.
          yield* evil.join(red, club, spy)
          const known = yield* evil.join(red, guarded, spy)
          yield* sees(bob, (event) => event.room_id === guarded && isMember(spy, "join")(event))
          const intruder = `@intruder${number}:evil.test`
          const joinOf = (content: Body, signers: ReadonlyArray<string> = []) =>
            evil.remake(
              evil.event(known, {
                type: "m.room.member",
                state_key: intruder,
                sender: intruder,
                content: { membership: "join", ...content }
              }),
              {},
              signers
            )
          const place = { evil, red, blue, alice, bob, room_id: guarded }
          const make = room("make_join", guarded, `/${encodeURIComponent(intruder)}?ver=${version}`)
          yield* leavesRoomAsItWas(
            place,
            Effect.gen(function* () {
              assert.strictEqual((yield* evil.ask(red, "GET", make)).status, 403)
              const vouched = { join_authorised_via_users_server: alice.userId }
              yield* refused(place, [joinOf({})], /invite to join|authorised/)
              yield* refused(place, [joinOf(vouched)], /signature/)
              yield* forgedSignature(place, joinOf(vouched, [red.serverName]))
              yield* refused(place, [joinOf({ join_authorised_via_users_server: spy })], /authorised|invite/)
              yield* refused(
                place,
                [joinOf({ join_authorised_via_users_server: "@nobody:evil.test" })],
                /authorised|invite/
              )
              for (const content of [{}, vouched, { join_authorised_via_users_server: spy }]) {
                const join = joinOf(content)
                const path = `/v2/send_join/${encodeURIComponent(guarded)}/${encodeURIComponent(join.event_id)}`
                const { body, status } = yield* evil.ask(red, "PUT", path, evil.toPdu(join))
                assert.strictEqual(status, 403)
                assert.isUndefined(body.event)
              }
            })
          )
        })
      )
    }
  }

  it.effect("an invitation that names a wrong version of a room does not block the room", () =>
    Effect.gen(function* () {
      const { evil, servers } = yield* World
      const [red, blue] = servers as [HomeServer, HomeServer]
      const founder = yield* red.register("founder")
      const guest = yield* blue.register("guest")
      const roomId = yield* createRoom(founder, "11")
      const lie = { roomId, state: new Map(), extremities: [imaginedHash()] }
      for (const room_version of ["3", "6", "4"]) {
        const version = evil.speaks(roomId, room_version)
        const event = evil.event(
          { ...lie, version },
          {
            type: "m.room.member",
            state_key: guest.userId,
            sender: "@liar:evil.test",
            content: { membership: "invite" }
          }
        )
        const path = `/v2/invite/${encodeURIComponent(roomId)}/${encodeURIComponent(event.event_id)}`
        const content = { event: evil.toPdu(event), room_version, invite_room_state: [] }
        const { body, status } = yield* evil.ask(blue, "PUT", path, content)
        assert.strictEqual(status, 200, JSON.stringify(body))
      }
      yield* expectOk(joinThrough(guest, roomId, red))
      yield* talk({ alice: founder, bob: guest, room_id: roomId })
    })
  )

  it.effect("a flood of invitations by one server ends at its part of the limit, and others can still invite", () =>
    Effect.gen(function* () {
      const { evil, servers } = yield* World
      const [red, blue] = servers as [HomeServer, HomeServer]
      const guest = yield* blue.register("flooded")
      const invite = Effect.fnUntraced(function* (index: number) {
        const roomId = `!flood${index}:evil.test`
        const version = evil.speaks(roomId, "11")
        const membership = { type: "m.room.member", state_key: guest.userId, content: { membership: "invite" } }
        const lie = { roomId, version, state: new Map(), extremities: [imaginedHash()] }
        const event = evil.event(lie, { ...membership, sender: "@flooder:evil.test" })
        const path = `/v2/invite/${encodeURIComponent(roomId)}/${encodeURIComponent(event.event_id)}`
        const content = { event: evil.toPdu(event), room_version: "11", invite_room_state: [] }
        return yield* evil.ask(blue, "PUT", path, content)
      })
      const statuses = yield* Effect.forEach(
        Array.from({ length: 105 }, (_, index) => index),
        (index) => Effect.map(invite(index), ({ status }) => status)
      )
      assert.deepStrictEqual(statuses, [...Array(100).fill(200), ...Array(5).fill(403)])
      const founder = yield* red.register("honest")
      const roomId = yield* createRoom(founder, "11")
      yield* expectOk(change(founder, roomId, "invite", guest.userId))
      yield* expectOk(joinThrough(guest, roomId, red))
      yield* talk({ alice: founder, bob: guest, room_id: roomId })
    })
  )

  it.effect("an event with the ID of an event in another room is not taken, and holds up neither room", () =>
    Effect.gen(function* () {
      const [one, other] = [yield* sceneOf("1"), yield* sceneOf("2")]
      const { blue, evil, mallory, red } = one
      const said = evil.event(one.room, { sender: mallory, content: { msgtype: "m.text", body: "one" } })
      for (const server of [red, blue]) assert.deepStrictEqual(yield* evil.tell(server, said), [undefined])
      const member = { type: "m.room.member", state_key: other.mallory, sender: other.mallory }
      const copies = [
        evil.event(other.room, { sender: other.mallory, content: { msgtype: "m.text", body: "other" } }),
        evil.event(other.room, { ...member, content: { membership: "join", displayname: "copy" } })
      ].map((event) => evil.rename(event, said.event_id))
      for (const copy of copies) {
        for (const server of [red, blue]) {
          assert.deepStrictEqual(yield* evil.tell(server, copy), [undefined])
          assert.match(server.log, /its ID is that of an event in another room/)
        }
      }
      yield* talk(one)
      yield* talk(other)
    })
  )

  it.effect("a server that returns to a room, or misses events, fetches only the unknown part of the state", () =>
    Effect.gen(function* () {
      const here = yield* sceneOf("11")
      const { alice, blue, bob, evil, mallory, room: known, room_id } = here
      yield* expectOk(bob.ask("POST", `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/leave`, {}))
      const left = yield* evil.receives((event) => event.room_id === room_id && isMember(bob.userId, "leave")(event))
      const member = (userId: string, place: EventPlaceLie) => {
        const content = { membership: "join" }
        return evil.event(known, { type: "m.room.member", state_key: userId, sender: userId, content }, place)
      }
      const carol = member("@carol:evil.test", { prevEvents: [left] })
      const template = member(bob.userId, { prevEvents: [carol], state: [left] })
      const leftOut = new Set([bob.userId, "@carol:evil.test"])
      const state = [...known.state.values()].filter(({ state_key }) => !leftOut.has(state_key!)).concat(left, carol)
      const pdus = (events: ReadonlyArray<Event>) => events.map((event) => evil.toPdu(event))
      const few = state.filter(({ state_key, type }) => type !== "m.room.member" || state_key !== "@carol:evil.test")
      evil.respond = ({ path }) => {
        if (path.startsWith("/v1/make_join/")) {
          return { status: 200, body: { room_version: "11", event: known.version!.toTemplate(template) } }
        }
        if (path.startsWith("/v2/send_join/")) {
          const partial = { members_omitted: true, servers_in_room: ["red.test", "evil.test"] }
          return { status: 200, body: { ...partial, state: pdus(few), auth_chain: pdus(few) } }
        }
        if (path.startsWith("/v1/state_ids/")) {
          return { status: 200, body: { pdu_ids: ids(state), auth_chain_ids: ids(few) } }
        }
        const asked = [carol, ...state].find((event) => path === `/v1/event/${event.event_id}`)
        return asked === undefined
          ? nothing
          : { status: 200, body: { origin: "evil.test", origin_server_ts: 1, pdus: pdus([asked]) } }
      }
      const earlier = evil.asked.length
      const path = `//_matrix/client/v3/join/${encodeURIComponent(room_id)}?via=evil.test`
      yield* expectOk(bob.ask("POST", path, {}))
      // Leaves of earlier tests may still be announced.
      const isOfJoin = (text: string) => /^\/v[12]\/(make_join|send_join|state|state_ids|event)\//.test(text)
      const [, handed, stateIds, ...events] = evil.asked.slice(earlier).filter(isOfJoin)
      assert.match(handed!, /^\/v2\/send_join\/.*\?omit_members=true$/)
      assert.match(stateIds!, /^\/v1\/state_ids\//)
      assert.deepStrictEqual(events, [`/v1/event/${carol.event_id}`])
      const joined = `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/joined_members`
      assert.sameMembers(Object.keys((yield* expectOk(bob.ask("GET", joined))).joined), [
        ...[alice.userId, bob.userId, mallory],
        "@carol:evil.test"
      ])
      // An event whose predecessor nobody has is placed by the state before it, of which all is known by now.
      const lost = evil.event(
        known,
        { sender: "@carol:evil.test", content: { msgtype: "m.text", body: "lost and found" } },
        { prevEvents: [imaginedHash()], state: [carol] }
      )
      const before = evil.asked.length
      assert.deepStrictEqual(yield* evil.tell(blue, lost), [undefined])
      const asked = evil.asked.slice(before)
      assert.isTrue(asked.some((text) => text.startsWith("/v1/state_ids/")))
      assert.isFalse(asked.some((text) => text.startsWith("/v1/state/")))
      assert.isTrue((yield* readBack(bob, room_id)).some(({ content }) => content.body === "lost and found"))
    })
  )

  it.effect("version 5: numbers that JavaScript does not have reach servers and clients as they were sent", () =>
    Effect.gen(function* () {
      const { alice, blue, bob, evil, mallory, red, room: known, room_id } = yield* sceneOf("5")
      const numbers = '"numbers":[12345678901234567890,1.0,-0.0,1e+16,1.5]'
      const event = evil.event(known, {
        type: "org.example.numbers",
        sender: mallory,
        content: parseExact(`{${numbers}}`) as Body
      })
      assert.deepStrictEqual(yield* evil.tell(red, event), [undefined])
      // Blue learns of it from red, where what Alice says follows it.
      const following = yield* say(alice, room_id, "numbers")
      yield* sees(bob, ({ event_id }) => event_id === following)
      const path = `/${encodeURIComponent(room_id)}/event/${encodeURIComponent(event.event_id)}`
      for (const person of [alice, bob]) {
        const { text } = yield* person.ask("GET", `//_matrix/client/v3/rooms${path}`)
        assert.include(text, numbers)
        const messages = `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/messages?dir=b&limit=10`
        assert.include((yield* person.ask("GET", messages)).text, numbers)
        assert.include((yield* person.ask("GET", `/rooms/${encodeURIComponent(room_id)}/initialSync`)).text, numbers)
        assert.include((yield* person.ask("GET", "//_matrix/client/v3/sync?timeout=0")).text, numbers)
      }
      for (const server of [red, blue]) {
        const { text } = yield* evil.ask(server, "GET", `/v1/event/${encodeURIComponent(event.event_id)}`)
        const [pdu] = (parseExact(text) as Body).pdus
        const read = Result.getOrThrow(roomVersion("5")!.fromPdu(pdu))
        assert.strictEqual(read.event_id, event.event_id)
        const keys = new Map([[evil.key.keyId, verifyKeyOf(evil.key)]])
        assert.deepStrictEqual(
          roomVersion("5")!.verify(read, () => keys),
          Result.succeed(read)
        )
      }
    })
  )

  it.effect("EDUs about users of others, or of servers that are kept out of the room, have no effect", () =>
    Effect.gen(function* () {
      const here = yield* sceneOf("11")
      const { alice, bob, evil, mallory, red, room_id } = here
      const sync = (person: Person, since = "") =>
        expectOk(person.ask("GET", `//_matrix/client/v3/sync?timeout=0${since === "" ? "" : `&since=${since}`}`))
      const start = (yield* sync(alice)).next_batch
      const typing = (user_id: string) => ({ edu_type: "m.typing", content: { room_id, user_id, typing: true } })
      const event = yield* say(alice, room_id, "read this")
      const receipt = (userId: string) => ({
        edu_type: "m.receipt",
        content: { [room_id]: { "m.read": { [userId]: { data: { ts: 1 }, event_ids: [event] } } } }
      })
      const direct = {
        edu_type: "m.direct_to_device",
        content: {
          sender: bob.userId,
          type: "m.lie",
          message_id: "lie",
          messages: { [alice.userId]: { "*": { body: "lie" } } }
        }
      }
      const lies = [typing(bob.userId), typing(alice.userId), receipt(bob.userId), receipt(alice.userId), direct]
      assert.strictEqual((yield* evil.send(red, [], { edus: lies })).status, 200)
      const seen = yield* sync(alice, start)
      const ephemeral = JSON.stringify(seen.rooms?.join?.[room_id]?.ephemeral ?? {})
      assert.notInclude(ephemeral, bob.userId)
      assert.deepStrictEqual(seen.to_device?.events ?? [], [])
      // Mallory's own are heard, until their server is kept out.
      assert.strictEqual((yield* evil.send(red, [], { edus: [receipt(mallory)] })).status, 200)
      const heard = yield* sync(alice, start)
      assert.include(JSON.stringify(heard.rooms.join[room_id].ephemeral), mallory)
      yield* expectOk(setState(alice, room_id, "m.room.server_acl", { allow: ["*"], deny: ["evil.test"] }))
      const [later] = [(yield* sync(alice)).next_batch]
      assert.strictEqual((yield* evil.send(red, [], { edus: [typing(mallory), receipt(mallory)] })).status, 200)
      const after = yield* sync(alice, later)
      assert.notInclude(JSON.stringify(after.rooms?.join?.[room_id]?.ephemeral ?? {}), mallory)
    })
  )
})
