/** Home servers of ours with a hostile one among them (`HostileServer`), and the assertions that the tests of hostile servers share. */
import { assert } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Effect } from "effect"
import type { Body } from "../../support/Curl.ts"
import type { Person } from "../../support/Scene.ts"
import { type Dialect, HostileServer } from "./HostileServer.ts"
import { type HomeServer, type Network, network, readBack, reads, say, stateOf } from "./Network.ts"

export type HostileNetwork = Network & { readonly evil: HostileServer }

/** Home servers of these names, and a hostile one that they know. All end with the scope. */
export const hostileNetwork = Effect.fnUntraced(function* (
  names: ReadonlyArray<string>,
  { dialect = "draft", name = "evil.test" }: { readonly name?: string; readonly dialect?: Dialect } = {}
) {
  const evil = new HostileServer(name, dialect)
  const port = yield* freePort
  yield* evil.listen(port)
  return { ...(yield* network(names, { others: { [name]: port } })), evil }
})

/** Users of two servers in one room, in which the hostile server is too. */
export interface HostileScene {
  readonly evil: HostileServer
  readonly red: HomeServer
  readonly blue: HomeServer
  readonly alice: Person
  readonly bob: Person
  readonly room_id: string
}

export const ids = (events: ReadonlyArray<Body>): ReadonlyArray<EventId> => events.map(({ event_id }) => event_id)

let messages = 0

/** Asserts that messages of Alice and Bob reach each other. */
export const exchangeMessages = Effect.fnUntraced(function* ({
  alice,
  bob,
  room_id
}: Pick<HostileScene, "alice" | "bob" | "room_id">) {
  const body = `message ${++messages}`
  yield* say(alice, room_id, body)
  yield* reads(bob, room_id, body)
  yield* say(bob, room_id, `${body}, answered`)
  yield* reads(alice, room_id, `${body}, answered`)
})

/** Asserts that `attack` changes neither the state nor the timeline of the room, and that messages pass afterwards. */
export const leavesRoomUnchanged = Effect.fnUntraced(function* <A>(
  { alice, bob, room_id }: HostileScene,
  attack: Effect.Effect<A>
) {
  const look = Effect.forEach([alice, bob], (person) =>
    Effect.all([stateOf(person, room_id), Effect.map(readBack(person, room_id), ids)])
  )
  const before = yield* look
  const result = yield* attack
  assert.deepStrictEqual(yield* look, before)
  yield* exchangeMessages({ alice, bob, room_id })
  return result
})

/**
 * Sends events to a server. Returns for each the reason why it was refused: from the answer, or from the log if the event was rejected
 * or soft-failed. "taken" for accepted events.
 */
export const refusalsOf = (evil: HostileServer, server: HomeServer, events: ReadonlyArray<Event>) =>
  Effect.map(evil.tell(server, ...events), (answers) =>
    events.map(({ event_id }, index) => {
      const logged = server.log.split(`${event_id}: `)[1]?.split("\n")[0]
      return answers[index] ?? logged ?? "taken"
    })
  )

/** Asserts that both servers refuse all of the events for this reason and log it, and that their users cannot read them. */
export const refused = Effect.fnUntraced(function* (
  { alice, blue, bob, evil, red, room_id }: HostileScene,
  events: ReadonlyArray<Event>,
  reason: RegExp
) {
  for (const server of [red, blue]) {
    for (const refusal of yield* refusalsOf(evil, server, events)) {
      assert.notStrictEqual(refusal, "taken")
      assert.match(refusal, reason)
    }
    for (const { event_id } of events) assert.include(server.log, event_id.slice(1).replace(/:.*$/, ""))
  }
  for (const { event_id } of events) {
    const path = `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/event/${encodeURIComponent(event_id)}`
    for (const person of [alice, bob]) assert.strictEqual((yield* person.ask("GET", path)).status, 404)
  }
})

/** Asserts that `/health` answers 200. */
export const isHealthy = (server: HomeServer) =>
  Effect.map(server.scene.ask("GET", "//health"), ({ status }) => assert.strictEqual(status, 200))
