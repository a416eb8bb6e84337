/**
 * The feeds of all users that are connected to this node, filled from the event log. An event costs one step for each
 * connected member of its room, and no query for any.
 */
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { UnknownToken } from "@greenroom/protocol/MatrixError"
import { accountDataChanges } from "@greenroom/store/AccountDataChange"
import { deviceListChanges, userSignatures } from "@greenroom/store/DeviceListStore"
import { EventLog, type LogSlice, type StreamedEvent, type StreamedMembership } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { keyCountChanges } from "@greenroom/store/KeyCountChange"
import { logEpochs } from "@greenroom/store/LogEpoch"
import { rowsOf } from "@greenroom/store/LogKind"
import { monotonicMillis, monotonicMillisUnsafe } from "@greenroom/store/MonotonicClock"
import { PresenceListStore } from "@greenroom/store/PresenceListStore"
import { receiptChanges } from "@greenroom/store/ReceiptChange"
import { RoomStore } from "@greenroom/store/RoomStore"
import { sessionRevocations } from "@greenroom/store/SessionRevocation"
import type { StateRef } from "@greenroom/store/StateStore"
import { beginning, comparePositions, laterPosition, type StreamPosition } from "@greenroom/store/StreamToken"
import { keepRunning, periodically } from "@greenroom/store/Supervision"
import { toDeviceMessages } from "@greenroom/store/ToDeviceMessage"
import { Context, Effect, Layer } from "effect"
import {
  type EntranceUpdate,
  type EphemeralChunk,
  EphemeralStream,
  type EphemeralUpdate,
  type PresenceUpdate
} from "../presence/EphemeralStream.ts"
import { makeDeadlines } from "../runtime/Deadlines.ts"
import type { Session } from "../runtime/Session.ts"
import { SessionRevocations } from "../runtime/SessionRevocations.ts"
import { FeedEntry } from "./internal/FeedEntry.ts"
import { RecentEntries } from "./internal/RecentEntries.ts"
import { sameState } from "./internal/SyncState.ts"
import { UserFeed } from "./internal/UserFeed.ts"

/** The time for which a feed without readers is kept, in milliseconds: clients come back between two polls. */
const keptFor = 2 * 60_000

/** The number of rooms whose last state is kept. */
const maxLastStates = 10_000

/** How long changes of presence are gathered after the last delivery, in milliseconds. */
const presenceInterval = 500

/** Whether nothing but the state is new. */
const looksTheSame = (before: PresenceUpdate["value"] | undefined, now: PresenceUpdate["value"]): boolean =>
  before?.displayname === now.displayname &&
  before?.avatar_url === now.avatar_url &&
  before?.status_msg === now.status_msg

/** Coming online because of this poll must not complete the poll; deliver it with the next update. */
const isOwnArrival = (feed: UserFeed, before: EphemeralUpdate | undefined, update: EphemeralUpdate): boolean => {
  if (update._tag !== "presence" || update.userId !== feed.userId || update.value.state !== "online") return false
  const known = before?._tag === "presence" ? before.value : undefined
  return (known === undefined || known.state === "offline") && looksTheSame(known, update.value)
}

const makeFeeds = Effect.gen(function* () {
  const log = yield* EventLog
  const events = yield* EventStore
  const rooms = yield* RoomStore
  const lists = yield* PresenceListStore
  const ephemeral = yield* EphemeralStream

  const revocations = yield* SessionRevocations
  const addDeadline = yield* makeDeadlines
  const feeds = new Map<UserId, UserFeed>()
  const readersOf = new Map<RoomId, Set<UserFeed>>()
  /** Feeds whose rooms are being read: they get the changes of that time afterwards. */
  const loading = new Map<UserId, { readonly slices: Array<LogSlice>; readonly feed: Effect.Effect<UserFeed> }>()
  const enter = (feed: UserFeed, roomId: RoomId) => {
    const readers = readersOf.get(roomId)
    if (readers === undefined) readersOf.set(roomId, new Set([feed]))
    else readers.add(feed)
  }
  const quit = (feed: UserFeed, roomId: RoomId) => {
    const readers = readersOf.get(roomId)
    readers?.delete(feed)
    if (readers?.size === 0) readersOf.delete(roomId)
  }

  const applyChange = (feed: UserFeed, change: StreamedMembership) => {
    feed.apply(change)
    if (change.membership === "join") enter(feed, change.roomId)
    else quit(feed, change.roomId)
  }

  // Following the event log

  const recent = new RecentEntries()
  /** The states of rooms after their last events. */
  const lastStates = new Map<RoomId, StateRef>()

  /** The state around an event that follows the last one of its room and leaves the state as it is. */
  const stateAround = ({ event: { room_id }, states }: StreamedEvent): StateRef | undefined => {
    const last = lastStates.get(room_id)
    lastStates.delete(room_id)
    if (states === undefined) return undefined
    lastStates.set(room_id, states.after)
    if (lastStates.size > maxLastStates) lastStates.delete(lastStates.keys().next().value!)
    return sameState(states.before, last) && sameState(states.before, states.after) ? states.after : undefined
  }

  const addTo = (recipients: Iterable<UserFeed>, streamed: StreamedEvent, stateAt?: StateRef) => {
    const entry = new FeedEntry(streamed, stateAt)
    for (const feed of recipients) feed.add(entry)
    const forgotten = recent.add(entry)
    if (forgotten !== undefined) for (const feed of feeds.values()) feed.forgetUpTo(forgotten)
  }

  /** The feeds whose owners may see rows of other kinds. The woken reader reads the rows itself. */
  const readersOfRows = (
    { rows }: LogSlice,
    roomsOfChanged: ReadonlyMap<UserId, ReadonlyArray<RoomId>>
  ): ReadonlySet<UserFeed> => {
    const readers = new Set<UserFeed>()
    const addOwn = (userId: UserId) => {
      const feed = feeds.get(userId)
      if (feed !== undefined) readers.add(feed)
    }
    for (const { row } of rowsOf(rows, accountDataChanges)) addOwn(row.userId)
    for (const { row } of rowsOf(rows, receiptChanges)) {
      if (row.type === "m.read.private") addOwn(row.userId)
      else for (const feed of readersOf.get(row.roomId) ?? []) readers.add(feed)
    }
    for (const { row } of rowsOf(rows, toDeviceMessages)) addOwn(row.userId)
    for (const { row } of rowsOf(rows, userSignatures)) addOwn(row.signer)
    for (const [userId, roomIds] of roomsOfChanged) {
      addOwn(userId)
      for (const roomId of roomIds) for (const feed of readersOf.get(roomId) ?? []) readers.add(feed)
    }
    return readers
  }

  const noRooms: ReadonlyMap<UserId, ReadonlyArray<RoomId>> = new Map()

  /** The rooms of users whose keys changed: everybody in them has news. */
  const roomsOfChanged = ({ rows }: LogSlice) => {
    const changed = new Set(rowsOf(rows, deviceListChanges).map(({ row }) => row.userId))
    return changed.size === 0 || feeds.size === 0 ? Effect.succeed(noRooms) : rooms.joinedRoomsOfAll([...changed])
  }

  const dispatch = (slice: LogSlice, roomsOf: ReadonlyMap<UserId, ReadonlyArray<RoomId>>) => {
    const changes = Map.groupBy(slice.memberships, (change) => change.position.nid)
    const awake = new Set<UserFeed>()
    for (const streamed of slice.events) {
      const stateAt = stateAround(streamed)
      const readers = readersOf.get(streamed.event.room_id)
      const moved = changes.get(streamed.position.nid)
      if (readers === undefined && moved === undefined) continue
      const changed = (moved ?? []).flatMap((change) => {
        const feed = feeds.get(change.userId)
        return feed === undefined ? [] : [{ feed, change }]
      })
      const recipients = new Set(readers)
      for (const { feed } of changed) recipients.add(feed)
      if (recipients.size > 0) addTo(recipients, streamed, stateAt)
      for (const feed of recipients) awake.add(feed)
      for (const { change, feed } of changed) {
        applyChange(feed, change)
        feed.rowsAt = laterPosition(feed.rowsAt, change.position)
      }
    }
    for (const feed of readersOfRows(slice, roomsOf)) {
      feed.rowsAt = laterPosition(feed.rowsAt, slice.last ?? position)
      awake.add(feed)
    }
    for (const { row } of [...rowsOf(slice.rows, keyCountChanges), ...rowsOf(slice.rows, sessionRevocations)]) {
      feeds.get(row.userId)?.forgetKeyCounts(row.deviceId)
    }
    for (const { position, row } of rowsOf(slice.rows, logEpochs)) {
      if (!row.fresh) continue
      for (const feed of feeds.values()) {
        feed.forgetAllUpdates(position)
        feed.rowsAt = laterPosition(feed.rowsAt, slice.last ?? position)
        awake.add(feed)
      }
    }
    for (const { slices } of loading.values()) slices.push(slice)
    position = slice.last ?? position
    for (const feed of awake) feed.wake()
  }

  /**
   * The step that strips a redacted event in memory too, also from the `prev_content` of later state. It is applied together
   * with the redaction, so that no client reads the content after it has the redaction.
   */
  const strippingFor = Effect.fnUntraced(function* (slice: LogSlice) {
    const redactions = slice.events.filter(({ event }) => event.redacts !== undefined)
    if (redactions.length === 0) return () => {}
    const redacted = new Set(redactions.map(({ event }) => event.redacts!))
    const entries = new Map<EventId, Set<FeedEntry>>()
    for (const roomId of new Set(redactions.map(({ event }) => event.room_id))) {
      for (const feed of readersOf.get(roomId) ?? []) {
        for (const entry of feed.telling(redacted)) {
          entries.set(entry.eventId, (entries.get(entry.eventId) ?? new Set()).add(entry))
        }
      }
    }
    const stored = yield* events.byIds([...entries.keys()])
    return () => {
      for (const { event } of stored) for (const entry of entries.get(event.event_id) ?? []) entry.replace(event)
    }
  })

  let position = yield* log.follow(
    Effect.fnUntraced(function* (slice) {
      const strip = yield* strippingFor(slice)
      const roomsOf = yield* roomsOfChanged(slice)
      strip()
      dispatch(slice, roomsOf)
    })
  )

  // Opening a feed

  /** A feed of its own for what arrives while the rooms of the user are read. */
  const replay = (feed: UserFeed, slice: LogSlice) => {
    const changes = Map.groupBy(slice.memberships, (change) => change.position.nid)
    for (const streamed of slice.events) {
      const own = (changes.get(streamed.position.nid) ?? []).filter((change) => change.userId === feed.userId)
      if (own.length > 0 || feed.rooms.has(streamed.event.room_id)) addTo([feed], streamed)
      for (const change of own) feed.apply(change)
    }
  }

  const open = Effect.fnUntraced(function* (userId: UserId, slices: Array<LogSlice>, since: StreamPosition) {
    const history = yield* events.membershipHistory(userId, since)
    // From here on nothing waits: the next update reaches the feed as it reaches all others.
    const feed = new UserFeed(userId, since, readUpdates(), yield* monotonicMillis)
    for (const change of history) feed.apply(change)
    for (const slice of slices) replay(feed, slice)
    feed.rowsAt = position
    for (const roomId of feed.rooms) enter(feed, roomId)
    feeds.set(userId, feed)
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
          Effect.onExit(Effect.uninterruptible(open(userId, slices, position)), () =>
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

  // Ephemeral streams

  const deliver = (update: EphemeralUpdate, key: string, recipients: Iterable<UserFeed>, awake: Set<UserFeed>) => {
    for (const feed of recipients) {
      const before = feed.addUpdate(key, update)
      if (!isOwnArrival(feed, before, update)) awake.add(feed)
    }
  }

  const own = (userId: UserId): ReadonlyArray<UserFeed> => {
    const feed = feeds.get(userId)
    return feed === undefined ? [] : [feed]
  }

  const audienceOf = (
    update: PresenceUpdate,
    roomsOf: ReadonlyMap<UserId, ReadonlyArray<RoomId>>,
    observersOf: ReadonlyMap<UserId, ReadonlyArray<UserId>>
  ): ReadonlySet<UserFeed> => {
    const audience = new Set<UserFeed>()
    const self = feeds.get(update.userId)
    if (update.audience !== "self") {
      for (const roomId of roomsOf.get(update.userId) ?? []) {
        for (const feed of readersOf.get(roomId) ?? []) audience.add(feed)
      }
      for (const observer of observersOf.get(update.userId) ?? []) {
        const feed = feeds.get(observer)
        if (feed !== undefined) audience.add(feed)
      }
    }
    if (self !== undefined) {
      if (update.audience === "others") audience.delete(self)
      else audience.add(self)
    }
    return audience
  }

  const othersIn = ({ roomId, userId }: EntranceUpdate): ReadonlyArray<UserFeed> =>
    [...(readersOf.get(roomId) ?? [])].filter((feed) => feed.userId !== userId)

  const dispatchUpdates = Effect.fnUntraced(function* ({ position, updates }: EphemeralChunk) {
    const presences = updates.filter((update) => update._tag === "presence")
    const userIds = [...new Set(presences.map((update) => update.userId))]
    const [roomsOf, observersOf] = yield* userIds.length === 0 || feeds.size === 0
      ? Effect.succeed([new Map(), new Map()] as const)
      : Effect.all([rooms.joinedRoomsOfAll(userIds), lists.observersOfAll(userIds)], { concurrency: 2 })
    const awake = new Set<UserFeed>()
    for (const update of updates) {
      if (update._tag === "typing") deliver(update, update.roomId, readersOf.get(update.roomId) ?? [], awake)
      else if (update._tag === "presence")
        deliver(update, update.userId, audienceOf(update, roomsOf, observersOf), awake)
      else if (update._tag === "entrance") deliver(update, update.userId, othersIn(update), awake)
      else deliver(update, `invite ${update.observer}`, own(update.userId), awake)
    }
    // A woken reader reads at once, and must know how far.
    ephemeralPosition = position
    for (const feed of awake) feed.wake()
    // When many users come online at once, each is an update for all others: they are delivered together.
    if (presences.length > 0) yield* Effect.sleep(presenceInterval)
  })

  let ephemeralPosition = yield* ephemeral.position

  /** Without updates that wait to be dispatched, the feeds have ephemeral updates up to the position of everything else. */
  const readUpdates = (): StreamPosition =>
    comparePositions(Effect.runSync(ephemeral.position), ephemeralPosition) <= 0
      ? laterPosition(ephemeralPosition, position)
      : ephemeralPosition

  /** A woken reader reads up to `position`, so the feeds reach the updates first. */
  const followEphemeral = Effect.suspend(() => ephemeral.changed(ephemeralPosition)).pipe(
    Effect.andThen(Effect.suspend(() => ephemeral.since(ephemeralPosition))),
    Effect.tap((chunk) => log.reached(chunk.position.xid)),
    Effect.flatMap(dispatchUpdates)
  )
  yield* keepRunning("Waking feeds for presence and typing", followEphemeral)

  // Closing feeds without readers

  let forgetUpTo = beginning
  const closeUnread = Effect.map(monotonicMillis, (now) => {
    for (const feed of feeds.values()) {
      feed.forgetUpdates(forgetUpTo)
      if (feed.readers > 0 || now - feed.lastRead < keptFor) continue
      feed.closed = true
      feeds.delete(feed.userId)
      for (const roomId of feed.rooms) quit(feed, roomId)
    }
    forgetUpTo = readUpdates()
  })
  yield* periodically("Closing feeds without readers", keptFor / 2, closeUnread)

  // Waiting for updates

  // All waiting requests of the user wake; those of the ended session fail.
  yield* revocations.observe((ended) => {
    for (const { userId } of ended) feeds.get(userId)?.wake()
  })

  const ended = Effect.fail(new UnknownToken({ error: "The session has ended" }))
  /** The device is still there: its client renews the token, or logs in again as itself. */
  const expired = Effect.fail(new UnknownToken({ error: "The access token has expired", soft_logout: true }))
  const endOf = (session: Session) => (revocations.hasEnded(session) ? ended : expired)

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
    position: () => position,
    /** The position up to which the feeds have all presence and typing. */
    ephemeralPosition: readUpdates,
    isBehind: (feed: UserFeed, position: StreamPosition) => comparePositions(position, feed.since) < 0
  }
})

/** The feeds of this node. All readers of the stream share them. */
export class Feeds extends Context.Service<Feeds, Effect.Success<typeof makeFeeds>>()("greenroom/actors/Feeds") {
  static readonly layer = Layer.effect(Feeds, makeFeeds)
}
