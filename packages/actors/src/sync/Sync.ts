/**
 * `/sync`: the updates of a user between two positions of the log, and waiting for the next ones.
 *
 * An answer depends on the two positions alone, so that every node gives the same answer to a repeated request.
 *
 * Source: "Syncing" of the client-server specification.
 */
import { compileFilter, type Filter } from "@greenroom/protocol/client-server/Filter"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { EventLog } from "@greenroom/store/EventLog"
import { withAllowance } from "@greenroom/store/LargeReads"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { beginning, comparePositions, laterPosition, type StreamPosition } from "@greenroom/store/StreamToken"
import { Context, Effect, Layer } from "effect"
import { makeIgnoredUsers } from "../room/IgnoredUsers.ts"
import type { Session } from "../runtime/Session.ts"
import { pushRulesContent, UserPushRules } from "../user/push/UserPushRules.ts"
import { Feeds } from "./Feeds.ts"
import { afterSends } from "./internal/OwnEchoes.ts"
import { lazyDevice, SentMembers } from "./internal/SentMembers.ts"
import { makeSyncDevices } from "./internal/SyncDevices.ts"
import { type LiveRooms, makeSyncLive } from "./internal/SyncLive.ts"
import { makeSyncParameters, type Start } from "./internal/SyncParameters.ts"
import { makeSyncPresence, type SyncedPresence } from "./internal/SyncPresence.ts"
import { concurrencyOf } from "./internal/SyncRange.ts"
import { makeSyncRooms } from "./internal/SyncRooms.ts"
import type { UserFeed } from "./internal/UserFeed.ts"
import type { SimpleEvent, SyncAnswer, SyncedNews } from "./SyncAnswer.ts"

/** A request of `/sync`. */
export interface SyncRequest {
  /** The `next_batch` of the former answer. */
  readonly since?: string | undefined
  /** The ID of a filter, or the filter itself as JSON. */
  readonly filter?: string | undefined
  readonly fullState?: boolean | undefined
  readonly useStateAfter?: boolean | undefined
  /** How long to wait for updates, in ms. */
  readonly timeout: number
}

/** The longest wait, in ms. */
const maxTimeout = 300_000

/** The last event of each user. */
const eachOnce = (events: ReadonlyArray<SyncedPresence>): ReadonlyArray<SyncedPresence> => [
  ...new Map(events.map((event) => [event.sender, event])).values()
]

/** Coming online because of this request must not complete it; deliver it with the next update. */
const isOwnArrival = (userId: UserId, { content, sender }: SyncedPresence): boolean =>
  sender === userId && content.presence === "online" && content.status_msg === undefined

const isEmpty = (userId: UserId, { account_data, device_lists, presence, rooms, to_device }: SyncedNews): boolean =>
  account_data.events.length === 0 &&
  (to_device === undefined || to_device.events.length === 0) &&
  (device_lists === undefined || (device_lists.changed.length === 0 && device_lists.left.length === 0)) &&
  presence.events.every((event) => isOwnArrival(userId, event)) &&
  Object.values(rooms).every((section) => Object.keys(section).length === 0)

const nothing: SyncedNews["account_data"] = { events: [] }
const noRooms: SyncedNews["rooms"] = { join: {}, invite: {}, knock: {}, leave: {} }

const withoutNews = (next_batch: string, presence: SyncedNews["presence"]): SyncedNews => ({
  next_batch,
  presence,
  rooms: noRooms,
  account_data: nothing
})

const make = Effect.gen(function* () {
  const log = yield* EventLog
  const feeds = yield* Feeds
  const { filterOf, startOf } = yield* makeSyncParameters
  const pushRules = yield* UserPushRules
  const sentMembers = new SentMembers()
  const rooms = yield* makeSyncRooms(sentMembers)
  const presence = yield* makeSyncPresence
  const devices = yield* makeSyncDevices
  const live = yield* makeSyncLive(sentMembers)
  const ignoredUsers = yield* makeIgnoredUsers

  /** Whether the user ignores anybody: read again where the account data of the user may have changed. */
  const ignoresAnybody = (feed: UserFeed): Effect.Effect<boolean> => {
    const { rowsAt } = feed
    if (feed.ignoring?.at === rowsAt) return Effect.succeed(feed.ignoring.anybody)
    return Effect.map(ignoredUsers.of(feed.userId), ({ size }) => {
      feed.ignoring = { at: rowsAt, anybody: size > 0 }
      return size > 0
    })
  }

  /** The push rules of a user who never changed them are account data too. */
  const withPushRules = Effect.fnUntraced(function* (
    { userId }: Session,
    filter: Filter,
    events: ReadonlyArray<SimpleEvent>
  ) {
    const type = "m.push_rules"
    const isWanted = compileFilter(filter.account_data)({ type, content: {}, sender: userId, room_id: "" as RoomId })
    if (!isWanted || events.some((event) => event.type === type)) return events
    const content: JsonObject = pushRulesContent(yield* pushRules.ruleset(userId))
    return [...events, { type, content }]
  })

  const read = Effect.fnUntraced(function* (
    session: Session,
    request: SyncRequest,
    filter: Filter,
    start: Start | undefined,
    feed: UserFeed | undefined
  ): Effect.fn.Return<SyncAnswer> {
    const since = start?.position
    // A token of another node may be ahead of what this one has read.
    const upTo = laterPosition(yield* log.currentPosition, since ?? beginning)
    const range = {
      session,
      since,
      upTo,
      filter,
      fullState: request.fullState ?? false,
      stateAfter: request.useStateAfter ?? false,
      lazyDevice: lazyDevice(session, request.filter, filter)
    }
    const [found, presences, { answer, messagesSeen }] = yield* Effect.all(
      [
        rooms.read(range),
        presence.read(session.userId, start?.seen, filter.presence, feed),
        devices.read({ session, since, messagesSeen: start?.messagesSeen, upTo })
      ],
      { concurrency: concurrencyOf(range) }
    )
    const met = yield* presence.inRooms(session.userId, found.entered, filter.presence)
    const cut = {
      ...(comparePositions(presences.seen, upTo) === 0 ? {} : { presence: presences.seen }),
      ...(comparePositions(messagesSeen, upTo) === 0 ? {} : { toDevice: messagesSeen })
    }
    return {
      ...answer,
      next_batch: yield* log.tokenOf(upTo, cut),
      rooms: found.rooms,
      account_data: {
        events: since === undefined ? yield* withPushRules(session, filter, found.accountData) : found.accountData
      },
      presence: { events: eachOnce([...met, ...presences.events]) }
    }
  })

  /** An answer from memory. Feeds do not contain the counts of keys. */
  const newsOf = (
    { userId }: Session,
    { presence: wanted }: Filter,
    { seen }: Start,
    feed: UserFeed,
    { join, upTo }: LiveRooms
  ): Effect.Effect<SyncedNews> =>
    Effect.flatMap(presence.read(userId, seen, wanted, feed), ({ events, seen }) => {
      const cut = comparePositions(seen, upTo) === 0 ? undefined : { presence: seen }
      return Effect.map(log.tokenOf(upTo, cut), (next_batch) => ({
        next_batch,
        rooms: { ...noRooms, join },
        account_data: nothing,
        presence: { events }
      }))
    })

  /** The same from memory, where it has all that is new. Thousands of users may wait for one event: this takes few effects. */
  const readLive = (
    session: Session,
    request: SyncRequest,
    filter: Filter,
    start: Start,
    feed: UserFeed
  ): Effect.Effect<SyncedNews | undefined> => {
    const { messagesSeen, position } = start
    if (comparePositions(messagesSeen, position) < 0) return Effect.undefined
    const range = {
      session,
      filter,
      since: position,
      stateAfter: request.useStateAfter ?? false,
      lazyDevice: lazyDevice(session, request.filter, filter)
    }
    const read = Effect.flatMap(live.read(feed, range), (found) =>
      found === undefined ? Effect.undefined : newsOf(session, filter, start, feed, found)
    )
    return Effect.flatMap(ignoresAnybody(feed), (ignores) => (ignores ? Effect.undefined : read))
  }

  const withKeyCounts = (
    session: Session,
    feed: UserFeed,
    answer: SyncedNews | SyncAnswer
  ): Effect.Effect<SyncAnswer> =>
    "device_one_time_keys_count" in answer
      ? Effect.succeed(answer)
      : Effect.map(devices.keyCounts(session, feed), (counts) => ({ ...answer, ...counts }))

  /**
   * The device has acknowledged the messages up to a position. If the feed knows that there were none since the last time,
   * nothing is deleted.
   */
  const acknowledge = ({ deviceId, userId }: Session, seen: StreamPosition, feed: UserFeed) => {
    const device = feed.deviceOf(deviceId)
    const before = device.acknowledgedTo
    const isCurrent = comparePositions(seen, feeds.position()) <= 0
    if (before !== undefined && isCurrent && comparePositions(feed.rowsAt, before) <= 0) return Effect.void
    return Effect.andThen(
      devices.acknowledge({ deviceId, userId }, seen),
      Effect.sync(() => {
        device.acknowledgedTo = seen
      })
    )
  }

  /** Reads the request. The result answers it and holds no memory of the reading, since thousands wait. */
  const answering = Effect.fnUntraced(function* (
    session: Session,
    request: SyncRequest
  ): Effect.fn.Return<Effect.Effect<SyncAnswer, MatrixError>, MatrixError> {
    const filter = yield* filterOf(session, request.filter)
    const start = request.since === undefined ? undefined : yield* startOf(request.since)
    if (start === undefined || request.fullState || request.timeout === 0) {
      if (start !== undefined) yield* devices.acknowledge(session, start.messagesSeen)
      // What another node has acknowledged is part of an answer that does not wait.
      return Effect.andThen(log.caughtUp, read(session, request, filter, start, undefined))
    }
    const deadline = (yield* monotonicMillis) + Math.min(request.timeout, maxTimeout)
    return feeds.reading(session.userId, (feed) => {
      // A request that waits holds nothing that others need: reads from the store take their part only while they read.
      const look = (): Effect.Effect<SyncedNews | SyncAnswer, MatrixError> =>
        withAllowance(
          Effect.flatMap(readLive(session, request, filter, start, feed), (answer) =>
            answer === undefined ? read(session, request, filter, start, feed) : Effect.succeed(answer)
          )
        )
      const wait: Effect.Effect<SyncedNews | SyncAnswer, MatrixError> = Effect.suspend(() => {
        const { wakes } = feed
        return Effect.flatMap(look(), (answer) => {
          if (!isEmpty(session.userId, answer)) return Effect.succeed(answer)
          // Thousands wait: of an answer without news they keep no more than this.
          const { next_batch, presence } = answer
          return Effect.flatMap(feeds.changed(session, feed, wakes, deadline), (woken) =>
            woken ? wait : Effect.succeed(withoutNews(next_batch, presence))
          )
        })
      })
      // Once is enough: the feed has what wakes its readers, other consumers of the log may not have it yet.
      const answer = Effect.andThen(feeds.settled, wait).pipe(
        Effect.flatMap((news) => withKeyCounts(session, feed, news)),
        Effect.tap(({ rooms }) => afterSends(Object.values(rooms.join).map(({ timeline }) => timeline.events)))
      )
      return Effect.andThen(acknowledge(session, start.messagesSeen, feed), answer)
    })
  })

  return Sync.of({ sync: (session, request) => Effect.flatten(answering(session, request)) })
})

/** `/sync` of today's client API. */
export class Sync extends Context.Service<
  Sync,
  {
    /**
     * The updates since a token; without one, everything that the user has. Waits up to `timeout` for an update. Errors:
     * M_INVALID_PARAM for a token or filter that is none of this server's.
     */
    readonly sync: (session: Session, request: SyncRequest) => Effect.Effect<SyncAnswer, MatrixError>
  }
>()("greenroom/actors/Sync") {
  static readonly layer = Layer.effect(Sync, make)
}
