/** Rooms with many or long forks of the event graph: servers with the same events have the same state, and no event is lost. */
import { assert, layer } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { stateKeyOf } from "@greenroom/room/RoomVersion"
import { defaultRoomVersion as version } from "@greenroom/room/RoomVersions"
import { Context, Effect, Layer } from "effect"
import { type HostileNetwork, hostileNetwork } from "./support/HostileNetwork.ts"
import {
  createRoom,
  expectOk,
  getState,
  type HomeServer,
  isMember,
  join,
  reads,
  say,
  sees,
  setState,
  stateOf
} from "./support/Network.ts"

class Servers extends Context.Service<Servers, HostileNetwork>()("greenroom/test/Servers") {
  static readonly layer = Layer.effect(Servers, hostileNetwork(["red.test", "blue.test"]))
}

let scenes = 0

/** Alice and Dan of red, Bob of blue and Mallory of evil in a public room, where Mallory may set the power levels. */
const scene = Effect.gen(function* () {
  const { evil, ...net } = yield* Servers
  const [red, blue] = net.servers as [HomeServer, HomeServer]
  const number = ++scenes
  const alice = yield* red.register(`alice${number}`)
  const dan = yield* red.register(`dan${number}`)
  const bob = yield* blue.register(`bob${number}`)
  const { room_alias, room_id } = yield* createRoom(alice, { visibility: "public", room_alias_name: `room${number}` })
  yield* join(bob, room_alias)
  yield* join(dan, room_alias)
  const mallory = `@mallory${number}:evil.test`
  const before = (yield* getState(alice, room_id, "m.room.power_levels")).body
  const levels = {
    ...before,
    users: { ...before.users, [mallory]: 90 },
    events: { ...before.events, "m.room.power_levels": 90 }
  }
  yield* expectOk(setState(alice, room_id, "m.room.power_levels", levels))
  const room = yield* evil.join(red, room_id, mallory)
  yield* sees(bob, (event) => event.room_id === room_id && isMember(mallory, "join")(event))
  return { evil, red, blue, alice, bob, dan, mallory, room, room_id, levels }
})

type Scene = Effect.Success<typeof scene>

/** Sends the events to both servers, fifty at a time. */
const tellBoth = Effect.fnUntraced(function* ({ blue, evil, red }: Scene, events: ReadonlyArray<Event>) {
  for (const server of [red, blue]) {
    for (let from = 0; from < events.length; from += 50) {
      const refused = (yield* evil.tell(server, ...events.slice(from, from + 50))).filter(
        (entry) => entry !== undefined
      )
      assert.deepStrictEqual(refused, [])
    }
  }
})

const extremitiesOf = (server: HomeServer, roomId: string): Effect.Effect<ReadonlyArray<EventId>> =>
  Effect.map(
    server.select(`SELECT unnest(forward_extremities) AS id FROM rooms WHERE room_id = '${roomId}' ORDER BY 1`),
    (rows) => rows.map(({ id }) => id)
  )

const storedEvent = (server: HomeServer, id: string): Effect.Effect<Event> =>
  Effect.map(server.select(`SELECT body FROM events WHERE event_id = '${id}'`), ([row]) => JSON.parse(row!.body))

/** Alice and Bob send messages in turn. Asserts that both servers have the same single forward extremity and state then. */
const converge = Effect.fnUntraced(function* ({ alice, blue, bob, red, room_id }: Scene) {
  for (let round = 0; round < 6; round++) {
    yield* say(alice, room_id, `alice ${round}`)
    yield* reads(bob, room_id, `alice ${round}`)
    yield* say(bob, room_id, `bob ${round}`)
    yield* reads(alice, room_id, `bob ${round}`)
  }
  const [ofRed, ofBlue] = [yield* extremitiesOf(red, room_id), yield* extremitiesOf(blue, room_id)]
  assert.lengthOf(ofRed, 1)
  assert.deepStrictEqual(ofRed, ofBlue)
  assert.deepStrictEqual(yield* stateOf(alice, room_id), yield* stateOf(bob, room_id))
})

layer(Servers.layer, { excludeTestServices: true, timeout: "2 minutes" })("Forks", (it) => {
  it.effect(
    "no forward extremity is lost when there are more than an event can name, and servers have the same state",
    () =>
      Effect.gen(function* () {
        const at = yield* scene
        const { alice, bob, dan, evil, levels, mallory, red, room, room_id } = at
        const past = room.extremities
        const content = { ...levels, users: { ...levels.users, [dan.userId]: 50 } }
        const promotion = evil.event(
          room,
          { sender: mallory, type: "m.room.power_levels", state_key: "", content },
          { prevEvents: past }
        )
        const first = evil.event(room, { sender: mallory }, { prevEvents: past })
        const forks = Array.from({ length: 120 }, () => evil.event(room, { sender: mallory }, { prevEvents: [first] }))
        yield* tellBoth(at, [promotion, first, ...forks])
        const known = [promotion, ...forks].map(({ event_id }) => event_id)
        assert.sameMembers([...(yield* extremitiesOf(red, room_id))], known)
        // Only the promotion allows Dan this.
        const { event_id } = yield* expectOk(setState(dan, room_id, "m.room.topic", { topic: "Dan was here" }))
        const { prev_events } = yield* storedEvent(red, event_id)
        assert.lengthOf(prev_events, version.maxPrevEvents)
        assert.sameMembers(
          [...(yield* extremitiesOf(red, room_id))],
          [...known.filter((id) => !prev_events.includes(id)), event_id]
        )
        yield* sees(bob, (event) => event.event_id === event_id)
        assert.deepStrictEqual((yield* getState(bob, room_id, "m.room.topic")).body, { topic: "Dan was here" })
        yield* converge(at)
        assert.deepStrictEqual((yield* getState(alice, room_id, "m.room.topic")).body, { topic: "Dan was here" })
      })
  )

  it.effect(
    "forks with different states are all named as predecessors in the end, and all take part in state resolution",
    () =>
      Effect.gen(function* () {
        const at = yield* scene
        const { alice, evil, red, room, room_id } = at
        const past = room.extremities
        const joins = Array.from({ length: 120 }, (_, n) => {
          const user = `@fork${n}of${scenes}:evil.test`
          return evil.event(
            room,
            { sender: user, type: "m.room.member", state_key: user, content: { membership: "join" } },
            { prevEvents: past }
          )
        })
        yield* tellBoth(at, joins)
        assert.lengthOf(yield* extremitiesOf(red, room_id), joins.length)
        // The room actor loads the forward extremities from the database.
        yield* red.stop
        yield* red.start
        const again = red.scene.person({ user_id: alice.userId, access_token: alice.token })
        yield* converge({ ...at, alice: again })
        const state = yield* stateOf(again, room_id)
        for (const { event_id, state_key } of joins) {
          assert.strictEqual(state[stateKeyOf("m.room.member", state_key!).replace("\0", " ")], event_id)
        }
      })
  )

  it.effect("a fork beside hundreds of changes of one membership is resolved", () =>
    Effect.gen(function* () {
      const at = yield* scene
      const { evil, mallory, room, room_id } = at
      const [first] = room.extremities as [Event]
      const rename = (displayname: string, prevEvents: ReadonlyArray<Event>) =>
        evil.event(
          room,
          { sender: mallory, type: "m.room.member", state_key: mallory, content: { membership: "join", displayname } },
          { prevEvents }
        )
      const key = stateKeyOf("m.room.member", mallory)
      const names: Array<Event> = []
      for (let n = 0; n < 300; n++) {
        names.push(rename(`name ${n}`, [names.at(-1) ?? first]))
        room.state.set(key, names.at(-1)!)
      }
      yield* tellBoth(at, names)
      room.state.set(key, first)
      yield* tellBoth(at, [rename("fork", [first])])
      yield* converge(at)
      const { displayname } = (yield* getState(at.bob, room_id, "m.room.member", mallory)).body
      assert.strictEqual(displayname, "fork", "the later of two names under the same power levels wins")
    })
  )

  it.effect("an event with a rejected auth event is rejected, even if it would be allowed without it", () =>
    Effect.gen(function* () {
      const at = yield* scene
      const { alice, bob, evil, levels, mallory, red, room, room_id } = at
      const content = { ...levels, users: { ...levels.users, [mallory]: 100 } }
      const escalated = evil.event(room, { sender: mallory, type: "m.room.power_levels", state_key: "", content })
      assert.isString((yield* evil.tell(red, escalated))[0])
      const dependent = evil.event(room, { sender: mallory }, { state: [escalated] })
      assert.include(dependent.auth_events, escalated.event_id)
      assert.match((yield* evil.tell(red, dependent))[0]!, /rejected/)
      const honest = evil.event(room, { sender: mallory, content: { msgtype: "m.text", body: "authorised" } })
      assert.deepStrictEqual(yield* evil.tell(red, honest), [undefined])
      yield* reads(alice, room_id, "authorised")
      yield* say(alice, room_id, "go on")
      yield* reads(bob, room_id, "go on")
    })
  )
})
