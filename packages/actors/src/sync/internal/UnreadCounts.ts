/**
 * What a user has not read in rooms: how many events notify them, and how many mention them; for the room as a whole, or
 * by thread.
 *
 * A room counts from the receipt of the user, public or private, whichever lies later; without one from where the user
 * joined. A receipt of a thread counts for that thread, one without a thread for all.
 *
 * Users who changed their push rules are counted by the default ones, unless they turned notifications off altogether.
 *
 * Source: "Receiving notifications" and "Threaded read receipts" of the client-server specification.
 */
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import { type Receipt, ReceiptStore } from "@greenroom/store/ReceiptStore"
import { type ReadPosition, RelationStore, type UnreadCount } from "@greenroom/store/RelationStore"
import { comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"
import { Effect } from "effect"
import { UserPushRules } from "../../user/push/UserPushRules.ts"

export interface Counts {
  readonly notification_count: number
  readonly highlight_count: number
}

export interface UnreadOfRoom {
  readonly unread_notifications: Counts
  /** By the ID of the thread's root. Absent where counts by thread were not asked for. */
  readonly unread_thread_notifications?: { readonly [threadId: string]: Counts }
}

/** A room to count in, with where the user joined it. */
export interface CountedRoom {
  readonly roomNid: number
  readonly joinedAt: StreamPosition
}

const later = (a: StreamPosition, b: StreamPosition) => (comparePositions(a, b) >= 0 ? a : b)

/** The receipts that are about these threads: without a thread, or of one of them. */
const readUpTo = (joinedAt: StreamPosition, receipts: ReadonlyArray<Receipt>, thread: string | undefined) =>
  receipts
    .filter(({ threadId }) => threadId === undefined || threadId === thread)
    .reduce((position, receipt) => later(position, receipt.event), joinedAt)

const toCounts = ({ highlights, notifications }: Pick<UnreadCount, "highlights" | "notifications">): Counts => ({
  notification_count: notifications,
  highlight_count: highlights
})

const sum = (counts: Iterable<UnreadCount>): Counts => {
  let notification_count = 0
  let highlight_count = 0
  for (const { highlights, notifications } of counts) {
    notification_count += notifications
    highlight_count += highlights
  }
  return { notification_count, highlight_count }
}

const nothing: Counts = { notification_count: 0, highlight_count: 0 }

export const makeUnreadCounts = Effect.gen(function* () {
  const relations = yield* RelationStore
  const receipts = yield* ReceiptStore
  const pushRules = yield* UserPushRules

  const isSilent = (userId: UserId) =>
    Effect.map(pushRules.ruleset(userId), ({ override }) => override[0]?.enabled === true)

  return {
    count: Effect.fnUntraced(function* (
      userId: UserId,
      rooms: ReadonlyArray<CountedRoom>,
      upTo: StreamPosition,
      byThread: boolean
    ): Effect.fn.Return<ReadonlyMap<number, UnreadOfRoom>> {
      const found = new Map<number, UnreadOfRoom>()
      if (rooms.length === 0) return found
      if (yield* isSilent(userId)) {
        for (const { roomNid } of rooms) found.set(roomNid, { unread_notifications: nothing })
        return found
      }
      const own = Map.groupBy(
        yield* receipts.own(
          userId,
          rooms.map(({ roomNid }) => roomNid)
        ),
        ({ roomNid }) => roomNid
      )
      const from = rooms.map(
        ({ joinedAt, roomNid }): ReadPosition => ({
          roomNid,
          after: readUpTo(joinedAt, own.get(roomNid) ?? [], undefined)
        })
      )
      const unread = Map.groupBy(yield* relations.unread(userId, from, upTo), ({ roomNid }) => roomNid)
      for (const { joinedAt, roomNid } of rooms) {
        const ofRoom = own.get(roomNid) ?? []
        const counts: Array<UnreadCount> = []
        for (const count of unread.get(roomNid) ?? []) {
          const thread = count.threadId ?? "main"
          // A receipt within the thread may lie beyond the one of the room: then the rest of it is counted anew.
          if (!ofRoom.some(({ threadId }) => threadId === thread)) counts.push(count)
          else {
            const after = readUpTo(joinedAt, ofRoom, thread)
            const room = { roomNid, after, threadId: count.threadId as EventId | undefined }
            counts.push(yield* relations.unreadInThread(userId, room, upTo))
          }
        }
        const [main, threads] = [
          counts.filter(({ threadId }) => threadId === undefined),
          counts.filter(({ notifications, threadId }) => threadId !== undefined && notifications > 0)
        ]
        found.set(
          roomNid,
          byThread
            ? {
                unread_notifications: sum(main),
                unread_thread_notifications: Object.fromEntries(
                  threads.map((count) => [count.threadId ?? "", toCounts(count)])
                )
              }
            : { unread_notifications: sum(counts) }
        )
      }
      return found
    })
  }
})
