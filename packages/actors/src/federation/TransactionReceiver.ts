/**
 * Handles the transactions of other servers: one at a time of each server, each transaction once. A repeat gets the first
 * answer, also while the first is still handled, and after a restart.
 *
 * If a transaction names a previous one that never arrived, the server is asked for all that it sent after the last one that
 * did (`/pull`).
 *
 * Source: "Transactions" of the draft and of the server-server specification.
 */
import {
  FederationTransactionId,
  maxEdus,
  maxPdus,
  type PduAnswer,
  type Transaction,
  type TransactionAnswer
} from "@greenroom/protocol/federation/Transaction"
import { isUserId, type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, itemsOf, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { LimitExceeded, type MatrixError, TooLarge } from "@greenroom/protocol/MatrixError"
import { plural } from "@greenroom/protocol/Plural"
import { setNewest } from "@greenroom/store/BoundedMap"
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { type KeptAnswer, ReceivedTransactionStore } from "@greenroom/store/ReceivedTransactionStore"
import { Cause, Clock, Context, Effect, Exit, Fiber, Layer, Option, Schema, Semaphore } from "effect"
import { awaitingOthers, withAnswerBudget } from "../runtime/AnswerBudget.ts"
import { mayPass } from "../runtime/ItemFailure.ts"
import { periodicallyOnce } from "../runtime/Singletons.ts"
import { EduReceiver } from "./EduReceiver.ts"
import { answerLimits } from "./FederationCalls.ts"
import { FederationClient } from "./FederationClient.ts"
import { FederationRooms } from "./FederationRooms.ts"
import { wholeAnswer } from "./internal/InviteJoins.ts"
import type { ReceivedPdu } from "./internal/PduIntake.ts"
import { RemotePresences } from "./RemotePresences.ts"

/** How many transactions of one server may wait; further ones are to come again later. */
const maxWaiting = 16

/** The retry delay of refused transactions, in milliseconds. */
const retryAfter = 5_000

/** How many transactions are pulled for one gap. */
const maxPulled = 200

/** The time for which a transaction that could not be pulled is not requested again. */
const pullInterval = "10 minutes"

/** How many of the last transactions a pull names, beside the one that revealed the gap. */
const namedInPull = 5

/** The time for which answers are kept, in milliseconds, and how often older ones are forgotten. */
const keptFor = 7 * 86_400_000
const forgetInterval = "1 hour"

/** At which attempt in a row, since the start, a transaction is taken without the PDUs and EDUs that cannot be handled. */
const lastAttempt = 5

/** The number of origins whose last transaction is remembered. */
const rememberedOrigins = 10_000

/** The number of remembered failed transactions. */
const rememberedFailures = 10_000

/** The parts of a transaction that are taken. */
type Parts = Pick<Transaction, "transaction_id" | "pdus" | "edus">

const isTransactionId = Schema.is(FederationTransactionId)

const checkLimits = ({ edus, pdus }: Parts): Effect.Effect<void, TooLarge> => {
  if (pdus.length > maxPdus) {
    return Effect.fail(new TooLarge({ error: `The transaction has ${pdus.length} PDUs; ${maxPdus} are the limit` }))
  }
  return edus.length > maxEdus
    ? Effect.fail(new TooLarge({ error: `The transaction has ${edus.length} EDUs; ${maxEdus} are the limit` }))
    : Effect.void
}

const toKeep = (received: ReadonlyArray<ReceivedPdu>): KeptAnswer => ({
  pdus: Object.fromEntries(received.flatMap(({ answer, name }) => (name === undefined ? [] : [[name, answer]])))
})

/** A transaction that was pulled; undefined if it is none. */
const readPulled = (transaction: JsonObject): Parts | undefined => {
  const { transaction_id } = transaction
  return typeof transaction_id === "string" && isTransactionId(transaction_id)
    ? { transaction_id, pdus: itemsOf(transaction.pdus), edus: itemsOf(transaction.edus) }
    : undefined
}

/** The user that a PDU joins to a room, or lets knock. */
const joinedBy = (pdu: Json): Json | undefined => {
  if (!isJsonObject(pdu)) return undefined
  if (pdu.pdu_type === "m.room.invite_join") return pdu.user_id
  const isJoin = pdu.pdu_type === "m.room.member" && isJsonObject(pdu.content) && pdu.content.membership === "join"
  return isJoin ? pdu.state_key : undefined
}

/** Users of the origin that join a room by these PDUs, which are not verified yet. */
const joinedUsers = (origin: ServerName, pdus: ReadonlyArray<Json>): ReadonlyArray<UserId> =>
  pdus.map(joinedBy).filter((entry): entry is UserId => isUserId(entry) && serverNameOf(entry) === origin)

/** Handles one transaction of each origin at a time; a bounded number waits. */
const makeQueues = () => {
  const lines = new Map<ServerName, { readonly lock: Semaphore.Semaphore; length: number }>()

  const leave = (origin: ServerName) => {
    const line = lines.get(origin)!
    if (--line.length === 0) lines.delete(origin)
  }

  return <A, E>(origin: ServerName, work: Effect.Effect<A, E>): Effect.Effect<A, E | LimitExceeded> =>
    Effect.suspend((): Effect.Effect<A, E | LimitExceeded> => {
      const line = lines.get(origin) ?? { lock: Semaphore.makeUnsafe(1), length: 0 }
      if (line.length > maxWaiting) {
        return Effect.fail(
          new LimitExceeded({ error: "Too many transactions are waiting, try again later", retry_after_ms: retryAfter })
        )
      }
      line.length++
      lines.set(origin, line)
      return Effect.ensuring(
        line.lock.withPermits(1)(work),
        Effect.sync(() => leave(origin))
      )
    })
}

const make = Effect.gen(function* () {
  const scope = yield* Effect.scope
  const rooms = yield* FederationRooms
  const edus = yield* EduReceiver
  const store = yield* ReceivedTransactionStore
  const client = yield* FederationClient
  const remotePresences = yield* RemotePresences
  const serialised = makeQueues()
  /** Transactions that are under way, by origin and ID. */
  const running = new Map<string, Fiber.Fiber<TransactionAnswer, MatrixError>>()
  const pulling = new Set<ServerName>()
  /** How often the transactions that were answered with an error have failed in a row, by origin and ID. */
  const failures = new Map<string, number>()

  /** The transaction that was taken last from each origin: the next one mostly names it alone. */
  const lastTaken = new Map<ServerName, string>()

  const noteFailure = (key: string) => setNewest(failures, key, (failures.get(key) ?? 0) + 1, rememberedFailures)

  /**
   * Counts failures that its origin does not recognise as such: the transaction will be repeated unchanged. Those of this server's
   * own do not count: its PDUs are not at fault, however long the database is away.
   */
  const counted = <A, E>(key: string, work: (isLastAttempt: boolean) => Effect.Effect<A, E>) =>
    Effect.suspend(() =>
      Effect.onExit(work((failures.get(key) ?? 0) + 1 >= lastAttempt), (exit) =>
        Effect.sync(() => {
          if (Exit.isSuccess(exit)) failures.delete(key)
          else if (Cause.hasDies(exit.cause) && !mayPass(exit.cause, true)) noteFailure(key)
        })
      )
    )

  /** Does what the transaction asks for, unless that is done. */
  const take = Effect.fn("TransactionReceiver.take")(function* (
    origin: ServerName,
    parts: Parts,
    isLastAttempt: boolean
  ) {
    // Begun meanwhile: hardly any transaction is a repeat.
    const verifying = yield* Effect.forkChild(rooms.verify(parts.pdus))
    const known = yield* store.find(origin, parts.transaction_id)
    if (Option.isSome(known)) return yield* Effect.as(Fiber.interrupt(verifying), known.value)
    const verified = yield* Fiber.join(verifying)
    const received = verified.length === 0 ? [] : yield* rooms.receive(origin, parts.pdus, { isLastAttempt, verified })
    yield* Effect.catchCause(remotePresences.want(joinedUsers(origin, parts.pdus)), (cause) =>
      Effect.logError(`The presence of users of ${origin} who joined a room could not be polled`, cause)
    )
    yield* edus.receive(origin, parts.edus, isLastAttempt)
    const answer = toKeep(received)
    // PDUs are known by their IDs when they come again.
    yield* store.put(origin, parts.transaction_id, answer, parts.edus.length === 0)
    setNewest(lastTaken, origin, parts.transaction_id, rememberedOrigins)
    return answer
  })

  const toAnswer = Effect.fnUntraced(function* (origin: ServerName, kept: KeptAnswer) {
    const pdus: Record<string, PduAnswer> = {}
    for (const [name, answer] of Object.entries(kept.pdus)) pdus[name] = yield* wholeAnswer(rooms, origin, answer)
    return { pdus }
  })

  /** Continues when the request's client disconnects: the origin will repeat the request, and get this answer. */
  const takeOnce = (origin: ServerName, parts: Parts): Effect.Effect<TransactionAnswer, MatrixError> =>
    Effect.suspend(() => {
      const key = `${origin} ${parts.transaction_id}`
      const underWay = running.get(key)
      if (underWay !== undefined) return Fiber.join(underWay)
      const work = Effect.ensuring(
        serialised(
          origin,
          counted(key, (isLastAttempt) =>
            Effect.flatMap(take(origin, parts, isLastAttempt), (kept) => toAnswer(origin, kept))
          )
        ),
        Effect.sync(() => running.delete(key))
      )
      return Effect.flatMap(Effect.forkIn(work, scope), (fiber) => {
        running.set(key, fiber)
        return Fiber.join(fiber)
      })
    })

  // Gaps

  /** Requests and takes the transactions after some that are known. */
  const pullNext = Effect.fnUntraced(function* (origin: ServerName, after: ReadonlyArray<string>) {
    const transactions = (yield* client.pull(origin, after)).flatMap((jsonObject) => readPulled(jsonObject) ?? [])
    for (const parts of transactions) {
      yield* checkLimits(parts)
      yield* awaitingOthers(takeOnce(origin, parts))
    }
    return transactions
  })

  /** Requests the transactions after the last known ones, until there are no new ones. */
  const pull = Effect.fn("TransactionReceiver.pull")(function* (origin: ServerName, after: ReadonlyArray<string>) {
    let from = after
    for (let pulled = 0; pulled < maxPulled; ) {
      const transactions = yield* withAnswerBudget(answerLimits.pages, origin, pullNext(origin, from))
      if (transactions.length === 0) return
      pulled += transactions.length
      from = [transactions.at(-1)!.transaction_id]
    }
  })

  const asked = yield* MonotonicCache.make<string, number>({
    lookup: () => Clock.currentTimeMillis,
    capacity: 10_000,
    timeToLive: pullInterval
  })

  /** The transactions that were not requested lately. */
  const newlyMissed = Effect.fnUntraced(function* (origin: ServerName, ids: ReadonlyArray<string>) {
    const known = yield* store.known(origin, ids)
    const missed: Array<string> = []
    for (const id of ids) {
      const key = `${origin} ${id}`
      if (known.has(id) || running.has(key) || (yield* MonotonicCache.has(asked, key))) continue
      yield* MonotonicCache.get(asked, key)
      missed.push(id)
    }
    return missed
  })

  /** `before`: the transaction that was taken before this one. */
  const closeGap = Effect.fnUntraced(function* (
    origin: ServerName,
    { prev_ids, transaction_id }: Transaction,
    before: string | undefined
  ) {
    if (prev_ids.every((id) => id === before) || pulling.has(origin)) return
    const missed = yield* newlyMissed(origin, prev_ids)
    if (missed.length === 0) return
    pulling.add(origin)
    const last = (yield* store.latest(origin, namedInPull + 1)).filter((id) => id !== transaction_id)
    yield* Effect.logInfo(`Asking ${origin} to repeat ${plural(missed.length, "missing transaction")}`)
    yield* pull(origin, last).pipe(
      Effect.catch((error) => Effect.logWarning(`${origin} does not repeat its missing transactions`, error)),
      Effect.ensuring(Effect.sync(() => pulling.delete(origin))),
      Effect.forkIn(scope)
    )
  })

  const receive = Effect.fn("TransactionReceiver.receive")(function* (origin: ServerName, transaction: Transaction) {
    yield* checkLimits(transaction)
    const before = lastTaken.get(origin)
    const answer = yield* takeOnce(origin, transaction)
    yield* closeGap(origin, transaction, before)
    return answer
  })

  yield* periodicallyOnce(
    "Deleting old answers to transactions",
    forgetInterval,
    Effect.flatMap(Clock.currentTimeMillis, (now) => store.forget(now - keptFor)),
    { atOnce: true }
  )

  return TransactionReceiver.of({ receive })
})

/** Handles transactions of other servers, each once and in order. */
export class TransactionReceiver extends Context.Service<
  TransactionReceiver,
  {
    /** As `Federation.receiveTransaction`. Errors: M_TOO_LARGE, M_LIMIT_EXCEEDED. */
    readonly receive: (origin: ServerName, transaction: Transaction) => Effect.Effect<TransactionAnswer, MatrixError>
  }
>()("greenroom/actors/federation/TransactionReceiver") {
  static readonly layer = Layer.effect(TransactionReceiver, make)
}
