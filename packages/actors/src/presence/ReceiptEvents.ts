/**
 * `m.receipt` as clients and application services receive it.
 *
 * Source: "Receipts" of the client-server specification.
 */
import type { Receipt } from "@greenroom/store/ReceiptStore"

/** The event m.receipt of a room. */
export interface ReceiptEvent {
  readonly type: "m.receipt"
  readonly content: {
    readonly [eventId: string]: { readonly [type: string]: { readonly [userId: string]: { readonly ts: number } } }
  }
}

const receiptEvent = (receipts: ReadonlyArray<Receipt>): ReceiptEvent => {
  const content: Record<string, Record<string, Record<string, { ts: number; thread_id?: string }>>> = {}
  for (const { eventId, threadId, ts, type, userId } of receipts) {
    content[eventId] ??= {}
    content[eventId][type] ??= {}
    content[eventId][type][userId] = { ts, ...(threadId === undefined ? {} : { thread_id: threadId }) }
  }
  return { type: "m.receipt", content }
}

/** The receipts of one room. An event has one receipt of a user and type: those of further threads need further events. */
export const receiptEvents = (receipts: ReadonlyArray<Receipt>): ReadonlyArray<ReceiptEvent> => {
  const rounds: Array<Array<Receipt>> = []
  const seen = new Map<string, number>()
  for (const receipt of receipts) {
    const key = `${receipt.eventId} ${receipt.type} ${receipt.userId}`
    const round = seen.get(key) ?? 0
    seen.set(key, round + 1)
    rounds[round] ??= []
    rounds[round].push(receipt)
  }
  return rounds.map(receiptEvent)
}
