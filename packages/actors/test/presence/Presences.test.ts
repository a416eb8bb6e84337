import { assert, layer } from "@effect/vitest"
import type { PresenceState } from "@greenroom/protocol/api/PresenceApi"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { PresenceListStore } from "@greenroom/store/PresenceListStore"
import { PresenceStore } from "@greenroom/store/PresenceStore"
import { ProfileStore } from "@greenroom/store/ProfileStore"
import { beginning, type StreamPosition } from "@greenroom/store/StreamToken"
import { Clock, Effect, Fiber } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { EphemeralStream } from "../../src/presence/EphemeralStream.ts"
import { Presences } from "../../src/presence/Presences.ts"
import { onDevice, presence, roomOf, signUp, stores } from "../support/People.ts"

/**
 * Waits for the next presence of the user that is published after a position. With `state`, for the next one in that state: an
 * actor publishes the same state twice if the test clock runs past the timeout of a report. The clock advances by a second
 * after each 50 answers of the database, which does not follow it.
 */
const published = Effect.fnUntraced(function* (userId: UserId, position: StreamPosition, state?: PresenceState) {
  const stream = yield* EphemeralStream
  const sql = yield* SqlClient.SqlClient
  for (let answers = 1; ; answers++) {
    const chunk = yield* stream.since(position)
    for (const update of chunk.updates) {
      if (update._tag !== "presence" || update.userId !== userId) continue
      if (state === undefined || update.value.state === state) return update
    }
    yield* sql`SELECT 1`
    if (answers % 50 === 0) yield* TestClock.adjust("1 second")
  }
})

/** Waits until PostgreSQL has ended the connections of a stopped server: a server that starts earlier is not the only node. */
const untilStopped = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const followers = sql`
    SELECT FROM pg_locks WHERE locktype = 'advisory'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
  while ((yield* followers).length > 0) yield* Effect.void
})

const position = Effect.flatMap(EphemeralStream, (stream) => stream.position)

/** A poll that is open until the effect that it gives is run. */
const poll = Effect.fnUntraced(function* (session: Parameters<Presences["Service"]["connect"]>[0]) {
  const presences = yield* Presences
  yield* presences.connect(session)
  return presences.disconnect(session)
})

layer(stores)("Presences", (it) => {
  it.effect("a user is online while polling, and offline when no poll follows", () =>
    Effect.gen(function* () {
      const presences = yield* Presences
      const alice = yield* signUp("alice")
      const end = yield* poll(alice)
      const online = yield* published(alice.userId, beginning)
      assert.strictEqual(online.value.state, "online")
      yield* end
      yield* TestClock.adjust("20 seconds")
      const endSecond = yield* poll(alice)
      yield* TestClock.adjust("60 seconds")
      assert.strictEqual((yield* presences.get(alice, alice.userId)).state, "online")
      yield* endSecond
      const before = yield* position
      yield* TestClock.adjust("31 seconds")
      const offline = yield* published(alice.userId, before, "offline")
      assert.strictEqual(offline.value.last_active_at, 0)
      yield* TestClock.adjust("1 hour")
      const content = yield* presences.get(alice, alice.userId)
      assert.isAtLeast(content.last_active_ago!, 3_600_000)
    }).pipe(Effect.provide(presence))
  )

  it.effect("idle on every device is unavailable; the most recent activity of any device counts", () =>
    Effect.gen(function* () {
      const presences = yield* Presences
      const phone = yield* signUp("bob")
      const laptop = onDevice(phone.userId, "laptop")
      yield* poll(phone)
      yield* poll(laptop)
      yield* published(phone.userId, beginning)
      yield* TestClock.adjust("4 minutes")
      yield* presences.active(laptop)
      yield* TestClock.adjust("4 minutes")
      const [content] = yield* presences.many([phone.userId])
      assert.deepStrictEqual([content!.state, content!.last_active_ago], ["online", 240_000])
      const before = yield* position
      yield* TestClock.adjust("2 minutes")
      yield* published(phone.userId, before, "unavailable")
      const idle = yield* position
      yield* presences.active(phone)
      yield* published(phone.userId, idle, "online")
    }).pipe(Effect.provide(presence))
  )

  it.effect("a chosen state with its message is seen by others, and outlives a restart while connected", () =>
    Effect.gen(function* () {
      const carol = yield* signUp("carol")
      const dave = yield* signUp("dave")
      yield* roomOf("!carol:example.org", [carol.userId, dave.userId])
      yield* Effect.gen(function* () {
        const presences = yield* Presences
        yield* presences.set(carol, carol.userId, "unavailable", "at lunch")
        const seen = yield* presences.get(dave, carol.userId)
        assert.deepStrictEqual([seen.state, seen.presence, seen.status_msg], ["unavailable", "unavailable", "at lunch"])
      }).pipe(Effect.provide(presence))
      yield* untilStopped
      yield* Effect.gen(function* () {
        const presences = yield* Presences
        assert.strictEqual((yield* presences.get(dave, carol.userId)).state, "offline")
        yield* poll(carol)
        assert.strictEqual((yield* published(carol.userId, beginning)).value.status_msg, "at lunch")
      }).pipe(Effect.provide(presence))
    })
  )

  it.effect("a choice made without a connection is followed by offline", () =>
    Effect.gen(function* () {
      const presences = yield* Presences
      const erin = yield* signUp("erin")
      yield* presences.set(erin, erin.userId, "free_for_chat")
      const before = yield* position
      yield* TestClock.adjust("6 minutes")
      yield* published(erin.userId, before, "offline")
    }).pipe(Effect.provide(presence))
  )

  it.effect("a hidden user looks offline to others, and sees their true presence", () =>
    Effect.gen(function* () {
      const presences = yield* Presences
      const stream = yield* EphemeralStream
      const frank = yield* signUp("frank")
      const grace = yield* signUp("grace")
      yield* roomOf("!frank:example.org", [frank.userId, grace.userId])
      yield* poll(frank)
      yield* published(frank.userId, beginning)
      yield* presences.set(frank, frank.userId, "hidden", "shh")
      assert.strictEqual((yield* presences.get(frank, frank.userId)).state, "hidden")
      const seen = yield* presences.get(grace, frank.userId)
      assert.deepStrictEqual([seen.state, seen.status_msg], ["offline", undefined])
      assert.strictEqual((yield* presences.many([frank.userId], frank.userId))[0]!.state, "hidden")
      yield* TestClock.adjust("10 minutes")
      yield* presences.active(frank)
      assert.strictEqual((yield* presences.get(grace, frank.userId)).last_active_ago, 600_000)
      const before = yield* stream.position
      yield* presences.set(frank, frank.userId, "hidden", "still")
      const updates = (yield* stream.since(before)).updates
      // Users of earlier tests are sent as offline meanwhile.
      assert.deepStrictEqual(
        updates.flatMap((update) =>
          update._tag === "presence" && update.userId === frank.userId ? [update.audience] : []
        ),
        ["self"]
      )
    }).pipe(Effect.provide(presence))
  )

  it.effect("presence is visible to users who share a room or were accepted", () =>
    Effect.gen(function* () {
      const presences = yield* Presences
      const lists = yield* PresenceListStore
      const heidi = yield* signUp("heidi")
      const ivan = yield* signUp("ivan")
      assert.strictEqual((yield* Effect.flip(presences.get(ivan, heidi.userId)))._tag, "M_FORBIDDEN")
      yield* lists.invite(ivan.userId, heidi.userId)
      assert.strictEqual((yield* Effect.flip(presences.get(ivan, heidi.userId)))._tag, "M_FORBIDDEN")
      yield* lists.accept(heidi.userId, ivan.userId)
      assert.strictEqual((yield* presences.get(ivan, heidi.userId)).state, "offline")
      assert.deepStrictEqual(yield* presences.acceptedBy(ivan.userId), [heidi.userId])
      const nobody = "@nobody:example.org" as UserId
      assert.strictEqual((yield* Effect.flip(presences.get(ivan, nobody)))._tag, "M_NOT_FOUND")
    }).pipe(Effect.provide(presence))
  )

  it.effect("only the user can set their presence, and a status message has a limit", () =>
    Effect.gen(function* () {
      const presences = yield* Presences
      const judy = yield* signUp("judy")
      const other = "@alice:example.org" as UserId
      assert.strictEqual((yield* Effect.flip(presences.set(judy, other, "online")))._tag, "M_FORBIDDEN")
      const long = "x".repeat(2_000)
      assert.strictEqual((yield* Effect.flip(presences.set(judy, judy.userId, "online", long)))._tag, "M_TOO_LARGE")
      yield* presences.set(judy, judy.userId, "online", "nul \0 and half \u{1F600}")
      assert.strictEqual((yield* presences.get(judy, judy.userId)).status_msg, "nul \0 and half \u{1F600}")
    }).pipe(Effect.provide(presence))
  )

  it.effect("presence carries the profile, and a changed profile is published again", () =>
    Effect.gen(function* () {
      const presences = yield* Presences
      const profiles = yield* ProfileStore
      const kim = yield* signUp("kim")
      yield* poll(kim)
      yield* published(kim.userId, beginning)
      const before = yield* position
      yield* profiles.set(kim.userId, "displayname", { value: "Kim", visibility: "public" })
      yield* presences.announce(kim.userId)
      const update = yield* published(kim.userId, before)
      assert.deepStrictEqual([update.value.state, update.value.displayname], ["online", "Kim"])
    }).pipe(Effect.provide(presence))
  )

  it.effect("stores that a user appears, and settled presence, and no activity between", () =>
    Effect.gen(function* () {
      const presences = yield* Presences
      const store = yield* PresenceStore
      const laura = yield* signUp("laura")
      const start = yield* Clock.currentTimeMillis
      yield* poll(laura)
      yield* published(laura.userId, beginning)
      const appeared = yield* store.get(laura.userId)
      assert.deepInclude(yield* Effect.fromOption(appeared), { state: "online", last_active_at: start })
      yield* TestClock.adjust("2 minutes")
      yield* presences.active(laura)
      assert.deepStrictEqual(yield* store.get(laura.userId), appeared)
      const before = yield* position
      yield* TestClock.adjust("5 minutes")
      yield* published(laura.userId, before)
      const stored = yield* Effect.fromOption(yield* store.get(laura.userId))
      assert.deepStrictEqual(
        [stored.state, stored.last_active_at, stored.chosen_at],
        ["unavailable", start + 120_000, undefined]
      )
    }).pipe(Effect.provide(presence))
  )

  it.effect("the presence of a deactivated user is offline for others, and deleted from the database", () =>
    Effect.gen(function* () {
      const presences = yield* Presences
      const store = yield* PresenceStore
      const mallory = yield* signUp("mallory")
      yield* presences.set(mallory, mallory.userId, "online", "here")
      const before = yield* position
      yield* presences.forget(mallory.userId)
      yield* published(mallory.userId, before, "offline")
      assert.isTrue((yield* store.get(mallory.userId))._tag === "None")
    }).pipe(Effect.provide(presence))
  )

  it.effect("a request that meets a broken database is answered once the database is back", () =>
    Effect.gen(function* () {
      const presences = yield* Presences
      const sql = yield* SqlClient.SqlClient
      const nina = yield* signUp("nina")
      yield* presences.set(nina, nina.userId, "online")
      yield* sql`ALTER TABLE presence RENAME TO presence_away`
      const request = yield* Effect.forkChild(presences.set(nina, nina.userId, "unavailable", "back soon"))
      yield* sql`SELECT 1`
      yield* sql`ALTER TABLE presence_away RENAME TO presence`
      while (request.pollUnsafe() === undefined) {
        yield* TestClock.adjust("1 second")
        yield* sql`SELECT 1`
      }
      yield* Fiber.join(request)
      const content = yield* presences.get(nina, nina.userId)
      assert.deepStrictEqual([content.state, content.status_msg], ["unavailable", "back soon"])
    }).pipe(Effect.provide(presence))
  )
})
