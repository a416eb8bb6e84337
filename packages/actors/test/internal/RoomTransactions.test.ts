import { assert, describe, it } from "@effect/vitest"
import type { ClientTransaction } from "@greenroom/store/EventLog"
import { rememberedTransactions } from "@greenroom/store/RoomStore"
import { Deferred, Effect, Fiber } from "effect"
import { RoomTransactions } from "../../src/internal/RoomTransactions.ts"

const scope = "!room:green.test"

/** Answers that were stored by an earlier actor, and how often they were asked for. */
const storedAnswers = (perSession: number) => {
  const row = (tokenId: number, txnId: string): ClientTransaction => ({ tokenId, scope, txnId, response: '"stored"' })
  const asked = { newest: 0, older: 0, find: 0 }
  const newest = (tokenId: number) =>
    Effect.sync(() => {
      asked.newest++
      return Array.from({ length: Math.min(perSession, rememberedTransactions) }, (_, index) =>
        row(tokenId, `send/${index}`)
      )
    })
  const older = () =>
    Effect.sync(() => {
      asked.older++
      const count = Math.max(0, perSession - rememberedTransactions)
      return Array.from({ length: count }, (_, index) => `send/${rememberedTransactions + index}`)
    })
  const find = (tokenId: number, txnId: string) =>
    Effect.sync(() => {
      asked.find++
      return Number(txnId.slice("send/".length)) < perSession ? row(tokenId, txnId) : undefined
    })
  return { asked, transactions: new RoomTransactions({ newest, older, find }) }
}

const transaction = (tokenId: number, txnId: number) => ({ tokenId, txnId: String(txnId), kind: "send" })

describe("RoomTransactions", () => {
  it.effect("what was answered before is answered again, from one reading of the store", () =>
    Effect.gen(function* () {
      const { asked, transactions } = storedAnswers(10)
      const run = (txnId: number) => transactions.once(transaction(1, txnId), Effect.succeed("run"))
      assert.deepStrictEqual([yield* run(3), yield* run(9)], ["stored", "stored"])
      assert.deepStrictEqual([yield* run(10), yield* run(10)], ["run", "run"])
      assert.deepStrictEqual(asked, { newest: 1, older: 0, find: 0 })
      assert.strictEqual(yield* transactions.once(undefined, Effect.succeed("always")), "always")
    })
  )

  it.effect("a repeat waits for the first, and a failure leaves no trace", () =>
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

  it.effect("what a session goes on to send is never looked up, and all of it is answered again", () =>
    Effect.gen(function* () {
      const stored = new Map<string, ClientTransaction>()
      let found = 0
      const find = (_: number, txnId: string) =>
        Effect.sync(() => {
          found++
          return stored.get(txnId)
        })
      const transactions = new RoomTransactions({
        newest: () => Effect.succeed([]),
        older: () => Effect.succeed([]),
        find
      })
      const count = 3 * rememberedTransactions
      for (let index = 0; index < count; index++) {
        const row = transactions.row(transaction(1, index), scope, index)
        stored.set(row.txnId, row)
        assert.strictEqual(yield* transactions.once(transaction(1, index), Effect.succeed(index)), index)
      }
      // A few are taken for repeats, and looked up in vain.
      assert.isBelow(found, count / 10)
      for (let index = 0; index < count; index++) {
        assert.strictEqual(yield* transactions.once(transaction(1, index), Effect.die("run twice")), index)
      }
    })
  )

  it.effect("what is older than memory reaches is looked up", () =>
    Effect.gen(function* () {
      const { asked, transactions } = storedAnswers(5_000)
      const run = (txnId: number) => transactions.once(transaction(1, txnId), Effect.succeed("run"))
      assert.deepStrictEqual([yield* run(4_999), yield* run(5_000)], ["stored", "run"])
      assert.deepStrictEqual(asked, { newest: 1, older: 1, find: 1 })
    })
  )

  it.effect("memory holds so many answers of all sessions together; the others are looked up", () =>
    Effect.gen(function* () {
      const { asked, transactions } = storedAnswers(900)
      const run = (tokenId: number, txnId: number) =>
        transactions.once(transaction(tokenId, txnId), Effect.succeed("run"))
      for (let tokenId = 1; tokenId <= 60; tokenId++) assert.strictEqual(yield* run(tokenId, 0), "stored")
      assert.deepStrictEqual(asked, { newest: 60, older: 0, find: 0 })
      assert.strictEqual(yield* run(1, 899), "stored")
      assert.strictEqual(yield* run(1, 0), "stored")
      assert.deepStrictEqual(asked, { newest: 60, older: 0, find: 1 })
    })
  )
})
