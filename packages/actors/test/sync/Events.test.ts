import { PgClient } from "@effect/sql-pg"
import { assert, describe, it, layer } from "@effect/vitest"
import type { ClientEvent } from "@greenroom/protocol/Event"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import * as Database from "@greenroom/store/Database"
import { beginning } from "@greenroom/store/StreamToken"
import { copyDatabase } from "@greenroom/store/testing/Backup"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Exit, Fiber, Layer, Scope, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { Accounts } from "../../src/account/Accounts.ts"
import { Presences } from "../../src/presence/Presences.ts"
import { Rooms } from "../../src/room/Rooms.ts"
import type { Session } from "../../src/runtime/Session.ts"
import type { StreamChunk } from "../../src/sync/EventStream.ts"
import { Events } from "../../src/sync/Events.ts"
import { aliceAndBob, enrol, guest, layer as homeServer, node, person } from "../TestHomeServer.ts"

const message = (body: string) => ({ msgtype: "m.text", body })

const numbered = (count: number) => Array.from({ length: count }, (_, index) => String(index))

const say = Effect.fnUntraced(function* (session: Session, roomId: RoomId, body: string) {
  return (yield* (yield* Rooms).send(session, roomId, "m.room.message", message(body))).event_id
})

const eventsOf = (chunk: StreamChunk): ReadonlyArray<ClientEvent> => JSON.parse(chunk.json)

const bodiesOf = (events: ReadonlyArray<ClientEvent>) =>
  events.filter(({ type }) => type === "m.room.message").map(({ content }) => String(content.body))

const ofType = (events: ReadonlyArray<ClientEvent>, type: string) => events.filter((event) => event.type === type)

/** The end of a user's stream. */
const endFor = Effect.fnUntraced(function* (session: Session) {
  return (yield* (yield* Events).poll(session, { timeout: 0 })).end
})

/** Everything after a token that is there already. */
const readAll = Effect.fnUntraced(function* (session: Session, from: string, limit = 1000) {
  const { poll } = yield* Events
  const read: Array<ClientEvent> = []
  let at = from
  while (true) {
    const chunk = yield* poll(session, { from: at, timeout: 0, limit })
    const events = eventsOf(chunk)
    read.push(...events)
    at = chunk.end
    if (events.every((event) => event.event_id === undefined)) return read
  }
})

/** Polls as a client does, until it has seen so many messages. */
const pollUntil = Effect.fnUntraced(function* (session: Session, from: string, messages: number, limit: number) {
  const { poll } = yield* Events
  const read: Array<ClientEvent> = []
  let at = from
  while (bodiesOf(read).length < messages) {
    const chunk = yield* poll(session, { from: at, timeout: 60_000, limit })
    assert.strictEqual(chunk.start, at)
    read.push(...eventsOf(chunk))
    at = chunk.end
  }
  return read
})

layer(homeServer, { excludeTestServices: true })("Events", (it) => {
  it.effect("a long poll waits for something to happen, and for no longer than it was asked to", () =>
    Effect.gen(function* () {
      const events = yield* Events
      const { alice, bob, room_id } = yield* aliceAndBob("1")
      const end = yield* endFor(bob)
      const nothing = yield* events.poll(bob, { from: end, timeout: 1 })
      assert.deepStrictEqual([nothing.json, nothing.count, nothing.start], ["[]", 0, end])
      const waiting = yield* Effect.forkChild(events.poll(bob, { from: nothing.end, timeout: 60_000 }))
      const fromNow = yield* Effect.forkChild(events.poll(bob, { timeout: 60_000 }))
      yield* Effect.yieldNow
      const sent = yield* say(alice, room_id, "wake up")
      for (const chunk of [yield* Fiber.join(waiting), yield* Fiber.join(fromNow)]) {
        const [event, ...more] = eventsOf(chunk)
        assert.deepStrictEqual(more, [])
        assert.deepInclude(event, { event_id: sent, room_id, user_id: alice.userId, content: message("wake up") })
        assert.isAtLeast(event!.age!, 0)
      }
    })
  )

  it.effect("every reader gets every event once and in order, also one at a time", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const [reader, phone] = [guest("reader2"), guest("reader2")]
      const people = numbered(16).map((index) => guest(`sender2-${index}`))
      const made = yield* Effect.forEach(numbered(4), () => rooms.create(reader, { visibility: "public" }))
      const roomOf = (index: number) => made[index % made.length]!.room_id
      yield* Effect.forEach(people, (entry, index) => rooms.join(entry, roomOf(index)))
      const start = yield* endFor(reader)
      const [slow, fast] = yield* Effect.all(
        [
          pollUntil(reader, start, 160, 1),
          pollUntil(phone, start, 160, 7),
          Effect.forEach(
            people,
            (entry, index) => Effect.forEach(numbered(10), (number) => say(entry, roomOf(index), `${index} ${number}`)),
            { concurrency: "unbounded" }
          )
        ],
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(bodiesOf(slow), bodiesOf(fast))
      assert.strictEqual(new Set(bodiesOf(slow)).size, 160)
      for (const { room_id } of made) {
        const { chunk } = yield* rooms.messages(reader, room_id, { dir: "f", limit: 1000 })
        assert.deepStrictEqual(bodiesOf(slow.filter((event) => event.room_id === room_id)), bodiesOf(chunk))
      }
      assert.deepStrictEqual(bodiesOf(yield* readAll(reader, start, 3)), bodiesOf(slow))
    })
  )

  it.effect("a user's stream has the events of their time in the room, the same live and read again", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const [alice, bob] = [guest("alice3"), guest("bob3")]
      yield* enrol(bob)
      const { room_id } = yield* rooms.create(alice, { visibility: "public" })
      const start = yield* endFor(bob)
      yield* say(alice, room_id, "before")
      yield* rooms.join(bob, room_id)
      yield* say(alice, room_id, "with bob")
      yield* rooms.leave(bob, room_id)
      yield* say(alice, room_id, "without bob")
      yield* rooms.setMembership(alice, room_id, "invite", bob.userId)
      yield* say(alice, room_id, "while invited")
      yield* rooms.join(bob, room_id)
      yield* say(alice, room_id, "with bob again")
      yield* rooms.setMembership(alice, room_id, "ban", bob.userId)
      yield* say(alice, room_id, "without bob again")
      const live = (yield* readAll(bob, start)).filter(({ event_id }) => event_id !== undefined)
      assert.deepStrictEqual(bodiesOf(live), ["with bob", "with bob again"])
      assert.deepStrictEqual(
        ofType(live, "m.room.member").map(({ content, state_key }) => [state_key, content.membership]),
        ["join", "leave", "invite", "join", "ban"].map((membership) => [bob.userId, membership])
      )
      const ids = (events: ReadonlyArray<ClientEvent>) => events.map(({ event_id }) => event_id).filter((id) => id)
      assert.deepStrictEqual(ids(yield* readAll(bob, "START")), ids(live))
      assert.deepStrictEqual(ids(yield* readAll(bob, "START", 2)), ids(live))
      assert.deepStrictEqual(ids(yield* readAll(bob, "END")), [])
    })
  )

  it.effect("an initial sync and the stream after it fit together while everything moves", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const events = yield* Events
      const alice = guest("alice4")
      const made = yield* Effect.forEach(numbered(3), () => rooms.create(alice, {}))
      const bodies = numbered(150)
      const [sync] = yield* Effect.all(
        [
          Effect.andThen(say(alice, made[0]!.room_id, "first"), events.initialSync(alice, 1000)),
          Effect.forEach(
            bodies,
            (body, index) =>
              Effect.andThen(
                say(alice, made[index % 3]!.room_id, body),
                rooms.setState(alice, made[index % 3]!.room_id, "m.room.topic", "", { topic: body })
              ),
            { concurrency: 10 }
          )
        ],
        { concurrency: 2 }
      )
      const after = yield* readAll(alice, sync.end)
      const seen = bodiesOf([...sync.rooms.flatMap(({ messages }) => messages!.chunk), ...after])
      assert.lengthOf(seen, bodies.length + 1)
      assert.deepStrictEqual(new Set(seen), new Set(["first", ...bodies]))
      for (const room of sync.rooms) {
        const topics = [...room.state!, ...after].filter(
          (event) => event.type === "m.room.topic" && event.room_id === room.room_id
        )
        const current = yield* rooms.getState(alice, room.room_id, "m.room.topic", "")
        assert.deepStrictEqual(topics.at(-1)!.content, current)
      }
    })
  )

  it.effect("typing and presence reach only users who may see them", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const presences = yield* Presences
      const [alice, bob, eve] = [guest("alice5"), guest("bob5"), guest("eve5")]
      const { room_id } = yield* rooms.create(alice, { visibility: "public" })
      yield* rooms.join(bob, room_id)
      yield* rooms.create(eve, {})
      const readers = [alice, bob, eve]
      const starts = yield* Effect.forEach(readers, endFor)
      yield* rooms.setTyping(alice, room_id, alice.userId, true)
      yield* presences.set(alice, alice.userId, "unavailable", "tea")
      // The update that each reader certainly gets comes last.
      const seen = yield* Effect.forEach(readers, (reader, index) =>
        Effect.gen(function* () {
          yield* presences.set(reader, reader.userId, "free_for_chat")
          const read: Array<ClientEvent> = []
          let at = starts[index]!
          const isLast = ({ content, type }: ClientEvent) =>
            type === "m.presence" && content.user_id === reader.userId && content.state === "free_for_chat"
          while (!read.some(isLast)) {
            const chunk = yield* (yield* Events).poll(reader, { from: at, timeout: 60_000 })
            read.push(...eventsOf(chunk))
            at = chunk.end
          }
          return read
        })
      )
      const typingSeen = seen.map((events) =>
        ofType(events, "m.typing").map(({ content, room_id }) => [room_id, content])
      )
      const typing = [[room_id, { user_ids: [alice.userId] }]] as never
      assert.deepStrictEqual(typingSeen, [typing, typing, []])
      const aliceSeenBy = seen.map((events) =>
        ofType(events, "m.presence").some(({ content }) => content.user_id === alice.userId)
      )
      assert.deepStrictEqual(aliceSeenBy, [true, true, false])
    })
  )

  it.effect("a token from before the kept presence gets the present values", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const presences = yield* Presences
      const { alice, bob, room_id } = yield* aliceAndBob("6")
      yield* presences.set(alice, alice.userId, "online", "back")
      yield* rooms.setTyping(alice, room_id, alice.userId, true)
      const token = yield* endFor(bob)
      yield* say(alice, room_id, "new")
      const read = yield* readAll(bob, `${token.replace(/_p.*$/, "")}_p0.${beginning.nid}`)
      assert.deepStrictEqual(bodiesOf(read), ["new"])
      const ofAlice = ofType(read, "m.presence").find(({ content }) => content.user_id === alice.userId)
      assert.deepInclude(ofAlice!.content, { state: "online", status_msg: "back" })
      assert.deepStrictEqual(
        ofType(read, "m.typing").map(({ content }) => content),
        [{ user_ids: [alice.userId] }] as never
      )
    })
  )

  it.effect("redacted events are stripped for every later reader", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const alice = guest("alice7")
      const { room_id } = yield* rooms.create(alice, {})
      const start = yield* endFor(alice)
      const said = yield* say(alice, room_id, "secret")
      const named = yield* rooms.setState(alice, room_id, "m.room.name", "", { name: "secret name" })
      yield* rooms.setState(alice, room_id, "m.room.name", "", { name: "harmless" })
      assert.include(JSON.stringify(yield* readAll(alice, start)), "secret name")
      yield* rooms.redact(alice, room_id, said)
      yield* rooms.redact(alice, room_id, named.event_id)
      const read = yield* readAll(alice, start)
      assert.notInclude(JSON.stringify(read), "secret")
      assert.lengthOf(ofType(read, "m.room.redaction"), 2)
      assert.strictEqual(read.find(({ event_id }) => event_id === said)!.redacted_because !== undefined, true)
    })
  )

  it.effect("a reader behind the memory still gets every event once", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const alice = guest("alice10")
      const { room_id } = yield* rooms.create(alice, {})
      const start = yield* endFor(alice)
      yield* Effect.forEach(numbered(1500), (body) => say(alice, room_id, body), { concurrency: 100, discard: true })
      const read = bodiesOf(yield* readAll(alice, start, 400))
      assert.lengthOf(read, 1500)
      assert.strictEqual(new Set(read).size, 1500)
      assert.deepStrictEqual(bodiesOf(yield* readAll(alice, start, 1000)), read)
    })
  )

  it.effect("refuses malformed tokens, and accepts a limit of 0", () =>
    Effect.gen(function* () {
      const events = yield* Events
      const rooms = yield* Rooms
      const alice = guest("alice8")
      const { room_id } = yield* rooms.create(alice, {})
      const bad = yield* Effect.flip(events.poll(alice, { from: "t1_2", timeout: 0 }))
      assert.strictEqual(bad._tag, "M_BAD_PAGINATION")
      const start = yield* endFor(alice)
      yield* say(alice, room_id, "one")
      const none = yield* events.poll(alice, { from: start, timeout: 60_000, limit: 0 })
      assert.deepStrictEqual(bodiesOf(eventsOf(none)), [])
      assert.deepStrictEqual(bodiesOf(yield* readAll(alice, none.end)), ["one"])
    })
  )

  it.effect("a subscription gives everything once, whatever is asked of it in between", () =>
    Effect.gen(function* () {
      const events = yield* Events
      const rooms = yield* Rooms
      const alice = guest("alice9")
      const { room_id } = yield* rooms.create(alice, {})
      const { next } = yield* events.subscribe(alice)
      const stream = yield* Effect.forkChild(
        events.stream(alice).pipe(
          Stream.filter((event) => event.type === "m.room.message"),
          Stream.take(20),
          Stream.runCollect
        )
      )
      const abandoned = yield* Effect.forkChild(next)
      yield* Effect.yieldNow
      yield* Fiber.interrupt(abandoned)
      yield* Effect.forEach(numbered(20), (body) => say(alice, room_id, body))
      const read: Array<ClientEvent> = []
      while (bodiesOf(read).length < 20) read.push(...eventsOf(yield* next))
      assert.deepStrictEqual(bodiesOf(read), numbered(20))
      assert.deepStrictEqual(bodiesOf((yield* Fiber.join(stream)) as ReadonlyArray<ClientEvent>), numbered(20))
    })
  )
})

/** Lets time pass, in small steps beside real work, until the effect is done. */
const whileTimePasses = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.raceFirst(
    effect,
    Effect.forever(
      Effect.andThen(
        TestClock.adjust("5 millis"),
        Effect.flatMap(SqlClient.SqlClient, (sql) => Effect.orDie(sql`SELECT 1`))
      )
    )
  )

layer(homeServer)("Events over time", (it) => {
  it.effect("a reader that was away for long, or reads slowly, misses nothing", () =>
    Effect.gen(function* () {
      const events = yield* Events
      const { alice, bob, room_id } = yield* aliceAndBob()
      const token = yield* endFor(bob)
      const { next } = yield* events.subscribe(bob)
      const read: Array<ClientEvent> = []
      for (const body of numbered(6)) {
        yield* say(alice, room_id, body)
        if (body === "0") read.push(...eventsOf(yield* next))
        // Longer than a feed is kept without readers.
        yield* TestClock.adjust("90 seconds")
      }
      assert.deepStrictEqual(bodiesOf(yield* readAll(bob, token)), numbered(6))
      while (bodiesOf(read).length < 6) read.push(...eventsOf(yield* next))
      assert.deepStrictEqual(bodiesOf(read), numbered(6))
    }).pipe(whileTimePasses)
  )

  it.effect("a long wait ends with the updates, not with everybody's presence", () =>
    Effect.gen(function* () {
      const events = yield* Events
      const rooms = yield* Rooms
      const presences = yield* Presences
      const [carol, dave, erin] = [guest("carol"), guest("dave"), guest("erin")]
      const { room_id } = yield* rooms.create(carol, { visibility: "public" })
      yield* rooms.join(dave, room_id)
      const { next } = yield* events.subscribe(dave)
      const waiting = yield* Effect.forkChild(next)
      yield* TestClock.adjust("1 minute")
      // Others are busy meanwhile.
      for (const index of numbered(10)) {
        yield* presences.set(erin, erin.userId, "online", index)
        yield* TestClock.adjust("1 minute")
      }
      yield* say(carol, room_id, "hello")
      const told = eventsOf(yield* Fiber.join(waiting))
      assert.deepStrictEqual(
        told.map(({ type }) => type),
        ["m.room.message"]
      )
    }).pipe(whileTimePasses)
  )
})

describe("Events of several runs and nodes", () => {
  const on = <A, E, R>(context: Context.Context<R>, effect: Effect.Effect<A, E, R>) => Effect.provide(effect, context)

  it.live("a poll that waits on one node ends when the session is logged out on another", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const [here, there] = [yield* node(url), yield* node(url)]
      const alice = yield* on(here, person("alice"))
      const { end } = yield* on(
        there,
        Effect.flatMap(Events, (events) => events.poll(alice, { timeout: 0 }))
      )
      const waiting = yield* Effect.forkChild(
        on(
          there,
          Effect.flatMap(Events, (events) => events.poll(alice, { from: end, timeout: 60_000 }))
        )
      )
      yield* Effect.flatMap(Accounts, (accounts) => accounts.logout(alice)).pipe(Effect.provide(here))
      assert.strictEqual((yield* Effect.flip(Fiber.join(waiting)))._tag, "M_UNKNOWN_TOKEN")
    })
  )

  it.live("presence and typing reach a user on another node", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const [here, there] = [yield* node(url), yield* node(url)]
      const [alice, bob] = [yield* on(here, person("alice")), yield* on(here, person("bob"))]
      const { room_id, token } = yield* Effect.gen(function* () {
        const rooms = yield* Rooms
        const { room_id } = yield* rooms.create(alice, { visibility: "public" })
        yield* rooms.join(bob, room_id)
        return { room_id, token: yield* endFor(bob) }
      }).pipe(Effect.provide(here))
      yield* Effect.gen(function* () {
        yield* (yield* Presences).set(alice, alice.userId, "online", "tea")
        yield* (yield* Rooms).setTyping(alice, room_id, alice.userId, true)
        yield* (yield* Accounts).logout(alice)
      }).pipe(Effect.provide(here))
      const { poll } = yield* Events.pipe(Effect.provide(there))
      const seen: Array<ClientEvent> = []
      let at = token
      while (ofType(seen, "m.presence").length === 0 || !seen.some(({ content }) => `${content.user_ids}` === "")) {
        const chunk = yield* poll(bob, { from: at, timeout: 60_000 })
        seen.push(...eventsOf(chunk))
        at = chunk.end
      }
      const [ofAlice] = ofType(seen, "m.presence").filter(({ content }) => content.user_id === alice.userId)
      assert.deepInclude(ofAlice!.content, { state: "online", status_msg: "tea" })
    })
  )

  it.live("a token of a future that a restored backup does not have is refused", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const bob = guest("bob")
      const { before, lost, room_id } = yield* Effect.gen(function* () {
        const rooms = yield* Rooms
        const { room_id } = yield* rooms.create(bob, {})
        const before = yield* endFor(bob)
        const backup = yield* copyDatabase(url)
        yield* Effect.retry(
          Effect.suspend(() => Effect.sandbox(say(bob, room_id, "lost"))),
          { times: 20 }
        )
        const lost = { stream: yield* endFor(bob), page: (yield* rooms.messages(bob, room_id, {})).start }
        return { before: { token: before, backup }, lost, room_id }
      }).pipe(Effect.provide(yield* node(url)))
      const restored = yield* node(before.backup)
      yield* Effect.gen(function* () {
        const events = yield* Events
        const rooms = yield* Rooms
        for (const body of numbered(30)) yield* say(bob, room_id, body)
        const refusals = [
          yield* Effect.flip(events.poll(bob, { from: lost.stream, timeout: 0 })),
          yield* Effect.flip(events.subscribe(bob, lost.stream)),
          yield* Effect.flip(rooms.messages(bob, room_id, { from: lost.page }))
        ]
        assert.deepStrictEqual(
          refusals.map(({ _tag }) => _tag),
          ["M_BAD_PAGINATION", "M_BAD_PAGINATION", "M_BAD_PAGINATION"]
        )
        assert.deepStrictEqual(bodiesOf(yield* readAll(bob, before.token)), numbered(30))
        assert.lengthOf((yield* events.initialSync(bob)).rooms, 1)
      }).pipe(Effect.provide(restored))
    })
  )

  it.live("a token is good after a restart", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const [alice, bob] = [guest("alice"), guest("bob")]
      const first = yield* Scope.make()
      const { room_id, token } = yield* Effect.gen(function* () {
        const rooms = yield* Rooms
        const { room_id } = yield* rooms.create(alice, { visibility: "public" })
        yield* rooms.join(bob, room_id)
        const token = yield* endFor(bob)
        yield* say(alice, room_id, "before the restart")
        return { room_id, token }
      }).pipe((effect) => Effect.flatMap(Scope.provide(node(url), first), (context) => on(context, effect)))
      yield* Scope.close(first, Exit.void)
      const again = yield* node(url)
      yield* on(again, say(alice, room_id, "after the restart"))
      const read = yield* on(again, readAll(bob, token))
      assert.deepStrictEqual(bodiesOf(read), ["before the restart", "after the restart"])
    })
  )

  it.live("a commit of one node wakes waiting readers on another", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const [here, there] = [yield* node(url), yield* node(url)]
      const [alice, bob] = [guest("alice"), guest("bob")]
      yield* on(here, enrol(bob))
      const { room_id } = yield* on(
        here,
        Effect.flatMap(Rooms, (rooms) => rooms.create(alice, { visibility: "public", invite: [bob.userId] }))
      )
      yield* on(
        here,
        Effect.flatMap(Rooms, (rooms) => rooms.join(bob, room_id))
      )
      const token = yield* on(here, endFor(bob))
      const waiting = yield* Effect.forkChild(on(there, pollUntil(bob, token, 3, 100)))
      yield* on(
        here,
        Effect.forEach(numbered(3), (body) => say(alice, room_id, body))
      )
      assert.deepStrictEqual(bodiesOf(yield* Fiber.join(waiting)), numbered(3))
    })
  )

  it.live("the stream goes on after the database's connections died", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const server = yield* node(url)
      const sql = Context.get(
        yield* Layer.build(Layer.fresh(Database.pool({ url, maxConnections: 1 }))),
        PgClient.PgClient
      )
      const alice = guest("alice")
      yield* Effect.gen(function* () {
        const rooms = yield* Rooms
        const { room_id } = yield* rooms.create(alice, {})
        const token = yield* endFor(alice)
        const waiting = yield* Effect.forkChild(pollUntil(alice, token, 30, 4))
        yield* Effect.forEach(numbered(30), (body) =>
          Effect.gen(function* () {
            if (Number(body) % 10 === 5) {
              yield* sql`
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()`
            }
            const send = rooms.send(alice, room_id, "m.room.message", message(body), body)
            yield* Effect.retry(Effect.sandbox(send), { times: 20 })
          })
        )
        assert.deepStrictEqual(bodiesOf(yield* Fiber.join(waiting)), numbered(30))
      }).pipe(Effect.provide(server))
    })
  )
})
