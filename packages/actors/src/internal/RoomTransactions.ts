/**
 * The transaction IDs of a room's writers: a repeat is given the first answer, also while the first is under way. What a
 * session was answered last is in memory; of what is older there is enough to tell that a transaction is new without
 * asking the store, and what may be a repeat is looked up.
 */
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import type { ClientTransaction } from "@greenroom/store/EventLog"
import { olderTransactions, rememberedTransactions } from "@greenroom/store/RoomStore"
import { Deferred, Effect, Exit } from "effect"
import type { RoomTransaction } from "../Room.ts"
import { KeyFilter } from "./KeyFilter.ts"

type Answer = Deferred.Deferred<unknown, MatrixError>

/** Where the answers that are not in memory are. */
export interface StoredAnswers {
  /** What the session was answered last, newest first; all of it if there are less than `rememberedTransactions`. */
  readonly newest: (tokenId: number) => Effect.Effect<ReadonlyArray<ClientTransaction>>
  /** The IDs that come after those, newest first; all of them if there are less than `olderTransactions`. */
  readonly older: (tokenId: number) => Effect.Effect<ReadonlyArray<string>>
  readonly find: (tokenId: number, txnId: string) => Effect.Effect<ClientTransaction | undefined>
}

interface SessionAnswers {
  /** Oldest first. */
  readonly answers: Map<string, Answer>
  /** The transactions whose answers are in the store alone. */
  readonly older: KeyFilter
  /** Whether every transaction of the session in this room is in `answers` or `older`. */
  readonly complete: boolean
  underWay: number
}

/** How many answers a room keeps in memory for all sessions together, beside those that are under way. */
const answersPerRoom = 50_000
/** How many sessions a room keeps in memory. */
const sessionsPerRoom = 5_000

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
      const isNew = session.complete && !session.older.mayHave(key)
      return Effect.onExit(isNew ? effect : this.unlessStored(transaction, effect), (exit) => {
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
    return Effect.flatMap(this.stored.newest(tokenId), (rows) => {
      if (rows.length < rememberedTransactions) return Effect.succeed(this.open(tokenId, rows, []))
      return Effect.map(this.stored.older(tokenId), (older) => this.open(tokenId, rows, older))
    })
  }

  private open(tokenId: number, rows: ReadonlyArray<ClientTransaction>, older: ReadonlyArray<string>): SessionAnswers {
    const meanwhile = this.sessions.get(tokenId)
    if (meanwhile !== undefined) return meanwhile
    const session: SessionAnswers = {
      answers: new Map(),
      older: new KeyFilter(),
      complete: older.length < olderTransactions,
      underWay: 0
    }
    this.sessions.set(tokenId, session)
    for (const key of older) session.older.add(key)
    for (const row of rows.toReversed()) {
      const answer: Answer = Deferred.makeUnsafe()
      Deferred.doneUnsafe(answer, Exit.succeed(JSON.parse(row.response)))
      this.add(session, row.txnId, answer)
    }
    return session
  }

  private add(session: SessionAnswers, key: string, answer: Answer): void {
    session.answers.set(key, answer)
    this.count++
    this.trim(session, rememberedTransactions)
    if (this.count > answersPerRoom || this.sessions.size > sessionsPerRoom) this.makeRoom(session)
  }

  private remove(session: SessionAnswers, key: string): void {
    if (session.answers.delete(key)) this.count--
  }

  /** Leaves the newest answers, so many, and those that are under way. */
  private trim(session: SessionAnswers, most: number): void {
    let surplus = session.answers.size - most
    if (surplus <= 0) return
    for (const [key, answer] of session.answers) {
      if (surplus-- === 0) return
      if (!Deferred.isDoneUnsafe(answer)) continue
      session.older.add(key)
      this.remove(session, key)
    }
  }

  /** Forgets the sessions that were used longest ago, which are read again when they come back, and older answers. */
  private makeRoom(except: SessionAnswers): void {
    for (const [tokenId, session] of this.sessions) {
      if (this.sessions.size <= sessionsPerRoom) break
      if (session === except || session.underWay > 0) continue
      this.sessions.delete(tokenId)
      this.count -= session.answers.size
    }
    const each = Math.floor(answersPerRoom / 2 / this.sessions.size)
    if (this.count > answersPerRoom) for (const session of this.sessions.values()) this.trim(session, each)
  }
}
