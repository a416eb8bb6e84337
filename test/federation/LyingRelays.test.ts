/**
 * A server passes on events of another one, and lies about the state before them where their predecessors are missing. What
 * was rejected for that is taken once their own server is heard.
 *
 * Source: "Checks performed on receipt of a PDU" of the server-server specification, which leaves it open whose state decides.
 */
import { assert, layer, vi } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { Context, Effect, Layer } from "effect"
import { type HostileNetwork, ids, refusalsOf } from "./support/HostileNetwork.ts"
import { type EventPlaceLie, HostileServer, imaginedHash } from "./support/HostileServer.ts"
import { expectOk, freePort, isMember, network, readBack, sees } from "./support/Network.ts"
import { nothing, todaysScene } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 120_000 })

interface WorldShape {
  readonly network: HostileNetwork
  /** A server that speaks the truth. */
  readonly good: HostileServer
}

class World extends Context.Service<World, WorldShape>()("greenroom/test/LyingRelays") {
  static readonly layer = Layer.effect(
    World,
    Effect.gen(function* () {
      const [evil, good] = [new HostileServer("evil.test", "today"), new HostileServer("good.test", "today")]
      const [evilPort, goodPort] = [yield* freePort, yield* freePort]
      yield* evil.listen(evilPort)
      yield* good.listen(goodPort)
      const others = { "evil.test": evilPort, "good.test": goodPort }
      return { network: { ...(yield* network(["red.test", "blue.test"], { others })), evil }, good }
    })
  )
}

/** The server gives these events, and this state before each of them. */
const answers = (server: HostileServer, events: ReadonlyArray<Event>, state: ReadonlyArray<string>) => {
  server.respond = ({ path }) => {
    const asked = events.find(({ event_id }) => path === `/v1/event/${event_id}`)
    if (asked !== undefined) {
      return { status: 200, body: { origin: server.serverName, origin_server_ts: 1, pdus: [server.toPdu(asked)] } }
    }
    return path.startsWith("/v1/state_ids/") ? { status: 200, body: { pdu_ids: state, auth_chain_ids: [] } } : nothing
  }
}

/**
 * Dan joined on the good server, which is cut off from blue, and speaks. The hostile server passes his message on with a
 * state in which he is not joined.
 */
const lie = Effect.gen(function* () {
  const { good, network } = yield* World
  const here = yield* todaysScene(network, "11")
  const { alice, blue, bob, evil, number, red, room: known, room_id } = here
  const carol = `@carol${number}:good.test`
  good.respond = () => nothing
  const room = yield* good.join(red, room_id, carol)
  for (const person of [alice, bob]) {
    yield* sees(person, (event) => event.room_id === room_id && isMember(carol, "join")(event))
  }
  const says = (sender: string, body: string, place: EventPlaceLie) =>
    good.event(room, { sender, content: { msgtype: "m.text", body } }, place)
  const dan = `@dan${number}:good.test`
  const join = good.event(room, { type: "m.room.member", state_key: dan, sender: dan, content: { membership: "join" } })
  const carols = says(carol, "Dan is here", { prevEvents: [imaginedHash()] })
  const dans = says(dan, "I am here", { prevEvents: [carols], state: [join] })
  good.speaks(room_id, "11")
  const lies = ids([...known.state.values()])
  const truth = [...ids([...room.state.values()]), join.event_id]
  answers(evil, [join, carols], lies)
  const [refusal] = yield* refusalsOf(evil, blue, [dans])
  assert.match(refusal!, /must be in the room/)
  assert.notInclude(ids(yield* readBack(bob, room_id)), dans.event_id)
  const members = Effect.map(
    expectOk(bob.ask("GET", `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/joined_members`)),
    ({ joined }) => Object.keys(joined)
  )
  return { ...here, good, room, carol, dan, join, carols, dans, says, lies, truth, members }
})

layer(World.layer, { excludeTestServices: true, timeout: "3 minutes" })("Servers that pass on events", (it) => {
  it.effect("an event that was rejected by another server's state is taken when its own server sends it", () =>
    Effect.gen(function* () {
      const { blue, bob, carols, dan, dans, good, join, members, room_id, truth } = yield* lie
      answers(good, [join, carols, dans], truth)
      yield* good.tell(blue, dans)
      assert.include(ids(yield* readBack(bob, room_id)), dans.event_id)
      assert.include(yield* members, dan)
    })
  )

  it.effect("and when a later event follows it", () =>
    Effect.gen(function* () {
      const { blue, bob, carols, dan, dans, good, join, members, room_id, says, truth } = yield* lie
      answers(good, [join, carols, dans], truth)
      const later = says(dan, "and still here", { prevEvents: [dans], state: [join] })
      yield* good.tell(blue, later)
      const read = ids(yield* readBack(bob, room_id))
      for (const event of [dans, later]) assert.include(read, event.event_id)
      assert.include(yield* members, dan)
    })
  )

  it.effect("the same lie again changes nothing, nor does one about an event that the current state forbids", () =>
    Effect.gen(function* () {
      const { blue, bob, dans, evil, mallory, room: known, room_id } = yield* lie
      yield* evil.tell(blue, dans)
      assert.notInclude(ids(yield* readBack(bob, room_id)), dans.event_id)
      // Without power levels in the state everybody may set the topic, but the event's own auth events say otherwise.
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
})
