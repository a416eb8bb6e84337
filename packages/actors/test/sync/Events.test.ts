import { assert, layer } from "@effect/vitest"
import type { ClientEvent } from "@greenroom/protocol/Event"
import { beginning } from "@greenroom/store/StreamToken"
import { Effect, Fiber, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { Presences } from "../../src/presence/Presences.ts"
import { Rooms } from "../../src/room/Rooms.ts"
import { Events } from "../../src/sync/Events.ts"
import { bodies, message, numbered, say } from "../room/TestRoom.ts"
import { aliceAndBob, enrol, guest, layer as homeServer } from "../TestHomeServer.ts"
import { endFor, eventsOf, ofType, pollUntil, readAll } from "./TestEvents.ts"

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
      // It waits for what those before it wait for: by then the polls have begun.
      yield* endFor(bob)
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
      assert.deepStrictEqual(bodies(slow), bodies(fast))
      assert.strictEqual(new Set(bodies(slow)).size, 160)
      for (const { room_id } of made) {
        const { chunk } = yield* rooms.messages(reader, room_id, { dir: "f", limit: 1000 })
        assert.deepStrictEqual(bodies(slow.filter((event) => event.room_id === room_id)), bodies(chunk))
      }
      assert.deepStrictEqual(bodies(yield* readAll(reader, start, 3)), bodies(slow))
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
      assert.deepStrictEqual(bodies(live), ["with bob", "with bob again"])
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

  it.effect("an initial sync and the stream after it have every event once while others send", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const events = yield* Events
      const alice = guest("alice4")
      const made = yield* Effect.forEach(numbered(3), () => rooms.create(alice, {}))
      const numbers = numbered(150)
      const [sync] = yield* Effect.all(
        [
          Effect.andThen(say(alice, made[0]!.room_id, "first"), events.initialSync(alice, 1000)),
          Effect.forEach(
            numbers,
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
      const seen = bodies([...sync.rooms.flatMap(({ messages }) => messages!.chunk), ...after])
      assert.lengthOf(seen, numbers.length + 1)
      assert.deepStrictEqual(new Set(seen), new Set(["first", ...numbers]))
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
      assert.deepStrictEqual(bodies(read), ["new"])
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
      const read = bodies(yield* readAll(alice, start, 400))
      assert.lengthOf(read, 1500)
      assert.strictEqual(new Set(read).size, 1500)
      assert.deepStrictEqual(bodies(yield* readAll(alice, start, 1000)), read)
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
      assert.deepStrictEqual(bodies(eventsOf(none)), [])
      assert.deepStrictEqual(bodies(yield* readAll(alice, none.end)), ["one"])
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
      // By then the stream has begun.
      yield* endFor(alice)
      yield* Fiber.interrupt(abandoned)
      yield* Effect.forEach(numbered(20), (body) => say(alice, room_id, body))
      const read: Array<ClientEvent> = []
      while (bodies(read).length < 20) read.push(...eventsOf(yield* next))
      assert.deepStrictEqual(bodies(read), numbered(20))
      assert.deepStrictEqual(bodies((yield* Fiber.join(stream)) as ReadonlyArray<ClientEvent>), numbered(20))
    })
  )
})

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
      assert.deepStrictEqual(bodies(yield* readAll(bob, token)), numbered(6))
      while (bodies(read).length < 6) read.push(...eventsOf(yield* next))
      assert.deepStrictEqual(bodies(read), numbered(6))
    }).pipe(whileTimePasses)
  )

  it.effect(
    "a subscription that waited for minutes gets the new events, and no presence of users without a common room",
    () =>
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
        const received = eventsOf(yield* Fiber.join(waiting))
        assert.deepStrictEqual(
          received.map(({ type }) => type),
          ["m.room.message"]
        )
      }).pipe(whileTimePasses)
  )
})
