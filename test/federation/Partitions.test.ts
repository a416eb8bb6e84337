/**
 * Three servers in one room whose links are cut and mended at random, while their users make conflicting changes: once all links are
 * mended, all servers have the same state and the same forward extremity. The title of each test names the seed, so that a failure can be
 * repeated.
 */
import { assert, layer, vi } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import { randomFrom } from "../support/Seed.ts"
import {
  change,
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

vi.setConfig({ testTimeout: 240_000 })

class Servers extends Context.Service<Servers, Network>()("greenroom/test/Partitions") {
  static readonly layer = Layer.effect(Servers, network(["red.test", "blue.test", "green.test"]))
}

const rounds = 3
const changesInRound = 12

/** A room of Alice of red. Bob of blue and Carol of green have power level 75, Dave and Erin 0. */
const sceneOf = Effect.fnUntraced(function* (version: string, seed: number) {
  const { cut, mend, servers } = yield* Servers
  const [red, blue, green] = servers as [HomeServer, HomeServer, HomeServer]
  const alice = yield* red.register(`alice${seed}`)
  const bob = yield* blue.register(`bob${seed}`)
  const carol = yield* green.register(`carol${seed}`)
  const dave = yield* red.register(`dave${seed}`)
  const erin = yield* green.register(`erin${seed}`)
  const room_id = yield* createRoom(alice, version, {
    power_level_content_override: {
      users: { [bob.userId]: 75, [carol.userId]: 75, ...(version === "12" ? {} : { [alice.userId]: 100 }) }
    }
  })
  for (const person of [bob, carol, dave, erin]) yield* expectOk(joinThrough(person, room_id, red))
  yield* say(alice, room_id, "ready")
  for (const person of [bob, carol]) yield* reads(person, room_id, "ready")
  return { cut, mend, servers, moderators: [alice, bob, carol], guests: [dave, erin], room_id }
})

type Scene = Effect.Success<ReturnType<typeof sceneOf>>

/** A random change, which the rules may refuse. */
const changeSomething = Effect.fnUntraced(function* (
  { guests, room_id, moderators }: Scene,
  random: (bound: number) => number,
  number: number
) {
  const person = moderators[random(moderators.length)]!
  const guest = guests[random(guests.length)]!
  switch (random(7)) {
    case 0:
      return yield* setState(person, room_id, "m.room.topic", { topic: `topic ${number}` })
    case 1:
      return yield* setState(person, room_id, "org.example.state", { number }, `key ${random(3)}`)
    case 2:
      return yield* change(person, room_id, "ban", guest.userId)
    case 3:
      return yield* person.ask("POST", `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/unban`, {
        user_id: guest.userId
      })
    case 4:
      return yield* guest.ask("POST", `/join/${encodeURIComponent(room_id)}`, {})
    case 5: {
      const { body } = yield* getState(person, room_id, "m.room.power_levels")
      const users = { ...(body.users as Body), [guest.userId]: random(60) }
      return yield* setState(person, room_id, "m.room.power_levels", { ...body, users })
    }
    default:
      return yield* Effect.asVoid(say(person, room_id, `message ${number}`))
  }
})

/** Cuts each link with a probability of one half. */
const cutSome = Effect.fnUntraced(function* ({ cut, servers }: Scene, random: (bound: number) => number) {
  for (const [index, server] of servers.entries()) {
    for (const other of servers.slice(index + 1)) if (random(2) === 0) yield* cut(server, other)
  }
})

const mendAll = Effect.fnUntraced(function* ({ mend, servers, moderators }: Scene) {
  for (const [index, server] of servers.entries()) {
    for (const other of servers.slice(index + 1)) yield* mend(server, other)
  }
  yield* endBackoff(moderators)
})

const allRead = (people: ReadonlyArray<Person>, roomId: string, body: string) =>
  Effect.forEach(people, (person) => reads(person, roomId, body), { discard: true })

/** Every user receives a message of every user, and then one that follows all of these. */
const settle = Effect.fnUntraced(function* ({ room_id, moderators }: Scene, round: number) {
  for (const person of moderators) yield* say(person, room_id, `${person.userId} after ${round}`)
  for (const person of moderators) yield* allRead(moderators, room_id, `${person.userId} after ${round}`)
  const last = yield* say(moderators[0]!, room_id, `all after ${round}`)
  yield* allRead(moderators, room_id, `all after ${round}`)
  return last
})

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })("Partitions", (it) => {
  for (const [version, seed] of [
    ["6", 1],
    ["11", 2],
    ["12", 3]
  ] as const) {
    it.effect(`version ${version}, seed ${seed}: servers that were cut off from each other converge to one state`, () =>
      Effect.gen(function* () {
        const scene = yield* sceneOf(version, seed)
        const { room_id, servers, moderators } = scene
        const random = randomFrom(seed)
        for (let round = 0; round < rounds; round++) {
          yield* cutSome(scene, random)
          for (let n = 0; n < changesInRound; n++) yield* changeSomething(scene, random, round * changesInRound + n)
          yield* mendAll(scene)
          const last = yield* settle(scene, round)
          const [state, ...states] = yield* Effect.forEach(moderators, (person) => stateOf(person, room_id))
          for (const other of states) assert.deepStrictEqual(other, state)
          for (const server of servers) {
            const rows = yield* server.select(`SELECT forward_extremities FROM rooms WHERE room_id = '${room_id}'`)
            assert.deepStrictEqual(rows[0]!.forward_extremities, [last])
          }
        }
      })
    )
  }
})
