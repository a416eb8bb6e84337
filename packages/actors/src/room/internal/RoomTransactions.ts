/**
 * The transaction IDs of a room's writers: a repeat is given the first answer, also while the first is under way. The
 * answers are in the store, written in the commit of what they answer; in memory there is as much of each session as
 * shows that a transaction is new without a query, and a possible repeat is looked up.
 */
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import type { ClientTransaction } from "@greenroom/store/EventLog"
import { knownTransactions } from "@greenroom/store/RoomStore"
import { Deferred, Effect, type Exit } from "effect"
import type { RoomTransaction } from "../RoomProtocol.ts"
import { KeyFilter } from "./KeyFilter.ts"

type Answer = Deferred.Deferred<unknown, MatrixError>

/** The stored answers. */
interface StoredAnswers {
  /** The session's transactions in the room; all of them if there are fewer than `knownTransactions`. */
  readonly ids: (tokenId: number) => Effect.Effect<ReadonlyArray<string>>
  readonly find: (tokenId: number, txnId: string) => Effect.Effect<ClientTransaction | undefined>
}

interface SessionTransactions {
  readonly seen: KeyFilter
  /** Whether every transaction of the session in this room is in `seen`. */
  readonly complete: boolean
  /** Requests in progress, with the answer where a repeat waits for it. */
  readonly underWay: Map<string, Answer | undefined>
}

/** How many sessions a room keeps in memory. */
const sessionsPerRoom = 5_000

/** The scope of requests that make rooms: their repeats do not know the room. */
export const creationScope = "createRoom"

/** How a transaction is found again among those of its session and scope. */
export const transactionKey = (transaction: RoomTransaction): string => `${transaction.kind}/${transaction.txnId}`

export class RoomTransactions {
  /** The one that was used last stands last. */
  private readonly sessions = new Map<number, SessionTransactions>()
  private latest: number | undefined
  private readonly stored: StoredAnswers

  constructor(stored: StoredAnswers) {
    this.stored = stored
  }

  clear(): void {
    this.sessions.clear()
    this.latest = undefined
  }

  /** Runs the effect unless the transaction was run before: then its answer stands. A failure is not remembered. */
  once<A, E>(transaction: RoomTransaction | undefined, effect: Effect.Effect<A, E>): Effect.Effect<A, E | MatrixError> {
    if (transaction === undefined) return effect
    const key = transactionKey(transaction)
    // Run again after a failure, it must not find the sessions that were forgotten with the room.
    const current = Effect.suspend(() => this.sessionOf(transaction.tokenId))
    return Effect.flatMap(current, (session): Effect.Effect<A, E | MatrixError> => {
      if (session.underWay.has(key)) return this.join(session, key) as Effect.Effect<A, MatrixError>
      session.underWay.set(key, undefined)
      const isNew = session.seen.add(key) && session.complete
      return Effect.onExit(isNew ? effect : this.unlessStored(transaction.tokenId, key, effect), (exit) => {
        const answer = session.underWay.get(key)
        session.underWay.delete(key)
        if (answer !== undefined) Deferred.doneUnsafe(answer, exit as Exit.Exit<unknown, MatrixError>)
        return Effect.void
      })
    })
  }

  /** The row that makes the answer durable in the commit of the change. */
  row(transaction: RoomTransaction, scope: string, response: unknown): ClientTransaction {
    return {
      tokenId: transaction.tokenId,
      scope,
      txnId: transactionKey(transaction),
      response: JSON.stringify(response)
    }
  }

  /** The answer of the request under way. */
  private join(session: SessionTransactions, key: string): Effect.Effect<unknown, MatrixError> {
    const answer = session.underWay.get(key) ?? Deferred.makeUnsafe()
    session.underWay.set(key, answer)
    return Deferred.await(answer)
  }

  private unlessStored<A, E>(tokenId: number, key: string, effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.flatMap(this.stored.find(tokenId, key), (found) =>
      found === undefined ? effect : Effect.succeed(JSON.parse(found.response) as A)
    )
  }

  private sessionOf(tokenId: number): Effect.Effect<SessionTransactions> {
    const known = this.sessions.get(tokenId)
    if (known === undefined) return Effect.map(this.stored.ids(tokenId), (ids) => this.open(tokenId, ids))
    if (tokenId !== this.latest) {
      this.sessions.delete(tokenId)
      this.sessions.set(tokenId, known)
      this.latest = tokenId
    }
    return Effect.succeed(known)
  }

  private open(tokenId: number, ids: ReadonlyArray<string>): SessionTransactions {
    const meanwhile = this.sessions.get(tokenId)
    if (meanwhile !== undefined) return meanwhile
    const seen = new KeyFilter()
    for (const key of ids) seen.add(key)
    const session = { seen, complete: ids.length < knownTransactions, underWay: new Map() }
    this.sessions.set(tokenId, session)
    this.latest = tokenId
    if (this.sessions.size > sessionsPerRoom) this.forgetOldest(session)
    return session
  }

  /** Evicts the sessions that were used longest ago; their rows are read again on return. */
  private forgetOldest(except: SessionTransactions): void {
    for (const [tokenId, session] of this.sessions) {
      if (this.sessions.size <= sessionsPerRoom) return
      if (session !== except && session.underWay.size === 0) this.sessions.delete(tokenId)
    }
  }
}
