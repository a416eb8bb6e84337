/** Work that the end of a process has interrupted: a leave is due soon and is signalled, a join is found by a query. */
import { assert, layer } from "@effect/vitest"
import type { RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { EventLog } from "@greenroom/store/EventLog"
import { type UnfinishedMembership, UnfinishedMembershipStore } from "@greenroom/store/UnfinishedMembershipStore"
import { Effect, Layer, Queue } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { Nodes } from "../../src/runtime/Nodes.ts"
import { keepFinishing } from "../../src/runtime/UnfinishedWork.ts"
import { runner, stores } from "../support/People.ts"

const services = Layer.mergeAll(EventLog.layer, UnfinishedMembershipStore.layer, Layer.sync(Nodes, Nodes.alone)).pipe(
  Layer.provideMerge(runner),
  Layer.provideMerge(stores)
)

const membership = (of: UnfinishedMembership["membership"]): UnfinishedMembership => ({
  roomId: `!${of}:far.test` as RoomId,
  userId: "@ann:example.org" as UserId,
  membership: of,
  servers: ["far.test" as ServerName],
  content: {}
})

layer(services)("unfinished work", (it) => {
  it.effect("is done when it is due: a leave after its signal, a join after the next query", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* UnfinishedMembershipStore
      const finished = yield* Queue.unbounded<string>()
      const hasSignal = Effect.map(sql`SELECT FROM short_lived WHERE key LIKE 'work %'`, (rows) => rows.length > 0)
      const queried = yield* Queue.unbounded<void>()
      yield* keepFinishing({
        name: "Finishing memberships",
        kind: "unfinished memberships",
        table: { ...store, nextAt: Effect.tap(store.nextAt, () => Queue.offer(queried, undefined)) },
        whenNodesChange: "all",
        nameOf: ({ membership }) => membership,
        finish: (work) => Effect.andThen(store.remove(work.roomId, work.userId), Queue.offer(finished, work.membership))
      })
      yield* Queue.take(queried)

      yield* store.put(membership("join"))
      assert.isFalse(yield* hasSignal)
      yield* TestClock.adjust("5 minutes")
      assert.strictEqual(yield* Queue.take(finished), "join")
      yield* Queue.take(queried)

      yield* store.put(membership("leave"))
      assert.isTrue(yield* hasSignal)
      yield* Queue.take(queried)
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* Queue.take(finished), "leave")
    })
  )
})
