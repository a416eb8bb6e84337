/**
 * What the feeds of this node get from the ephemeral stream: presence, typing, entrances, and requests to see presence. A feed keeps the
 * last update for each key.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { EventLog } from "@greenroom/store/EventLog"
import { PresenceListStore } from "@greenroom/store/PresenceListStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { comparePositions, laterPosition, type StreamPosition } from "@greenroom/store/StreamToken"
import { keepRunning } from "@greenroom/store/Supervision"
import { Effect } from "effect"
import {
  type EntranceUpdate,
  type EphemeralChunk,
  EphemeralStream,
  type EphemeralUpdate,
  type PresenceUpdate
} from "../../presence/EphemeralStream.ts"
import type { FeedIndex } from "./FeedIndex.ts"
import type { UserFeed } from "./UserFeed.ts"

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

/** `position` is the position up to which the feeds have the events. */
export const makeFeedUpdates = Effect.fnUntraced(function* (feeds: FeedIndex, position: () => StreamPosition) {
  const log = yield* EventLog
  const rooms = yield* RoomStore
  const lists = yield* PresenceListStore
  const ephemeral = yield* EphemeralStream

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
    { audience, userId }: PresenceUpdate,
    roomsOf: ReadonlyMap<UserId, ReadonlyArray<RoomId>>,
    observersOf: ReadonlyMap<UserId, ReadonlyArray<UserId>>
  ): ReadonlySet<UserFeed> => {
    const recipients = new Set<UserFeed>()
    if (audience !== "self") {
      for (const roomId of roomsOf.get(userId) ?? []) for (const feed of feeds.inRoom(roomId)) recipients.add(feed)
      for (const observer of observersOf.get(userId) ?? []) for (const feed of own(observer)) recipients.add(feed)
    }
    for (const feed of own(userId)) {
      if (audience === "others") recipients.delete(feed)
      else recipients.add(feed)
    }
    return recipients
  }

  const othersIn = ({ roomId, userId }: EntranceUpdate): ReadonlyArray<UserFeed> =>
    [...feeds.inRoom(roomId)].filter((feed) => feed.userId !== userId)

  const dispatchUpdates = Effect.fnUntraced(function* ({ position, updates }: EphemeralChunk) {
    const presences = updates.filter((update) => update._tag === "presence")
    const userIds = [...new Set(presences.map((update) => update.userId))]
    const [roomsOf, observersOf] = yield* userIds.length === 0 || feeds.isEmpty()
      ? Effect.succeed([new Map(), new Map()] as const)
      : Effect.all([rooms.joinedRoomsOfAll(userIds), lists.observersOfAll(userIds)], { concurrency: 2 })
    const awake = new Set<UserFeed>()
    for (const update of updates) {
      if (update._tag === "typing") deliver(update, update.roomId, feeds.inRoom(update.roomId), awake)
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

  /**
   * The position up to which the feeds have all presence and typing: that of everything else, unless updates wait to be
   * dispatched.
   */
  const updatesUpTo = (): StreamPosition =>
    comparePositions(Effect.runSync(ephemeral.position), ephemeralPosition) <= 0
      ? laterPosition(ephemeralPosition, position())
      : ephemeralPosition

  /** A woken reader reads up to `position`, so the feeds reach the updates first. */
  const followEphemeral = Effect.suspend(() => ephemeral.changed(ephemeralPosition)).pipe(
    Effect.andThen(Effect.suspend(() => ephemeral.since(ephemeralPosition))),
    Effect.tap((chunk) => log.reached(chunk.position.xid)),
    Effect.flatMap(dispatchUpdates)
  )
  yield* keepRunning("Waking feeds for presence and typing", followEphemeral)

  return { updatesUpTo }
})
