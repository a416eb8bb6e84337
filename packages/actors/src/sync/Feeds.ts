/**
 * The feeds of all users that are connected to this node, filled from the event log. An event costs one step for each
 * connected member of its room, and no query for any.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { UnknownToken } from "@greenroom/protocol/MatrixError"
import { EventLog, type LogSlice } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { monotonicMillis, monotonicMillisUnsafe } from "@greenroom/store/MonotonicClock"
import { beginning, comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"
import { periodically } from "@greenroom/store/Supervision"
import { Context, Effect, Layer } from "effect"
import { makeDeadlines } from "../runtime/Deadlines.ts"
import type { Session } from "../runtime/Session.ts"
import { SessionRevocations, sessionEnded } from "../runtime/SessionRevocations.ts"
import { makeFeedEvents } from "./internal/FeedEvents.ts"
import { FeedIndex } from "./internal/FeedIndex.ts"
import { makeFeedUpdates } from "./internal/FeedUpdates.ts"
import { UserFeed } from "./internal/UserFeed.ts"

/** The time for which a feed without readers is kept, in milliseconds: clients come back between two polls. */
const keptFor = 2 * 60_000

/** The device is still there: its client renews the token, or logs in again as itself. */
const expired = Effect.fail(new UnknownToken({ error: "The access token has expired", soft_logout: true }))

/** The feeds of users: opened for their first readers, kept between two reads, closed without readers. */
const makeOpenFeeds = Effect.gen(function* () {
  const events = yield* EventStore
  const feeds = new FeedIndex()
  /** Feeds whose rooms are being read: they get the changes of that time afterwards. */
  const loading = new Map<UserId, { readonly slices: Array<LogSlice>; readonly feed: Effect.Effect<UserFeed> }>()
  const { position, replay } = yield* makeFeedEvents(feeds, (slice) => {
    for (const { slices } of loading.values()) slices.push(slice)
  })
  const { updatesUpTo } = yield* makeFeedUpdates(feeds, position)

  const open = Effect.fnUntraced(function* (userId: UserId, slices: Array<LogSlice>, since: StreamPosition) {
    const history = yield* events.membershipHistory(userId, since)
    // From here on nothing waits: the next update reaches the feed as it reaches all others.
    const feed = new UserFeed(userId, since, updatesUpTo(), yield* monotonicMillis)
    for (const change of history) feed.apply(change)
    for (const slice of slices) replay(feed, slice)
    feed.rowsAt = position()
    feeds.add(feed)
    return feed
  })

  const feedOf = (userId: UserId): Effect.Effect<UserFeed> =>
    Effect.suspend(() => {
      const known = feeds.get(userId)
      if (known !== undefined) return Effect.succeed(known)
      const opening = loading.get(userId)
      if (opening !== undefined) return opening.feed
      const slices: Array<LogSlice> = []
      const feed = Effect.runSync(
        Effect.cached(
          Effect.onExit(Effect.uninterruptible(open(userId, slices, position())), () =>
            Effect.sync(() => loading.delete(userId))
          )
        )
      )
      loading.set(userId, { slices, feed })
      return feed
    })

  /** Reads from the feed of a user, which stays open during the read. */
  const reading = <A, E>(userId: UserId, read: (feed: UserFeed) => Effect.Effect<A, E>): Effect.Effect<A, E> => {
    const enterFeed: Effect.Effect<UserFeed> = Effect.flatMap(feedOf(userId), (feed) => {
      if (feed.closed) return enterFeed
      feed.readers++
      return Effect.succeed(feed)
    })
    return Effect.acquireUseRelease(enterFeed, read, (feed) =>
      Effect.map(monotonicMillis, (now) => {
        feed.readers--
        feed.lastRead = now
      })
    )
  }

  let forgetUpTo = beginning
  const closeUnread = Effect.map(monotonicMillis, (now) => {
    for (const feed of feeds.values()) {
      feed.forgetUpdates(forgetUpTo)
      if (feed.readers > 0 || now - feed.lastRead < keptFor) continue
      feed.closed = true
      feeds.remove(feed)
    }
    forgetUpTo = updatesUpTo()
  })
  yield* periodically("Closing feeds without readers", keptFor / 2, closeUnread)

  return { feeds, position, reading, updatesUpTo }
})

const makeFeeds = Effect.gen(function* () {
  const log = yield* EventLog
  const revocations = yield* SessionRevocations
  const addDeadline = yield* makeDeadlines
  const { feeds, position, reading, updatesUpTo } = yield* makeOpenFeeds

  // All waiting requests of the user wake; those of the ended session fail.
  yield* revocations.observe((ended) => {
    for (const { userId } of ended) feeds.get(userId)?.wake()
  })

  const endOf = (session: Session) => (revocations.hasEnded(session) ? sessionEnded : expired)

  /**
   * Waits for the first wake-up of a feed after so many; false if there was none until `deadline`, in ms of the monotonic
   * clock. Errors: M_UNKNOWN_TOKEN once the session has ended, with `soft_logout` if its token has expired.
   */
  const changed = (
    session: Session,
    feed: UserFeed,
    wakes: number,
    deadline = Number.POSITIVE_INFINITY
  ): Effect.Effect<boolean, UnknownToken> =>
    Effect.clockWith((clock) => {
      if (revocations.isOver(session)) return endOf(session)
      const { expiresAt = Number.POSITIVE_INFINITY } = session
      const time = Math.min(deadline, monotonicMillisUnsafe(clock) + expiresAt - clock.currentTimeMillisUnsafe())
      const woken = feed.changedSince(wakes, time === Infinity ? undefined : (expire) => addDeadline(time, expire))
      return Effect.flatMap(woken, (woken) => (revocations.isOver(session) ? endOf(session) : Effect.succeed(woken)))
    })

  return {
    reading,
    settled: log.settled,
    caughtUp: log.caughtUp,
    changed,
    /** The position up to which the feeds are complete. */
    position,
    /** The position up to which the feeds have all presence and typing. */
    ephemeralPosition: updatesUpTo,
    isBehind: (feed: UserFeed, position: StreamPosition) => comparePositions(position, feed.since) < 0
  }
})

/** The feeds of this node. All readers of the stream share them. */
export class Feeds extends Context.Service<Feeds, Effect.Success<typeof makeFeeds>>()("greenroom/actors/Feeds") {
  static readonly layer = Layer.effect(Feeds, makeFeeds)
}
