import { assert, layer } from "@effect/vitest"
import type { PresencePush } from "@greenroom/protocol/federation/Edu"
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { PresenceListStore } from "@greenroom/store/PresenceListStore"
import { RoomServerStore } from "@greenroom/store/RoomServerStore"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { Destinations } from "../../src/federation/Destinations.ts"
import { FederationClient } from "../../src/federation/FederationClient.ts"
import { Peers } from "../../src/federation/Peers.ts"
import type { EduContent } from "../../src/federation/PendingEdus.ts"
import { RemotePresences } from "../../src/federation/RemotePresences.ts"
import { EphemeralStream } from "../../src/presence/EphemeralStream.ts"
import { ephemeralStream, roomOf, runner, stores } from "../support/People.ts"

const alice = "@alice:example.org" as UserId
const bob = "@bob:blue.test" as UserId
const carol = "@carol:blue.test" as UserId
const eve = "@eve:blue.test" as UserId
const blue = "blue.test" as ServerName

const push = (user_id: UserId, state: PresencePush["state"]): PresencePush => ({ user_id, state, presence: state })

/** The EDUs that are queued for other servers. None of those servers answers. */
const queued: Array<readonly [ServerName, ReadonlyArray<EduContent>]> = []
let answers = false
const others = Layer.mergeAll(
  Layer.succeed(Destinations, { answers: () => Effect.sync(() => answers) } as never),
  Layer.succeed(Peers, {
    wake: () => Effect.void,
    wakeForEdus: Effect.void,
    wakeForReceipts: () => Effect.void,
    queueEdus: (destination, edus) => Effect.sync(() => void queued.push([destination, edus])),
    heardFrom: () => Effect.void,
    list: Effect.succeed([])
  }),
  Layer.succeed(FederationClient, {} as never)
)

const remotePresences = RemotePresences.layer.pipe(
  Layer.provideMerge(ephemeralStream),
  Layer.provide(others),
  Layer.provideMerge(Layer.mergeAll(RoomServerStore.layer, PresenceListStore.layer)),
  Layer.provideMerge(runner),
  Layer.provideMerge(stores)
)

layer(remotePresences)("RemotePresences", (it) => {
  it.effect("presence of other servers counts only for observed users, and only while their server sends", () =>
    Effect.gen(function* () {
      const presences = yield* RemotePresences
      const stream = yield* EphemeralStream
      const lists = yield* PresenceListStore
      yield* roomOf("!lobby:example.org", [alice, bob])
      yield* lists.invite(alice, carol)
      yield* lists.accept(carol, alice)
      yield* presences.receive([push(bob, "online"), push(carol, "hidden"), push(eve, "online")])
      const stateOf = (userId: UserId) => stream.presence(userId)?.state
      assert.deepStrictEqual([bob, carol, eve].map(stateOf), ["online", "offline", undefined])

      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual(queued.at(-1), [blue, [{ edu_type: "m.presence", content: { poll: [bob] } }]])
      yield* presences.heardFrom(blue)
      yield* TestClock.adjust("9 minutes")
      assert.strictEqual(stateOf(bob), "online")
      const before = yield* stream.position
      yield* TestClock.adjust("2 minutes")
      yield* stream.changed(before)
      assert.strictEqual(stateOf(bob), "offline")
    })
  )

  it.effect("presence of a server that answers counts for longer than Synapse takes to repeat it", () =>
    Effect.gen(function* () {
      const presences = yield* RemotePresences
      const stream = yield* EphemeralStream
      const frank = "@frank:quiet.test" as UserId
      yield* roomOf("!quiet:example.org", [alice, frank])
      answers = true
      queued.length = 0
      yield* presences.receive([push(frank, "online")])
      yield* TestClock.adjust("30 minutes")
      assert.strictEqual(stream.presence(frank)?.state, "online")
      assert.isAtMost(queued.length, 8)
      const before = yield* stream.position
      yield* TestClock.adjust("6 minutes")
      yield* stream.changed(before)
      assert.strictEqual(stream.presence(frank)?.state, "offline")
    })
  )

  it.effect("the presence of many users is written together", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const presences = yield* RemotePresences
      const users = Array.from({ length: 200 }, (_, index) => `@user${index}:many.test` as UserId)
      yield* roomOf("!many:example.org", [alice, ...users])
      yield* presences.receive(users.map((userId) => push(userId, "online")))
      const [written] = yield* sql<{ values: number; transactions: number }>`
        SELECT count(*)::int AS values, count(DISTINCT xid)::int AS transactions FROM short_lived
        WHERE key LIKE '@user%:many.test'`
      assert.strictEqual(written?.values, users.length)
      assert.isAtMost(written?.transactions ?? 0, 5)
    })
  )

  it.effect("the last push of a user counts, also if it is what was known before", () =>
    Effect.gen(function* () {
      const presences = yield* RemotePresences
      const stream = yield* EphemeralStream
      const grace = "@grace:twice.test" as UserId
      yield* roomOf("!twice:example.org", [alice, grace])
      yield* presences.receive([push(grace, "offline")])
      yield* presences.receive([push(grace, "online"), push(grace, "offline")])
      assert.strictEqual(stream.presence(grace)?.state, "offline")
    })
  )

  it.effect("polls an unknown user whose presence is read, at most every five minutes", () =>
    Effect.gen(function* () {
      const presences = yield* RemotePresences
      queued.length = 0
      const dave = "@dave:red.test" as UserId
      yield* presences.want([alice, dave, eve])
      yield* presences.want([dave, eve])
      assert.sameDeepMembers(queued.slice(), [
        ["red.test", [{ edu_type: "m.presence", content: { poll: [dave] } }]],
        [blue, [{ edu_type: "m.presence", content: { poll: [eve] } }]]
      ] as never)
      yield* TestClock.adjust("6 minutes")
      yield* presences.want([dave])
      assert.lengthOf(
        queued.filter(([destination]) => destination === "red.test"),
        2
      )
    })
  )
})
