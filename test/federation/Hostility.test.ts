/**
 * The power of a lying home server over rooms of others: none. Each lie is refused and logged, the room stays what
 * it was, and people go on talking in it.
 */
import { assert, layer } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, localpartOf } from "@greenroom/protocol/Identifiers"
import { defaultRoomVersion as version } from "@greenroom/room/RoomVersions"
import { Context, Effect, Fiber, Layer } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import {
  type HostileNetwork,
  hostileNetwork,
  ids,
  isHealthy,
  leavesRoomAsItWas,
  refused,
  talk
} from "./support/HostileNetwork.ts"
import { imagined } from "./support/HostileServer.ts"
import {
  change,
  createRoom,
  disorder,
  expectOk,
  getState,
  type HomeServer,
  isMember,
  join,
  meetAgain,
  readBack,
  say,
  sees,
  setState
} from "./support/Network.ts"

class World extends Context.Service<World, HostileNetwork>()("greenroom/test/World") {
  static readonly layer = Layer.effect(World, hostileNetwork(["red.test", "blue.test"]))
}

let scenes = 0

/** Alice of red, Bob of blue and Mallory of evil in a public room. */
const scene = Effect.gen(function* () {
  const { evil, ...net } = yield* World
  const [red, blue] = net.servers as [HomeServer, HomeServer]
  const number = ++scenes
  const alice = yield* red.register(`alice${number}`)
  const bob = yield* blue.register(`bob${number}`)
  const { room_alias, room_id } = yield* createRoom(alice, { visibility: "public", room_alias_name: `place${number}` })
  yield* join(bob, room_alias)
  const mallory = `@mallory${number}:evil.test`
  evil.respond = () => ({ status: 404, body: { errcode: "M_NOT_FOUND", error: "Nothing here" } })
  const room = yield* evil.join(red, room_id, mallory)
  yield* sees(bob, (event) => event.room_id === room_id && isMember(mallory, "join")(event))
  yield* sees(alice, (event) => event.room_id === room_id && isMember(mallory, "join")(event))
  return { ...net, evil, red, blue, alice, bob, mallory, room, room_id, room_alias }
})

const roomPath = (kind: string, room: string, rest = "") => `/${kind}/${encodeURIComponent(room)}${rest}`

layer(World.layer, { excludeTestServices: true, timeout: "2 minutes" })("Hostility", (it) => {
  it.effect("events in the name of another server are refused", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { blue, evil, mallory, red, room, alice } = here
      yield* leavesRoomAsItWas(
        here,
        Effect.gen(function* () {
          const message = version.toPdu(evil.event(room, { sender: mallory }))
          const transaction = { origin: "blue.test", destination: "red.test", ts: 1, pdus: [message], edus: [] }
          const lies = { head: { origin: blue.serverName } }
          assert.strictEqual((yield* evil.ask(red, "PUT", "/send/spoofed", transaction, lies)).status, 401)
          assert.strictEqual((yield* evil.ask(red, "PUT", "/send/s2", transaction, { authorization: "" })).status, 401)
          assert.strictEqual((yield* evil.ask(red, "PUT", "/send/spoofed", transaction)).status, 400)
          const elsewhere = { head: { destination: blue.serverName } }
          assert.strictEqual((yield* evil.ask(red, "PUT", "/send/s3", transaction, elsewhere)).status, 401)
          // A PDU of somebody else: in our name, and in theirs with our signature.
          const asAlice = evil.event(room, { sender: alice.userId })
          yield* refused(here, [asAlice], /comes from the server of its sender/)
          const forged = { origin: red.serverName, event_id: "$forged:red.test" }
          yield* refused(here, [evil.forge(asAlice, forged)], /signature/)
        })
      )
    })
  )

  it.effect("another server's events cannot be altered, nor passed on with other content", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { alice, blue, bob, cut, evil, mend, red, room_id } = here
      yield* cut(red, blue)
      const id = yield* say(alice, room_id, "what alice said")
      const original = yield* evil.receives(({ event_id }) => event_id === id)
      const reworded = { ...original, content: { msgtype: "m.text", body: "what alice never said" } }
      const redated = { ...original, origin_server_ts: 1 }
      assert.match((yield* evil.tell(blue, redated))[0] ?? "taken", /signature/)
      yield* evil.tell(blue, reworded)
      yield* mend(red, blue)
      yield* meetAgain([alice, bob])
      yield* talk(here)
      for (const person of [alice, bob]) {
        const words = (yield* readBack(person, room_id)).map(({ content }) => content.body)
        assert.notInclude(words, "what alice never said")
      }
    })
  )

  it.effect("a transaction that is repeated or comes before its predecessor has one effect, in order", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { alice, blue, bob, evil, mallory, red, room, room_id } = here
      const first = evil.event(room, { sender: mallory, content: { msgtype: "m.text", body: "first" } })
      const second = evil.event(
        room,
        { sender: mallory, content: { msgtype: "m.text", body: "second" } },
        { prevEvents: [first] }
      )
      evil.respond = ({ path }) =>
        path === `/pdu/evil.test/${localpartOf(first.event_id)}`
          ? { status: 200, body: { origin: "evil.test", ts: 1, pdus: [version.toPdu(first)] } }
          : { status: 404, body: {} }
      for (const server of [red, blue]) {
        assert.deepStrictEqual(yield* evil.tell(server, second), [undefined])
        assert.deepStrictEqual(yield* evil.tell(server, first, second), [undefined, undefined])
        const [one, two] = [version.toPdu(first), version.toPdu(second)]
        const answer = yield* evil.send(server, [two, one], { transactionId: `again${room_id}`.replace(/[^a-z]/g, "") })
        assert.strictEqual(answer.status, 200)
      }
      for (const [server, person] of [
        [red, alice],
        [blue, bob]
      ] as const) {
        const read = (yield* readBack(person, room_id)).toReversed()
        const said = read.filter(({ sender }) => sender === mallory).map(({ content }) => content.body ?? "join")
        assert.deepStrictEqual(said, ["join", "first", "second"])
        assert.deepStrictEqual(disorder(ids(read), yield* server.events(room_id)), [])
      }
      yield* talk(here)
    })
  )

  it.effect("users without the power cannot add, remove or ban members", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { alice, bob, evil, mallory, room } = here
      const member = (userId: string, membership: string, sender = mallory) =>
        evil.event(room, { type: "m.room.member", state_key: userId, sender, content: { membership } })
      yield* leavesRoomAsItWas(
        here,
        Effect.gen(function* () {
          yield* refused(here, [member("@victim:blue.test", "join")], /join for themselves/)
          yield* refused(here, [member(alice.userId, "leave")], /kick|lower/)
          yield* refused(here, [member(bob.userId, "ban"), member(alice.userId, "ban")], /ban/)
          yield* refused(here, [member("@stranger:evil.test", "ban", "@stranger:evil.test")], /in the room/)
          yield* refused(here, [evil.event(room, { sender: "@stranger:evil.test" })], /in the room/)
        })
      )
    })
  )

  it.effect("banned users stay out, whatever past they refer to", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { alice, bob, evil, mallory, room, room_id } = here
      yield* expectOk(change(alice, room_id, "ban", mallory))
      const ban = yield* evil.receives(isMember(mallory, "ban") as (event: Event) => boolean)
      yield* sees(bob, (event) => event.event_id === ban.event_id)
      yield* leavesRoomAsItWas(
        here,
        Effect.gen(function* () {
          // As if the ban had not been, after it, and back in by a join.
          yield* refused(here, [evil.event(room, { sender: mallory })], /./)
          yield* refused(here, [evil.event(room, { sender: mallory }, { prevEvents: [ban] })], /in the room/)
          const back = { type: "m.room.member", state_key: mallory, sender: mallory, content: { membership: "join" } }
          yield* refused(here, [evil.event(room, back)], /banned/i)
          yield* refused(here, [evil.event(room, back, { prevEvents: [ban] })], /banned/i)
        })
      )
    })
  )

  it.effect("users cannot give themselves power", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { evil, mallory, room, room_id, bob } = here
      const levels = room.state.get("m.room.power_levels\0")!
      const users = { ...(levels.content.users as object), [mallory]: 100 }
      const escalation = { type: "m.room.power_levels", state_key: "", content: { ...levels.content, users } }
      yield* leavesRoomAsItWas(
        here,
        Effect.gen(function* () {
          const taken = evil.event(room, { ...escalation, sender: mallory })
          yield* refused(here, [taken], /power level/)
          // Resting on the power that was refused, and on one that only this server knows.
          const unknown = evil.event(room, { ...escalation, sender: mallory })
          evil.respond = ({ path }) =>
            path.endsWith(localpartOf(unknown.event_id))
              ? { status: 200, body: { origin: "evil.test", ts: 1, pdus: [version.toPdu(unknown)] } }
              : { status: 404, body: {} }
          for (const state of [taken, unknown]) {
            const ban = { type: "m.room.member", state_key: bob.userId, content: { membership: "ban" } }
            yield* refused(here, [evil.event(room, { ...ban, sender: mallory }, { state: [state] })], /./)
            const after = { state: [state], prevEvents: [state] }
            yield* refused(here, [evil.event(room, { ...ban, sender: mallory }, after)], /./)
          }
        })
      )
      assert.isUndefined((yield* getState(bob, room_id, "m.room.power_levels")).body.users[mallory])
    })
  )

  it.effect("a state that is made up where predecessors are missing changes nothing", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { alice, evil, mallory, room } = here
      const levels = room.state.get("m.room.power_levels\0")!
      const crowned = evil.event(room, {
        type: "m.room.power_levels",
        state_key: "",
        sender: mallory,
        content: { ...levels.content, users: { [mallory]: 100 } }
      })
      evil.respond = ({ path }) => {
        if (!path.startsWith("/state/")) return { status: 404, body: {} }
        const others = [...room.state.values()].filter(({ type }) => type !== "m.room.power_levels")
        return { status: 200, body: { pdus: [...others, crowned].map(version.toPdu), auth_chain: [] } }
      }
      const lie = { state: [crowned], prevEvents: [imagined("evil.test")] }
      const ban = { type: "m.room.member", state_key: alice.userId, sender: mallory, content: { membership: "ban" } }
      const topic = { type: "m.room.topic", state_key: "", sender: mallory, content: { topic: "evil" } }
      yield* leavesRoomAsItWas(here, refused(here, [evil.event(room, ban, lie), evil.event(room, topic, lie)], /./))
    })
  )

  it.effect("an endless chain of missing predecessors ends soon, and delays no other work", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { blue, evil, mallory, red, room, room_id } = here
      const endless = () => evil.event(room, { sender: mallory }, { prevEvents: [imagined("evil.test")] })
      evil.respond = ({ path }) =>
        path.startsWith("/backfill/")
          ? {
              status: 200,
              body: { origin: "evil.test", ts: 1, pdus: Array.from({ length: 100 }, () => version.toPdu(endless())) }
            }
          : { status: 404, body: {} }
      const count = (server: HomeServer) => server.select("SELECT count(*)::int AS count FROM events")
      evil.asked.length = 0
      yield* leavesRoomAsItWas(
        here,
        Effect.gen(function* () {
          const before = yield* Effect.forEach([red, blue], count)
          yield* refused(here, Array.from({ length: 50 }, endless), /predecessors/)
          assert.deepStrictEqual(yield* Effect.forEach([red, blue], count), before)
        })
      )
      assert.isBelow(evil.asked.length, 100)

      // A chain in which every event leads to one more, and none of them ends.
      const chain = new Map<string, Event>()
      const link = (after: Pick<Event, "event_id" | "depth">): Event => {
        const event = evil.event(room, { sender: mallory }, { prevEvents: [after] })
        chain.set(event.event_id, event)
        return event
      }
      let next = link(imagined("evil.test"))
      for (let length = 0; length < 2000; length++) next = link(next)
      const back = (id: string, limit: number): ReadonlyArray<Body> => {
        const pdus: Array<Body> = []
        let event = chain.get(id)
        while (event !== undefined && pdus.length < limit) {
          event = chain.get(event.prev_events[0]!)
          if (event !== undefined) pdus.push(version.toPdu(event))
        }
        return pdus
      }
      evil.respond = ({ path }) => {
        const of = /v=([^,]+),/.exec(path)?.[1]
        if (of === undefined) return { status: 404, body: {} }
        return { status: 200, body: { origin: "evil.test", ts: 1, pdus: back(`$${of}:evil.test`, 100) } }
      }
      evil.asked.length = 0
      yield* leavesRoomAsItWas(here, refused(here, [next], /predecessors/))
      assert.isBelow(evil.asked.length, 40)
      assert.isNotEmpty(room_id)
    })
  )

  it.effect("history that is made up is not taken, and the true one is found", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { alice, blue, cut, evil, mallory, mend, red, room } = here
      const dave = yield* blue.register(`dave${scenes}`)
      const { room_alias, room_id } = yield* createRoom(alice, {
        visibility: "public",
        room_alias_name: `history${scenes}`
      })
      const known = yield* evil.join(red, room_id, mallory)
      for (let index = 0; index < 5; index++) yield* say(alice, room_id, `true ${index}`)
      yield* join(dave, room_alias)
      yield* sees(dave, (event) => event.room_id === room_id && isMember(dave.userId, "join")(event))
      const truth = ids(yield* readBack(alice, room_id, 1000))

      // Only evil can be asked: it offers what does not belong there, what it could not have said, and what others did not.
      const oldest = (yield* blue.events(room_id))[0]!
      const missing = { event_id: oldest.prev_events[0]!, depth: oldest.depth - 1 }
      const create = known.state.get("m.room.create\0")!
      const before = {
        prevEvents: [create],
        state: [...known.state.values()].filter(({ sender }) => sender !== mallory)
      }
      const stranger = evil.event(known, { sender: "@stranger:evil.test" }, { prevEvents: [create] })
      const asAlice = evil.forge(stranger, { ...missing, origin: red.serverName, sender: alice.userId })
      const unconnected = evil.event(known, { sender: mallory }, { prevEvents: [create] })
      const elsewhere = evil.event(room, { sender: mallory })
      const lies = [stranger, asAlice, unconnected, elsewhere, evil.event(known, { sender: mallory }, before)]
      evil.respond = ({ path }) =>
        path.startsWith("/backfill/")
          ? { status: 200, body: { origin: "evil.test", ts: 1, pdus: [...lies.map(version.toPdu), { a: 1 }] } }
          : { status: 404, body: {} }
      yield* cut(red, blue)
      evil.asked.length = 0
      const read = ids(yield* readBack(dave, room_id))
      assert.isTrue(evil.asked.some((path) => path.startsWith("/backfill/")))
      assert.isEmpty(read.filter((id) => !truth.includes(id)))
      yield* mend(red, blue)
      yield* meetAgain([alice, dave])
      yield* talk({ alice, bob: dave, room_id })
      const found = ids(yield* readBack(dave, room_id, 1000))
      assert.deepStrictEqual(found.slice(-truth.length).toSorted(), truth.toSorted())
      const last = (yield* readBack(dave, room_id, 1000)).find(({ event_id }) => event_id === missing.event_id)
      assert.strictEqual(last.content.body, "true 4")
    })
  )

  it.effect("a server outside of a room learns nothing of it, be it private or left again", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { alice, evil, mallory, red, room, room_id } = here
      const secret = yield* createRoom(alice, { visibility: "private" })
      const secretId = yield* say(alice, secret.room_id, "a secret")
      const learnsNothing = Effect.fnUntraced(function* (roomId: string, eventId: string) {
        const pduId = localpartOf(eventId as EventId)
        const reference = encodeURIComponent(`${pduId},red.test`)
        for (const path of [
          `/pdu/red.test/${pduId}`,
          roomPath("state", roomId),
          roomPath("state", roomId, `?at=${reference}`),
          roomPath("backfill", roomId, `?v=${reference}&limit=10`)
        ]) {
          const { body, status } = yield* evil.ask(red, "GET", path)
          assert.deepStrictEqual([path, status, body.errcode], [path, 404, "M_NOT_FOUND"])
        }
      })
      yield* learnsNothing(secret.room_id, secretId)
      for (const handshake of ["make_join", "make_leave", "make_knock"]) {
        const path = roomPath(handshake, secret.room_id, `/${encodeURIComponent(mallory)}`)
        assert.strictEqual((yield* evil.ask(red, "GET", path)).status, 404)
      }
      // In a room of which it knows the ID it tries to join without asking.
      const outside = { roomId: secret.room_id, state: new Map(room.state), extremities: [imagined("red.test", 5)] }
      const intrusion = evil.event(outside, {
        type: "m.room.member",
        state_key: mallory,
        sender: mallory,
        content: { membership: "join" }
      })
      const path = roomPath("send_join", secret.room_id, `/${localpartOf(intrusion.event_id)}`)
      assert.strictEqual((yield* evil.ask(red, "PUT", path, version.toPdu(intrusion))).status, 404)
      const said = evil.event(outside, { sender: mallory })
      for (const answer of yield* evil.tell(red, intrusion, said)) assert.match(answer ?? "taken", /There is no room/)

      // Events from after it left, and before it came back.
      yield* expectOk(change(alice, room_id, "kick", mallory))
      const later = yield* say(alice, room_id, "mallory is gone")
      yield* learnsNothing(room_id, later)
      assert.isFalse(evil.received.some(({ event_id }) => event_id === later || event_id === secretId))
      yield* talk(here)
    })
  )

  it.effect("malformed transactions and PDUs, too many of them, and unknown rooms are refused, each by itself", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { evil, mallory, red, room } = here
      const good = version.toPdu(evil.event(room, { sender: mallory }))
      const count = red.select("SELECT count(*)::int AS count FROM events")
      const [before] = yield* count
      yield* leavesRoomAsItWas(
        here,
        Effect.gen(function* () {
          const notJson = yield* evil.ask(red, "PUT", "/send/notjson", undefined, { raw: '{"pdus": [' })
          assert.deepStrictEqual([notJson.status, notJson.body.errcode], [400, "M_NOT_JSON"])
          const list = yield* evil.ask(red, "PUT", "/send/list", undefined, { raw: "[]" })
          assert.deepStrictEqual([list.status, list.body.errcode], [400, "M_BAD_JSON"])
          const thousand = yield* evil.send(
            red,
            Array.from({ length: 1000 }, () => good)
          )
          assert.deepStrictEqual([thousand.status, thousand.body.errcode], [413, "M_TOO_LARGE"])
          const nowhere = { ...room, roomId: "!nowhere:red.test" }
          const [unknown] = yield* evil.tell(red, evil.event(nowhere, { sender: mallory }))
          assert.match(unknown ?? "taken", /There is no room/)
          const [orphan] = yield* evil.tell(
            red,
            evil.event(room, { sender: mallory }, { prevEvents: [imagined("evil.test"), imagined("red.test")] })
          )
          assert.match(orphan ?? "taken", /predecessors/)
          const { body, status } = yield* evil.send(red, [
            null,
            7,
            "pdu",
            {},
            { ...good, pdu_id: "big", content: { body: "x".repeat(1_000_000) } },
            { ...good, pdu_id: "deep", depth: -1 },
            { ...good, pdu_id: "many", prev_pdus: Array.from({ length: 1000 }, (_, i) => [`p${i}`, "evil.test"]) }
          ])
          assert.strictEqual(status, 200)
          assert.match(body.pdus["big,evil.test"].error, /bytes/)
          assert.match(body.pdus["deep,evil.test"].error, /depth/)
          assert.match(body.pdus["many,evil.test"].error, /prev_pdus/)
        })
      )
      const [after] = yield* count
      assert.strictEqual(after.count - before.count, 2, "nothing but the words of Alice and Bob is stored")
    })
  )

  it.effect("a flood of PDUs and EDUs does not disturb other users", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { evil, mallory, red, room, room_id } = here
      const pdus = Array.from({ length: 50 }, (_, index) =>
        version.toPdu(evil.event(room, { sender: `@flood${index}:evil.test` }))
      )
      const edus = Array.from({ length: 100 }, (_, index) => ({
        edu_type: index % 2 === 0 ? "m.typing" : "m.presence",
        origin: "evil.test",
        destination: "red.test",
        content:
          index % 2 === 0
            ? { room_id, user_id: `@flood${index}:evil.test`, typing: true }
            : { push: [{ user_id: `@flood${index}:evil.test`, state: "online", presence: "online" }] }
      }))
      yield* leavesRoomAsItWas(
        here,
        Effect.gen(function* () {
          const flood = yield* Effect.forkChild(
            Effect.forEach(Array.from({ length: 60 }), () => evil.send(red, pdus, { edus }), {
              concurrency: "unbounded"
            })
          )
          yield* isHealthy(red)
          const answers = yield* Fiber.join(flood)
          for (const { body, status } of answers) {
            assert.include([200, 429], status)
            if (status === 200) for (const entry of Object.values(body.pdus)) assert.isDefined((entry as Body).error)
          }
        })
      )
      assert.isNotEmpty(mallory)
    })
  )

  it.effect("a room whose server says that it is somewhere else, or lies about its state, is not joined", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { alice, bob, evil, mallory, room, red } = here
      const person: Person = yield* red.register(`curious${scenes}`)
      const made = evil.event(room, {
        type: "m.room.member",
        state_key: person.userId,
        sender: mallory,
        content: { membership: "join" }
      })
      const { hashes: _, signatures: __, pdu_id: ___, origin: ____, ts: _____, ...template } = version.toPdu(made)
      const target = "!trap:evil.test"
      evil.respond = ({ path }) => {
        if (path.startsWith("/query/directory"))
          return { status: 200, body: { room_id: target, servers: ["evil.test"] } }
        if (path.startsWith("/make_join")) {
          const event = { ...template, context: target, user_id: person.userId }
          return { status: 200, body: { room_version: version.id, event } }
        }
        if (path.startsWith("/send_join")) {
          const state = [...room.state.values()].map(version.toPdu)
          return { status: 200, body: { state, auth_chain: [] } }
        }
        return { status: 404, body: {} }
      }
      const answer = yield* person.ask("POST", `/join/${encodeURIComponent("#trap:evil.test")}`, {})
      assert.strictEqual(answer.status, 403)
      const { rooms } = yield* expectOk(person.ask("GET", "/initialSync"))
      assert.isFalse(rooms.some(({ room_id }: Body) => room_id === target))
      yield* talk(here)
      assert.strictEqual((yield* setState(bob, here.room_id, "m.room.topic", { topic: "no" })).status, 403)
      assert.strictEqual((yield* setState(alice, here.room_id, "m.room.topic", { topic: "yes" })).status, 200)
    })
  )

  it.effect("a server that never answers delays no other work", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { evil, mallory, red, room } = here
      evil.respond = () => "never"
      const held = yield* Effect.forkChild(
        evil.tell(red, evil.event(room, { sender: mallory }, { prevEvents: [imagined("evil.test")] }))
      )
      yield* talk(here)
      yield* talk(here)
      yield* isHealthy(red)
      yield* Fiber.interrupt(held)
    })
  )
})
