import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { itemsOf } from "@greenroom/protocol/Json"
import { PresenceListStore } from "@greenroom/store/PresenceListStore"
import { RoomServerStore } from "@greenroom/store/RoomServerStore"
import { Effect, Layer, Queue } from "effect"
import { TestClock } from "effect/testing"
import { OutgoingPresence, toPush } from "../../src/federation/OutgoingPresence.ts"
import { Peers } from "../../src/federation/Peers.ts"
import { EphemeralStream } from "../../src/presence/EphemeralStream.ts"
import { Presences } from "../../src/presence/Presences.ts"
import { ephemeralStream, roomOf, runner, stores } from "../support/People.ts"

const alice = "@alice:example.org" as UserId
const bob = "@bob:blue.test" as UserId

const presenceOf = (state: "online" | "offline") => ({ user_id: alice, state, presence: state }) as const

/** The presence that is queued for other servers. */
const queued = Queue.unbounded<unknown>().pipe(Effect.runSync)
const others = Layer.mergeAll(
  Layer.succeed(Peers, {
    wake: () => Effect.void,
    wakeForEdus: Effect.void,
    wakeForReceipts: () => Effect.void,
    queueEdus: (_destination, edus) =>
      Effect.sync(() => {
        for (const { content } of edus) for (const push of itemsOf(content.push)) Queue.offerUnsafe(queued, push)
      }),
    heardFrom: () => Effect.void,
    list: Effect.succeed([])
  }),
  Layer.succeed(Presences, { many: () => Effect.succeed([presenceOf("online")]) } as never)
)

const outgoingPresence = OutgoingPresence.layer.pipe(
  Layer.provideMerge(ephemeralStream),
  Layer.provide(others),
  Layer.provideMerge(Layer.mergeAll(RoomServerStore.layer, PresenceListStore.layer)),
  Layer.provideMerge(runner),
  Layer.provideMerge(stores)
)

/** Lets a minute pass, and what waits for the database go on. */
const minute = Effect.andThen(
  TestClock.adjust("1 minute"),
  Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
)

/** The next presence, while time passes. */
const next = Effect.raceFirst(Queue.take(queued), Effect.forever(minute))

layer(outgoingPresence)("OutgoingPresence", (it) => {
  it.effect("the draft's state free_for_chat is online to today's servers", () =>
    Effect.sync(() => {
      const chatty = { user_id: alice, state: "free_for_chat", presence: "free_for_chat" }
      assert.deepStrictEqual(toPush(chatty), { ...chatty, presence: "online", currently_active: true } as never)
    })
  )

  it.effect("presence is repeated while the user is not offline", () =>
    Effect.gen(function* () {
      const stream = yield* EphemeralStream
      yield* roomOf("!lobby:example.org", [alice, bob])
      const online = { ...presenceOf("online"), currently_active: true }
      yield* stream.publishPresence(presenceOf("online"))
      for (let times = 0; times < 3; times++) assert.deepStrictEqual(yield* next, online)
      yield* stream.publishPresence(presenceOf("offline"))
      let last = yield* next
      while ((last as { readonly state: string }).state === "online") last = yield* next
      assert.deepStrictEqual(last, presenceOf("offline"))
      // A repetition may have been under way.
      yield* Effect.repeat(minute, { times: 30 })
      while ((yield* Queue.size(queued)) > 0) yield* Queue.take(queued)
      yield* Effect.repeat(minute, { times: 60 })
      assert.strictEqual(yield* Queue.size(queued), 0)
    })
  )
})
