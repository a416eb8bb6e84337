import { assert, layer } from "@effect/vitest"
import { EventId, type RoomAlias, type RoomId, type UserId } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { EphemeralStream } from "../../src/presence/EphemeralStream.ts"
import { Rooms } from "../../src/room/Rooms.ts"
import type { Session } from "../../src/runtime/Session.ts"
import { aliceAndBob, enrol, guest, layer as homeServer } from "../TestHomeServer.ts"
import { assertOneChain, bodies, message, numbered, timeline } from "./TestRoom.ts"

layer(homeServer, { excludeTestServices: true })("Room", (it) => {
  it.effect("concurrent senders make one chain, each sender's events in order", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const people = numbered(64).map((index) => guest(`person${index}`))
      const { room_id } = yield* rooms.create(people[0]!, { visibility: "public" })
      yield* Effect.forEach(people, (person) => rooms.join(person, room_id), { concurrency: "unbounded" })
      yield* Effect.forEach(
        people,
        (session, person) =>
          Effect.forEach(numbered(5), (index) =>
            rooms.send(session, room_id, "m.room.message", message(`${person} ${index}`))
          ),
        { concurrency: "unbounded" }
      )
      const events = yield* timeline(people[0]!, room_id)
      for (const [person, { userId }] of people.entries()) {
        const own = bodies(events.filter(({ sender }) => sender === userId))
        assert.deepStrictEqual(
          own,
          numbered(5).map((index) => `${person} ${index}`)
        )
      }
      yield* assertOneChain(people[0]!, room_id)
    })
  )

  it.effect("a room is created with its first events, and its alias cannot be taken again", () =>
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

  it.effect("a creation that is refused stores nothing, and its alias and transaction ID can be used again", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const alice = guest("alice")
      const room_alias_name = "refused"
      const tooLarge = yield* Effect.flip(rooms.create(alice, { room_alias_name, topic: "x".repeat(70_000) }, "1"))
      assert.strictEqual(tooLarge._tag, "M_TOO_LARGE")
      const alias = "#refused:green.test" as RoomAlias
      assert.strictEqual((yield* Effect.flip(rooms.resolveAlias(alias)))._tag, "M_NOT_FOUND")
      const ofOther = { room_alias_name: "refused-then-another's" }
      yield* Effect.flip(rooms.create(alice, { ...ofOther, topic: "x".repeat(70_000) }))
      assert.property(yield* rooms.create(guest("bob"), ofOther), "room_alias")
      const { room_id } = yield* rooms.create(alice, { room_alias_name, topic: "shorter" }, "1")
      assert.strictEqual((yield* rooms.resolveAlias(alias)).room_id, room_id)
      assert.lengthOf(yield* timeline(alice, room_id), 7)
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
      yield* Effect.forEach([bob, carol], (session) => rooms.join(session, room_id))
      const send = (session: Session, body: string) => rooms.send(session, room_id, "m.room.message", message(body))
      const [own, others, safe] = [yield* send(bob, "own"), yield* send(bob, "others"), yield* send(alice, "safe")]
      assert.strictEqual((yield* Effect.flip(rooms.redact(carol, room_id, own.event_id)))._tag, "M_FORBIDDEN")
      assert.strictEqual((yield* Effect.flip(rooms.redact(bob, room_id, safe.event_id)))._tag, "M_FORBIDDEN")
      const elsewhere = yield* rooms.create(bob, {})
      assert.strictEqual(
        (yield* Effect.flip(rooms.redact(bob, elsewhere.room_id, own.event_id)))._tag,
        "M_INVALID_PARAM"
      )
      const byBob = yield* rooms.redact(bob, room_id, own.event_id, { reason: "a slip" })
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
      // Replaced and redacted at the same time.
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
  it.effect("an idle room is passivated, and the next message loads it from the database", () =>
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
      /** The end of a timeout reaches the stream by way of the log. */
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
