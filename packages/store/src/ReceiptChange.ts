/**
 * The rows of `receipts` in the log, see `ReceiptStore`.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { logKind } from "./LogKind.ts"

/** `m.read`, which is public, or `m.read.private`, which is not. */
export type ReceiptType = "m.read" | "m.read.private"

/** A receipt of a user in a room changed. */
export interface ReceiptChange {
  readonly roomId: RoomId
  readonly userId: UserId
  readonly type: ReceiptType
}

export const receiptChanges = logKind<ReceiptChange>("receipts", {
  roomId: "(SELECT room_id FROM rooms WHERE rooms.room_nid = receipts.room_nid)",
  userId: "user_id",
  type: "type"
})
