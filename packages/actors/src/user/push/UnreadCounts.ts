/**
 * Unread counts of a user in rooms: events that notify, and events that are highlighted; for the whole room, or by thread.
 *
 * A room counts from the receipt of the user, public or private, whichever lies later; without one from where the user
 * joined. A receipt of a thread counts for that thread, one without a thread for all.
 *
 * Users are counted by the default push rules up to the moment in which they first changed theirs, and by the rows of what
 * notified them from then on.
 *
 * Source: "Receiving notifications" and "Threaded read receipts" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { type Receipt, ReceiptStore } from "@greenroom/store/ReceiptStore"
import { earlierPosition, endOfTransaction, laterPosition, type StreamPosition } from "@greenroom/store/StreamToken"
import { type ReadRoom, type UnreadCount, UnreadStore } from "@greenroom/store/UnreadStore"
import { Effect } from "effect"
import type { IgnoredUsers } from "../../room/IgnoredUsers.ts"
import { MemberPushRules } from "../../room/MemberPushRules.ts"

/** Unread notifications, and how many of them are highlights. */
export interface Counts {
  readonly notification_count: number
  readonly highlight_count: number
}

/** The counts of a room, and of its threads. */
export interface UnreadOfRoom {
  readonly unread_notifications: Counts
  /** Keys: IDs of thread roots. Absent if the request did not ask for counts by thread. */
  readonly unread_thread_notifications?: { readonly [threadId: string]: Counts }
}

/** A room to count in, with where the user joined it. */
export interface CountedRoom {
  readonly roomNid: number
  readonly joinedAt: StreamPosition
}

/** How far the receipts of a user reach in one room. */
export const readRoom = ({ joinedAt, roomNid }: CountedRoom, receipts: ReadonlyArray<Receipt>): ReadRoom => {
  const threads = new Map<string, StreamPosition>()
  let after = joinedAt
  for (const { event, threadId } of receipts) {
    if (threadId === undefined) after = laterPosition(after, event)
    else threads.set(threadId, laterPosition(threads.get(threadId) ?? event, event))
  }
  const mainAfter = laterPosition(after, threads.get("main") ?? after)
  threads.delete("main")
  return { roomNid, after, mainAfter, threads }
}

/** The rooms, read at least up to a position. */
const readTo = (rooms: ReadonlyArray<ReadRoom>, position: StreamPosition): ReadonlyArray<ReadRoom> =>
  rooms.map((room) => ({
    ...room,
    after: laterPosition(room.after, position),
    mainAfter: laterPosition(room.mainAfter, position)
  }))

const toCounts = (counts: Iterable<UnreadCount>): Counts => {
  let notification_count = 0
  let highlight_count = 0
  for (const { highlights, notifications } of counts) {
    notification_count += notifications
    highlight_count += highlights
  }
  return { notification_count, highlight_count }
}

/** The counts of one room. With `byThread` those of threads come apart. */
const unreadOf = (counts: ReadonlyArray<UnreadCount>, byThread: boolean): UnreadOfRoom => {
  if (!byThread) return { unread_notifications: toCounts(counts) }
  const parts = Map.groupBy(counts, ({ threadId }) => threadId)
  return {
    unread_notifications: toCounts(parts.get(undefined) ?? []),
    unread_thread_notifications: Object.fromEntries(
      [...parts].flatMap(([threadId, part]) => (threadId === undefined ? [] : [[threadId, toCounts(part)]]))
    )
  }
}

/** Reads the unread counts of users. */
export const makeUnreadCounts = Effect.gen(function* () {
  const unread = yield* UnreadStore
  const receipts = yield* ReceiptStore
  const pushRules = yield* MemberPushRules

  const countsOf = (
    userId: UserId,
    rooms: ReadonlyArray<ReadRoom>,
    upTo: StreamPosition,
    ignored: ReadonlyArray<UserId>
  ) => {
    const since = pushRules.since(userId)
    if (since === undefined) return unread.byDefault(userId, rooms, upTo, ignored)
    const change = endOfTransaction(since)
    const parts = [
      unread.byDefault(userId, rooms, earlierPosition(upTo, change), ignored),
      unread.byRows(userId, readTo(rooms, change), upTo, ignored)
    ]
    return Effect.map(Effect.all(parts), (found) => found.flat())
  }

  return {
    /** The unread events of rooms up to a position, by the number of the room. Events of `ignored` users do not count. */
    count: Effect.fnUntraced(function* (
      userId: UserId,
      rooms: ReadonlyArray<CountedRoom>,
      upTo: StreamPosition,
      ignored: IgnoredUsers,
      byThread: boolean
    ): Effect.fn.Return<ReadonlyMap<number, UnreadOfRoom>> {
      if (rooms.length === 0) return new Map()
      const nids = rooms.map(({ roomNid }) => roomNid)
      const own = Map.groupBy(yield* receipts.own(userId, nids), ({ roomNid }) => roomNid)
      const read = rooms.map((room) => readRoom(room, own.get(room.roomNid) ?? []))
      const counts = Map.groupBy(yield* countsOf(userId, read, upTo, [...ignored]), ({ roomNid }) => roomNid)
      return new Map(nids.map((roomNid) => [roomNid, unreadOf(counts.get(roomNid) ?? [], byThread)]))
    })
  }
})
