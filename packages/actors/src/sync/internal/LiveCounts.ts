/**
 * Unread counts for answers from memory. They are kept in the feed of the user, and counted on from there with each event that the
 * feed has.
 */
import { defaultPush, mentionedBy, relationOf } from "@greenroom/protocol/client-server/Relation"
import type { Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"
import { SyncStore } from "@greenroom/store/SyncStore"
import { Effect } from "effect"
import { nobody } from "../../room/IgnoredUsers.ts"
import { MemberPushRules, mentionsRoom } from "../../room/MemberPushRules.ts"
import { type Counts, makeUnreadCounts, type UnreadOfRoom } from "../../user/push/UnreadCounts.ts"
import type { CountedTo, UserFeed } from "./UserFeed.ts"

const plus = (counts: Counts | undefined, notifications: number, highlights: number): Counts => ({
  notification_count: (counts?.notification_count ?? 0) + notifications,
  highlight_count: (counts?.highlight_count ?? 0) + highlights
})

/**
 * The effect of one event on the counts of a user with the default push rules. Undefined if the event counts in the thread of an event
 * to which it relates.
 */
const addTo = (
  { main, threads }: CountedTo,
  event: Event,
  userId: UserId
): Pick<CountedTo, "main" | "threads"> | undefined => {
  if (event.sender === userId) return { main, threads }
  const relation = relationOf(event)
  const { mentions, notifies } = defaultPush(event, false, relation)
  const isMentioned = mentions && mentionedBy(event).includes(userId)
  if (!notifies && !isMentioned) return { main, threads }
  const highlights = isMentioned ? 1 : 0
  if (relation === undefined) return { main: plus(main, 1, highlights), threads }
  if (relation.relType !== "m.thread") return undefined
  const { eventId: thread } = relation
  return { main, threads: { ...threads, [thread]: plus(threads[thread], 1, highlights) } }
}

/** Counts as clients get them: by thread where they ask for that. */
export const unreadOf = ({ main, threads }: CountedTo, byThread: boolean): UnreadOfRoom => {
  if (byThread) return { unread_notifications: main, unread_thread_notifications: threads }
  const all = Object.values(threads).reduce(
    (sum, thread) => plus(sum, thread.notification_count, thread.highlight_count),
    main
  )
  return { unread_notifications: all }
}

export const makeLiveCounts = Effect.gen(function* () {
  const store = yield* SyncStore
  const unread = yield* makeUnreadCounts
  const pushRules = yield* MemberPushRules

  /** The counts of a room from the store. Users who ignore others are not answered from memory. */
  const countNow = Effect.fnUntraced(function* (userId: UserId, roomNid: number, upTo: StreamPosition) {
    const rooms = yield* store.memberships(userId, upTo, undefined, [roomNid])
    const counted = rooms.map(({ changedAt }) => ({ roomNid, joinedAt: changedAt }))
    const found = (yield* unread.count(userId, counted, upTo, nobody, true)).get(roomNid)
    return {
      upTo,
      main: found?.unread_notifications ?? plus(undefined, 0, 0),
      threads: found?.unread_thread_notifications ?? {}
    }
  })

  /** Counts from the counts of the feed on, where that has them and all that changes them. */
  const cached = (feed: UserFeed, roomNid: number, upTo: StreamPosition): CountedTo | undefined => {
    const { userId } = feed
    const known = feed.countsOf(roomNid)
    if (
      known === undefined ||
      comparePositions(known.upTo, feed.rowsAt) < 0 ||
      comparePositions(known.upTo, feed.since) < 0 ||
      pushRules.since(userId) !== undefined
    ) {
      return undefined
    }
    const entries = feed.of(roomNid, known.upTo, upTo)
    if (entries.some((entry) => !entry.isPlain || mentionsRoom(entry.event))) return undefined
    let counted: CountedTo = { ...known, upTo }
    for (const { event } of entries) {
      const counts = addTo(counted, event, userId)
      if (counts === undefined) return undefined
      counted = { upTo, ...counts }
    }
    feed.noteCounts(roomNid, counted)
    return counted
  }

  /** Counts from the store. */
  const read = (feed: UserFeed, roomNid: number, upTo: StreamPosition) =>
    Effect.tap(countNow(feed.userId, roomNid, upTo), (counted) => Effect.sync(() => feed.noteCounts(roomNid, counted)))

  return { cached, read }
})
