/**
 * Tells the other servers of a room how far users of this one have read. Receipts wait in the database (`OutgoingReceiptStore`), the
 * last of a user in a room and thread; the `Peer` actors send them.
 *
 * Source: "Receipts" of the server-server specification.
 */
import type { JsonObject } from "@greenroom/protocol/Json"
import type { OutgoingReceipt } from "@greenroom/store/OutgoingReceiptStore"
import { Effect, Layer } from "effect"
import { RemoteReceipts } from "../room/RemoteReceipts.ts"
import { Peers } from "./Peers.ts"
import type { EduContent } from "./PendingEdus.ts"

/** The receipts of users in one room. */
type RoomReceipts = Record<string, JsonObject>

/** Receipts as EDUs: one, unless a user has receipts in several threads of a room, of which an EDU has one. */
export const toReceiptEdus = (receipts: ReadonlyArray<OutgoingReceipt>): ReadonlyArray<EduContent> => {
  const contents: Array<Map<string, RoomReceipts>> = []
  for (const { eventId, roomId, threadId, ts, userId } of receipts) {
    let content = contents.find((rooms) => !Object.hasOwn(rooms.get(roomId) ?? {}, userId))
    if (content === undefined) {
      content = new Map()
      contents.push(content)
    }
    const data = { ts, ...(threadId === undefined ? {} : { thread_id: threadId }) }
    content.set(roomId, { ...content.get(roomId), [userId]: { data, event_ids: [eventId] } })
  }
  return contents.map((rooms) => ({
    edu_type: "m.receipt",
    content: Object.fromEntries(Array.from(rooms, ([roomId, users]) => [roomId, { "m.read": users }]))
  }))
}

export const layer = Layer.effect(
  RemoteReceipts,
  Effect.map(Peers, (peers) => RemoteReceipts.of({ wake: peers.wakeForReceipts }))
)
