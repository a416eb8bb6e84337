/**
 * The transaction IDs of a room's writers: a repeat is given the first answer, also while the first is under way. What a
 * session was answered last is read once; what is older, or had to make room in memory, is looked up one by one.
 */
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import type { ClientTransaction } from "@greenroom/store/EventLog"
import { rememberedTransactions } from "@greenroom/store/RoomStore"
import { Deferred, Effect, Exit } from "effect"
import type { RoomTransaction } from "../Room.ts"

type Answer = Deferred.Deferred<unknown, MatrixError>

/** Where the answers that are not in memory are. */
export interface StoredAnswers {
  /** What the session was answered last, newest first; all of it if there are less than `rememberedTransactions`. */
  readonly newest: (tokenId: number) => Effect.Effect<ReadonlyArray<ClientTransaction>>
  readonly find: (tokenId: number, txnId: string) => Effect.Effect<ClientTransaction | undefined>
}

interface SessionAnswers {
  readonly answers: Map<string, Answer>
  /** Whether every answer that the session was ever given in this room is in memory. */
  complete: boolean
  underWay: number
}

/** How many answers a room keeps in memory for all sessions together, beside those that are under way. */
const answersPerRoom = 50_000

const keyOf = (transaction: RoomTransaction): string => `${transaction.kind}/${transaction.txnId}`

export class RoomTransactions {
  /** The one that was used last stands last. */
  private readonly sessions = new Map<number, SessionAnswers>()
  private count = 0
  private readonly stored: StoredAnswers

  constructor(stored: StoredAnswers) {
    this.stored = stored
  }

  clear(): void {
    for (const { answers } of this.sessions.values()) answers.clear()
    this.sessions.clear()
    this.count = 0
  }

  /** Runs the effect unless the transaction was run before: then its answer stands. A failure leaves no trace. */
  once<A, E>(transaction: RoomTransaction | undefined, effect: Effect.Effect<A, E>): Effect.Effect<A, E | MatrixError> {
    if (transaction === undefined) return effect
    // Run again after a failure, it must not find the answers that were forgotten with the room.
    const current = Effect.suspend(() => this.sessionOf(transaction.tokenId))
    return Effect.flatMap(current, (session): Effect.Effect<A, E | MatrixError> => {
      const key = keyOf(transaction)
      const earlier = session.answers.get(key)
      if (earlier !== undefined) return Deferred.await(earlier) as Effect.Effect<A, MatrixError>
      const answer: Answer = Deferred.makeUnsafe()
      this.add(session, key, answer)
      session.underWay++
      return Effect.onExit(session.complete ? effect : this.unlessStored(transaction, effect), (exit) => {
        session.underWay--
        if (Exit.isFailure(exit)) this.remove(session, key)
        Deferred.doneUnsafe(answer, exit as Exit.Exit<unknown, MatrixError>)
        return Effect.void
      })
    })
  }

  /** The row that makes the answer durable together with what it answers. */
  row(transaction: RoomTransaction, scope: string, response: unknown): ClientTransaction {
    return { tokenId: transaction.tokenId, scope, txnId: keyOf(transaction), response: JSON.stringify(response) }
  }

  private unlessStored<A, E>(transaction: RoomTransaction, effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.flatMap(this.stored.find(transaction.tokenId, keyOf(transaction)), (found) =>
      found === undefined ? effect : Effect.succeed(JSON.parse(found.response) as A)
    )
  }

  private sessionOf(tokenId: number): Effect.Effect<SessionAnswers> {
    const known = this.sessions.get(tokenId)
    if (known !== undefined) {
      this.sessions.delete(tokenId)
      this.sessions.set(tokenId, known)
      return Effect.succeed(known)
    }
    return Effect.map(this.stored.newest(tokenId), (rows) => {
      const meanwhile = this.sessions.get(tokenId)
      if (meanwhile !== undefined) return meanwhile
      const session: SessionAnswers = {
        answers: new Map(),
        complete: rows.length < rememberedTransactions,
        underWay: 0
      }
      this.sessions.set(tokenId, session)
      for (const row of rows.toReversed()) {
        const answer: Answer = Deferred.makeUnsafe()
        Deferred.doneUnsafe(answer, Exit.succeed(JSON.parse(row.response)))
        this.add(session, row.txnId, answer)
      }
      return session
    })
  }

  private add(session: SessionAnswers, key: string, answer: Answer): void {
    session.answers.set(key, answer)
    this.count++
    if (session.answers.size > rememberedTransactions) {
      session.complete = false
      this.remove(session, session.answers.keys().next().value!)
    }
    if (this.count > answersPerRoom) this.makeRoom(session)
  }

  private remove(session: SessionAnswers, key: string): void {
    if (session.answers.delete(key)) this.count--
  }

  /** Forgets the sessions that were used longest ago; they are read again when they come back. */
  private makeRoom(except: SessionAnswers): void {
    for (const [tokenId, session] of this.sessions) {
      if (this.count <= answersPerRoom / 2) return
      if (session === except || session.underWay > 0) continue
      this.sessions.delete(tokenId)
      this.count -= session.answers.size
    }
  }
}
