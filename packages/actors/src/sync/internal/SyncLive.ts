/**
 * Answers to waiting `/sync`s from memory. Most of what a client waits for are messages in rooms that it knows: the feed of
 * the user has them, and nothing has to be read for each user. Where anything else is new (state, memberships, account data,
 * receipts, redactions, more events than the timeline may have) there is no answer from here, and the store is read.
 *
 * Unread counts are kept in the feed and counted on. The membership of a sender is read once for all clients.
 *
 * Source: "Syncing" of the client-server specification.
 */
import { allowsRoom, compileFilter, type Filter } from "@greenroom/protocol/client-server/Filter"
import { defaultPush, mentionedBy, relationOf } from "@greenroom/protocol/client-server/Relation"
import type { Event } from "@greenroom/protocol/Event"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject } from "@greenroom/protocol/Json"
import { EventLog } from "@greenroom/store/EventLog"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { type StateRef, StateStore } from "@greenroom/store/StateStore"
import { comparePositions, formatToken, type StreamPosition } from "@greenroom/store/StreamToken"
import { SyncStore } from "@greenroom/store/SyncStore"
import { Effect } from "effect"
import { EphemeralStream } from "../../presence/EphemeralStream.ts"
import { makeEventRenderer } from "../../room/EventRenderer.ts"
import { nobody } from "../../room/IgnoredUsers.ts"
import { MemberPushRules } from "../../room/MemberPushRules.ts"
import type { Session } from "../../runtime/Session.ts"
import { type Counts, makeUnreadCounts, type UnreadOfRoom } from "../../user/push/UnreadCounts.ts"
import { Feeds } from "../Feeds.ts"
import { type SyncedRoom, shared } from "../SyncAnswer.ts"
import type { FeedEntry } from "./FeedEntry.ts"
import type { SentMembers } from "./SentMembers.ts"
import { defaultTimeline } from "./SyncTimelines.ts"
import type { CountedTo, UserFeed } from "./UserFeed.ts"

interface LiveRange {
  readonly session: Session
  readonly filter: Filter
  readonly since: StreamPosition
  readonly stateAfter: boolean
  /** The name of a device that gets a membership once (`lazyDevice`). */
  readonly lazyDevice: string | undefined
}

/** The news of joined rooms, up to a position. */
export interface LiveRooms {
  readonly upTo: StreamPosition
  readonly join: { readonly [roomId: string]: SyncedRoom }
}

/** How many events are answered from memory at most, and how many memberships of senders are remembered. */
const maxEntries = 100
const maxMembers = 2_000

/** How long the shared updates of a room stay encoded, in ms, and of how many rooms: their `age` is that of the encoding. */
const sharedFor = 1_000
const maxShared = 500

type RoomParts = Pick<SyncedRoom, "timeline"> & {
  readonly state: NonNullable<SyncedRoom["state"]>
  /** The memberships that are the state. */
  readonly members: ReadonlyArray<Event>
}

const nothing: RoomParts["state"] = { events: [] }

interface SharedPart {
  readonly at: number
  readonly parts: Effect.Effect<RoomParts>
  /** The same, once they are there. */
  rendered?: RoomParts
}

const mentionsRoom = ({ content }: Event): boolean => {
  const mentions = content["m.mentions"]
  return isJsonObject(mentions) && mentions.room === true
}

/** Filters that ask for more than memory has. */
const isPlain = ({ event_fields, event_format, room }: Filter): boolean =>
  event_fields == null &&
  event_format !== "federation" &&
  room?.timeline?.related_by_rel_types == null &&
  room?.timeline?.related_by_senders == null

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

const unreadOf = ({ main, threads }: CountedTo, byThread: boolean): UnreadOfRoom => {
  if (byThread) return { unread_notifications: main, unread_thread_notifications: threads }
  const all = Object.values(threads).reduce(
    (sum, thread) => plus(sum, thread.notification_count, thread.highlight_count),
    main
  )
  return { unread_notifications: all }
}

export const makeSyncLive = Effect.fnUntraced(function* (sentMembers: SentMembers) {
  const log = yield* EventLog
  const feeds = yield* Feeds
  const store = yield* SyncStore
  const states = yield* StateStore
  const unread = yield* makeUnreadCounts
  const pushRules = yield* MemberPushRules
  const ephemeral = yield* EphemeralStream
  const renderer = yield* makeEventRenderer

  const token = (position: StreamPosition) => formatToken({ position, epoch: log.epoch() })

  /** Memberships of senders in a state. */
  const members = new Map<string, Effect.Effect<Event | undefined>>()
  const memberOf = (roomNid: number, ref: StateRef, sender: UserId) =>
    Effect.suspend(() => {
      const key = `${ref.chain}.${ref.seq} ${sender}`
      const known = members.get(key)
      if (known !== undefined) return known
      const read = states.read([{ roomNid, ref }], { keys: [["m.room.member", sender]] })
      const found = Effect.runSync(Effect.cached(Effect.map(read, ([entry]) => entry?.event)))
      members.set(key, found)
      if (members.size > maxMembers) members.delete(members.keys().next().value!)
      return Effect.onError(found, () => Effect.sync(() => members.delete(key)))
    })

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
  const countsAtHand = (feed: UserFeed, roomNid: number, upTo: StreamPosition): CountedTo | undefined => {
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

  const countAgain = (feed: UserFeed, roomNid: number, upTo: StreamPosition) =>
    Effect.tap(countNow(feed.userId, roomNid, upTo), (counted) => Effect.sync(() => feed.noteCounts(roomNid, counted)))

  /** The shared part of the answers to users that wait in a room, for a moment. */
  const recentParts = new Map<string, SharedPart>()

  /** The timeline and the memberships of its senders. */
  const renderParts = Effect.fnUntraced(function* (
    { filter, session }: LiveRange,
    entries: ReadonlyArray<FeedEntry>
  ): Effect.fn.Return<RoomParts> {
    const { position, roomNid, stateAt } = entries[0]!
    const events = entries.map(({ event }) => event)
    const wantsMembers = filter.room?.state?.lazy_load_members === true
    const senders = wantsMembers ? [...new Set(events.map(({ sender }) => sender))] : []
    const found = yield* Effect.forEach(senders, (sender) => memberOf(roomNid, stateAt!, sender))
    const passes = compileFilter(filter.room?.state)
    const members = found.filter((event) => event !== undefined && passes(event)) as ReadonlyArray<Event>
    const [timeline, state] = yield* renderer.renderLists(session, [
      { events: events, withoutRoomId: true, memberships: events.map(() => "join") },
      { events: members, withoutRoomId: true }
    ])
    return {
      timeline: {
        events: timeline!,
        limited: false,
        prev_batch: token({ xid: position.xid, nid: position.nid - 1 })
      },
      state: { events: state! },
      members
    }
  })

  const isOwn = ({ session }: LiveRange, entries: ReadonlyArray<FeedEntry>): boolean =>
    entries.some(({ event }) => event.sender === session.userId)

  const keyOf = ({ filter }: LiveRange, entries: ReadonlyArray<FeedEntry>): string =>
    `${entries[0]!.roomNid} ${entries.map(({ position }) => position.nid).join(" ")} ${JSON.stringify(filter.room?.state ?? null)}`

  /** The parts that were rendered for others a moment ago. `now`: monotonic, in ms. */
  const partsAtHand = (range: LiveRange, entries: ReadonlyArray<FeedEntry>, now: number): RoomParts | undefined => {
    if (isOwn(range, entries)) return undefined
    const known = recentParts.get(keyOf(range, entries))
    return known !== undefined && now - known.at < sharedFor ? known.rendered : undefined
  }

  /** The parts of a room's news, rendered and encoded once for all users but those who sent one of the events. */
  const partsOf = Effect.fnUntraced(function* (
    range: LiveRange,
    entries: ReadonlyArray<FeedEntry>
  ): Effect.fn.Return<RoomParts> {
    if (isOwn(range, entries)) return yield* renderParts(range, entries)
    const key = keyOf(range, entries)
    const now = yield* monotonicMillis
    const known = recentParts.get(key)
    if (known !== undefined && now - known.at < sharedFor) return yield* known.parts
    const rendered = Effect.map(renderParts(range, entries), ({ members, state, timeline }): RoomParts => {
      part.rendered = { timeline: shared(timeline), state: shared(state), members }
      return part.rendered
    })
    const part: SharedPart = { at: now, parts: Effect.runSync(Effect.cached(rendered)) }
    recentParts.delete(key)
    recentParts.set(key, part)
    if (recentParts.size > maxShared) recentParts.delete(recentParts.keys().next().value!)
    return yield* Effect.onError(part.parts, () => Effect.sync(() => recentParts.delete(key)))
  })

  /** The memberships of senders, unless the client has all of them. */
  const newMembers = (
    { lazyDevice, since }: LiveRange,
    roomNid: number,
    { members, state }: RoomParts,
    upTo: StreamPosition
  ): RoomParts["state"] => {
    if (lazyDevice === undefined) return state
    if (members.every((event) => sentMembers.has(lazyDevice, roomNid, event, since))) return nothing
    sentMembers.note(lazyDevice, roomNid, members, upTo)
    return state
  }

  const roomOf = (
    range: LiveRange,
    roomNid: number,
    parts: RoomParts,
    counted: CountedTo,
    upTo: StreamPosition
  ): SyncedRoom => {
    const state = newMembers(range, roomNid, parts, upTo)
    return {
      timeline: parts.timeline,
      ...(range.stateAfter ? { state_after: state } : { state }),
      ...unreadOf(counted, range.filter.room?.timeline?.unread_thread_notifications ?? false)
    }
  }

  /** Most users who wait in a room find everything at hand: it costs no effect. */
  const roomAtHand = (
    range: LiveRange,
    feed: UserFeed,
    entries: ReadonlyArray<FeedEntry>,
    upTo: StreamPosition,
    now: number
  ): SyncedRoom | undefined => {
    const { roomNid } = entries[0]!
    const parts = partsAtHand(range, entries, now)
    const counted = parts === undefined ? undefined : countsAtHand(feed, roomNid, upTo)
    return parts === undefined || counted === undefined ? undefined : roomOf(range, roomNid, parts, counted, upTo)
  }

  const readRoom = Effect.fnUntraced(function* (
    range: LiveRange,
    feed: UserFeed,
    entries: ReadonlyArray<FeedEntry>,
    upTo: StreamPosition
  ): Effect.fn.Return<SyncedRoom> {
    const { roomNid } = entries[0]!
    const parts = yield* partsOf(range, entries)
    const counted = countsAtHand(feed, roomNid, upTo) ?? (yield* countAgain(feed, roomNid, upTo))
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
          const room = roomAtHand(range, feed, entries, upTo, now)
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
