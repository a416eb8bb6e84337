/**
 * The transaction IDs of a room's writers: a repeat is given the first answer, also while the first is under way. What
 * was answered before the room was opened is read once a session.
 */
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import type { ClientTransaction } from "@greenroom/store/EventLog"
import { Deferred, Effect, Exit } from "effect"
import type { RoomTransaction } from "../Room.ts"

type Answer = Deferred.Deferred<unknown, MatrixError>

/** How many answers a session keeps in memory; older repeats are refused by the database. */
const answersPerSession = 1000

const keyOf = (transaction: RoomTransaction): string => `${transaction.kind}/${transaction.txnId}`

export class RoomTransactions {
  private readonly sessions = new Map<number, Map<string, Answer>>()
  private readonly read: (tokenId: number) => Effect.Effect<ReadonlyArray<ClientTransaction>>

  constructor(read: (tokenId: number) => Effect.Effect<ReadonlyArray<ClientTransaction>>) {
    this.read = read
  }

  clear(): void {
    this.sessions.clear()
  }

  /** Runs the effect unless the transaction was run before: then its answer stands. A failure leaves no trace. */
  once<A, E>(transaction: RoomTransaction | undefined, effect: Effect.Effect<A, E>): Effect.Effect<A, E | MatrixError> {
    if (transaction === undefined) return effect
    return Effect.flatMap(this.answersOf(transaction.tokenId), (answers): Effect.Effect<A, E | MatrixError> => {
      const key = keyOf(transaction)
      const earlier = answers.get(key)
      if (earlier !== undefined) return Deferred.await(earlier) as Effect.Effect<A, MatrixError>
      const answer: Answer = Deferred.makeUnsafe()
      answers.set(key, answer)
      if (answers.size > answersPerSession) answers.delete(answers.keys().next().value!)
      return Effect.onExit(effect, (exit) => {
        if (Exit.isFailure(exit)) answers.delete(key)
        Deferred.doneUnsafe(answer, exit as Exit.Exit<unknown, MatrixError>)
        return Effect.void
      })
    })
  }

  /** The row that makes the answer durable together with what it answers. */
  row(transaction: RoomTransaction, scope: string, response: unknown): ClientTransaction {
    return { tokenId: transaction.tokenId, scope, txnId: keyOf(transaction), response: JSON.stringify(response) }
  }

  private answersOf(tokenId: number): Effect.Effect<Map<string, Answer>> {
    const known = this.sessions.get(tokenId)
    if (known !== undefined) return Effect.succeed(known)
    return Effect.map(this.read(tokenId), (rows) => {
      const loaded = this.sessions.get(tokenId) ?? new Map<string, Answer>()
      this.sessions.set(tokenId, loaded)
      for (const row of [...rows].reverse()) {
        if (loaded.has(row.txnId)) continue
        const answer: Answer = Deferred.makeUnsafe()
        Deferred.doneUnsafe(answer, Exit.succeed(JSON.parse(row.response)))
        loaded.set(row.txnId, answer)
      }
      return loaded
    })
  }
}
