import { PgClient } from "@effect/sql-pg"
import { assert, describe, it, layer } from "@effect/vitest"
import type { ClientEvent } from "@greenroom/protocol/Event"
import { EventId, type RoomId, type UserId } from "@greenroom/protocol/Identifiers"
import * as Database from "@greenroom/store/Database"
import { EventStore } from "@greenroom/store/EventStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { EphemeralStream } from "../../src/presence/EphemeralStream.ts"
import { Rooms } from "../../src/room/Rooms.ts"
import type { Session } from "../../src/runtime/Session.ts"
import { aliceAndBob, enrol, guest, layer as homeServer, node } from "../TestHomeServer.ts"

const message = (body: string) => ({ msgtype: "m.text", body })

const numbered = (count: number) => Array.from({ length: count }, (_, index) => String(index))

const timeline = Effect.fnUntraced(function* (session: Session, roomId: RoomId) {
  return (yield* (yield* Rooms).messages(session, roomId, { dir: "f", limit: 1000 })).chunk
})

const bodies = (events: ReadonlyArray<ClientEvent>) =>
  events.filter(({ type }) => type === "m.room.message").map(({ content }) => String(content.body))

/** Another writer opens the room, as a second node would: the actor's next commit is refused. */
const steal = Effect.fnUntraced(function* (roomId: RoomId) {
  yield* (yield* RoomStore).open(roomId)
})

/** Every event follows the one before it, and is one deeper. */
const assertOneChain = Effect.fnUntraced(function* (session: Session, roomId: RoomId) {
  const ids = (yield* timeline(session, roomId)).map(({ event_id }) => event_id)
  const stored = yield* (yield* EventStore).byIds(ids)
  const byId = new Map(stored.map(({ event }) => [event.event_id, event]))
  for (const [index, id] of ids.entries()) {
    const event = byId.get(id)!
    assert.deepStrictEqual(event.prev_events, index === 0 ? [] : [ids[index - 1]!])
    assert.strictEqual(event.depth, index + 1)
  }
})

layer(homeServer, { excludeTestServices: true })("Room", (it) => {
  it.effect(
    "a message that is sent again with its transaction ID is sent once, also while the first is under way",
    () =>
      Effect.gen(function* () {
        const rooms = yield* Rooms
        const [alice, phone] = [guest("alice"), guest("alice")]
        const { room_id } = yield* rooms.create(alice, {})
        const send = (session: Session, type: string, txnId: string) =>
          rooms.send(session, room_id, type, message("hi"), txnId)
        const sent = yield* Effect.all(
          numbered(20).map(() => send(alice, "m.room.message", "1")),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(new Set(sent.map(({ event_id }) => event_id)).size, 1)
        const others = [
          yield* send(phone, "m.room.message", "1"),
          yield* send(alice, "org.example.type", "1"),
          yield* send(alice, "m.room.message", "2")
        ]
        assert.strictEqual(new Set([sent[0]!, ...others].map(({ event_id }) => event_id)).size, 4)
        assert.lengthOf(bodies(yield* timeline(alice, room_id)), 3)
      })
  )

  it.effect("transaction IDs outlive the actor's memory", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const [alice, bob] = [guest("alice"), guest("bob")]
      const make = rooms.create(alice, { visibility: "public", name: "Once" }, "make")
      const { room_id } = yield* make
      const sent = yield* rooms.send(alice, room_id, "m.room.message", message("once"), "1")
      const redacted = yield* rooms.redact(alice, room_id, sent.event_id, undefined, "2")
      yield* rooms.join(bob, room_id, {}, "3")
      yield* rooms.join(bob, room_id, {}, "4")
      const before = yield* timeline(alice, room_id)
      yield* steal(room_id)
      // Something new, so that the actor finds out that it is not the writer any more.
      yield* rooms.send(alice, room_id, "org.example.new", {}, "5")
      assert.deepStrictEqual(yield* make, { room_id })
      assert.deepStrictEqual(yield* rooms.send(alice, room_id, "m.room.message", message("once"), "1"), sent)
      assert.deepStrictEqual(yield* rooms.redact(alice, room_id, sent.event_id, undefined, "2"), redacted)
      yield* rooms.leave(bob, room_id, "6")
      yield* steal(room_id)
      yield* rooms.leave(bob, room_id, "6")
      yield* rooms.join(bob, room_id, {}, "3")
      // This one changed nothing when it came, as he had joined; still it must not let him in again.
      yield* rooms.join(bob, room_id, {}, "4")
      const after = yield* timeline(alice, room_id)
      assert.deepStrictEqual(
        after.slice(before.length).map(({ content, type }) => [type, content.membership]),
        [
          ["org.example.new", undefined],
          ["m.room.member", "leave"]
        ]
      )
    })
  )

  it.effect("a transaction ID is known for longer than memory holds it", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const alice = guest("alice")
      const { room_id } = yield* rooms.create(alice, {})
      const send = (txnId: string) => rooms.send(alice, room_id, "m.room.message", message(txnId), txnId)
      const first = yield* send("0")
      yield* Effect.forEach(numbered(1100).slice(1), send, { concurrency: 100, discard: true })
      assert.deepStrictEqual(yield* send("0"), first)
      yield* steal(room_id)
      assert.deepStrictEqual(yield* send("0"), first)
      const fresh = yield* Effect.all([send("new"), send("new")], { concurrency: 2 })
      assert.deepStrictEqual(fresh[0], fresh[1])
    })
  )

  it.effect("requests on a room that another writer took are still done once, in one chain", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const alice = guest("alice")
      const { room_id } = yield* rooms.create(alice, {})
      for (const round of numbered(4)) {
        yield* steal(room_id)
        // Half with a transaction ID, half without.
        yield* Effect.forEach(
          numbered(32),
          (index) =>
            rooms.send(
              alice,
              room_id,
              "m.room.message",
              message(`${round}/${index}`),
              ...(Number(index) % 2 ? [`${round}/${index}`] : [])
            ),
          { concurrency: "unbounded" }
        )
      }
      const seen = bodies(yield* timeline(alice, room_id))
      assert.lengthOf(seen, 128)
      assert.strictEqual(new Set(seen).size, 128)
      yield* assertOneChain(alice, room_id)
    })
  )

  it.effect("concurrent senders make one chain, each sender's events in order", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const people = numbered(64).map((index) => guest(`person${index}`))
      const { room_id } = yield* rooms.create(people[0]!, { visibility: "public" })
      yield* Effect.forEach(people, (person) => rooms.join(person, room_id), { concurrency: "unbounded" })
      yield* Effect.forEach(
        people,
        (entry, person) =>
          Effect.forEach(numbered(5), (index) =>
            rooms.send(entry, room_id, "m.room.message", message(`${person} ${index}`))
          ),
        { concurrency: "unbounded" }
      )
      const events = yield* timeline(people[0]!, room_id)
      for (const [person, each] of people.entries()) {
        const own = bodies(events.filter(({ sender }) => sender === each.userId))
        assert.deepStrictEqual(
          own,
          numbered(5).map((index) => `${person} ${index}`)
        )
      }
      yield* assertOneChain(people[0]!, room_id)
    })
  )

  it.effect("an event that the database refuses fails alone", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const sql = yield* SqlClient.SqlClient
      const alice = guest("alice")
      const { room_id } = yield* rooms.create(alice, {})
      const neighbour = yield* rooms.create(alice, {})
      yield* sql`ALTER TABLE events ADD CONSTRAINT no_poison CHECK (body NOT LIKE '%poison%')`
      const send = (roomId: RoomId, body: string, txnId?: string) =>
        Effect.exit(rooms.send(alice, roomId, "m.room.message", message(body), txnId))
      const exits = yield* Effect.all(
        [
          send(room_id, "before"),
          send(room_id, "poison"),
          send(room_id, "after"),
          send(room_id, "poison with an ID", "1"),
          send(room_id, "at last", "2"),
          send(neighbour.room_id, "beside")
        ],
        { concurrency: "unbounded" }
      )
      yield* sql`ALTER TABLE events DROP CONSTRAINT no_poison`
      assert.deepStrictEqual(exits.map(Exit.isSuccess), [true, false, true, false, true, true])
      assert.deepStrictEqual(bodies(yield* timeline(alice, neighbour.room_id)), ["beside"])
      assert.deepStrictEqual(new Set(bodies(yield* timeline(alice, room_id))), new Set(["before", "after", "at last"]))
      assert.isTrue(Exit.isSuccess(yield* send(room_id, "poison with an ID", "1")), "a failure is not remembered")
      yield* assertOneChain(alice, room_id)
    })
  )

  it.effect("a request that meets a broken database fails, and the next ones find the room as it was", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const sql = yield* SqlClient.SqlClient
      const alice = guest("alice")
      const { room_id } = yield* rooms.create(alice, {})
      const send = (session: Session, body: string) =>
        Effect.exit(rooms.send(session, room_id, "m.room.message", message(body), body))
      assert.isTrue(Exit.isSuccess(yield* send(alice, "before")))
      yield* sql`ALTER TABLE client_transactions RENAME TO elsewhere`
      const broken = yield* Effect.forEach(numbered(8), (body) => send(guest("alice"), body), { concurrency: 8 })
      assert.isTrue(broken.every(Exit.isFailure))
      yield* sql`ALTER TABLE elsewhere RENAME TO client_transactions`
      const mended = yield* Effect.forEach(numbered(8), (body) => send(alice, body), { concurrency: 8 })
      assert.isTrue(mended.every(Exit.isSuccess))
      assert.sameMembers(bodies(yield* timeline(alice, room_id)), ["before", ...numbered(8)])
      yield* assertOneChain(alice, room_id)
    })
  )

  it.effect("a room is made with its first events, and once with its alias", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const [alice, bob] = [guest("alice"), guest("bob")]
      yield* enrol(bob)
      const options = { room_alias_name: "taken", name: "Nul \0 and all", topic: "T", invite: [bob.userId, bob.userId] }
      const made = yield* rooms.create(alice, options, "1")
      assert.deepStrictEqual(yield* rooms.create(alice, options, "1"), made)
      assert.deepStrictEqual(
        (yield* timeline(alice, made.room_id)).map(({ state_key, type }) => [type, state_key]),
        [
          ["m.room.create", ""],
          ["m.room.member", alice.userId],
          ["m.room.power_levels", ""],
          ["m.room.join_rules", ""],
          ["m.room.config", ""],
          ["m.room.aliases", "green.test"],
          ["m.room.name", ""],
          ["m.room.topic", ""],
          ["m.room.member", bob.userId]
        ]
      )
      const refused = yield* Effect.flip(rooms.create(bob, options, "1"))
      assert.strictEqual(refused._tag, "M_ROOM_IN_USE")
      assert.strictEqual((yield* rooms.resolveAlias(made.room_alias!)).room_id, made.room_id)
      assert.strictEqual((yield* rooms.getState(alice, made.room_id, "m.room.name", "")).name, "Nul \0 and all")
    })
  )

  it.effect("a room that cannot be made leaves nothing, and the next attempt makes it", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const alice = guest("alice")
      const tooLarge = yield* Effect.flip(rooms.create(alice, { topic: "x".repeat(70_000) }, "1"))
      assert.strictEqual(tooLarge._tag, "M_TOO_LARGE")
      const { room_id } = yield* rooms.create(alice, { topic: "shorter" }, "1")
      assert.lengthOf(yield* timeline(alice, room_id), 6)
      yield* assertOneChain(alice, room_id)
      const none = yield* Effect.flip(
        rooms.send(alice, "!none:green.test" as RoomId, "m.room.message", message("hi"), "1")
      )
      assert.strictEqual(none._tag, "M_FORBIDDEN")
    })
  )

  it.effect("state that says nothing new is not sent again", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const alice = guest("alice")
      const { room_id } = yield* rooms.create(alice, {})
      const setName = (name: string) => rooms.setState(alice, room_id, "m.room.name", "", { name })
      const [first, same] = yield* Effect.all([setName("A"), setName("A")], { concurrency: 2 })
      assert.deepStrictEqual(first, same)
      const other = yield* setName("B")
      const back = yield* setName("A")
      assert.strictEqual(new Set([first, other, back].map(({ event_id }) => event_id)).size, 3)
      const names = (yield* timeline(alice, room_id)).filter(({ type }) => type === "m.room.name")
      assert.deepStrictEqual(
        names.map(({ content, prev_content }) => [content.name, prev_content?.name]),
        [
          ["A", undefined],
          ["B", "A"],
          ["A", "B"]
        ]
      )
    })
  )

  it.effect("redacting strips an event everywhere, for its sender and for users with the power", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const [alice, bob, carol] = [guest("alice"), guest("bob"), guest("carol")]
      const { room_id } = yield* rooms.create(alice, { visibility: "public" })
      yield* Effect.forEach([bob, carol], (entry) => rooms.join(entry, room_id))
      const send = (session: Session, body: string) => rooms.send(session, room_id, "m.room.message", message(body))
      const [own, others, safe] = [yield* send(bob, "own"), yield* send(bob, "others"), yield* send(alice, "safe")]
      assert.strictEqual((yield* Effect.flip(rooms.redact(carol, room_id, own.event_id)))._tag, "M_FORBIDDEN")
      assert.strictEqual((yield* Effect.flip(rooms.redact(bob, room_id, safe.event_id)))._tag, "M_FORBIDDEN")
      const elsewhere = yield* rooms.create(bob, {})
      assert.strictEqual(
        (yield* Effect.flip(rooms.redact(bob, elsewhere.room_id, own.event_id)))._tag,
        "M_INVALID_PARAM"
      )
      const byBob = yield* rooms.redact(bob, room_id, own.event_id, "a slip")
      yield* rooms.redact(alice, room_id, others.event_id)
      const shown = yield* rooms.getEvent(carol, own.event_id)
      assert.deepInclude(shown, { content: {}, redacted_because: byBob.event_id })
      assert.deepStrictEqual((yield* rooms.getEvent(carol, byBob.event_id)).content, { reason: "a slip" })
      const said = (yield* timeline(carol, room_id)).filter(({ type }) => type === "m.room.message")
      assert.deepStrictEqual(
        said.map(({ content }) => content),
        [{}, {}, message("safe")]
      )
      yield* rooms.leave(bob, room_id)
      const outside = yield* Effect.forEach([others.event_id, EventId.make("$none:green.test")], (eventId) =>
        Effect.flip(rooms.redact(bob, room_id, eventId))
      )
      assert.strictEqual(outside[0]!._tag, "M_FORBIDDEN")
      assert.strictEqual(`${outside[1]}`, `${outside[0]}`)
    })
  )

  it.effect("users that the rules allow can join an abandoned room again", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const [alice, bob, mallory] = [guest("alice"), guest("bob"), guest("mallory")]
      yield* enrol(alice, bob)
      const { room_id } = yield* rooms.create(alice, { visibility: "private", invite: [bob.userId] })
      yield* rooms.leave(alice, room_id)
      for (const outsider of [alice, mallory]) {
        assert.strictEqual((yield* Effect.flip(rooms.join(outsider, room_id)))._tag, "M_FORBIDDEN")
      }
      yield* rooms.join(bob, room_id)
      yield* rooms.setMembership(bob, room_id, "invite", alice.userId)
      yield* rooms.join(alice, room_id)
      assert.lengthOf(
        (yield* rooms.members(alice, room_id)).chunk.filter(({ content }) => content.membership === "join"),
        2
      )
    })
  )

  it.effect("redacted state loses its content in the room, and in the prev_content of later state", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const alice = guest("alice")
      const { room_id } = yield* rooms.create(alice, {})
      const setTopic = (topic: string) => rooms.setState(alice, room_id, "m.room.topic", "", { topic })
      const first = yield* setTopic("secret one")
      yield* rooms.redact(alice, room_id, first.event_id)
      assert.deepStrictEqual(yield* rooms.getState(alice, room_id, "m.room.topic", ""), {})
      const second = yield* setTopic("secret two")
      assert.deepStrictEqual((yield* rooms.getEvent(alice, second.event_id)).prev_content, {})
      const third = yield* setTopic("secret three")
      yield* rooms.redact(alice, room_id, second.event_id)
      assert.deepStrictEqual((yield* rooms.getEvent(alice, third.event_id)).prev_content, {})
      // Replaced and redacted in one breath.
      yield* Effect.all([setTopic("four"), setTopic("five"), rooms.redact(alice, room_id, third.event_id)], {
        concurrency: "unbounded"
      })
      const text = JSON.stringify([yield* timeline(alice, room_id), yield* rooms.getFullState(alice, room_id)])
      assert.notInclude(text, "secret")
      assert.strictEqual((yield* rooms.getState(alice, room_id, "m.room.topic", "")).topic, "five")
    })
  )
})

layer(homeServer)("Room over time", (it) => {
  it.effect("an idle room leaves memory, and comes back as it was", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const sql = yield* SqlClient.SqlClient
      const alice = guest("alice")
      const { room_id } = yield* rooms.create(alice, { name: "Idle" })
      const send = (txnId: string) => rooms.send(alice, room_id, "m.room.message", message(txnId), txnId)
      const first = yield* send("1")
      const fence = Effect.map(
        sql<{ fence: bigint }>`SELECT fence FROM rooms WHERE room_id = ${room_id}`,
        ([row]) => row!.fence
      )
      const before = yield* fence
      yield* send("2")
      assert.strictEqual(yield* fence, before)
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(yield* send("1"), first)
      yield* send("3")
      assert.strictEqual(yield* fence, before + 1n)
      assert.deepStrictEqual(bodies(yield* timeline(alice, room_id)), ["1", "2", "3"])
      yield* assertOneChain(alice, room_id)
    })
  )

  it.effect("typing lasts until the user stops, its time is over, or the user leaves", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const stream = yield* EphemeralStream
      const { alice, bob, room_id } = yield* aliceAndBob()
      const typists = () => stream.typing(room_id)
      /** A time that ends is written to the log, and read from there. */
      const untilTyping = (userIds: ReadonlyArray<UserId>) =>
        Effect.repeat(Effect.andThen(untilChanged, Effect.sync(typists)), {
          until: (found) => found.join() === userIds.join()
        })
      const untilChanged = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      yield* rooms.setTyping(alice, room_id, alice.userId, true, 20_000)
      yield* rooms.setTyping(bob, room_id, bob.userId, true, 10_000)
      assert.deepStrictEqual(typists(), [alice.userId, bob.userId])
      yield* TestClock.adjust("9 seconds")
      yield* rooms.setTyping(bob, room_id, bob.userId, true, 10_000)
      yield* TestClock.adjust("9 seconds")
      assert.deepStrictEqual(typists(), [alice.userId, bob.userId])
      yield* TestClock.adjust("1 second")
      yield* untilTyping([alice.userId])
      yield* TestClock.adjust("1 second")
      yield* untilTyping([])
      yield* rooms.setTyping(alice, room_id, alice.userId, true, 1_000_000_000)
      yield* rooms.setTyping(bob, room_id, bob.userId, true)
      yield* rooms.setTyping(bob, room_id, bob.userId, false)
      assert.deepStrictEqual(typists(), [alice.userId])
      yield* TestClock.adjust("120 seconds")
      yield* untilTyping([])
      yield* rooms.setTyping(bob, room_id, bob.userId, true)
      yield* rooms.leave(bob, room_id)
      assert.deepStrictEqual(typists(), [])
      assert.strictEqual((yield* Effect.flip(rooms.setTyping(bob, room_id, bob.userId, true)))._tag, "M_FORBIDDEN")
      assert.strictEqual((yield* Effect.flip(rooms.setTyping(bob, room_id, alice.userId, true)))._tag, "M_FORBIDDEN")
    })
  )
})

/** Two nodes on one database, and a room that was made on the first. */
const twoNodes = Effect.gen(function* () {
  const url = yield* TestDatabase.url
  const nodes = [yield* node(url), yield* node(url)]
  const on = <A, E>(index: number, effect: Effect.Effect<A, E, Rooms | EventStore>) =>
    Effect.provide(effect, nodes[index]!)
  const alice = guest("alice")
  const { room_id } = yield* on(
    0,
    Effect.flatMap(Rooms, (rooms) => rooms.create(alice, {}))
  )
  return { alice, on, room_id }
})

describe("Room and its database", () => {
  it.live("acknowledged events are stored once after connections died, and a retry completes the rest", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const server = yield* node(url)
      const sql = Context.get(
        yield* Layer.build(Layer.fresh(Database.pool({ url, maxConnections: 1 }))),
        PgClient.PgClient
      )
      const endConnections = sql`
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()`
      yield* Effect.gen(function* () {
        const rooms = yield* Rooms
        const alice = guest("alice")
        const { room_id } = yield* rooms.create(alice, {})
        const acknowledged = new Map<string, EventId>()
        const send = (index: string) =>
          Effect.exit(
            Effect.tap(rooms.send(alice, room_id, "m.room.message", message(index), index), ({ event_id }) =>
              Effect.sync(() => {
                const before = acknowledged.get(index)
                assert.isTrue(before === undefined || before === event_id, "a retry gets the first answer")
                acknowledged.set(index, event_id)
              })
            )
          )
        const all = numbered(200)
        yield* Effect.all(
          [
            Effect.forEach(all, send, { concurrency: 20 }),
            Effect.forEach(numbered(5), () =>
              Effect.andThen(endConnections, Effect.repeat(Effect.yieldNow, { times: 200 }))
            )
          ],
          { concurrency: 2 }
        )
        const first = new Map(acknowledged)
        let rounds = 0
        while (acknowledged.size < all.length && rounds++ < 20) {
          yield* Effect.forEach(
            all.filter((index) => !acknowledged.has(index)),
            send,
            { concurrency: 20 }
          )
        }
        yield* Effect.forEach(all, send, { concurrency: 20 })
        for (const [index, id] of first) assert.strictEqual(acknowledged.get(index), id)
        const events = (yield* timeline(alice, room_id)).filter(({ type }) => type === "m.room.message")
        assert.deepStrictEqual(new Set(bodies(events)), new Set(all))
        assert.lengthOf(events, all.length)
        for (const { content, event_id } of events) assert.strictEqual(acknowledged.get(String(content.body)), event_id)
        yield* assertOneChain(alice, room_id)
      }).pipe(Effect.provide(server))
    })
  )

  it.live("two nodes that both believe they own a room make one chain of their events", () =>
    Effect.gen(function* () {
      const { alice, on, room_id } = yield* twoNodes
      const send = (index: number, txnId: string) =>
        on(
          index,
          Effect.flatMap(Rooms, (rooms) => rooms.send(alice, room_id, "m.room.message", message(txnId), txnId))
        )
      for (const txnId of numbered(10)) {
        const [here, there] = [yield* send(Number(txnId) % 2, txnId), yield* send((Number(txnId) + 1) % 2, txnId)]
        assert.deepStrictEqual(here, there, "a retry on another node gets the first answer")
      }
      assert.deepStrictEqual(bodies(yield* on(0, timeline(alice, room_id))), numbered(10))
      yield* on(1, assertOneChain(alice, room_id))
    })
  )

  it.live("two nodes that take a room from each other all the time lose nothing and repeat nothing", () =>
    Effect.gen(function* () {
      const { alice, on, room_id } = yield* twoNodes
      const send = (body: string, index: number) =>
        Effect.exit(
          on(
            index % 2,
            Effect.flatMap(Rooms, (rooms) => rooms.send(alice, room_id, "m.room.message", message(body), body))
          )
        )
      const all = numbered(120)
      yield* Effect.forEach(all, send, { concurrency: 12 })
      // Requests that gave up meanwhile are repeated, as clients do.
      yield* Effect.forEach(all, send)
      const seen = bodies(yield* on(0, timeline(alice, room_id)))
      assert.deepStrictEqual(new Set(seen), new Set(all))
      assert.lengthOf(seen, all.length)
      yield* on(1, assertOneChain(alice, room_id))
    })
  )

  it.live("a server that stops finishes the requests in flight", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const scope = yield* Scope.make()
      const first = yield* Scope.provide(node(url), scope)
      const alice = guest("alice")
      const { room_id } = yield* Effect.provide(
        Effect.flatMap(Rooms, (rooms) => rooms.create(alice, {})),
        first
      )
      const acknowledged = new Set<string>()
      const all = numbered(100)
      const sending = yield* Effect.forkChild(
        Effect.forEach(
          all,
          (body) =>
            Effect.exit(
              Effect.flatMap(Rooms, (rooms) => rooms.send(alice, room_id, "m.room.message", message(body))).pipe(
                Effect.tap(() => Effect.sync(() => acknowledged.add(body)))
              )
            ),
          { concurrency: 10 }
        ).pipe(Effect.provide(first))
      )
      while (acknowledged.size < 10) yield* Effect.yieldNow
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.interrupt(sending)
      const again = yield* node(url)
      const seen = bodies(yield* Effect.provide(timeline(alice, room_id), again))
      assert.strictEqual(new Set(seen).size, seen.length)
      assert.includeMembers(seen, [...acknowledged])
      yield* Effect.provide(assertOneChain(alice, room_id), again)
    })
  )
})
