/**
 * Answers to waiting `/sync`s from memory. Most of what a client waits for are messages in rooms that it knows: the feed of
 * the user has them, and nothing has to be read for each user. Where anything else is new (state, memberships, account data,
 * receipts, redactions, more events than the timeline may have) there is no answer from here, and the store is read.
 *
 * Source: "Syncing" of the client-server specification.
 */
import { allowsRoom, compileFilter, type Filter } from "@greenroom/protocol/client-server/Filter"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { EventLog } from "@greenroom/store/EventLog"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { comparePositions, formatToken, type StreamPosition } from "@greenroom/store/StreamToken"
import { Effect } from "effect"
import { EphemeralStream } from "../../presence/EphemeralStream.ts"
import { Feeds } from "../Feeds.ts"
import type { SyncedRoom } from "../SyncAnswer.ts"
import type { FeedEntry } from "./FeedEntry.ts"
import { makeLiveCounts, unreadOf } from "./LiveCounts.ts"
import { type LiveRange, makeLiveTimelines, type RoomParts } from "./LiveTimelines.ts"
import type { SentMembers } from "./SentMembers.ts"
import { defaultTimeline } from "./SyncTimelines.ts"
import type { CountedTo, UserFeed } from "./UserFeed.ts"

/** The news of joined rooms, up to a position. */
export interface LiveRooms {
  readonly upTo: StreamPosition
  readonly join: { readonly [roomId: string]: SyncedRoom }
}

/** How many events are answered from memory at most. */
const maxEntries = 100

/** Filters that ask for more than memory has. */
const isPlain = ({ event_fields, event_format, room }: Filter): boolean =>
  event_fields == null &&
  event_format !== "federation" &&
  room?.timeline?.related_by_rel_types == null &&
  room?.timeline?.related_by_senders == null

export const makeSyncLive = Effect.fnUntraced(function* (sentMembers: SentMembers) {
  const log = yield* EventLog
  const feeds = yield* Feeds
  const ephemeral = yield* EphemeralStream
  const timelines = yield* makeLiveTimelines(sentMembers)
  const counts = yield* makeLiveCounts

  const token = (position: StreamPosition) => formatToken({ position, epoch: log.epoch() })

  const roomOf = (
    range: LiveRange,
    roomNid: number,
    parts: RoomParts,
    counted: CountedTo,
    upTo: StreamPosition
  ): SyncedRoom => {
    const state = timelines.newMembers(range, roomNid, parts, upTo)
    return {
      timeline: parts.timeline,
      ...(range.stateAfter ? { state_after: state } : { state }),
      ...unreadOf(counted, range.filter.room?.timeline?.unread_thread_notifications ?? false)
    }
  }

  /** Most users who wait in a room are answered from caches, without an effect. */
  const cachedRoom = (
    range: LiveRange,
    feed: UserFeed,
    entries: ReadonlyArray<FeedEntry>,
    upTo: StreamPosition,
    now: number
  ): SyncedRoom | undefined => {
    const { roomNid } = entries[0]!
    const parts = timelines.cached(range, entries, now)
    const counted = parts === undefined ? undefined : counts.cached(feed, roomNid, upTo)
    return parts === undefined || counted === undefined ? undefined : roomOf(range, roomNid, parts, counted, upTo)
  }

  const readRoom = Effect.fnUntraced(function* (
    range: LiveRange,
    feed: UserFeed,
    entries: ReadonlyArray<FeedEntry>,
    upTo: StreamPosition
  ): Effect.fn.Return<SyncedRoom> {
    const { roomNid } = entries[0]!
    const parts = yield* timelines.read(range, entries)
    const counted = counts.cached(feed, roomNid, upTo) ?? (yield* counts.read(feed, roomNid, upTo))
    return roomOf(range, roomNid, parts, counted, upTo)
  })

  /** The rooms of the user where other users type than before. Undefined if the changes are forgotten. */
  const typingIn = (feed: UserFeed, { filter, session, since }: LiveRange, upTo: StreamPosition) => {
    const updates = ephemeral.typingSince(since, feed.rooms)
    if (updates === undefined || updates.length === 0) return updates
    const allows = allowsRoom(filter.room)
    const passes = compileFilter(filter.room?.ephemeral)
    return updates.flatMap(({ position, roomId, userIds }) =>
      comparePositions(position, upTo) <= 0 &&
      allows(roomId) &&
      passes({ type: "m.typing", content: {}, sender: session.userId, room_id: roomId })
        ? [{ roomId, userIds }]
        : []
    )
  }

  /** The entries to send, by room; undefined if memory does not have all of them. */
  const entriesOf = (feed: UserFeed, { filter, since }: LiveRange, upTo: StreamPosition) => {
    const { complete, entries } = feed.after(since, maxEntries, Number.POSITIVE_INFINITY)
    if (!complete || entries.some((entry) => !entry.isPlain)) return undefined
    const allows = allowsRoom(filter.room)
    const passes = compileFilter(filter.room?.timeline)
    const shown = entries.filter(
      ({ event, position }) => comparePositions(position, upTo) <= 0 && allows(event.room_id) && passes(event)
    )
    const byRoom = Map.groupBy(shown, ({ event }) => event.room_id)
    const limit = filter.room?.timeline?.limit ?? defaultTimeline
    return shown.length > limit && [...byRoom.values()].some((ofRoom) => ofRoom.length > limit) ? undefined : byRoom
  }

  return {
    /** The updates of a user's rooms; undefined if the store has to be read. */
    read: (feed: UserFeed, range: LiveRange): Effect.Effect<LiveRooms | undefined> =>
      Effect.flatMap(monotonicMillis, (now) => {
        const upTo = feeds.position()
        const { filter, since } = range
        const isHere =
          isPlain(filter) &&
          comparePositions(since, upTo) <= 0 &&
          comparePositions(since, feed.rowsAt) >= 0 &&
          !feeds.isBehind(feed, since)
        const byRoom = isHere ? entriesOf(feed, range, upTo) : undefined
        const typing = byRoom === undefined ? undefined : typingIn(feed, range, upTo)
        if (byRoom === undefined || typing === undefined) return Effect.undefined
        const join: Record<RoomId, SyncedRoom> = {}
        const others: Array<readonly [RoomId, ReadonlyArray<FeedEntry>]> = []
        for (const [roomId, entries] of byRoom) {
          const room = cachedRoom(range, feed, entries, upTo, now)
          if (room === undefined) others.push([roomId, entries])
          else join[roomId] = room
        }
        const withTyping = (): LiveRooms => {
          for (const { roomId, userIds } of typing) {
            join[roomId] = {
              ...(join[roomId] ?? { timeline: { events: [], limited: false, prev_batch: token(upTo) } }),
              ephemeral: { events: [{ type: "m.typing", content: { user_ids: userIds } }] }
            }
          }
          return { upTo, join }
        }
        if (others.length === 0) return Effect.succeed(withTyping())
        return Effect.map(
          Effect.forEach(others, ([roomId, entries]) =>
            Effect.map(readRoom(range, feed, entries, upTo), (room) => {
              join[roomId] = room
            })
          ),
          withTyping
        )
      })
  }
})
