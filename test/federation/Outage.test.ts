/**
 * Home servers that are killed, paused or cut off while the others continue: afterwards all have the same state, and no acknowledged event
 * is missing.
 */
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import {
  causalityViolations,
  change,
  createRoom,
  endBackoff,
  expectOk,
  getState,
  type HomeServer,
  isMember,
  join,
  type Network,
  network,
  readBack,
  reads,
  say,
  setState,
  stateOf
} from "./support/Network.ts"

class Servers extends Context.Service<Servers, Network>()("greenroom/test/Servers") {
  static readonly layer = Layer.effect(Servers, network(["red.test", "blue.test", "green.test"]))
}

let scenes = 0

/** Alice of red with power level 100, Bob of blue and Carol of green with 75, and Dave and Erin in one room. */
const scene = Effect.gen(function* () {
  const { cut, mend, servers } = yield* Servers
  const [red, blue, green] = servers as [HomeServer, HomeServer, HomeServer]
  const number = ++scenes
  const alice = yield* red.register(`alice${number}`)
  const bob = yield* blue.register(`bob${number}`)
  const carol = yield* green.register(`carol${number}`)
  const dave = yield* red.register(`dave${number}`)
  const erin = yield* green.register(`erin${number}`)
  const { room_alias, room_id } = yield* createRoom(alice, { visibility: "public", room_alias_name: `square${number}` })
  for (const person of [bob, carol, dave, erin]) yield* join(person, room_alias)
  const levels = (yield* getState(alice, room_id, "m.room.power_levels")).body
  const setLevels = (users: Body) => setState(alice, room_id, "m.room.power_levels", { ...levels, users })
  const everyone = { [alice.userId]: 100, [bob.userId]: 75, [carol.userId]: 75 }
  yield* expectOk(setLevels(everyone))
  yield* say(alice, room_id, "ready")
  for (const person of [bob, carol]) yield* reads(person, room_id, "ready")
  const isolate = (server: HomeServer, how: typeof cut) =>
    Effect.forEach(
      servers.filter((other) => other !== server),
      (other) => how(server, other),
      { discard: true }
    )
  return { red, blue, green, alice, bob, carol, dave, erin, room_id, everyone, setLevels, isolate, cut, mend }
})

/** Every user sends a message that the others receive. Asserts that all have the same state and the acknowledged events then. */
const assertAgreement = Effect.fnUntraced(function* (
  members: ReadonlyArray<readonly [HomeServer, Person]>,
  roomId: string,
  acknowledged: ReadonlyArray<string>
) {
  const people = members.map(([, person]) => person)
  yield* endBackoff(people)
  for (const person of people) yield* say(person, roomId, `last message of ${person.userId}`)
  for (const person of people) {
    for (const { userId } of people) yield* reads(person, roomId, `last message of ${userId}`)
  }
  const [state, ...states] = yield* Effect.forEach(people, (person) => stateOf(person, roomId))
  for (const other of states) assert.deepStrictEqual(other, state)
  for (const [server, person] of members) {
    const read = (yield* readBack(person, roomId)).map(({ event_id }) => event_id)
    assert.strictEqual(new Set(read).size, read.length)
    for (const id of acknowledged) assert.include(read, id)
    assert.deepStrictEqual(causalityViolations(read.toReversed(), yield* server.events(roomId)), [])
  }
})

const membershipOf = (person: Person, roomId: string, userId: string) =>
  Effect.map(getState(person, roomId, "m.room.member", userId), ({ body }) => body.membership)

layer(Servers.layer, { excludeTestServices: true, timeout: "2 minutes" })("Outages", (it) => {
  it.effect("an invite is sent once, although the server was killed before the request was repeated", () =>
    Effect.gen(function* () {
      const { alice, carol, red } = yield* scene
      const { room_id } = yield* createRoom(alice, { visibility: "private" })
      const invite = alice.ask("PUT", `/rooms/${encodeURIComponent(room_id)}/invite/once`, { user_id: carol.userId })
      yield* expectOk(invite)
      yield* red.kill
      yield* red.start
      yield* expectOk(invite)
      const invitations = (yield* readBack(alice, room_id)).filter(isMember(carol.userId, "invite"))
      assert.strictEqual(invitations.length, 1)
    })
  )

  it.effect("a server that was killed with unsent changes has the same state as the others afterwards", () =>
    Effect.gen(function* () {
      const { alice, blue, bob, carol, dave, erin, everyone, green, isolate, cut, mend, red, room_id, setLevels } =
        yield* scene
      yield* isolate(blue, cut)
      const acknowledged = [yield* say(bob, room_id, "blue is cut off")]
      yield* expectOk(setState(bob, room_id, "m.room.topic", { topic: "by blue" }))
      yield* expectOk(change(bob, room_id, "ban", erin.userId))
      acknowledged.push(yield* say(bob, room_id, "erin is banned"))
      yield* blue.kill
      yield* expectOk(setLevels({ ...everyone, [bob.userId]: 0 }))
      yield* expectOk(setState(alice, room_id, "m.room.topic", { topic: "by red" }))
      acknowledged.push(yield* say(alice, room_id, "bob has no power"))
      yield* reads(carol, room_id, "bob has no power")
      yield* expectOk(change(carol, room_id, "ban", dave.userId))
      acknowledged.push(yield* say(carol, room_id, "dave is banned"), yield* say(erin, room_id, "erin is not"))
      yield* isolate(blue, mend)
      yield* blue.start
      yield* assertAgreement(
        [
          [red, alice],
          [blue, bob],
          [green, carol]
        ],
        room_id,
        acknowledged
      )
      for (const person of [alice, bob, carol]) {
        assert.deepStrictEqual((yield* getState(person, room_id, "m.room.topic")).body, { topic: "by red" })
        assert.strictEqual(yield* membershipOf(person, room_id, dave.userId), "ban")
        assert.strictEqual(yield* membershipOf(person, room_id, erin.userId), "join")
      }
    })
  )

  it.effect("a room that was partitioned converges to one state with the changes of both sides", () =>
    Effect.gen(function* () {
      const { alice, blue, bob, carol, cut, dave, erin, green, isolate, mend, red, room_id } = yield* scene
      yield* isolate(red, cut)
      const acknowledged: Array<string> = []
      const senders = [alice, bob, carol]
      for (let round = 0; round < 20; round++) {
        for (const person of senders) acknowledged.push(yield* say(person, room_id, `${person.userId} ${round}`))
      }
      yield* expectOk(setState(alice, room_id, "m.room.topic", { topic: "by red" }))
      yield* expectOk(setState(bob, room_id, "m.room.topic", { topic: "by blue" }))
      yield* expectOk(setState(carol, room_id, "m.room.name", { name: "Green" }))
      yield* expectOk(change(alice, room_id, "ban", erin.userId))
      yield* expectOk(change(carol, room_id, "ban", dave.userId))
      for (const person of senders) acknowledged.push(yield* say(person, room_id, `${person.userId} is done`))
      yield* isolate(red, mend)
      yield* assertAgreement(
        [
          [red, alice],
          [blue, bob],
          [green, carol]
        ],
        room_id,
        acknowledged
      )
      for (const person of senders) {
        assert.strictEqual(yield* membershipOf(person, room_id, erin.userId), "ban")
        assert.strictEqual(yield* membershipOf(person, room_id, dave.userId), "ban")
      }
    })
  )

  it.effect("a paused server gets the missed events when it continues, and other servers get them through it", () =>
    Effect.gen(function* () {
      const { alice, blue, bob, carol, cut, green, mend, red, room_id } = yield* scene
      yield* green.freeze
      yield* cut(red, blue)
      const acknowledged = [yield* say(alice, room_id, "from red"), yield* say(bob, room_id, "from blue")]
      yield* green.thaw
      // Green receives both sides, and its events lead each side to the events of the other.
      yield* reads(carol, room_id, "from red")
      yield* reads(carol, room_id, "from blue")
      acknowledged.push(yield* say(carol, room_id, "green received both"))
      yield* reads(alice, room_id, "green received both")
      yield* reads(bob, room_id, "green received both")
      yield* reads(alice, room_id, "from blue")
      yield* reads(bob, room_id, "from red")
      yield* mend(red, blue)
      yield* assertAgreement(
        [
          [red, alice],
          [blue, bob],
          [green, carol]
        ],
        room_id,
        acknowledged
      )
    })
  )
})
