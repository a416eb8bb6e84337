import { assert, layer } from "@effect/vitest"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { beginning, type StreamPosition } from "@greenroom/store/StreamToken"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { EphemeralStream, type PresenceValue, toPresenceContent } from "../../src/presence/EphemeralStream.ts"
import { streamOfOneNode } from "../support/People.ts"

const alice = "@alice:example.org" as UserId
const bob = "@bob:example.org" as UserId
const room = "!stage:example.org" as RoomId

const presence = (user_id: UserId, state: string): PresenceValue => ({ user_id, state, presence: state })

layer(TestDatabase.layer)("EphemeralStream", (it) => {
  it.effect("a reader gets the last value of each user and room after its position, in order", () =>
    Effect.gen(function* () {
      const stream = yield* EphemeralStream
      yield* stream.publishPresence(presence(alice, "online"))
      const { position } = yield* stream.since(beginning)
      yield* stream.publishPresence(presence(bob, "online"))
      yield* stream.publishTyping(room, [alice])
      yield* stream.publishPresence(presence(bob, "unavailable"))
      const chunk = yield* stream.since(position)
      assert.deepStrictEqual(
        chunk.updates.map((update) =>
          update._tag === "typing" ? update.userIds : update._tag === "presence" && update.value.state
        ),
        [[alice], "unavailable"]
      )
      assert.isTrue(chunk.complete)
      assert.deepStrictEqual((yield* stream.since(chunk.position)).updates, [])
    }).pipe(Effect.provide(Layer.fresh(streamOfOneNode)))
  )

  it.effect(
    "typing changes since a position are found for a set of rooms, whether the rooms or the changes are fewer",
    () =>
      Effect.gen(function* () {
        const stream = yield* EphemeralStream
        const hall = "!hall:example.org" as RoomId
        const attic = "!attic:example.org" as RoomId
        yield* stream.publishTyping(hall, [alice])
        const { position } = yield* stream.since(beginning)
        yield* stream.publishTyping(room, [alice])
        yield* stream.publishTyping(room, [bob])
        yield* stream.publishTyping(attic, [bob])
        const few = new Set([room, hall])
        const many = new Set([...few, ...Array.from({ length: 9 }, (_, index) => `!${index}:example.org` as RoomId)])
        for (const rooms of [few, many]) {
          const typing = (after: StreamPosition) =>
            stream.typingSince(after, rooms)?.map(({ roomId, userIds }) => `${roomId} ${userIds}`)
          assert.deepStrictEqual(typing(position), [`${room} ${bob}`])
          assert.sameMembers([...typing(stream.completeSince())!], [`${room} ${bob}`, `${hall} ${alice}`])
        }
      }).pipe(Effect.provide(Layer.fresh(streamOfOneNode)))
  )

  it.effect("a waiting reader wakes on the next update", () =>
    Effect.gen(function* () {
      const stream = yield* EphemeralStream
      const reader = yield* Effect.forkChild(Effect.andThen(stream.changed(beginning), stream.since(beginning)))
      yield* Effect.yieldNow
      yield* stream.publishTyping(room, [bob])
      assert.strictEqual((yield* Fiber.join(reader)).updates.length, 1)
      assert.deepStrictEqual(stream.typing(room), [bob])
    }).pipe(Effect.provide(Layer.fresh(streamOfOneNode)))
  )

  it.effect("a hidden user gets their true presence, others see the user offline", () =>
    Effect.gen(function* () {
      const stream = yield* EphemeralStream
      yield* stream.publishPresence(presence(alice, "offline"), presence(alice, "hidden"))
      const audiences = (yield* stream.since(beginning)).updates.map(
        (update) => update._tag === "presence" && [update.audience, update.value.state]
      )
      assert.deepStrictEqual(audiences, [
        ["others", "offline"],
        ["self", "hidden"]
      ])
      assert.strictEqual(stream.presence(alice)?.state, "offline")
      yield* stream.publishPresence(presence(alice, "online"))
      assert.strictEqual((yield* stream.since(beginning)).updates.length, 1)
    }).pipe(Effect.provide(Layer.fresh(streamOfOneNode)))
  )

  it.effect("offline users are removed after a while, and readers with an older position are detected", () =>
    Effect.gen(function* () {
      const stream = yield* EphemeralStream
      yield* stream.publishPresence(presence(bob, "offline"))
      yield* TestClock.adjust("2 hours")
      for (let change = 0; change < 3000; change++) yield* stream.publishPresence(presence(alice, "online"))
      const chunk = yield* stream.since(beginning)
      assert.deepStrictEqual(
        chunk.updates.map((update) => update._tag === "presence" && update.userId),
        [alice]
      )
      assert.isFalse(chunk.complete)
      assert.isTrue((yield* stream.since(chunk.position)).complete)
    }).pipe(Effect.provide(Layer.fresh(streamOfOneNode)))
  )

  it.effect("clients get the age of the last activity, not its time", () =>
    Effect.sync(() => {
      const content = toPresenceContent({ ...presence(alice, "online"), last_active_at: 1_000 }, 1_250)
      assert.deepStrictEqual(content, { user_id: alice, state: "online", presence: "online", last_active_ago: 250 })
    })
  )
})
