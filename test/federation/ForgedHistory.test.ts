/**
 * Events from an earlier state, missing predecessors and forged states do not change a room.
 */
import { assert, layer, vi } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { Effect } from "effect"
import type { Body } from "../support/Curl.ts"
import { exchangeMessages, ids, leavesRoomUnchanged, refused } from "./support/HostileNetwork.ts"
import { type GraphOverrides, imaginedHash, notFound } from "./support/HostileServer.ts"
import {
  change,
  expectOk,
  getState,
  type HomeServer,
  isMember,
  readBack,
  sees,
  setState,
  stateOf
} from "./support/Network.ts"
import { levelsOf, memberOf, Servers, sceneOf, versions } from "./support/TodaysHostility.ts"

vi.setConfig({ testTimeout: 180_000 })

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })("Forged history", (it) => {
  for (const version of versions) {
    const scene = sceneOf(version)
    const named = (text: string) => `version ${version}: ${text}`

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
            : notFound
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
          const received = read.filter(({ sender }) => sender === mallory).map(({ content }) => content.body ?? "join")
          assert.deepStrictEqual(received, ["join", "first", "second"])
        }
        yield* exchangeMessages(here)
      })
    )

    it.effect(
      named("events that follow an earlier state, in which their sender had the power, do not reset the state"),
      () =>
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
          yield* leavesRoomUnchanged(
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
              const back = {
                type: "m.room.member",
                state_key: mallory,
                sender: mallory,
                content: { membership: "join" }
              }
              yield* refused(here, [evil.event(known, back), evil.event(known, back, { prevEvents: [ban] })], /banned/i)
              // An event that follows both.
              const both = { prevEvents: [allowed, ban], state: [promoted] }
              yield* refused(here, [evil.event(known, topic, both)], /./)
            })
          )
        })
    )

    it.effect(named("a forged state at missing predecessors does not change the room"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, blue, bob, evil, mallory, red, room: known, room_id } = here
        const escalated = evil.event(known, {
          type: "m.room.power_levels",
          state_key: "",
          sender: mallory,
          content: levelsOf(here, { [mallory]: 100 })
        })
        const state = [...known.state.values()].filter(({ type }) => type !== "m.room.power_levels")
        let answer = [...state, escalated]
        evil.respond = ({ path }) => {
          if (path.startsWith("/v1/state/")) {
            return { status: 200, body: { pdus: answer.map((event) => evil.toPdu(event)), auth_chain: [] } }
          }
          if (path.startsWith("/v1/state_ids/"))
            return { status: 200, body: { pdu_ids: ids(answer), auth_chain_ids: [] } }
          const asked = answer.find((event) => path === `/v1/event/${event.event_id}`)
          return asked === undefined
            ? notFound
            : { status: 200, body: { origin: "evil.test", origin_server_ts: 1, pdus: [evil.toPdu(asked)] } }
        }
        // A message that follows all forward extremities and an unknown event. The forged state there has no power levels.
        const before = yield* Effect.forEach([alice, bob], (person) => stateOf(person, room_id))
        answer = state
        const emptied = evil.event(known, { sender: mallory }, { prevEvents: [...known.extremities, imaginedHash()] })
        for (const server of [red, blue]) assert.deepStrictEqual(yield* evil.tell(server, emptied), [undefined])
        assert.deepStrictEqual(yield* Effect.forEach([alice, bob], (person) => stateOf(person, room_id)), before)
        answer = [...state, escalated]
        const overrides = { state: [escalated], prevEvents: [imaginedHash()] }
        const topic = { type: "m.room.topic", state_key: "", sender: mallory, content: { topic: "evil" } }
        yield* leavesRoomUnchanged(
          here,
          refused(here, [memberOf(here, alice.userId, "ban", {}, overrides), evil.event(known, topic, overrides)], /./)
        )
      })
    )

    it.effect(named("an endless chain of missing predecessors costs a bounded number of requests"), () =>
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
          return of === undefined ? notFound : { status: 200, body: { ...about, pdus: back([of], 1000) } }
        }
        const count = (server: HomeServer) => server.select("SELECT count(*)::int AS count FROM events")
        evil.asked.length = 0
        yield* leavesRoomUnchanged(
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
  }

  it.effect("a server that rejoins a room, or misses events, fetches only the unknown part of the state", () =>
    Effect.gen(function* () {
      const here = yield* sceneOf("11")
      const { alice, blue, bob, evil, mallory, room: known, room_id } = here
      yield* expectOk(bob.ask("POST", `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/leave`, {}))
      const left = yield* evil.receives((event) => event.room_id === room_id && isMember(bob.userId, "leave")(event))
      const member = (userId: string, overrides: GraphOverrides) => {
        const content = { membership: "join" }
        return evil.event(known, { type: "m.room.member", state_key: userId, sender: userId, content }, overrides)
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
          ? notFound
          : { status: 200, body: { origin: "evil.test", origin_server_ts: 1, pdus: pdus([asked]) } }
      }
      const earlier = evil.asked.length
      const path = `//_matrix/client/v3/join/${encodeURIComponent(room_id)}?via=evil.test`
      yield* expectOk(bob.ask("POST", path, {}))
      // Requests of earlier tests may still arrive.
      const isOfJoin = (text: string) => /^\/v[12]\/(make_join|send_join|state|state_ids|event)\//.test(text)
      const [, sendJoin, stateIds, ...events] = evil.asked.slice(earlier).filter(isOfJoin)
      assert.match(sendJoin!, /^\/v2\/send_join\/.*\?omit_members=true$/)
      assert.match(stateIds!, /^\/v1\/state_ids\//)
      assert.deepStrictEqual(events, [`/v1/event/${carol.event_id}`])
      const joined = `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/joined_members`
      assert.sameMembers(Object.keys((yield* expectOk(bob.ask("GET", joined))).joined), [
        ...[alice.userId, bob.userId, mallory],
        "@carol:evil.test"
      ])
      // An event with an unavailable predecessor gets the state that its server returns. All of its events are stored by now.
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
})
