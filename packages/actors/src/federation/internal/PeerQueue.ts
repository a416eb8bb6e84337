/**
 * What waits for another server, and goes into the next transaction to it: EDUs that must arrive first, then PDUs, with receipts and the
 * EDUs that may be lost. Used by the Peer actor.
 */
import { maxEdus, maxPdus } from "@greenroom/protocol/federation/Transaction"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { type EduTransaction, OutgoingEduStore } from "@greenroom/store/OutgoingEduStore"
import { OutgoingReceiptStore, type WaitingReceipts } from "@greenroom/store/OutgoingReceiptStore"
import { type NextTransaction, OutgoingStore } from "@greenroom/store/OutgoingStore"
import type { Fence } from "@greenroom/store/ShardFenceStore"
import { Effect, Option } from "effect"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { toReceiptEdus } from "../OutgoingReceipts.ts"
import { type EduContent, PendingEdus } from "../PendingEdus.ts"

/** How many receipts a transaction has at most: each may be an EDU of its own, and typing and presence have room beside them. */
const maxReceipts = 80

/** A transaction to send; without `stored`, of EDUs alone: of those that must arrive, or of those that may be lost. */
export interface Outgoing {
  readonly stored: NextTransaction | undefined
  /** A transaction of EDUs that must arrive. */
  readonly durable?: EduTransaction
  /** All EDUs of the transaction, receipts among them. */
  readonly edus: ReadonlyArray<EduContent>
  readonly receipts: WaitingReceipts
}

const noReceipts: WaitingReceipts = { receipts: [], rooms: [], more: false }

/** `fence` is that of the actor's shard, under which the store hands out transactions. */
export const makePeerQueue = Effect.fnUntraced(function* (destination: ServerName, fence: Fence | undefined) {
  const { serverName } = yield* HomeServerConfig
  const store = yield* OutgoingStore
  const eduStore = yield* OutgoingEduStore
  const receiptStore = yield* OutgoingReceiptStore

  const pending = new PendingEdus()
  /** Whether the store may have something for the server beside the transaction that was taken from it last. */
  let queued = true
  /** Whether that transaction has PDUs, and is not complete. */
  let inFlight = false
  /** Whether the store may have receipts for the server that are in no transaction. */
  let receiptsQueued = true

  /** The next stored EDUs or PDUs, at most `limit` of the latter. The store is asked again if that fails. */
  const nextStored = Effect.fnUntraced(
    function* (limit: number | undefined) {
      if (!queued && !inFlight) return { durable: undefined, stored: undefined }
      queued = false
      // EDUs that wait in memory, or receipts, go with the transaction: then it is stored once its request is made.
      const reserve = receiptsQueued || !pending.isEmpty ? undefined : { fence }
      const { hasEdus, hasMore, transaction } = yield* store.next(destination, { most: limit, reserve })
      // EDUs come first: they bring the keys with which events are read.
      const durable = hasEdus ? yield* eduStore.next(destination, fence) : Option.none()
      queued ||= hasEdus || hasMore
      inFlight = transaction !== undefined
      return Option.isSome(durable)
        ? { durable: durable.value, stored: undefined }
        : { durable: undefined, stored: transaction }
    },
    Effect.onError(() => Effect.sync(() => (queued = true)))
  )

  const next = Effect.fnUntraced(function* (now: number, isSingle: boolean): Effect.fn.Return<Outgoing | undefined> {
    const { durable, stored } = yield* nextStored(isSingle ? 1 : undefined)
    if (durable !== undefined) return { stored: undefined, durable, edus: durable.edus, receipts: noReceipts }
    // Absent beside a PDU of a refused transaction: then the PDU itself is refused.
    const hasNoEdus = isSingle || stored?.isReserved === true || stored?.isRepeated === true
    if (stored !== undefined && (hasNoEdus || stored.request !== undefined)) {
      return { stored, edus: [], receipts: noReceipts }
    }
    // The events of receipts may be among further PDUs.
    const isFull = stored !== undefined && stored.events.length >= maxPdus
    const outgoing = withEdus(isFull ? noReceipts : yield* nextReceipts, now)
    return stored === undefined && outgoing.edus.length === 0 ? undefined : { stored, ...outgoing }
  })

  const withEdus = (receipts: WaitingReceipts, now: number) => {
    const edus = toReceiptEdus(receipts.receipts)
    return { edus: [...edus, ...pending.take(maxEdus - edus.length, now)], receipts }
  }

  const nextReceipts: Effect.Effect<WaitingReceipts> = Effect.suspend(() => {
    if (!receiptsQueued) return Effect.succeed(noReceipts)
    receiptsQueued = false
    return receiptStore.next(destination, maxReceipts, serverName).pipe(
      Effect.tap(({ more }) =>
        Effect.sync(() => {
          receiptsQueued ||= more
        })
      ),
      // Rooms without receipts for the server, which may have left them.
      Effect.flatMap((waiting) =>
        waiting.receipts.length > 0 || waiting.rooms.length === 0
          ? Effect.succeed(waiting)
          : Effect.andThen(acknowledgeReceipts(waiting), nextReceipts)
      ),
      Effect.onError(() => Effect.sync(() => (receiptsQueued = true)))
    )
  })

  const acknowledgeReceipts = ({ rooms }: WaitingReceipts) =>
    rooms.length === 0 ? Effect.void : receiptStore.acknowledge(destination, rooms)

  /** The store may have PDUs, EDUs or receipts for the server, which it was not asked for. */
  const noteAll = () => {
    queued = true
    receiptsQueued = true
  }

  return {
    /** The next transaction; undefined if nothing waits. With `isSingle` it has one PDU at most. */
    next,
    acknowledgeReceipts,
    /** Adds EDUs that may be lost. */
    add: (edus: ReadonlyArray<EduContent>, now: number) => {
      for (const edu of edus) pending.add(edu, now)
    },
    /** The transaction with PDUs that was taken last is complete. */
    completed: () => {
      inFlight = false
    },
    /** Drops the EDUs that may be lost. */
    drop: () => pending.clear(),
    noteAll,
    noteStored: () => {
      queued = true
    },
    noteReceipts: () => {
      receiptsQueued = true
    }
  }
})

/** What `makePeerQueue` makes. */
export type PeerQueue = Effect.Success<ReturnType<typeof makePeerQueue>>
