/**
 * What follows from the answer to a transaction: its PDUs and EDUs are acknowledged, sent again, sent one by one, or dropped. Used by
 * the Peer actor; `TransactionRefusal` says what an error means.
 */
import type { TransactionAnswer } from "@greenroom/protocol/federation/Transaction"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { OutgoingEduStore } from "@greenroom/store/OutgoingEduStore"
import { OutgoingStore, type StoredTransaction } from "@greenroom/store/OutgoingStore"
import type { Fence } from "@greenroom/store/ShardFenceStore"
import { Effect, Random } from "effect"
import type { RemoteInvalid, RemoteRefused } from "../RemoteError.ts"
import { refusalsUntilFinal, waitAfterRefusal } from "../TransactionRefusal.ts"
import type { PeerBackoff } from "./PeerBackoff.ts"
import type { Outgoing, PeerQueue } from "./PeerQueue.ts"
import type { PeerSending } from "./PeerSending.ts"

const reasonOf = (error: RemoteRefused | RemoteInvalid): string =>
  error._tag === "RemoteRefused" ? `${error.status} ${error.errcode}: ${error.error}` : error.reason

const refusedPdus = ({ pdus }: TransactionAnswer): ReadonlyArray<string> =>
  Object.entries(pdus).flatMap(([name, { error }]) => (error === undefined ? [] : [`${name}: ${error}`]))

/** `fence` is that of the actor's shard, under which the store changes transactions. */
export const makePeerAnswers = Effect.fnUntraced(function* (
  destination: ServerName,
  fence: Fence | undefined,
  parts: { readonly queue: PeerQueue; readonly sending: PeerSending; readonly backoff: PeerBackoff }
) {
  const { backoff, queue, sending } = parts
  const store = yield* OutgoingStore
  const eduStore = yield* OutgoingEduStore

  /** How many attempts in a row the server has answered with an error. */
  let refusals = 0
  /** How many of the next PDUs are sent one by one, because a transaction with them was refused. */
  let singly = 0

  /** The PDUs of the transaction wait no longer. */
  const complete = Effect.fnUntraced(function* ({ events, transactionId }: StoredTransaction) {
    singly = Math.max(0, singly - events.length)
    yield* store.acknowledge(destination, transactionId)
    queue.completed()
  })

  const acknowledged = Effect.fnUntraced(function* (stored: StoredTransaction, answer: TransactionAnswer) {
    yield* complete(stored)
    const refused = refusedPdus(answer)
    if (refused.length > 0)
      yield* Effect.logWarning(`${destination} did not take ${refused.join("; ").slice(0, 2_000)}`)
  })

  /** The server will not take the transaction: its PDUs are sent one by one, and the only PDU of one is dropped. */
  const giveUp = Effect.fnUntraced(function* (stored: StoredTransaction, reason: string) {
    const [first, ...others] = stored.events
    const mayHaveEdus = singly === 0 && !sending.hasNoEdus(stored.transactionId)
    if (others.length > 0 || mayHaveEdus) {
      singly = Math.max(singly, stored.events.length)
      yield* store.reduce(destination, stored.transactionId, fence)
      return yield* Effect.logWarning(`${destination} refuses a transaction, its PDUs are sent one by one: ${reason}`)
    }
    yield* complete(stored)
    yield* Effect.logError(`${destination} refuses ${first?.event_id ?? "a PDU"}, it is dropped: ${reason}`)
  })

  /** EDUs that must arrive, and receipts, are dropped. */
  const dropEdus = Effect.fnUntraced(function* ({ durable, receipts }: Outgoing, reason: string) {
    if (durable !== undefined) yield* eduStore.remove(destination, durable.transactionId)
    yield* queue.acknowledgeReceipts(receipts)
    yield* Effect.logError(`${destination} refuses EDUs, they are dropped: ${reason}`)
  })

  return {
    /** Whether the next transaction has one PDU at most. */
    isSingle: () => singly > 0,

    /** The server has answered with `answer`; undefined if the transaction was not sent, because another one was in flight. */
    accepted: Effect.fnUntraced(function* (
      { durable, edus, receipts, stored }: Outgoing,
      answer: TransactionAnswer | undefined
    ) {
      if (answer === undefined) {
        // The EDUs go with the next transaction.
        const lost = edus.filter(({ edu_type }) => edu_type !== "m.receipt")
        queue.add(lost, yield* monotonicMillis)
        queue.noteReceipts()
        return
      }
      refusals = 0
      yield* queue.acknowledgeReceipts(receipts)
      if (durable !== undefined) yield* eduStore.remove(destination, durable.transactionId)
      if (stored !== undefined) yield* acknowledged(stored, answer)
    }),

    /** The server has answered with an error. */
    refused: Effect.fnUntraced(function* (outgoing: Outgoing, error: RemoteRefused | RemoteInvalid) {
      const { durable, receipts, stored } = outgoing
      const hasStoredEdus = durable !== undefined || receipts.receipts.length > 0
      const unstored = hasStoredEdus ? refusals + 1 : 1
      const count = stored === undefined ? unstored : yield* store.refused(destination, stored.transactionId)
      const isFinal = count >= refusalsUntilFinal(error)
      queue.noteAll()
      if (isFinal && stored === undefined && hasStoredEdus) yield* dropEdus(outgoing, reasonOf(error))
      if (!isFinal || stored === undefined) {
        yield* Effect.logWarning(`${destination} refuses a transaction: ${reasonOf(error)}`)
      } else yield* giveUp(stored, reasonOf(error))
      const asked = error._tag === "RemoteRefused" ? error.retryAfter : undefined
      const wait = waitAfterRefusal(++refusals, isFinal, yield* Random.next, asked)
      if (wait > 0) yield* backoff.begin(wait)
    })
  }
})
