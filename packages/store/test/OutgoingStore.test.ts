import { assert, layer } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Fiber, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { DestinationStore } from "../src/DestinationStore.ts"
import { EventLog } from "../src/EventLog.ts"
import { keptTransactions, OutgoingStore } from "../src/OutgoingStore.ts"
import { type Fence, ShardFenceStore, StaleFence } from "../src/ShardFenceStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const red = "red.test" as ServerName
const blue = "blue.test:8448" as ServerName

let lastNid = 0

/** Puts new events in line for a destination, as the event log does. */
const enqueue = Effect.fnUntraced(function* (destination: ServerName, count: number, padding = "") {
  const sql = yield* SqlClient.SqlClient
  for (let left = count; left > 0; left--) {
    const nid = ++lastNid
    const body = JSON.stringify({ event_id: `$${nid}:green.test`, padding })
    yield* sql`
      INSERT INTO events (nid, room_nid, event_id, type, sender, depth, body)
      VALUES (${nid}, 1, ${`$${nid}:green.test`}, 'm.test', '@a:green.test', 1, ${body})`
    yield* sql`INSERT INTO outgoing_pdus (destination, event_nid) VALUES (${destination}, ${nid})`
  }
})

const idsOf = (transaction: { readonly events: ReadonlyArray<{ readonly event_id: string }> }) =>
  transaction.events.map((event) => event.event_id)

const request = (transactionId: string) => ({ uri: `/send/${transactionId}`, body: new TextEncoder().encode("{}") })

/** The next transaction, stored as it is sent. */
const nextOf = Effect.fnUntraced(function* (destination: ServerName, most?: number) {
  const store = yield* OutgoingStore
  const next = (yield* store.next(destination, { most })).transaction!
  if (next.request !== undefined) return next
  yield* store.prepare(destination, next, request(next.transactionId))
  return (yield* store.next(destination)).transaction!
})

const stores = Layer.mergeAll(OutgoingStore.layer, DestinationStore.layer, ShardFenceStore.layer).pipe(
  Layer.provide(EventLog.layer),
  Layer.provideMerge(TestDatabase.layer)
)

layer(stores)("OutgoingStore", (it) => {
  it.effect("a transaction is the same until it is acknowledged, then the next names it", () =>
    Effect.gen(function* () {
      const store = yield* OutgoingStore
      assert.isUndefined((yield* store.next(red)).transaction)
      yield* enqueue(red, 60)
      const [first, again] = yield* Effect.all([nextOf(red), nextOf(red)], { concurrency: 2 })
      assert.lengthOf(first.events, 50)
      yield* enqueue(red, 1)
      assert.deepStrictEqual(yield* nextOf(red), first)
      assert.deepStrictEqual(again, first)
      yield* store.acknowledge(red, first.transactionId)
      const second = yield* nextOf(red)
      assert.lengthOf(second.events, 11)
      assert.deepStrictEqual(second.prevIds, [first.transactionId])
      assert.notInclude(idsOf(second), idsOf(first)[0])
      yield* store.acknowledge(red, second.transactionId)
      assert.isUndefined((yield* store.next(red)).transaction)
    })
  )

  it.effect(
    "a transaction in flight keeps the bytes that were sent first, and a node whose shard was taken stores none",
    () =>
      Effect.gen(function* () {
        const store = yield* OutgoingStore
        const fences = yield* ShardFenceStore
        const yellow = "yellow.test" as ServerName
        const raise = Effect.map(fences.raise([7, 8]), (numbers) => ({ shard: 7, number: numbers.get(7)! }))
        const former = yield* raise
        yield* enqueue(yellow, 1)
        const unsent = (yield* store.next(yellow)).transaction!
        const present = yield* raise
        const refused = store.prepare(yellow, unsent, request(unsent.transactionId), former)
        assert.deepStrictEqual(yield* Effect.flip(refused), new StaleFence({ fence: former }))
        assert.deepStrictEqual(yield* Effect.flip(fences.check(former)), new StaleFence({ fence: former }))

        const next = (yield* store.next(yellow)).transaction!
        const sent = { uri: "/send/x", body: new Uint8Array([0, 1, 255]) }
        assert.isTrue(yield* store.prepare(yellow, next, sent, present))
        assert.isFalse(yield* store.prepare(yellow, unsent, request(unsent.transactionId), present))
        yield* enqueue(yellow, 1)
        const again = (yield* store.next(yellow)).transaction!
        assert.deepStrictEqual([again.transactionId, again.events], [next.transactionId, next.events])
        assert.deepStrictEqual([again.request?.uri, [...again.request!.body]], [sent.uri, [0, 1, 255]])
        yield* store.reduce(yellow, next.transactionId, former)
        assert.strictEqual((yield* store.next(yellow)).transaction!.transactionId, next.transactionId)
      })
  )

  it.effect("writes of a node that loses its shard are there for the next one, or refused", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const fences = yield* ShardFenceStore
      yield* sql`CREATE TABLE written (number integer)`
      const number = (yield* fences.raise([9])).get(9)!
      const fence = { shard: 9, number }
      const outside = yield* Effect.context<never>()
      // The transaction has passed the check when the shard is taken, by another connection, which waits.
      const write = Effect.gen(function* () {
        const taking = Effect.runForkWith(outside)(
          Effect.andThen(fences.raise([9]), sql<{ number: number }>`SELECT number FROM written`)
        )
        yield* sql`INSERT INTO written VALUES (1)`
        return taking
      })
      const taking = yield* fences.under(fence, write)
      assert.deepStrictEqual(yield* Fiber.join(taking), [{ number: 1 }])
      assert.strictEqual(
        (yield* Effect.flip(fences.under(fence, sql`INSERT INTO written VALUES (2)`)))._tag,
        "StaleFence"
      )
      assert.lengthOf(yield* sql`SELECT FROM written`, 1)
    })
  )

  it.effect("a refused transaction can be reduced to its first PDU, the others wait again", () =>
    Effect.gen(function* () {
      const store = yield* OutgoingStore
      const green = "green.test" as ServerName
      yield* enqueue(green, 3)
      const whole = yield* nextOf(green)
      assert.strictEqual(yield* store.refused(green, whole.transactionId), 1)
      assert.strictEqual(yield* store.refused(green, whole.transactionId), 2)
      yield* store.reduce(green, whole.transactionId)
      const single = yield* nextOf(green)
      assert.notStrictEqual(single.transactionId, whole.transactionId)
      assert.deepStrictEqual(idsOf(single), idsOf(whole).slice(0, 1))
      assert.strictEqual(yield* store.refused(green, single.transactionId), 1)
      yield* store.acknowledge(green, single.transactionId)
      const second = yield* nextOf(green, 1)
      assert.deepStrictEqual(idsOf(second), idsOf(whole).slice(1, 2))
      yield* store.acknowledge(green, second.transactionId)
      assert.deepStrictEqual(idsOf(yield* nextOf(green)), idsOf(whole).slice(2))
    })
  )

  it.effect("large events are spread over transactions, and one that is too large goes alone", () =>
    Effect.gen(function* () {
      const store = yield* OutgoingStore
      yield* enqueue(blue, 1, "x".repeat(1_500_000))
      yield* enqueue(blue, 3, "x".repeat(400_000))
      for (const [expected, hasMore] of [
        [1, true],
        [2, true],
        [1, false]
      ] as const) {
        assert.strictEqual((yield* store.next(blue)).hasMore, hasMore)
        const transaction = yield* nextOf(blue)
        assert.lengthOf(transaction.events, expected)
        yield* store.acknowledge(blue, transaction.transactionId)
      }
    })
  )

  it.effect("a transaction without EDUs is stored as it is read, unless EDUs wait or the shard was taken", () =>
    Effect.gen(function* () {
      const store = yield* OutgoingStore
      const fences = yield* ShardFenceStore
      const sql = yield* SqlClient.SqlClient
      const pink = "pink.test" as ServerName
      const raise = Effect.map(fences.raise([9]), (numbers) => ({ shard: 9, number: numbers.get(9)! }))
      const [former, present] = [yield* raise, yield* raise]
      const stored = sql`SELECT transaction_id, body FROM outgoing_transactions WHERE destination = ${pink}`
      const next = (fence: Fence) =>
        Effect.map(store.next(pink, { reserve: { fence } }), ({ transaction }) => transaction!)
      yield* enqueue(pink, 2)
      assert.isFalse((yield* next(former)).isReserved)
      yield* sql`INSERT INTO outgoing_edus (destination, edu_type, content) VALUES (${pink}, 'm.test', '{}')`
      assert.isFalse((yield* next(present)).isReserved)
      yield* sql`DELETE FROM outgoing_edus`
      assert.isEmpty(yield* stored)

      const reserved = yield* next(present)
      assert.deepInclude(reserved, { isReserved: true, isRepeated: false, request: undefined })
      assert.deepStrictEqual(yield* stored, [{ transaction_id: reserved.transactionId, body: null }])
      yield* enqueue(pink, 1)
      const { transactionId, events, prevIds, ts } = reserved
      const again = yield* next(present)
      assert.deepInclude(again, { transactionId, events, prevIds, ts, isReserved: false, isRepeated: true })
      // From its second attempt on it is the same to the byte.
      assert.isTrue(yield* store.prepare(pink, again, request(transactionId), present))
      assert.deepInclude(yield* next(present), { transactionId, isReserved: false, isRepeated: false })
      yield* store.acknowledge(pink, transactionId)
      const second = yield* next(present)
      assert.deepInclude(second, { isReserved: true, prevIds: [transactionId] })
      assert.lengthOf(second.events, 1)
    })
  )

  it.effect("one read says what waits beside the transaction: more PDUs, and EDUs that must arrive", () =>
    Effect.gen(function* () {
      const store = yield* OutgoingStore
      const sql = yield* SqlClient.SqlClient
      const many = "many.test" as ServerName
      const nothing = { transaction: undefined, hasMore: false, hasEdus: false }
      assert.deepStrictEqual(yield* store.next(many), nothing)
      yield* sql`INSERT INTO outgoing_edus (destination, edu_type, content) VALUES (${many}, 'm.test', '{}')`
      assert.deepStrictEqual(yield* store.next(many), { ...nothing, hasEdus: true })
      assert.deepStrictEqual(yield* store.next("none.test" as ServerName), nothing)
      yield* enqueue(many, 2)
      const { hasEdus, hasMore, transaction } = yield* store.next(many)
      assert.deepStrictEqual([hasEdus, hasMore, transaction!.events.length], [true, false, 2])
      assert.isTrue((yield* store.next(many, { most: 1 })).hasMore)
      assert.isTrue((yield* store.next(many, { most: 2 })).hasMore)
      // More may have come since one in flight was made.
      yield* nextOf(many)
      assert.isTrue((yield* store.next(many)).hasMore)
      yield* sql`DELETE FROM outgoing_edus`
    })
  )

  it.effect("a server that missed transactions gets those after the newest that it names", () =>
    Effect.gen(function* () {
      const store = yield* OutgoingStore
      const missed = "missed.test" as ServerName
      const sent: Array<string> = []
      for (let round = 0; round < keptTransactions + 3; round++) {
        yield* enqueue(missed, 1)
        const { transactionId } = yield* nextOf(missed)
        yield* store.acknowledge(missed, transactionId)
        sent.push(transactionId)
      }
      const idsAfter = (ids: ReadonlyArray<string>) =>
        Effect.map(store.after(missed, ids, 5), (found) => found.map(({ transactionId }) => transactionId))
      assert.deepStrictEqual(yield* idsAfter([sent[20]!, sent[10]!]), sent.slice(21, 26))
      assert.deepStrictEqual(yield* idsAfter(["never sent"]), sent.slice(3, 8))
      assert.deepStrictEqual(yield* idsAfter([sent.at(-1)!]), [])
      yield* store.forget(Number.MAX_SAFE_INTEGER)
      assert.deepStrictEqual(yield* idsAfter([]), [])
    })
  )

  it.effect("a queue that has grown too long keeps its newest PDUs", () =>
    Effect.gen(function* () {
      const store = yield* OutgoingStore
      const sql = yield* SqlClient.SqlClient
      yield* sql`DELETE FROM outgoing_pdus`
      const long = "long.test" as ServerName
      const short = "short.test" as ServerName
      yield* enqueue(long, 8)
      const last = lastNid
      yield* enqueue(short, 3)
      assert.deepStrictEqual([...(yield* store.trim(3))], [[long, 5]])
      assert.deepStrictEqual([...(yield* store.trim(3))], [])
      const transaction = yield* nextOf(long)
      assert.deepStrictEqual(
        idsOf(transaction),
        [last - 2, last - 1, last].map((nid) => `$${nid}:green.test`)
      )
      yield* sql`DELETE FROM outgoing_pdus`
    })
  )

  it.effect("finds the destinations for which something waits, with the end of their back-off", () =>
    Effect.gen(function* () {
      const store = yield* OutgoingStore
      const destinations = yield* DestinationStore
      const away = "away.test" as ServerName
      const there = "there.test" as ServerName
      yield* enqueue(away, 2)
      yield* enqueue(there, 3)
      const { retryAt } = yield* destinations.failed(away, "no route")
      assert.deepStrictEqual(yield* store.waiting, [
        { destination: away, retryAt },
        { destination: there, retryAt: 0 }
      ])
      yield* TestClock.setTime(retryAt)
      assert.deepStrictEqual(
        (yield* store.waiting).map((waiting) => waiting.retryAt),
        [0, 0]
      )
      assert.deepStrictEqual(
        [...(yield* store.queueLengths)],
        [
          [away, 2],
          [there, 3]
        ]
      )
    })
  )
})
