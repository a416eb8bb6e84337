/**
 * Events that a hostile server makes up, alters or sends in the name of another server, in the draft's dialect. Each is refused and logged,
 * and the room stays unchanged and usable.
 */
import { assert, layer } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { localpartOf } from "@greenroom/protocol/Identifiers"
import { defaultRoomVersion as version } from "@greenroom/room/RoomVersions"
import { Effect } from "effect"
import { Servers, scene } from "./support/DraftHostility.ts"
import { exchangeMessages, ids, leavesRoomUnchanged, refused } from "./support/HostileNetwork.ts"
import { imagined, notFound } from "./support/HostileServer.ts"
import {
  causalityViolations,
  change,
  createRoom,
  endBackoff,
  expectOk,
  getState,
  isMember,
  join,
  readBack,
  say,
  sees
} from "./support/Network.ts"

layer(Servers.layer, { excludeTestServices: true, timeout: "2 minutes" })("Forged events of the draft", (it) => {
  it.effect("events in the name of another server are refused", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { blue, evil, mallory, red, room, alice } = here
      yield* leavesRoomUnchanged(
        here,
        Effect.gen(function* () {
          const message = version.toPdu(evil.event(room, { sender: mallory }))
          const transaction = { origin: "blue.test", destination: "red.test", ts: 1, pdus: [message], edus: [] }
          const fromBlue = { head: { origin: blue.serverName } }
          assert.strictEqual((yield* evil.ask(red, "PUT", "/send/spoofed", transaction, fromBlue)).status, 401)
          assert.strictEqual((yield* evil.ask(red, "PUT", "/send/s2", transaction, { authorization: "" })).status, 401)
          assert.strictEqual((yield* evil.ask(red, "PUT", "/send/spoofed", transaction)).status, 400)
          const toBlue = { head: { destination: blue.serverName } }
          assert.strictEqual((yield* evil.ask(red, "PUT", "/send/s3", transaction, toBlue)).status, 401)
          // A PDU of another server: in the name of evil, and in its own name with the signature of evil.
          const asAlice = evil.event(room, { sender: alice.userId })
          yield* refused(here, [asAlice], /comes from the server of its sender/)
          const forged = { origin: red.serverName, event_id: "$forged:red.test" }
          yield* refused(here, [evil.forge(asAlice, forged)], /signature/)
        })
      )
    })
  )

  it.effect("altered events of another server are refused or redacted", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { alice, blue, bob, cut, evil, mend, red, room_id } = here
      yield* cut(red, blue)
      const id = yield* say(alice, room_id, "the original")
      const original = yield* evil.receives(({ event_id }) => event_id === id)
      const reworded = { ...original, content: { msgtype: "m.text", body: "altered" } }
      const redated = { ...original, origin_server_ts: 1 }
      assert.match((yield* evil.tell(blue, redated))[0] ?? "taken", /signature/)
      yield* evil.tell(blue, reworded)
      yield* mend(red, blue)
      yield* endBackoff([alice, bob])
      yield* exchangeMessages(here)
      for (const person of [alice, bob]) {
        const bodies = (yield* readBack(person, room_id)).map(({ content }) => content.body)
        assert.notInclude(bodies, "altered")
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
          : notFound
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
        const received = read.filter(({ sender }) => sender === mallory).map(({ content }) => content.body ?? "join")
        assert.deepStrictEqual(received, ["join", "first", "second"])
        assert.deepStrictEqual(causalityViolations(ids(read), yield* server.events(room_id)), [])
      }
      yield* exchangeMessages(here)
    })
  )

  it.effect("users without the power cannot add, remove or ban members", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { alice, bob, evil, mallory, room } = here
      const member = (userId: string, membership: string, sender = mallory) =>
        evil.event(room, { type: "m.room.member", state_key: userId, sender, content: { membership } })
      yield* leavesRoomUnchanged(
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

  it.effect("banned users stay banned, whatever predecessors their events name", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { alice, bob, evil, mallory, room, room_id } = here
      yield* expectOk(change(alice, room_id, "ban", mallory))
      const ban = yield* evil.receives(isMember(mallory, "ban") as (event: Event) => boolean)
      yield* sees(bob, (event) => event.event_id === ban.event_id)
      yield* leavesRoomUnchanged(
        here,
        Effect.gen(function* () {
          // A message before the ban and after it, and joins.
          yield* refused(here, [evil.event(room, { sender: mallory })], /./)
          yield* refused(here, [evil.event(room, { sender: mallory }, { prevEvents: [ban] })], /in the room/)
          const back = { type: "m.room.member", state_key: mallory, sender: mallory, content: { membership: "join" } }
          yield* refused(here, [evil.event(room, back)], /banned/i)
          yield* refused(here, [evil.event(room, back, { prevEvents: [ban] })], /banned/i)
        })
      )
    })
  )

  it.effect("users cannot raise their own power level", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { evil, mallory, room, room_id, bob } = here
      const levels = room.state.get("m.room.power_levels\0")!
      const users = { ...(levels.content.users as object), [mallory]: 100 }
      const escalation = { type: "m.room.power_levels", state_key: "", content: { ...levels.content, users } }
      yield* leavesRoomUnchanged(
        here,
        Effect.gen(function* () {
          const refusedLevels = evil.event(room, { ...escalation, sender: mallory })
          yield* refused(here, [refusedLevels], /power level/)
          // Bans that name the refused power levels, or power levels that only evil has.
          const unknown = evil.event(room, { ...escalation, sender: mallory })
          evil.respond = ({ path }) =>
            path.endsWith(localpartOf(unknown.event_id))
              ? { status: 200, body: { origin: "evil.test", ts: 1, pdus: [version.toPdu(unknown)] } }
              : notFound
          for (const state of [refusedLevels, unknown]) {
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

  it.effect("a forged state at missing predecessors does not change the room", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { alice, evil, mallory, room } = here
      const levels = room.state.get("m.room.power_levels\0")!
      const escalated = evil.event(room, {
        type: "m.room.power_levels",
        state_key: "",
        sender: mallory,
        content: { ...levels.content, users: { [mallory]: 100 } }
      })
      evil.respond = ({ path }) => {
        if (!path.startsWith("/state/")) return notFound
        const others = [...room.state.values()].filter(({ type }) => type !== "m.room.power_levels")
        return { status: 200, body: { pdus: [...others, escalated].map(version.toPdu), auth_chain: [] } }
      }
      const overrides = { state: [escalated], prevEvents: [imagined("evil.test")] }
      const ban = { type: "m.room.member", state_key: alice.userId, sender: mallory, content: { membership: "ban" } }
      const topic = { type: "m.room.topic", state_key: "", sender: mallory, content: { topic: "evil" } }
      yield* leavesRoomUnchanged(
        here,
        refused(here, [evil.event(room, ban, overrides), evil.event(room, topic, overrides)], /./)
      )
    })
  )

  it.effect("forged history is refused, and the real history is back-filled later", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { alice, blue, cut, evil, mallory, mend, red, room } = here
      const dave = yield* blue.register("dave")
      const { room_alias, room_id } = yield* createRoom(alice, {
        visibility: "public",
        room_alias_name: "history"
      })
      const known = yield* evil.join(red, room_id, mallory)
      for (let index = 0; index < 5; index++) yield* say(alice, room_id, `true ${index}`)
      yield* join(dave, room_alias)
      yield* sees(dave, (event) => event.room_id === room_id && isMember(dave.userId, "join")(event))
      const truth = ids(yield* readBack(alice, room_id, 1000))

      // Only evil answers back-fill requests, with events that are forged, unauthorised, unconnected or of another room.
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
      const forged = [stranger, asAlice, unconnected, elsewhere, evil.event(known, { sender: mallory }, before)]
      evil.respond = ({ path }) =>
        path.startsWith("/backfill/")
          ? { status: 200, body: { origin: "evil.test", ts: 1, pdus: [...forged.map(version.toPdu), { a: 1 }] } }
          : notFound
      yield* cut(red, blue)
      evil.asked.length = 0
      const read = ids(yield* readBack(dave, room_id))
      assert.isTrue(evil.asked.some((path) => path.startsWith("/backfill/")))
      assert.isEmpty(read.filter((id) => !truth.includes(id)))
      yield* mend(red, blue)
      yield* endBackoff([alice, dave])
      yield* exchangeMessages({ alice, bob: dave, room_id })
      const found = ids(yield* readBack(dave, room_id, 1000))
      assert.deepStrictEqual(found.slice(-truth.length).toSorted(), truth.toSorted())
      const last = (yield* readBack(dave, room_id, 1000)).find(({ event_id }) => event_id === missing.event_id)
      assert.strictEqual(last.content.body, "true 4")
    })
  )
})
