/** Many users of three home servers in one room who send messages at the same time. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import { causalityViolations, createRoom, expectOk, join, network, readBack, say, stateOf } from "./support/Network.ts"

const peoplePerServer = 10
const messagesPerPerson = 5

/** Follows the room by long polls until the expected number of messages has arrived. Returns all events. */
const follow = (person: Person, roomId: string, from: string, expected: number) =>
  Effect.gen(function* () {
    const seen: Array<Body> = []
    let position = from
    let messages = 0
    while (messages < expected) {
      const { chunk, end } = yield* expectOk(
        person.ask("GET", `/events?from=${encodeURIComponent(position)}&timeout=30000`)
      )
      for (const event of chunk) {
        if (event.room_id !== roomId || event.event_id === undefined) continue
        seen.push(event)
        if (event.type === "m.room.message") messages++
      }
      position = end
    }
    return seen
  })

const ids = (events: ReadonlyArray<Body>): ReadonlyArray<string> => events.map((event) => event.event_id)

describe("Crowd", () => {
  it.live(
    "messages that users of three servers send concurrently reach every user once, after their predecessors, and all servers have the same state",
    () =>
      Effect.gen(function* () {
        const { servers } = yield* network(["red.test", "blue.test", "green.test"])
        const people = yield* Effect.forEach(
          servers.flatMap((server) => Array.from({ length: peoplePerServer }, (_, index) => ({ server, index }))),
          ({ index, server }) => Effect.map(server.register(`user${index}`), (person) => ({ person, server })),
          { concurrency: 3 }
        )
        const [owner, ...others] = people.map(({ person }) => person)
        const { room_alias, room_id } = yield* createRoom(owner!, { visibility: "public", room_alias_name: "crowd" })
        yield* Effect.forEach(others, (person) => join(person, room_alias), { concurrency: 6 })
        const begin = yield* Effect.forEach(people, ({ person }) =>
          Effect.map(expectOk(person.ask("GET", "/initialSync?limit=0")), ({ end }) => end as string)
        )
        const total = people.length * messagesPerPerson
        const [sent, seen] = yield* Effect.all(
          [
            Effect.forEach(
              people,
              ({ person }) =>
                Effect.forEach(Array.from({ length: messagesPerPerson }), (_, index) =>
                  say(person, room_id, `message ${index} of ${person.userId}`)
                ),
              { concurrency: "unbounded" }
            ),
            Effect.forEach(people, ({ person }, index) => follow(person, room_id, begin[index]!, total), {
              concurrency: "unbounded"
            })
          ],
          { concurrency: 2 }
        )
        const acknowledged = sent.flat().sort()
        assert.strictEqual(new Set(acknowledged).size, total)

        // Each user received each event once, after its predecessors.
        for (const [index, events] of seen.entries()) {
          const received = ids(events)
          assert.strictEqual(new Set(received).size, received.length, "a user received an event twice")
          assert.deepStrictEqual(ids(events.filter(({ type }) => type === "m.room.message")).toSorted(), acknowledged)
          assert.deepStrictEqual(causalityViolations(received, yield* people[index]!.server.events(room_id)), [])
        }

        // All servers have the same events and the same state.
        const first = people.filter((_, index) => index % peoplePerServer === 0)
        const [history, ...histories] = yield* Effect.forEach(first, ({ person }) => readBack(person, room_id))
        const [state, ...states] = yield* Effect.forEach(first, ({ person }) => stateOf(person, room_id))
        assert.strictEqual(history!.at(-1)!.type, "m.room.create")
        for (const other of histories) assert.deepStrictEqual(ids(other).toSorted(), ids(history!).toSorted())
        for (const other of states) assert.deepStrictEqual(other, state)
        assert.lengthOf(
          Object.keys(state!).filter((key) => key.startsWith("m.room.member ")),
          people.length
        )
        for (const { server } of first) {
          const stored = yield* server.events(room_id)
          assert.deepStrictEqual(causalityViolations(ids(stored), stored), [])
        }
      }),
    120_000
  )
})
