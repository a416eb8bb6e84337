/**
 * Servers that are unreachable while others join, and servers that do not answer: joining servers get the whole room, and a silent server
 * does not delay other work.
 */
import { assert, layer, vi } from "@effect/vitest"
import { localpartOf } from "@greenroom/protocol/Identifiers"
import { stateKeyOf } from "@greenroom/room/RoomVersion"
import { defaultRoomVersion as version } from "@greenroom/room/RoomVersions"
import { Context, Effect, Fiber, Layer, Schedule } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import { type HostileNetwork, hostileNetwork } from "./support/HostileNetwork.ts"
import {
  type FederationAnswer,
  type HostileRoom,
  type HostileServer,
  imagined,
  notFound
} from "./support/HostileServer.ts"
import {
  change,
  createRoom,
  endBackoff,
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

class Servers extends Context.Service<Servers, HostileNetwork>()("greenroom/test/LostServers") {
  static readonly layer = Layer.effect(
    Servers,
    hostileNetwork(["red.test", "blue.test", "green.test"], { name: "silent.test" })
  )
}

/** Each user sends a message that all receive. */
const exchangeMessages = Effect.fnUntraced(function* (people: ReadonlyArray<Person>, roomId: string, text: string) {
  for (const person of people) {
    yield* say(person, roomId, `${text} of ${person.userId}`)
    for (const other of people) yield* reads(other, roomId, `${text} of ${person.userId}`)
  }
})

/** A public room of the hostile server, and its answers to joining servers. */
const ownRoom = (evil: HostileServer, name: string) => {
  const host = `@host:silent.test`
  const room: HostileRoom = { roomId: `!${name}:silent.test`, version, state: new Map(), extremities: [] }
  const append = (type: string, state_key: string, content: Body) => {
    const event = evil.event(room, { type, state_key, sender: host, content })
    room.state.set(stateKeyOf(type, state_key), event)
    room.extremities = [event]
  }
  append("m.room.create", "", { creator: host, room_version: version.id })
  append("m.room.member", host, { membership: "join" })
  append("m.room.join_rules", "", { join_rule: "public" })
  const template = (userId: string, membership: string): FederationAnswer => {
    const made = evil.event(room, { type: "m.room.member", state_key: userId, sender: host, content: { membership } })
    const { hashes: _, signatures: __, pdu_id: ___, origin: ____, ts: _____, ...event } = version.toPdu(made)
    return { status: 200, body: { room_version: version.id, event: { ...event, user_id: userId } } }
  }
  const state: FederationAnswer = {
    status: 200,
    body: { state: [...room.state.values()].map(version.toPdu), auth_chain: [] }
  }
  return { roomId: room.roomId, template, state }
}

/** Waits until the hostile server gets a request for a path. */
const untilAsked = (evil: HostileServer, start: string, from = 0) =>
  Effect.repeat(
    Effect.sync(() => evil.asked.slice(from).some((path) => path.startsWith(start))),
    { until: (asked) => asked, schedule: Schedule.spaced("50 millis") }
  )

/** Several starts of gateways, on a machine that may be busy. */
vi.setConfig({ testTimeout: 180_000 })

layer(Servers.layer, { excludeTestServices: true, timeout: "2 minutes" })("Unreachable servers", (it) => {
  it.effect(
    "a room is joined through another server while the server of its creator is down, and all servers agree afterwards",
    () =>
      Effect.gen(function* () {
        const { servers } = yield* Servers
        const [red, blue, green] = servers as [HomeServer, HomeServer, HomeServer]
        const alice = yield* red.register("founder")
        const bob = yield* blue.register("bob")
        const carol = yield* green.register("carol")
        const { room_alias, room_id } = yield* createRoom(alice, { visibility: "public", room_alias_name: "founded" })
        yield* join(bob, room_alias)
        yield* say(alice, room_id, "before")
        yield* reads(bob, room_id, "before")
        yield* red.kill
        const alias = "#remaining:blue.test"
        yield* expectOk(bob.ask("PUT", `/directory/room/${encodeURIComponent(alias)}`, { room_id }))
        yield* join(carol, alias)
        yield* exchangeMessages([bob, carol], room_id, "without the founder")
        assert.strictEqual((yield* getState(carol, room_id, "m.room.member", alice.userId)).body.membership, "join")
        yield* red.start
        const everybody = [alice, bob, carol]
        yield* endBackoff(everybody)
        // Red does not send messages to Carol's server before it has received her join.
        yield* sees(alice, (event) => event.room_id === room_id && isMember(carol.userId, "join")(event))
        yield* exchangeMessages(everybody, room_id, "together")
        const [state, ...states] = yield* Effect.forEach(everybody, (person) => stateOf(person, room_id))
        for (const other of states) assert.deepStrictEqual(other, state)
      })
  )

  it.effect("events of an unreachable server are accepted by a server that joined through another one", () =>
    Effect.gen(function* () {
      const { cut, mend, servers } = yield* Servers
      const [red, blue, green] = servers as [HomeServer, HomeServer, HomeServer]
      const alice = yield* red.register("alice2")
      const bob = yield* blue.register("bob2")
      const carol = yield* green.register("carol2")
      const { room_alias, room_id } = yield* createRoom(bob, { visibility: "public", room_alias_name: "oneway" })
      yield* join(alice, room_alias)
      yield* cut(green, red)
      yield* join(carol, room_alias)
      assert.strictEqual((yield* getState(carol, room_id, "m.room.member", alice.userId)).body.membership, "join")
      yield* say(alice, room_id, "from behind the wall")
      yield* reads(bob, room_id, "from behind the wall")
      // The next message names the missing ones as predecessors.
      yield* say(bob, room_id, "follows it")
      yield* reads(carol, room_id, "from behind the wall")
      yield* mend(green, red)
    })
  )

  it.effect("events that cannot be verified are kept until the keys of their server are known", () =>
    Effect.gen(function* () {
      const { cut, mend, servers } = yield* Servers
      const [red, blue, green] = servers as [HomeServer, HomeServer, HomeServer]
      const [bob, other] = [yield* blue.register("bob4"), yield* blue.register("other4")]
      const [alice, carol] = [yield* red.register("alice4"), yield* green.register("carol4")]
      const { room_alias, room_id } = yield* createRoom(bob, { visibility: "public", room_alias_name: "kept" })
      yield* join(alice, room_alias)
      const alias = "#kept:red.test"
      yield* expectOk(alice.ask("PUT", `/directory/room/${encodeURIComponent(alias)}`, { room_id }))
      // Blue loses the signing keys of green, and cannot request them.
      yield* cut(blue, green)
      yield* blue.select("DELETE FROM remote_keys WHERE server_name = 'green.test'")
      yield* blue.kill
      yield* blue.start
      yield* join(carol, alias)
      yield* say(alice, room_id, "carol is here")
      yield* reads(bob, room_id, "carol is here")
      assert.strictEqual((yield* getState(bob, room_id, "m.room.member", carol.userId)).status, 404)
      yield* mend(blue, green)
      // After a request of green, blue requests the keys of green again.
      const isThere = Effect.map(getState(bob, room_id, "m.room.member", carol.userId), ({ status }) => status === 200)
      yield* Effect.repeat(Effect.andThen(endBackoff([carol, other]), isThere), {
        until: (there) => there,
        schedule: Schedule.spaced("500 millis")
      })
    })
  )

  it.effect("a join whose server was killed before it got the answer is finished after the next start", () =>
    Effect.gen(function* () {
      const { evil, servers } = yield* Servers
      const [red] = servers as [HomeServer]
      const erin = yield* red.register("erin5")
      const { roomId, state, template } = ownRoom(evil, "finished")
      evil.respond = ({ path }) =>
        path.startsWith("/make_join")
          ? template(erin.userId, "join")
          : path.startsWith("/send_join")
            ? "never"
            : notFound
      const joining = yield* Effect.forkChild(Effect.exit(erin.ask("POST", `/join/${encodeURIComponent(roomId)}`, {})))
      yield* untilAsked(evil, "/send_join")
      yield* red.kill
      yield* Fiber.join(joining)
      evil.respond = ({ path }) =>
        path.startsWith("/make_join") ? template(erin.userId, "join") : path.startsWith("/send_join") ? state : notFound
      yield* red.start
      yield* sees(erin, (event) => event.room_id === roomId && isMember(erin.userId, "join")(event))
      yield* Effect.repeat(red.select("SELECT 1 FROM unfinished_memberships"), {
        until: (rows) => rows.length === 0,
        schedule: Schedule.spaced("50 millis")
      })
    })
  )

  it.effect("a user who joins again after the server was killed in the middle of a join is in the room once", () =>
    Effect.gen(function* () {
      const { evil, servers } = yield* Servers
      const [red] = servers as [HomeServer]
      const grace = yield* red.register("grace7")
      const { roomId, state, template } = ownRoom(evil, "again")
      const answering = (sendJoin: FederationAnswer | "never") => {
        evil.respond = ({ path }) =>
          path.startsWith("/make_join")
            ? template(grace.userId, "join")
            : path.startsWith("/send_join")
              ? sendJoin
              : notFound
      }
      answering("never")
      const before = evil.asked.length
      const joining = yield* Effect.forkChild(Effect.exit(grace.ask("POST", `/join/${encodeURIComponent(roomId)}`, {})))
      yield* untilAsked(evil, "/send_join", before)
      yield* red.kill
      yield* Fiber.join(joining)
      answering(state)
      yield* red.start
      yield* join(grace, roomId)
      yield* say(grace, roomId, "here again")
      yield* reads(grace, roomId, "here again")
      const { rooms } = yield* expectOk(grace.ask("GET", "/initialSync?limit=20"))
      assert.deepStrictEqual(
        rooms.map(({ membership, room_id }: Body) => [room_id, membership]),
        [[roomId, "join"]]
      )
      const joins = rooms[0].messages.chunk.filter(isMember(grace.userId, "join"))
      assert.lengthOf(joins, 1)
    })
  )

  it.effect("a join is finished although its client disconnects", () =>
    Effect.gen(function* () {
      const { evil, servers } = yield* Servers
      const [red] = servers as [HomeServer]
      const heidi = yield* red.register("heidi8")
      const { roomId, state, template } = ownRoom(evil, "gone")
      const path = `/join/${encodeURIComponent(roomId)}`
      const joining = Effect.runFork(Effect.exit(heidi.ask("POST", path, {})))
      evil.respond = ({ path }) => {
        if (path.startsWith("/make_join")) {
          joining.interruptUnsafe()
          return template(heidi.userId, "join")
        }
        return path.startsWith("/send_join") ? state : notFound
      }
      yield* sees(heidi, (event) => event.room_id === roomId && isMember(heidi.userId, "join")(event))
      yield* say(heidi, roomId, "alone here")
      yield* reads(heidi, roomId, "alone here")
    })
  )

  it.effect("a join that cannot be finished after a kill is undone by a leave", () =>
    Effect.gen(function* () {
      const { evil, servers } = yield* Servers
      const [red] = servers as [HomeServer]
      const frank = yield* red.register("frank6")
      const { roomId, template } = ownRoom(evil, "taken-back")
      evil.respond = ({ path }) =>
        path.startsWith("/make_join")
          ? template(frank.userId, "join")
          : path.startsWith("/send_join")
            ? "never"
            : notFound
      const before = evil.asked.length
      const joining = yield* Effect.forkChild(Effect.exit(frank.ask("POST", `/join/${encodeURIComponent(roomId)}`, {})))
      yield* untilAsked(evil, "/send_join", before)
      yield* red.kill
      yield* Fiber.join(joining)
      const refused = { status: 403, body: { errcode: "M_FORBIDDEN", error: "Not any more" } }
      evil.respond = ({ path }) => {
        if (path.startsWith("/make_leave")) return template(frank.userId, "leave")
        return path.startsWith("/send_leave") ? { status: 200, body: {} } : refused
      }
      const then = evil.asked.length
      yield* red.start
      yield* untilAsked(evil, `/send_leave/${roomId}`, then)
      const { rooms } = yield* expectOk(frank.ask("GET", "/initialSync"))
      assert.isEmpty(rooms)
    })
  )

  it.effect("the leave that undoes a join is retried until a server accepts it", () =>
    Effect.gen(function* () {
      const { evil, servers } = yield* Servers
      const [red] = servers as [HomeServer]
      const ivan = yield* red.register("ivan9")
      const { roomId, template } = ownRoom(evil, "leave-later")
      evil.respond = ({ path }) =>
        path.startsWith("/make_join")
          ? template(ivan.userId, "join")
          : path.startsWith("/send_join")
            ? { status: 504, body: {} }
            : notFound
      const joined = yield* ivan.ask("POST", `/join/${encodeURIComponent(roomId)}`, {})
      assert.notStrictEqual(joined.status, 200)
      const attempts = Effect.map(
        red.select("SELECT attempts FROM unfinished_memberships WHERE membership = 'leave'"),
        ([row]) => Number(row?.attempts ?? 0)
      )
      yield* Effect.repeat(attempts, { until: (count) => count >= 1, schedule: Schedule.spaced("100 millis") })
      const then = evil.asked.length
      evil.respond = ({ path }) => {
        if (path.startsWith("/make_leave")) return template(ivan.userId, "leave")
        return path.startsWith("/send_leave") ? { status: 200, body: {} } : notFound
      }
      // The state after days of attempts.
      yield* red.select("UPDATE unfinished_memberships SET attempts = 20 RETURNING 1")
      yield* untilAsked(evil, `/send_leave/${roomId}`, then)
      yield* Effect.repeat(red.select("SELECT 1 FROM unfinished_memberships"), {
        until: (rows) => rows.length === 0,
        schedule: Schedule.spaced("50 millis")
      })
    })
  )

  it.effect("a member whose server's keys were unavailable at a join is accepted once the server is back", () =>
    Effect.gen(function* () {
      const { servers } = yield* Servers
      const [red, blue, green] = servers as [HomeServer, HomeServer, HomeServer]
      const [alice, bob, carol] = [
        yield* red.register("alice7"),
        yield* blue.register("bob7"),
        yield* green.register("carol7")
      ]
      const { room_alias, room_id } = yield* createRoom(bob, { visibility: "public", room_alias_name: "unheard" })
      yield* join(alice, room_alias)
      yield* say(alice, room_id, "hello")
      yield* reads(bob, room_id, "hello")
      yield* red.kill
      for (const server of [blue, green]) {
        yield* server.kill
        yield* server.select("DELETE FROM remote_keys WHERE server_name = 'red.test'")
        yield* server.select("DELETE FROM remote_key_objects WHERE server_name = 'red.test'")
        yield* server.start
      }
      yield* join(carol, room_alias)
      assert.strictEqual((yield* getState(carol, room_id, "m.room.member", alice.userId)).status, 404)
      yield* red.start
      yield* endBackoff([alice, bob, carol])
      // Her server sends messages to the servers that it knows to be in the room.
      yield* sees(alice, (event) => event.room_id === room_id && isMember(carol.userId, "join")(event))
      yield* say(alice, room_id, "back again")
      yield* reads(carol, room_id, "back again")
      assert.strictEqual((yield* getState(carol, room_id, "m.room.member", alice.userId)).body.membership, "join")
      yield* say(carol, room_id, "welcome")
      yield* reads(alice, room_id, "welcome")
    })
  )

  it.effect(
    "an invite from a server that does not answer is rejected at once, while a join of the same room waits",
    () =>
      Effect.gen(function* () {
        const { evil, servers } = yield* Servers
        const [red] = servers as [HomeServer]
        const [alice, dave] = [yield* red.register("alice3"), yield* red.register("dave3")]
        const mallory = "@mallory3:silent.test"
        const { room_id } = yield* createRoom(alice, { visibility: "public" })
        yield* evil.join(red, room_id, mallory)
        const theirs = "!theirs:silent.test"
        const room = { roomId: theirs, state: new Map(), extremities: [imagined("silent.test")] }
        for (const { userId } of [alice, dave]) {
          const content = { membership: "invite" }
          const invite = evil.event(room, { sender: mallory, type: "m.room.member", state_key: userId, content })
          const path = `/invite/${encodeURIComponent(theirs)}/${encodeURIComponent(localpartOf(invite.event_id))}`
          assert.strictEqual((yield* evil.ask(red, "PUT", path, version.toPdu(invite))).status, 200)
        }
        for (const person of [alice, dave]) {
          yield* sees(person, (event) => event.room_id === theirs && isMember(person.userId, "invite")(event))
        }
        evil.respond = () => "never"
        const joining = yield* Effect.forkChild(dave.ask("POST", `/join/${encodeURIComponent(theirs)}`, {}))
        yield* expectOk(change(alice, theirs, "leave"))
        yield* sees(alice, (event) => event.room_id === theirs && isMember(alice.userId, "leave")(event))
        assert.isUndefined(joining.pollUnsafe())
        yield* Fiber.interrupt(joining)
        // Other rooms work meanwhile.
        yield* expectOk(setState(alice, room_id, "m.room.topic", { topic: "still here" }))
      })
  )
})
