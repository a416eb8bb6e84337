import { assert, describe, it } from "@effect/vitest"
import type { ClientTransaction } from "@greenroom/store/EventLog"
import { knownTransactions } from "@greenroom/store/RoomStore"
import { Deferred, Effect, Fiber } from "effect"
import { RoomTransactions } from "../../../src/room/internal/RoomTransactions.ts"

const scope = "!room:green.test"

/** Answers that were stored by an earlier actor, and how often they were asked for. */
const storedAnswers = (perSession: number) => {
  const asked = { ids: 0, find: 0 }
  const ids = () =>
    Effect.sync(() => {
      asked.ids++
      return Array.from({ length: Math.min(perSession, knownTransactions) }, (_, index) => `send/${index}`)
    })
  const find = (tokenId: number, txnId: string) =>
    Effect.sync((): ClientTransaction | undefined => {
      asked.find++
      const isStored = Number(txnId.slice("send/".length)) < perSession
      return isStored ? { tokenId, scope, txnId, response: '"stored"' } : undefined
    })
  return { asked, transactions: new RoomTransactions({ ids, find }) }
}

const transaction = (tokenId: number, txnId: number) => ({ tokenId, txnId: String(txnId), kind: "send" })

describe("RoomTransactions", () => {
  it.effect("a repeated transaction gets the first answer", () =>
    Effect.gen(function* () {
      const { asked, transactions } = storedAnswers(10)
      const run = (txnId: number) => transactions.once(transaction(1, txnId), Effect.succeed("run"))
      assert.deepStrictEqual([yield* run(3), yield* run(9), yield* run(10)], ["stored", "stored", "run"])
      assert.deepStrictEqual(asked, { ids: 1, find: 2 })
      assert.strictEqual(yield* transactions.once(undefined, Effect.succeed("always")), "always")
    })
  )

  it.effect("a repeat waits for the first, and a failure is not remembered", () =>
    Effect.gen(function* () {
      const { transactions } = storedAnswers(0)
      const gate = yield* Deferred.make<string, string>()
      const first = yield* Effect.forkChild(Effect.exit(transactions.once(transaction(1, 1), Deferred.await(gate))))
      const second = yield* Effect.forkChild(Effect.exit(transactions.once(transaction(1, 1), Effect.die("run twice"))))
      yield* Effect.yieldNow
      yield* Deferred.fail(gate, "refused")
      assert.deepStrictEqual(yield* Fiber.join(first), yield* Fiber.join(second))
      assert.strictEqual(yield* transactions.once(transaction(1, 1), Effect.succeed("third")), "third")
    })
  )

  it.effect("new transactions of a session need almost no queries, and all repeats get the first answer", () =>
    Effect.gen(function* () {
      const stored = new Map<string, ClientTransaction>()
      let found = 0
      const find = (_: number, txnId: string) =>
        Effect.sync(() => {
          found++
          return stored.get(txnId)
        })
      const transactions = new RoomTransactions({ ids: () => Effect.succeed([]), find })
      const count = 3_000
      for (let index = 0; index < count; index++) {
        const row = transactions.row(transaction(1, index), scope, index)
        assert.strictEqual(yield* transactions.once(transaction(1, index), Effect.succeed(index)), index)
        stored.set(row.txnId, row)
      }
      // A few are taken for repeats, and looked up in vain.
      assert.isBelow(found, count / 50)
      for (let index = 0; index < count; index++) {
        assert.strictEqual(yield* transactions.once(transaction(1, index), Effect.die("run twice")), index)
      }
    })
  )

  it.effect("every transaction is looked up while not all answers are in memory", () =>
    Effect.gen(function* () {
      const { asked, transactions } = storedAnswers(knownTransactions + 1)
      const run = (txnId: number) => transactions.once(transaction(1, txnId), Effect.succeed("run"))
      assert.deepStrictEqual([yield* run(knownTransactions), yield* run(knownTransactions + 1)], ["stored", "run"])
      assert.deepStrictEqual(asked, { ids: 1, find: 2 })
    })
  )

  it.effect("a room keeps a bounded number of sessions in memory, and reads evicted ones again", () =>
    Effect.gen(function* () {
      const { asked, transactions } = storedAnswers(1)
      const run = (tokenId: number) => transactions.once(transaction(tokenId, 1), Effect.succeed("run"))
      for (let tokenId = 1; tokenId <= 5_001; tokenId++) yield* run(tokenId)
      assert.strictEqual(asked.ids, 5_001)
      yield* transactions.once(transaction(5_001, 2), Effect.void)
      assert.strictEqual(asked.ids, 5_001)
      yield* transactions.once(transaction(1, 2), Effect.void)
      assert.strictEqual(asked.ids, 5_002)
    })
  )

  it.effect("a session with a request under way stays in memory, so that a repeat waits for the first", () =>
    Effect.gen(function* () {
      const { transactions } = storedAnswers(0)
      const gate = yield* Deferred.make<string>()
      const first = yield* Effect.forkChild(transactions.once(transaction(0, 1), Deferred.await(gate)), {
        startImmediately: true
      })
      for (let tokenId = 1; tokenId <= 5_001; tokenId++) yield* transactions.once(transaction(tokenId, 1), Effect.void)
      const second = yield* Effect.forkChild(transactions.once(transaction(0, 1), Effect.die("run twice")), {
        startImmediately: true
      })
      yield* Deferred.succeed(gate, "first")
      assert.deepStrictEqual([yield* Fiber.join(first), yield* Fiber.join(second)], ["first", "first"])
    })
  )
})
