/**
 * The presence section of `/sync`: first the user and all visible users that are online, then the changes.
 *
 * A waiting client has its changes in the feed of the user. A client whose position lies before the feed, or that does not
 * wait, gets the last value of everybody whose presence changed since.
 *
 * Source: "Presence" of the client-server specification.
 */
import { compileFilter, type EventFilter } from "@greenroom/protocol/client-server/Filter"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { RoomStore } from "@greenroom/store/RoomStore"
import { comparePositions, laterPosition, type StreamPosition } from "@greenroom/store/StreamToken"
import { Clock, Effect } from "effect"
import { EphemeralStream, type EphemeralUpdate, toPresenceContent } from "../../presence/EphemeralStream.ts"
import type { PresenceContent } from "../../presence/PresenceContent.ts"
import { Presences } from "../../presence/Presences.ts"
import { Feeds } from "../Feeds.ts"
import type { UserFeed } from "./UserFeed.ts"

/** `m.presence` as clients of today receive it. */
export interface SyncedPresence {
  readonly type: "m.presence"
  readonly sender: UserId
  readonly content: Pick<PresenceContent, "displayname" | "avatar_url" | "status_msg" | "last_active_ago"> & {
    readonly presence: "online" | "offline" | "unavailable"
    readonly currently_active: boolean
  }
}

/** The presence events, and the position up to which presence was read. */
interface PresenceSection {
  readonly events: ReadonlyArray<SyncedPresence>
  readonly seen: StreamPosition
}

/** How long the first answer waits for the user's own presence. */
const ownTimeout = "1 second"

/** The draft has more states than today's API. */
const presenceOf = (state: string): SyncedPresence["content"]["presence"] => {
  if (state === "online" || state === "free_for_chat") return "online"
  return state === "unavailable" ? "unavailable" : "offline"
}

const toEvent = ({ presence: state, state: _, user_id, ...rest }: PresenceContent): SyncedPresence => {
  const presence = presenceOf(state)
  return {
    type: "m.presence",
    sender: user_id,
    content: { ...rest, presence, currently_active: presence === "online" }
  }
}

const passing = (filter: EventFilter | null | undefined, contents: ReadonlyArray<PresenceContent>) => {
  const passes = compileFilter(filter)
  const events = contents
    .map(toEvent)
    .filter((event) => passes({ type: event.type, sender: event.sender, content: {}, room_id: "" as RoomId }))
  return filter?.limit == null ? events : events.slice(0, filter.limit)
}

/** The last update of each user. */
const lastContents = (updates: ReadonlyArray<EphemeralUpdate>, now: number): ReadonlyArray<PresenceContent> => {
  const values = new Map<UserId, PresenceContent>()
  for (const update of updates) {
    if (update._tag === "presence" || update._tag === "entrance") {
      values.set(update.userId, toPresenceContent(update.value, now))
    }
  }
  return [...values.values()]
}

export const makeSyncPresence = Effect.gen(function* () {
  const stream = yield* EphemeralStream
  const presences = yield* Presences
  const rooms = yield* RoomStore
  const feeds = yield* Feeds

  /** The users whose presence the user may see. */
  const visibleTo = Effect.fnUntraced(function* (userId: UserId) {
    const [roommates, accepted] = yield* Effect.all([rooms.roommates(userId), presences.acceptedBy(userId)])
    return new Set([userId, ...roommates, ...accepted])
  })

  /** The user's own presence, which this request may have set. As it was known before where the actor does not answer in time. */
  const own = (userId: UserId) =>
    Effect.timeout(presences.own(userId), ownTimeout).pipe(
      Effect.map((content) => [content]),
      Effect.catchCause(() => presences.about([userId], userId, true))
    )

  const first = Effect.fnUntraced(function* (userId: UserId, filter: EventFilter | null | undefined) {
    const seen = laterPosition(yield* stream.position, feeds.ephemeralPosition())
    const visible = yield* visibleTo(userId)
    visible.delete(userId)
    return { events: passing(filter, [...(yield* own(userId)), ...(yield* presences.about(visible, userId))]), seen }
  })

  const fromFeed = (feed: UserFeed, since: StreamPosition, filter: EventFilter | null | undefined) =>
    Effect.map(Clock.currentTimeMillis, (now) => ({
      events: passing(filter, lastContents(feed.updatesAfter(since), now)),
      seen: laterPosition(feeds.ephemeralPosition(), since)
    }))

  /** The changes since a position, or everybody where some of them are forgotten. */
  const fromStream = Effect.fnUntraced(function* (
    userId: UserId,
    since: StreamPosition,
    filter: EventFilter | null | undefined
  ) {
    const { complete, updates } = yield* stream.since(since)
    const seen = laterPosition(yield* stream.position, since)
    const changed = new Set(
      updates.flatMap((update) => (update._tag === "presence" || update._tag === "entrance" ? [update.userId] : []))
    )
    if (complete && changed.size === 0) return { events: [], seen }
    const visible = yield* visibleTo(userId)
    const wanted = complete ? [...visible].filter((id) => changed.has(id)) : [...visible]
    return { events: passing(filter, yield* presences.many(wanted, userId)), seen }
  })

  return {
    /** Without `since` the first answer. `feed`: that of the user, where it is open. */
    read: (
      userId: UserId,
      since: StreamPosition | undefined,
      filter: EventFilter | null | undefined,
      feed: UserFeed | undefined
    ): Effect.Effect<PresenceSection> => {
      if (since === undefined) return first(userId, filter)
      return feed !== undefined && comparePositions(since, feed.updatesSince) >= 0
        ? fromFeed(feed, since, filter)
        : fromStream(userId, since, filter)
    },
    /** The members of rooms that the user has just entered, as far as their presence is known. */
    inRooms: Effect.fnUntraced(function* (
      userId: UserId,
      roomNids: ReadonlyArray<number>,
      filter: EventFilter | null | undefined
    ) {
      const members = yield* Effect.forEach(roomNids, rooms.joinedMembers)
      return passing(filter, yield* presences.about(new Set(members.flat()), userId, true))
    })
  }
})
