/**
 * A server passes on events of another server with missing predecessors, and returns a false state before them. Events that were rejected
 * because of that state are accepted once their own server sends them.
 *
 * Source: "Checks performed on receipt of a PDU" of the server-server specification, which does not say whose state counts.
 */
import { assert, layer, vi } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { Effect } from "effect"
import { ids, refusalsOf } from "./support/HostileNetwork.ts"
import { type GraphOverrides, type HostileServer, imaginedHash, notFound } from "./support/HostileServer.ts"
import { expectOk, isMember, readBack, sees } from "./support/Network.ts"
import { todaysScene } from "./support/TodaysScene.ts"
import { Servers } from "./support/TwoHostileServers.ts"

vi.setConfig({ testTimeout: 120_000 })

/** Makes the server return these events, and this state before each of them. */
const answers = (server: HostileServer, events: ReadonlyArray<Event>, state: ReadonlyArray<string>) => {
  server.respond = ({ path }) => {
    const asked = events.find(({ event_id }) => path === `/v1/event/${event_id}`)
    if (asked !== undefined) {
      return { status: 200, body: { origin: server.serverName, origin_server_ts: 1, pdus: [server.toPdu(asked)] } }
    }
    return path.startsWith("/v1/state_ids/") ? { status: 200, body: { pdu_ids: state, auth_chain_ids: [] } } : notFound
  }
}

/** Dan, who joined on the good server, sends a message. The hostile server passes it on to blue with a state in which he is not joined. */
const falseState = Effect.gen(function* () {
  const { good, network } = yield* Servers
  const here = yield* todaysScene(network, "11")
  const { alice, blue, bob, evil, number, red, room: known, room_id } = here
  const carol = `@carol${number}:good.test`
  good.respond = () => notFound
  const room = yield* good.join(red, room_id, carol)
  for (const person of [alice, bob]) {
    yield* sees(person, (event) => event.room_id === room_id && isMember(carol, "join")(event))
  }
  const messageOf = (sender: string, body: string, overrides: GraphOverrides) =>
    good.event(room, { sender, content: { msgtype: "m.text", body } }, overrides)
  const dan = `@dan${number}:good.test`
  const join = good.event(room, { type: "m.room.member", state_key: dan, sender: dan, content: { membership: "join" } })
  const carols = messageOf(carol, "by Carol", { prevEvents: [imaginedHash()] })
  const dans = messageOf(dan, "by Dan", { prevEvents: [carols], state: [join] })
  good.useVersion(room_id, "11")
  const stateWithoutDan = ids([...known.state.values()])
  const stateWithDan = [...ids([...room.state.values()]), join.event_id]
  answers(evil, [join, carols], stateWithoutDan)
  const [refusal] = yield* refusalsOf(evil, blue, [dans])
  assert.match(refusal!, /must be in the room/)
  assert.notInclude(ids(yield* readBack(bob, room_id)), dans.event_id)
  const members = Effect.map(
    expectOk(bob.ask("GET", `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/joined_members`)),
    ({ joined }) => Object.keys(joined)
  )
  return { ...here, good, room, carol, dan, join, carols, dans, messageOf, stateWithDan, members }
})

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })("Events that other servers pass on", (it) => {
  it.effect("an event that was rejected by the state of another server is accepted when its own server sends it", () =>
    Effect.gen(function* () {
      const { blue, bob, carols, dan, dans, good, join, members, room_id, stateWithDan } = yield* falseState
      answers(good, [join, carols, dans], stateWithDan)
      yield* good.tell(blue, dans)
      assert.include(ids(yield* readBack(bob, room_id)), dans.event_id)
      assert.include(yield* members, dan)
    })
  )

  it.effect(
    "an event that was rejected by the state of another server is accepted when a later event of its own server follows it",
    () =>
      Effect.gen(function* () {
        const { blue, bob, carols, dan, dans, good, join, members, messageOf, room_id, stateWithDan } =
          yield* falseState
        answers(good, [join, carols, dans], stateWithDan)
        const later = messageOf(dan, "later", { prevEvents: [dans], state: [join] })
        yield* good.tell(blue, later)
        const read = ids(yield* readBack(bob, room_id))
        for (const event of [dans, later]) assert.include(read, event.event_id)
        assert.include(yield* members, dan)
      })
  )

  it.effect(
    "the same false state again, or one for an event that the current state forbids, does not change the room",
    () =>
      Effect.gen(function* () {
        const { blue, bob, dans, evil, mallory, room: known, room_id } = yield* falseState
        yield* evil.tell(blue, dans)
        assert.notInclude(ids(yield* readBack(bob, room_id)), dans.event_id)
        // A state without power levels lets any member set the topic, but the auth events of the event contain power levels.
        const topic = evil.event(known, {
          type: "m.room.topic",
          state_key: "",
          sender: mallory,
          content: { topic: "evil" }
        })
        const withoutLevels = [...known.state.values()].filter(({ type }) => type !== "m.room.power_levels")
        answers(evil, [topic], ids(withoutLevels))
        for (let n = 0; n < 2; n++) yield* evil.tell(blue, topic)
        assert.notInclude(ids(yield* readBack(bob, room_id)), topic.event_id)
      })
  )

  it.effect("pages of history are requested first from the server that gave the last one", () =>
    Effect.gen(function* () {
      const { good, network } = yield* Servers
      const { alice, blue, bob, evil, number, red, room_id } = yield* todaysScene(network, "11")
      const carol = `@carol${number}:good.test`
      good.respond = () => notFound
      const room = yield* good.join(red, room_id, carol)
      for (const person of [alice, bob]) {
        yield* sees(person, (event) => event.room_id === room_id && isMember(carol, "join")(event))
      }
      const chain = [good.event(room, { sender: carol }, { prevEvents: [imaginedHash()] })]
      for (let length = 1; length < 350; length++)
        chain.push(good.event(room, { sender: carol }, { prevEvents: chain.slice(-1) }))
      const last = chain.at(-1)!
      const state = ids([...room.state.values()])
      good.useVersion(room_id, "11")
      evil.respond = () => notFound
      good.respond = ({ path }) => {
        if (path.startsWith("/v1/state_ids/")) return { status: 200, body: { pdu_ids: state, auth_chain_ids: state } }
        const from = /^\/v1\/backfill\/.*[?&]v=([^&]+)/.exec(path)?.[1]
        if (from === undefined) return notFound
        const end = chain.findIndex(({ event_id }) => event_id === from)
        const pdus = chain.slice(Math.max(0, end - 100), end).toReversed()
        return {
          status: 200,
          body: { origin: "good.test", origin_server_ts: 1, pdus: pdus.map((event) => good.toPdu(event)) }
        }
      }
      assert.deepStrictEqual(yield* good.tell(blue, last), [undefined])
      yield* sees(bob, ({ event_id }) => event_id === last.event_id)
      const earlier = evil.asked.length
      yield* readBack(bob, room_id)
      const pages = (server: HostileServer, from = 0) =>
        server.asked.slice(from).filter((path) => path.startsWith("/v1/backfill/")).length
      assert.isAtLeast(pages(good), 3)
      assert.isAtMost(pages(evil, earlier), 2)
    })
  )
})
