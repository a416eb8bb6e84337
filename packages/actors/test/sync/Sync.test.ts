import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { EventLog } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { Clock, Deferred, Effect, Fiber, Latch } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { vi } from "vitest"
import { Accounts } from "../../src/account/Accounts.ts"
import { makeEventRenderer } from "../../src/room/EventRenderer.ts"
import { Rooms } from "../../src/room/Rooms.ts"
import type { Session } from "../../src/runtime/Session.ts"
import { UserFeed } from "../../src/sync/internal/UserFeed.ts"
import { Sync } from "../../src/sync/Sync.ts"
import { compact, encodeSyncAnswer, type SyncAnswer } from "../../src/sync/SyncAnswer.ts"
import { aliceAndBob, layer as homeServer, person } from "../TestHomeServer.ts"

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
  it.effect("a waiting client is answered before slower readers of the log have handled the event", () =>
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

  it.effect("a token that expires while the client waits ends the wait softly, a logout ends it for good", () =>
    Effect.gen(function* () {
      const sync = yield* Sync
      // The clock also changes the presence of a user, who would hear of it.
      const filter = JSON.stringify({ presence: { not_types: ["*"] } })
      const [alice, bob] = [yield* person("expired"), yield* person("logged-out")]
      /** How the wait of a session ends, after `event`. */
      const endAfter = Effect.fnUntraced(function* (session: Session, event: Effect.Effect<unknown>) {
        const { next_batch } = yield* sync.sync(session, { timeout: 0, filter })
        const waits = yield* Effect.forkChild(whenWaiting(session.userId), { startImmediately: true })
        const waiting = yield* Effect.forkChild(sync.sync(session, { since: next_batch, timeout: 60_000, filter }))
        yield* Fiber.join(waits)
        yield* event
        return yield* Effect.flip(Fiber.join(waiting))
      })
      const expiresAt = (yield* Clock.currentTimeMillis) + 20_000
      const softly = yield* endAfter({ ...alice, expiresAt }, TestClock.adjust("20 seconds"))
      assert.deepInclude(softly, { _tag: "M_UNKNOWN_TOKEN", soft_logout: true })
      const accounts = yield* Accounts
      const later = (yield* Clock.currentTimeMillis) + 20_000
      const hard = yield* endAfter({ ...bob, expiresAt: later }, accounts.logout(bob))
      assert.strictEqual(hard._tag, "M_UNKNOWN_TOKEN")
      assert.notProperty(hard, "soft_logout")
    })
  )

  it.effect("the events of rooms with many members are encoded room by room", () =>
    Effect.gen(function* () {
      const sync = yield* Sync
      const rooms = yield* Rooms
      const sql = yield* SqlClient.SqlClient
      const { alice, room_id } = yield* aliceAndBob("-crowded")
      const other = yield* rooms.create(alice, { visibility: "public" })
      yield* rooms.send(alice, other.room_id, "m.room.message", { msgtype: "m.text", body: "hello" })
      const read = sync.sync(alice, { timeout: 0, fullState: true })
      const small = yield* read
      yield* sql`UPDATE rooms SET joined_members = 10000 WHERE room_id IN (${room_id}, ${other.room_id})`
      const large = yield* read
      const bodies = [small, large].map((answer) => JSON.parse(encodeSyncAnswer(answer)).rooms.join)
      for (const id of [room_id, other.room_id]) {
        const isEncoded = ({ rooms: { join } }: SyncAnswer) => !Object.hasOwn(join[id]!.timeline, "events")
        assert.deepStrictEqual([isEncoded(small), isEncoded(large)], [false, true])
        for (const part of ["timeline", "state"]) {
          assert.deepStrictEqual(bodies[1][id][part].events, bodies[0][id][part].events)
        }
      }
    })
  )

  it.effect("lists that are rendered and encoded in steps have each event once, in order", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const events = yield* EventStore
      const renderer = yield* makeEventRenderer
      const { alice, room_id } = yield* aliceAndBob("-stepwise")
      const sent = yield* Effect.forEach(["a", "b", "c"], (body) =>
        rooms.send(alice, room_id, "m.room.message", { msgtype: "m.text", body })
      )
      const stored = (yield* events.byIds(sent.map(({ event_id }) => event_id))).map(({ event }) => event)
      const few = yield* renderer.render(alice, stored)
      const repeated = <A>(list: ReadonlyArray<A>, times: number) => Array.from({ length: times }, () => list).flat()
      const memberships = ["join", "leave", "invite"]
      const many = yield* renderer.renderLists(alice, [
        { events: repeated(stored, 1_400) },
        { events: [] },
        { events: repeated(stored, 1_500), memberships: repeated(memberships, 1_500) }
      ])
      const fewOfMember = yield* renderer.render(alice, stored, { memberships })
      assert.deepStrictEqual(many, [repeated(few, 1_400), [], repeated(fewOfMember, 1_500)])
      for (const times of [1, 33, 34, 66, 67, 350]) {
        for (const rest of [{}, { limited: true, prev_batch: "s1" }]) {
          const part = { events: repeated(few, times), ...rest }
          const steps = compact(part)
          let step = steps.next()
          while (step.done !== true) step = steps.next()
          const room = step.value as unknown as SyncAnswer["rooms"]["join"][string]["timeline"]
          const kinds = { join: { [room_id]: { timeline: room } }, invite: {}, knock: {}, leave: {} }
          const answer = { next_batch: "s1", rooms: kinds }
          const { timeline } = JSON.parse(encodeSyncAnswer(answer as unknown as SyncAnswer)).rooms.join[room_id]
          assert.deepStrictEqual(timeline, JSON.parse(JSON.stringify(part)))
        }
      }
    })
  )
})
