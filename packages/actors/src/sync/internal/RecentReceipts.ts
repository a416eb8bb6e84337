/**
 * The last receipt of each room since this node follows the log, so that a window of rooms reads receipts of the rooms alone that have
 * new ones.
 */
import type { RoomId } from "@greenroom/protocol/Identifiers"
import type { LogSlice } from "@greenroom/store/EventLog"
import { rowsOf } from "@greenroom/store/LogKind"
import { receiptChanges } from "@greenroom/store/ReceiptChange"
import { comparePositions, laterPosition, type StreamPosition } from "@greenroom/store/StreamToken"
import { RecentMoves } from "./RecentMoves.ts"

/** The number of rooms whose last receipt is known. */
const maxRooms = 100_000

export class RecentReceipts {
  /** The least recent first. */
  private readonly last = new Map<RoomId, StreamPosition>()
  private readonly moves: RecentMoves<RoomId>
  /** Every receipt after this position is known. */
  private since: StreamPosition

  /** Knows the receipts after `position`. */
  constructor(position: StreamPosition) {
    this.since = position
    this.moves = new RecentMoves(position)
  }

  take(slice: LogSlice): void {
    for (const { position, row } of rowsOf(slice.rows, receiptChanges)) {
      this.last.delete(row.roomId)
      this.last.set(row.roomId, position)
      this.moves.add(row.roomId, position)
    }
    if (this.last.size <= maxRooms) return
    for (const [roomId, position] of this.last) {
      if (this.last.size <= maxRooms / 2) break
      this.since = laterPosition(this.since, position)
      this.last.delete(roomId)
    }
  }

  /** Whether a room may have receipts from after a position. */
  mayHave(roomId: RoomId, after: StreamPosition): boolean {
    if (comparePositions(after, this.since) < 0) return true
    const last = this.last.get(roomId)
    return last !== undefined && comparePositions(last, after) > 0
  }

  /** The rooms with receipts from after a position; undefined if any room may have some. */
  rooms(after: StreamPosition): ReadonlySet<RoomId> | undefined {
    return this.moves.after(after)
  }
}
