/** Memberships and history between servers in rooms of the draft's version. */
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import {
  causalityViolations,
  change,
  createRoom,
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
  sees,
  setState,
  stateOf
} from "./support/Network.ts"

class Servers extends Context.Service<Servers, Network>()("greenroom/test/Servers") {
  static readonly layer = Layer.effect(Servers, network(["red.test", "blue.test", "green.test"]))
}

let people = 0

/** A new user on each of red, blue and green, and the servers. */
const scene = Effect.gen(function* () {
  const all = yield* Servers
  const [red, blue, green] = all.servers as [HomeServer, HomeServer, HomeServer]
  const number = ++people
  const alice = yield* red.register(`alice${number}`)
  const bob = yield* blue.register(`bob${number}`)
  const carol = yield* green.register(`carol${number}`)
  return { ...all, red, blue, green, alice, bob, carol, name: `room${number}` }
})

const membershipOf = (person: Person, roomId: string, userId: string) =>
  Effect.map(getState(person, roomId, "m.room.member", userId), ({ body }) => body.membership)

const isIn = (roomId: string, person: Person, membership: string) => (event: Body) =>
  event.room_id === roomId && isMember(person.userId, membership)(event)

const invite = Effect.fnUntraced(function* (inviter: Person, roomId: string, invited: Person) {
  yield* expectOk(change(inviter, roomId, "invite", invited.userId))
  yield* sees(invited, isIn(roomId, invited, "invite"))
})

layer(Servers.layer, { excludeTestServices: true, timeout: "2 minutes" })("Rooms of several servers", (it) => {
  it.effect("an invited user sees who invited them, and joins a private room", () =>
    Effect.gen(function* () {
      const { alice, bob } = yield* scene
      const { room_id } = yield* createRoom(alice, { visibility: "private", name: "Secret" })
      yield* invite(alice, room_id, bob)
      const sync = yield* expectOk(bob.ask("GET", "/initialSync"))
      assert.deepInclude(
        sync.rooms.find((room: Body) => room.room_id === room_id),
        { membership: "invite", inviter: alice.userId }
      )
      yield* join(bob, room_id)
      yield* sees(alice, isIn(room_id, bob, "join"))
      yield* say(bob, room_id, "thank you")
      yield* reads(alice, room_id, "thank you")
      assert.deepStrictEqual(yield* stateOf(bob, room_id), yield* stateOf(alice, room_id))
    })
  )

  it.effect("a rejected invite is shown to the user who sent it", () =>
    Effect.gen(function* () {
      const { alice, bob } = yield* scene
      const { room_id } = yield* createRoom(alice, { visibility: "private" })
      yield* invite(alice, room_id, bob)
      yield* expectOk(change(bob, room_id, "leave"))
      yield* sees(alice, isIn(room_id, bob, "leave"))
      const { rooms } = yield* expectOk(bob.ask("GET", "/initialSync"))
      assert.isFalse(rooms.some((room: Body) => room.room_id === room_id))
      assert.strictEqual((yield* bob.ask("POST", `/join/${encodeURIComponent(room_id)}`, {})).status, 404)
    })
  )

  it.effect("an invitation is rejected by the state of the membership, and a repeat gets the first answer", () =>
    Effect.gen(function* () {
      const { alice, bob, carol } = yield* scene
      const { room_id } = yield* createRoom(alice, { visibility: "private" })
      yield* invite(alice, room_id, bob)
      const content = { membership: "leave", reason: "busy" }
      const reject = (person: Person) => setState(person, room_id, "m.room.member", content, person.userId)
      const { event_id } = yield* expectOk(reject(bob))
      yield* sees(alice, (event) => isIn(room_id, bob, "leave")(event) && event.content.reason === "busy")
      assert.strictEqual((yield* expectOk(reject(bob))).event_id, event_id)
      yield* expectOk(change(bob, room_id, "leave"))
      assert.strictEqual((yield* reject(carol)).status, 403, "she was not invited")
      assert.strictEqual((yield* change(carol, room_id, "leave")).status, 403)
    })
  )

  it.effect("uninvited users of another server cannot join or knock at a private room, and get M_NOT_FOUND", () =>
    Effect.gen(function* () {
      const { alice, bob, carol } = yield* scene
      const { room_id } = yield* createRoom(alice, { visibility: "private" })
      yield* invite(alice, room_id, bob)
      yield* join(bob, room_id)
      const answer = yield* carol.ask("POST", `/join/${encodeURIComponent(room_id)}`, {})
      assert.deepStrictEqual([answer.status, answer.body.errcode], [404, "M_NOT_FOUND"])
      const knock = setState(carol, room_id, "m.room.member", { membership: "knock" }, carol.userId)
      assert.strictEqual((yield* knock).status, 404)
    })
  )

  it.effect("a join by alias goes through another server of the room if the first is unreachable", () =>
    Effect.gen(function* () {
      const { alice, bob, carol, cut, green, mend, name, red } = yield* scene
      const { room_alias, room_id } = yield* createRoom(alice, { visibility: "public", room_alias_name: name })
      yield* join(bob, room_alias)
      // Green has the signing keys of red before the link is cut.
      yield* invite(alice, (yield* createRoom(alice, { visibility: "private" })).room_id, carol)
      // Blue has an alias of the room too, which names red first.
      const alias = `#${name}:blue.test`
      yield* expectOk(
        bob.ask("PUT", `/directory/room/${encodeURIComponent(alias)}`, { room_id, servers: ["red.test", "blue.test"] })
      )
      yield* cut(red, green)
      assert.strictEqual((yield* carol.ask("POST", `/join/${encodeURIComponent(room_id)}`, {})).status, 404)
      yield* join(carol, alias)
      yield* say(carol, room_id, "came through blue")
      yield* reads(bob, room_id, "came through blue")
      yield* mend(red, green)
      yield* carol.ask("GET", `/directory/room/${encodeURIComponent("#nowhere:red.test")}`)
      yield* reads(alice, room_id, "came through blue")
      assert.deepStrictEqual(yield* stateOf(carol, room_id), yield* stateOf(alice, room_id))
    })
  )

  it.effect("kicked users can join again, banned users cannot until the ban is lifted", () =>
    Effect.gen(function* () {
      const { alice, bob, name } = yield* scene
      const { room_alias, room_id } = yield* createRoom(alice, { visibility: "public", room_alias_name: name })
      yield* join(bob, room_alias)
      yield* expectOk(change(alice, room_id, "kick", bob.userId))
      yield* sees(bob, isIn(room_id, bob, "leave"))
      assert.strictEqual(
        (yield* bob.ask("POST", `/rooms/${encodeURIComponent(room_id)}/send/m.room.message`, {
          msgtype: "m.text",
          body: "?"
        })).status,
        403
      )
      yield* join(bob, room_alias)
      yield* sees(alice, isIn(room_id, bob, "join"))
      yield* expectOk(change(alice, room_id, "ban", bob.userId))
      yield* sees(bob, isIn(room_id, bob, "ban"))
      assert.strictEqual((yield* bob.ask("POST", `/join/${encodeURIComponent(room_alias)}`, {})).status, 403)
      yield* expectOk(setState(alice, room_id, "m.room.member", { membership: "leave" }, bob.userId))
      yield* join(bob, room_alias)
      yield* say(bob, room_id, "forgiven")
      yield* reads(alice, room_id, "forgiven")
    })
  )

  it.effect("a user who has knocked is invited and joins", () =>
    Effect.gen(function* () {
      const { alice, bob, name } = yield* scene
      const { room_id } = yield* createRoom(alice, { visibility: "public", room_alias_name: name })
      yield* expectOk(setState(alice, room_id, "m.room.join_rules", { join_rule: "knock" }))
      yield* expectOk(setState(bob, room_id, "m.room.member", { membership: "knock" }, bob.userId))
      yield* sees(alice, isIn(room_id, bob, "knock"))
      assert.notStrictEqual((yield* bob.ask("POST", `/join/${encodeURIComponent(room_id)}`, {})).status, 200)
      yield* invite(alice, room_id, bob)
      yield* join(bob, room_id)
      yield* say(bob, room_id, "in")
      yield* reads(alice, room_id, "in")
    })
  )

  it.effect("an invite to a room of another server is rejected once, however often the request is repeated", () =>
    Effect.gen(function* () {
      const { alice, bob } = yield* scene
      const { room_id } = yield* createRoom(alice, { visibility: "private", invite: [bob.userId] })
      yield* sees(bob, isIn(room_id, bob, "invite"))
      const { end } = (yield* bob.ask("GET", "/events?timeout=0")).body
      const reject = (txnId: number) => bob.ask("PUT", `/rooms/${encodeURIComponent(room_id)}/leave/${txnId}`, {})
      const answers = yield* Effect.all([1, 1, 1, 2, 3, 4, 5, 6, 7, 8].map(reject), { concurrency: "unbounded" })
      const statuses = [...answers.slice(0, 3), yield* reject(1)].map(({ status }) => status)
      assert.deepStrictEqual(statuses, [200, 200, 200, 200])
      // Requests of other transactions find that nothing is left to reject.
      for (const { status } of answers.slice(3)) assert.strictEqual(status, 200)
      yield* sees(alice, isIn(room_id, bob, "leave"))
      const { chunk } = (yield* bob.ask("GET", `/events?from=${end}&timeout=0`)).body
      assert.lengthOf(chunk.filter(isIn(room_id, bob, "leave")), 1)
    })
  )

  it.effect("a knock can be retracted and repeated", () =>
    Effect.gen(function* () {
      const { alice, bob, name } = yield* scene
      const { room_id } = yield* createRoom(alice, { visibility: "public", room_alias_name: name })
      const knock = setState(bob, room_id, "m.room.member", { membership: "knock" }, bob.userId)
      yield* expectOk(setState(alice, room_id, "m.room.join_rules", { join_rule: "knock" }))
      const misshapen = setState(bob, room_id, "m.room.member", { membership: "knock", displayname: 5 }, bob.userId)
      assert.strictEqual((yield* misshapen).status, 400)
      yield* expectOk(knock)
      yield* sees(alice, isIn(room_id, bob, "knock"))
      yield* expectOk(change(bob, room_id, "leave"))
      yield* sees(alice, isIn(room_id, bob, "leave"))
      yield* expectOk(change(bob, room_id, "leave"))
      yield* expectOk(knock)
      yield* sees(alice, isIn(room_id, bob, "knock"))
      yield* invite(alice, room_id, bob)
      yield* join(bob, room_id)
    })
  )

  it.effect("a server whose users had all left joins the room again, and back-fills the missed messages", () =>
    Effect.gen(function* () {
      const { alice, bob, blue, name } = yield* scene
      const { room_alias, room_id } = yield* createRoom(alice, { visibility: "public", room_alias_name: name })
      yield* join(bob, room_alias)
      yield* say(bob, room_id, "bye")
      yield* expectOk(change(bob, room_id, "leave"))
      yield* sees(alice, isIn(room_id, bob, "leave"))
      for (let index = 0; index < 5; index++) yield* say(alice, room_id, `alone ${index}`)
      yield* expectOk(setState(alice, room_id, "m.room.topic", { topic: "solitude" }))
      yield* join(bob, room_alias)
      assert.deepStrictEqual(yield* stateOf(bob, room_id), yield* stateOf(alice, room_id))
      yield* say(alice, room_id, "welcome back")
      yield* reads(bob, room_id, "welcome back")
      yield* say(bob, room_id, "hello again")
      yield* reads(alice, room_id, "hello again")
      const read = (yield* readBack(bob, room_id)).map(({ event_id }) => event_id)
      const sent = (yield* readBack(alice, room_id)).map(({ event_id }) => event_id)
      assert.deepStrictEqual(read.toSorted(), sent.toSorted())
      assert.deepStrictEqual(causalityViolations(read.toReversed(), yield* blue.events(room_id)), [])
    })
  )

  it.effect("missing history is back-filled page by page to the beginning, in order and once", () =>
    Effect.gen(function* () {
      const { alice, bob, blue, name } = yield* scene
      const { room_alias, room_id } = yield* createRoom(alice, { visibility: "public", room_alias_name: name })
      for (let index = 0; index < 320; index++) yield* say(alice, room_id, `message ${index}`)
      yield* join(bob, room_alias)
      yield* say(alice, room_id, "live")
      yield* reads(bob, room_id, "live")
      const expected = (yield* readBack(alice, room_id, 1000)).map(({ event_id }) => event_id)
      const read = yield* readBack(bob, room_id, 70)
      assert.strictEqual(read.at(-1)!.type, "m.room.create")
      assert.deepStrictEqual(
        read.map(({ event_id }) => event_id),
        expected
      )
      // The stored timeline has the same order.
      const stored = (yield* blue.events(room_id)).map(({ event_id }) => event_id)
      assert.deepStrictEqual(stored, expected.toReversed())
    })
  )

  it.effect("redacted events are back-filled without their content", () =>
    Effect.gen(function* () {
      const { alice, bob, name } = yield* scene
      const { room_alias, room_id } = yield* createRoom(alice, { visibility: "public", room_alias_name: name })
      const secret = yield* say(alice, room_id, "a secret")
      yield* expectOk(
        alice.ask("POST", `/rooms/${encodeURIComponent(room_id)}/redact/${encodeURIComponent(secret)}`, {})
      )
      yield* join(bob, room_alias)
      const found = (yield* readBack(bob, room_id)).find(({ event_id }) => event_id === secret)
      assert.deepStrictEqual(found.content, {})
    })
  )

  it.effect("a new display name reaches the users of other servers", () =>
    Effect.gen(function* () {
      const { alice, bob, name } = yield* scene
      const { room_alias, room_id } = yield* createRoom(alice, { visibility: "public", room_alias_name: name })
      yield* join(bob, room_alias)
      yield* expectOk(
        alice.ask("PUT", `/profile/${encodeURIComponent(alice.userId)}/displayname`, { displayname: "Alice the Great" })
      )
      yield* sees(
        bob,
        (event) => isIn(room_id, alice, "join")(event) && event.content.displayname === "Alice the Great"
      )
      assert.strictEqual(yield* membershipOf(bob, room_id, alice.userId), "join")
    })
  )
})
