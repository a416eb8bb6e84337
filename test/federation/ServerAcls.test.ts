/**
 * Server access control lists that are set during a partition: the servers that the list admits agree on the state once each of them
 * has sent an event. A list is no rule of authorisation, so every server refuses by its own current state, and takes what the events of
 * an admitted server follow. The excluded server stays behind, because the others refuse its events and its requests.
 *
 * Source: "Server Access Control Lists (ACLs) for rooms" of the server-server specification.
 */
import { assert, layer, vi } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import type { Person } from "../support/Scene.ts"
import {
  endBackoff,
  expectOk,
  getState,
  type HomeServer,
  type Network,
  network,
  reads,
  say,
  setState,
  stateOf
} from "./support/Network.ts"
import { createRoom, joinThrough } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 180_000 })

class Servers extends Context.Service<Servers, Network>()("greenroom/test/ServerAcls") {
  static readonly layer = Layer.effect(Servers, network(["red.test", "blue.test", "green.test"]))
}

const denying = { allow: ["*"], deny: ["blue.test"], allow_ip_literals: true }

let scenes = 0

/** Alice of red, Bob of blue and Carol of green in a room in which all three may change the state. */
const scene = Effect.gen(function* () {
  const net = yield* Servers
  const [red, blue, green] = net.servers as [HomeServer, HomeServer, HomeServer]
  const number = ++scenes
  const alice = yield* red.register(`alice${number}`)
  const bob = yield* blue.register(`bob${number}`)
  const carol = yield* green.register(`carol${number}`)
  const people = [alice, bob, carol]
  const users = Object.fromEntries(people.map(({ userId }) => [userId, 100]))
  const room_id = yield* createRoom(alice, "11", { power_level_content_override: { users } })
  for (const person of [bob, carol]) yield* expectOk(joinThrough(person, room_id, red))
  for (const person of people) {
    yield* say(person, room_id, `${person.userId} is here`)
    for (const reader of people) yield* reads(reader, room_id, `${person.userId} is here`)
  }
  let messages = 0
  const ask = (effect: Effect.Effect<unknown>) => Effect.asVoid(effect)
  const setTopic = (person: Person, topic: string) =>
    ask(expectOk(setState(person, room_id, "m.room.topic", { topic })))
  const setAcl = (person: Person) => ask(expectOk(setState(person, room_id, "m.room.server_acl", denying)))
  /** Sends a message which the others read. */
  const talk = Effect.fnUntraced(function* (person: Person, ...readers: ReadonlyArray<Person>) {
    const body = `message ${number}.${++messages}`
    yield* say(person, room_id, body)
    for (const reader of readers) yield* reads(reader, room_id, body)
  })
  const topicOf = (person: Person) => Effect.map(getState(person, room_id, "m.room.topic"), ({ body }) => body.topic)
  return { ...net, red, blue, green, alice, bob, carol, people, room_id, setTopic, setAcl, talk, topicOf }
})

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })(
  "A server ACL that is set in a partition",
  (it) => {
    it.effect("what an admitted server took from the excluded one reaches the server that refused it", () =>
      Effect.gen(function* () {
        const { alice, blue, bob, carol, cut, green, mend, people, red, room_id, setAcl, setTopic, talk, topicOf } =
          yield* scene
        yield* cut(red, blue)
        yield* cut(red, green)
        yield* setTopic(bob, "of blue")
        yield* talk(bob, carol)
        yield* setAcl(alice)
        yield* mend(red, blue)
        yield* mend(red, green)
        yield* endBackoff(people)
        yield* talk(alice, carol)
        yield* talk(carol, alice)
        assert.deepStrictEqual(yield* stateOf(alice, room_id), yield* stateOf(carol, room_id))
        assert.strictEqual(yield* topicOf(alice), "of blue")
      })
    )

    it.effect("what the excluded server sends to one that does not know the list reaches the one that does", () =>
      Effect.gen(function* () {
        const { alice, blue, bob, carol, cut, green, mend, people, red, room_id, setAcl, setTopic, talk, topicOf } =
          yield* scene
        yield* cut(red, green)
        yield* cut(blue, green)
        yield* setAcl(carol)
        yield* setTopic(bob, "of blue")
        yield* talk(bob, alice)
        yield* mend(red, green)
        yield* mend(blue, green)
        yield* endBackoff(people)
        yield* talk(alice, carol)
        yield* talk(carol, alice)
        assert.deepStrictEqual(yield* stateOf(alice, room_id), yield* stateOf(carol, room_id))
        assert.strictEqual(yield* topicOf(carol), "of blue")
      })
    )

    it.effect("what the excluded server alone has changed stays there", () =>
      Effect.gen(function* () {
        const { alice, blue, bob, carol, cut, green, mend, people, red, room_id, setAcl, setTopic, talk, topicOf } =
          yield* scene
        yield* cut(red, blue)
        yield* cut(blue, green)
        yield* setAcl(alice)
        yield* talk(alice, carol)
        yield* setTopic(bob, "of blue")
        yield* mend(red, blue)
        yield* mend(blue, green)
        yield* endBackoff(people)
        yield* say(bob, room_id, "refused")
        yield* talk(alice, carol, bob)
        yield* talk(carol, alice, bob)
        assert.deepStrictEqual(yield* stateOf(alice, room_id), yield* stateOf(carol, room_id))
        assert.isUndefined(yield* topicOf(alice))
        assert.strictEqual(yield* topicOf(bob), "of blue")
      })
    )
  }
)
