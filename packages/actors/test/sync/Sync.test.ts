import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { EventLog } from "@greenroom/store/EventLog"
import { Deferred, Effect, Fiber, Latch } from "effect"
import { vi } from "vitest"
import { Rooms } from "../../src/room/Rooms.ts"
import { UserFeed } from "../../src/sync/internal/UserFeed.ts"
import { Sync } from "../../src/sync/Sync.ts"
import { aliceAndBob, layer as homeServer } from "../TestHomeServer.ts"

/** Completes when a request of the user waits for news. */
const whenWaiting = (userId: UserId): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    const { changedSince } = UserFeed.prototype
    const spy = vi.spyOn(UserFeed.prototype, "changedSince").mockImplementation(function (this: UserFeed, ...given) {
      if (this.userId === userId) {
        spy.mockRestore()
        resume(Effect.void)
      }
      return changedSince.apply(this, given)
    })
  })

// Time stands still, so that no answer comes because a wait has run out.
layer(homeServer)("/sync", (it) => {
  it.effect("a client that waits is answered while other readers of the log are still busy with the event", () =>
    Effect.gen(function* () {
      const sync = yield* Sync
      const rooms = yield* Rooms
      const { alice, bob, room_id } = yield* aliceAndBob("-woken")
      const say = (body: string) => rooms.send(alice, room_id, "m.room.message", { msgtype: "m.text", body })
      const first = yield* sync.sync(bob, { timeout: 0 })
      // From then on the feed of the user is open, and has all that is new.
      yield* say("earlier")
      const { next_batch } = yield* sync.sync(bob, { since: first.next_batch, timeout: 60_000 })
      const busy = yield* Deferred.make<void>()
      const free = Latch.makeUnsafe(false)
      yield* EventLog.use((log) =>
        log.follow(({ events }) =>
          events.some(({ event }) => event.type === "m.room.message")
            ? Effect.andThen(Deferred.succeed(busy, undefined), free.await)
            : Effect.void
        )
      )
      const waits = yield* Effect.forkChild(whenWaiting(bob.userId), { startImmediately: true })
      const waiting = yield* Effect.forkChild(sync.sync(bob, { since: next_batch, timeout: 60_000 }))
      yield* Fiber.join(waits)
      const { event_id } = yield* say("wake up")
      yield* Deferred.await(busy)
      const answer = yield* Fiber.join(waiting)
      const timeline = JSON.parse(JSON.stringify(answer.rooms.join[room_id]?.timeline ?? null))
      free.openUnsafe()
      assert.deepStrictEqual(
        timeline?.events.map((event: { readonly event_id: string }) => event.event_id),
        [event_id]
      )
    }).pipe(Effect.scoped)
  )
})
