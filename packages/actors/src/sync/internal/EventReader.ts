/**
 * Reading the event stream: from the feed of the user where it reaches back far enough, else from the store; waiting
 * if there is nothing yet.
 */

import type { UserId } from "@greenroom/protocol/Identifiers"
import { BadPagination, type MatrixError, type UnknownToken } from "@greenroom/protocol/MatrixError"
import * as MessagePack from "@greenroom/protocol/MessagePack"
import { maxLimit, maxPageBytes, maxTimeout } from "@greenroom/protocol/Pagination"
import { EventLog, type StreamedMembership } from "@greenroom/store/EventLog"
import { EventStore, type TimelineRange } from "@greenroom/store/EventStore"
import { withAllowance } from "@greenroom/store/LargeReads"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { RoomStore } from "@greenroom/store/RoomStore"
import {
  beginning,
  comparePositions,
  formatToken,
  laterPosition,
  positionBefore,
  type StreamPosition,
  type StreamToken
} from "@greenroom/store/StreamToken"
import { Clock, Effect, Stream } from "effect"
import {
  EphemeralStream,
  type EphemeralUpdate,
  toPresenceContent,
  toPresenceInviteEvent
} from "../../presence/EphemeralStream.ts"
import type { PresenceEvent } from "../../presence/PresenceContent.ts"
import { Presences } from "../../presence/Presences.ts"
import { clampLimit, makeRoomViews } from "../../room/RoomViews.ts"
import type { Session } from "../../runtime/Session.ts"
import { makeReadToken } from "../../runtime/StreamTokens.ts"
import type { StreamedEvent as EventOfStream, StreamChunk, Subscription } from "../EventStream.ts"
import { Feeds } from "../Feeds.ts"
import { FeedEntry, itemOf, type StreamItem } from "./FeedEntry.ts"
import type { UserFeed } from "./UserFeed.ts"

/** How many events a chunk of the stream has by default. */
const defaultChunk = 100

/** How many changes of presence and typing a chunk has at most. */
const maxUpdates = 1000

/** The updates after a token, and the token to continue from. */
interface Found {
  readonly items: ReadonlyArray<StreamItem>
  readonly next: StreamToken
}

/** A chunk in whichever form is asked for. */
class Chunk implements StreamChunk {
  readonly start: string
  readonly end: string
  private readonly items: ReadonlyArray<StreamItem>

  constructor({ items, next }: Found, start: StreamToken) {
    this.items = items
    this.start = formatToken(start)
    this.end = formatToken(next)
  }

  get count(): number {
    return this.items.length
  }

  get json(): string {
    return `[${this.items.map((item) => item.json).join(",")}]`
  }

  get packed(): Uint8Array {
    return MessagePack.joinList(this.items.map((item) => item.packed()))
  }
}

const toEvent = (update: EphemeralUpdate, now: number) => {
  switch (update._tag) {
    case "typing":
      return { type: "m.typing", room_id: update.roomId, content: { user_ids: update.userIds } }
    case "presence":
    case "entrance":
      return { type: "m.presence", content: toPresenceContent(update.value, now) }
    case "presenceInvite":
      return toPresenceInviteEvent(update)
  }
}

/**
 * The stretches of the timelines that the user may see after a position: from each join to the leave that ends it, and
 * the event of every other change of membership, such as an invitation.
 */
export const visibleRanges = (
  history: ReadonlyArray<StreamedMembership>,
  after: StreamPosition,
  upTo: StreamPosition
): ReadonlyArray<TimelineRange> => {
  const ranges: Array<TimelineRange> = []
  for (const changes of Map.groupBy(history, (change) => change.roomNid).values()) {
    let joinedAt: StreamPosition | undefined
    const close = (change: StreamedMembership, from: StreamPosition, to: StreamPosition) => {
      const start = comparePositions(from, after) > 0 ? from : after
      if (comparePositions(start, to) < 0) ranges.push({ roomNid: change.roomNid, after: start, upTo: to })
    }
    for (const change of changes) {
      const before = positionBefore(change.position)
      if (change.membership === "join") joinedAt ??= before
      else {
        close(change, joinedAt ?? before, change.position)
        joinedAt = undefined
      }
    }
    if (joinedAt !== undefined) close(changes[0]!, joinedAt, upTo)
  }
  return ranges
}

export const makeEventReader = Effect.gen(function* () {
  const feeds = yield* Feeds
  const views = yield* makeRoomViews
  const events = yield* EventStore
  const rooms = yield* RoomStore
  const presences = yield* Presences
  const ephemeral = yield* EphemeralStream
  const log = yield* EventLog
  const readToken = yield* makeReadToken

  /** `seen`: how far presence and typing were read. */
  const tokenAt = (position: StreamPosition, seen: StreamPosition): StreamToken => ({
    position,
    epoch: log.epoch(),
    ...(comparePositions(seen, position) === 0 ? {} : { cut: { presence: seen } })
  })
  const now = (): StreamToken => tokenAt(feeds.position(), feeds.ephemeralPosition())

  /** A new feed lacks presence and typing up to `updatesSince`: a token from before that would bring all that there is. */
  const fromNowOn = (feed: UserFeed): StreamToken =>
    tokenAt(feeds.position(), laterPosition(feeds.ephemeralPosition(), feed.updatesSince))

  const parseFrom = (feed: UserFeed, from: string | undefined): Effect.Effect<StreamToken, BadPagination> => {
    if (from === undefined || from === "END") return Effect.map(feeds.caughtUp, () => fromNowOn(feed))
    // Typing is part of the first look alone: the rooms that the user has joined must be known by then.
    if (from === "START") return Effect.as(feeds.settled, { position: beginning, epoch: log.epoch() })
    return Effect.mapError(readToken(from), ({ reason }) => new BadPagination({ error: `from: ${reason}` }))
  }

  // Updates after a token

  const entriesFromStore = Effect.fnUntraced(function* (userId: UserId, after: StreamPosition, limit: number) {
    const upTo = feeds.position()
    const history = yield* events.membershipHistory(userId, upTo)
    const { cut, events: found } = yield* events.page(visibleRanges(history, after, upTo), "f", limit, maxPageBytes)
    return { entries: found.map((streamed) => new FeedEntry(streamed)), complete: !cut && found.length < limit, upTo }
  })

  const entriesAfter = (feed: UserFeed, after: StreamPosition, limit: number) =>
    feeds.isBehind(feed, after)
      ? entriesFromStore(feed.userId, after, limit)
      : Effect.succeed({ ...feed.after(after, limit, maxPageBytes), upTo: feeds.position() })

  /** The presence of everybody that the user may see, for a reader that comes from before what this node remembers. */
  const presenceNow = Effect.fnUntraced(function* (userId: UserId): Effect.fn.Return<ReadonlyArray<PresenceEvent>> {
    const [roommates, accepted] = yield* Effect.all([rooms.roommates(userId), presences.acceptedBy(userId)], {
      concurrency: 2
    })
    const found = yield* presences.many([...new Set([userId, ...roommates, ...accepted])], userId)
    return found.map((content) => ({ type: "m.presence", content }))
  })

  /** How far a reader has read presence and typing. */
  const seenBy = ({ cut, position }: StreamToken): StreamPosition => cut?.presence ?? position

  /**
   * The typing users of the user's rooms, for such a reader. The list is empty for a room where the reader may have been
   * sent a typing user that is not known any more.
   */
  const typingNow = (feed: UserFeed, token: StreamToken, upTo: StreamPosition) =>
    Effect.map(ephemeral.since(seenBy(token)), ({ complete, updates }) => {
      const isFirstLook = comparePositions(token.position, beginning) === 0
      const typing = updates.filter(
        (update) =>
          update._tag === "typing" &&
          comparePositions(update.position, upTo) <= 0 &&
          feed.rooms.has(update.roomId) &&
          (!isFirstLook || update.userIds.length > 0)
      )
      if (complete || isFirstLook) return typing
      const known = new Set(typing.map((update) => (update._tag === "typing" ? update.roomId : undefined)))
      const silent = [...feed.rooms].filter((roomId) => !known.has(roomId))
      return [
        ...typing,
        ...silent.map(
          (roomId): EphemeralUpdate => ({ _tag: "typing", position: upTo, roomId, userIds: [], isOwn: false })
        )
      ]
    })

  const updatesAfter = Effect.fnUntraced(function* (feed: UserFeed, token: StreamToken) {
    const at = yield* Clock.currentTimeMillis
    const before = seenBy(token)
    if (comparePositions(before, feed.updatesSince) >= 0) {
      const found = feed.updatesAfter(before)
      const updates = found.slice(0, maxUpdates)
      const seen = updates.length < found.length ? updates.at(-1)!.position : feeds.ephemeralPosition()
      return { items: updates.map((update) => itemOf(toEvent(update, at))), seen: laterPosition(seen, before) }
    }
    // Rows are read once: the next read begins where this one ended, ahead of the feed.
    const seen = laterPosition(yield* ephemeral.position, feeds.ephemeralPosition())
    const typing = (yield* typingNow(feed, token, seen)).map((update) => toEvent(update, at))
    return { items: [...(yield* presenceNow(feed.userId)), ...typing].map(itemOf), seen }
  })

  const collect = Effect.fnUntraced(function* (feed: UserFeed, token: StreamToken, limit: number) {
    const at = yield* Clock.currentTimeMillis
    const { complete, entries, upTo } = yield* entriesAfter(feed, token.position, limit)
    const { items, seen } = yield* updatesAfter(feed, token)
    const position = complete ? laterPosition(upTo, token.position) : (entries.at(-1)?.position ?? token.position)
    const next = tokenAt(position, seen)
    return {
      items: [...entries.map((entry) => entry.at(at)), ...items],
      // A token from a node that is ahead of this one may be of an epoch that this one has not read.
      next: comparePositions(position, upTo) > 0 ? { ...next, epoch: token.epoch } : next
    } satisfies Found
  })

  // Waiting

  /**
   * Waits for an update after the token, until `time` (of the monotonic clock) if it is given: undefined if there was none.
   * Updates that arrive between the read and the wait end the wait too. Errors: M_UNKNOWN_TOKEN once the session has ended.
   */
  const awaitFound = (
    session: Session,
    feed: UserFeed,
    token: StreamToken,
    limit: number,
    time?: number
  ): Effect.Effect<Found | undefined, UnknownToken> =>
    Effect.suspend(() => {
      const { wakes } = feed
      return Effect.flatMap(withAllowance(collect(feed, token, limit), session.userId), (found) => {
        if (found.items.length > 0 || limit === 0) return Effect.succeed(found)
        return Effect.flatMap(feeds.changed(session, feed, wakes, time), (changed) =>
          changed ? awaitFound(session, feed, found.next, limit, time) : Effect.undefined
        )
      })
    })

  const poll = (
    session: Session,
    options: { readonly from?: string; readonly timeout: number; readonly limit?: number }
  ): Effect.Effect<StreamChunk, MatrixError> => {
    const limit = Math.min(options.limit ?? defaultChunk, maxLimit)
    return feeds.reading(session.userId, (feed) =>
      Effect.flatMap(parseFrom(feed, options.from), (start) => {
        const look = Effect.map(collect(feed, start, limit), (found) => new Chunk(found, start))
        if (options.timeout === 0) return Effect.andThen(feeds.caughtUp, look)
        return Effect.flatMap(monotonicMillis, (now) =>
          Effect.flatMap(
            awaitFound(session, feed, start, limit, now + Math.min(options.timeout, maxTimeout)),
            (found) => (found === undefined ? look : Effect.succeed(new Chunk(found, start)))
          )
        )
      })
    )
  }

  const subscribe = Effect.fnUntraced(function* (
    session: Session,
    from?: string
  ): Effect.fn.Return<Subscription, MatrixError> {
    let token = yield* feeds.reading(session.userId, (feed) => parseFrom(feed, from))
    const found = feeds.reading(session.userId, (feed) => awaitFound(session, feed, token, defaultChunk))
    const next = Effect.map(found, (found) => {
      const chunk = new Chunk(found!, token)
      token = found!.next
      return chunk
    })
    return { next }
  })

  const stream = (session: Session, from?: string): Stream.Stream<EventOfStream, MatrixError> =>
    Stream.unwrap(
      Effect.map(subscribe(session, from), ({ next }) =>
        Stream.fromEffect(next).pipe(
          Stream.forever,
          Stream.flatMap((chunk) => Stream.fromIterable(JSON.parse(chunk.json) as ReadonlyArray<EventOfStream>))
        )
      )
    )

  const initialSync = (session: Session, limit?: number) =>
    feeds.reading(
      session.userId,
      Effect.fnUntraced(function* () {
        yield* feeds.caughtUp
        const token = now()
        const memberships = yield* rooms.membershipsOf(session.userId, ["join", "invite"])
        const [snapshots, presence] = yield* Effect.all(
          [
            views.snapshots(session.userId, memberships, clampLimit(limit), token.position),
            presenceNow(session.userId)
          ],
          { concurrency: 2 }
        )
        return { end: formatToken(token), presence, rooms: snapshots }
      })
    )

  return {
    poll,
    subscribe,
    stream,
    initialSync
  }
})
