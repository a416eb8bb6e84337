/**
 * Reads of a room as a user may see it, from the store, without waking the room's actor. Members see the whole history of
 * the room; users who left see the room as it was when they left.
 */
import { type ClientEvent, type Event, toClientEvent } from "@greenroom/protocol/Event"
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { Json } from "@greenroom/protocol/Json"
import { BadPagination, Forbidden, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { defaultLimit, maxLimit, maxPageBytes } from "@greenroom/protocol/Pagination"
import { EventLog, type StreamedEvent } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { type RoomMembership, RoomStore } from "@greenroom/store/RoomStore"
import { type StateRef, StateStore } from "@greenroom/store/StateStore"
import {
  beginning,
  comparePositions,
  earlierPosition,
  formatToken,
  laterPosition,
  positionBefore,
  type StreamPosition,
  theEnd
} from "@greenroom/store/StreamToken"
import { Array as Arr, Clock, Effect, Option } from "effect"
import type { PresenceContent } from "../presence/PresenceContent.ts"
import { makeReadToken } from "../runtime/StreamTokens.ts"
import { makeHistoryVisibility, type Reader } from "./HistoryVisibility.ts"
import { inPassing, makeGapFilling, pagingBack } from "./internal/GapFilling.ts"
import type { MessagePage, MessagesQuery, RoomSnapshot } from "./RoomModel.ts"

/**
 * How many bytes of messages `initialSync` has of each room: a part of those of all rooms, between two bounds. The client reads on from
 * where they begin.
 */
const maxRoomBytes = maxPageBytes / 4
const minRoomBytes = maxRoomBytes / 2
const maxBytes = 32 * 1024 * 1024
/** How many rooms are read together. */
const roomsAtOnce = 32
/** How many groups of rooms are read at a time: PostgreSQL reads one while the events of another are parsed. */
const groupsAtOnce = 3

/** The part of a room that a user may see: the state at `state`, and the timeline up to `upTo`. */
interface View {
  readonly membership: RoomMembership
  readonly state: StateRef
  readonly upTo: StreamPosition
}

const viewOf = (membership: RoomMembership): View | undefined => {
  const { current } = membership
  if (membership.membership === "join" && current !== undefined) return { membership, state: current, upTo: theEnd }
  if (membership.ended === undefined || membership.membership === "invite") return undefined
  return { membership, state: membership.ended.state, upTo: membership.ended.at }
}

const readerOf = (userId: UserId, { membership: { membership, roomNid }, upTo }: View): Reader => {
  const isJoined = membership === "join"
  return { userId, roomNid, isJoined, leftAt: isJoined ? undefined : upTo }
}

/** The position at the end of a page with this last event. */
const endOfPage = (direction: "f" | "b", last: StreamedEvent | undefined): StreamPosition | undefined =>
  last === undefined ? undefined : direction === "b" ? positionBefore(last.position) : last.position

/** The direction of a reader that gives only `from` or `to`. */
const impliedDirection = ({ from, to }: MessagesQuery): "f" | "b" =>
  from === "START" || (to === "END" && from !== "END") ? "f" : "b"

/** The size of a page: `limit`, the default, or the maximum. */
export const clampLimit = (limit: number | undefined): number => Math.min(limit ?? defaultLimit, maxLimit)

/** The presence of a member stands in the content of their membership. */
export const withPresence = (event: ClientEvent, presence: PresenceContent | undefined): ClientEvent => {
  if (presence === undefined) return event
  const { avatar_url: _, displayname: __, user_id: ___, ...rest } = presence
  return { ...event, content: { ...event.content, ...(rest as Record<string, Json>) } }
}

/** Rooms as the API of 2014 shows them to a user. */
export const makeRoomViews = Effect.gen(function* () {
  const { openTo, visibleTo } = yield* makeHistoryVisibility
  const rooms = yield* RoomStore
  const states = yield* StateStore
  const events = yield* EventStore
  const log = yield* EventLog
  const filled = yield* makeGapFilling
  const readToken = yield* makeReadToken

  /** The place that a `from` or `to` names. */
  const parsePosition = (token: string, name: string): Effect.Effect<StreamPosition, BadPagination> => {
    if (token === "START") return Effect.succeed(beginning)
    if (token === "END") return Effect.succeed(theEnd)
    return Effect.mapBoth(readToken(token), {
      onFailure: ({ reason }) => new BadPagination({ error: `${name}: ${reason}` }),
      onSuccess: ({ position }) => position
    })
  }

  /** The view of a present or former member. Errors: M_FORBIDDEN, also if there is no such room. */
  const view = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId): Effect.fn.Return<View, MatrixError> {
    const membership = yield* rooms.membership(userId, roomId)
    const seen = Option.isSome(membership) ? viewOf(membership.value) : undefined
    return seen ?? (yield* new Forbidden({ error: `${userId} is not in ${roomId}` }))
  })

  const state = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId) {
    return yield* stateIn(yield* view(userId, roomId))
  })

  const stateIn = Effect.fnUntraced(function* ({ membership, state: ref }: View, types?: ReadonlyArray<string>) {
    const entries = yield* states.read(
      [{ roomNid: membership.roomNid, ref }],
      types === undefined ? undefined : { types }
    )
    return entries.map((entry) => entry.event)
  })

  const stateEvent = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId, type: string, stateKey: string) {
    const { membership, state: ref } = yield* view(userId, roomId)
    const entries = yield* states.read([{ roomNid: membership.roomNid, ref }], { key: [type, stateKey] })
    const event = entries[0]?.event
    if (event === undefined) return yield* new NotFound({ error: `The room has no state ${type} ${stateKey}`.trim() })
    return event
  })

  /** Each message with the feedback on it; feedback no longer stands by itself. */
  const bundleFeedback = Effect.fnUntraced(function* (
    roomNid: number,
    chunk: ReadonlyArray<Event>,
    upTo: StreamPosition,
    now: number
  ) {
    const messages = chunk.filter((event) => event.type !== "m.room.message.feedback")
    const feedback = yield* events.feedbackOn(
      roomNid,
      messages.map((event) => event.event_id),
      upTo,
      maxPageBytes
    )
    const byTarget = Map.groupBy(feedback, (event) => event.content.target_event_id as EventId)
    return messages.map((event) => {
      const bundled = byTarget.get(event.event_id)
      const shown = toClientEvent(event, now)
      return bundled === undefined ? shown : { ...shown, feedback: bundled.map((entry) => toClientEvent(entry, now)) }
    })
  })

  const messages = Effect.fnUntraced(function* (
    userId: UserId,
    roomId: RoomId,
    query: MessagesQuery
  ): Effect.fn.Return<MessagePage, MatrixError> {
    const direction = query.dir ?? impliedDirection(query)
    const from = yield* parsePosition(query.from ?? (direction === "b" ? "END" : "START"), "from")
    const to = yield* parsePosition(query.to ?? (direction === "b" ? "START" : "END"), "to")
    const seen = yield* view(userId, roomId)
    const { membership, upTo } = seen
    const now = yield* Clock.currentTimeMillis
    const range =
      direction === "b"
        ? { roomNid: membership.roomNid, after: to, upTo: earlierPosition(from, upTo) }
        : { roomNid: membership.roomNid, after: from, upTo: earlierPosition(to, upTo) }
    const limit = clampLimit(query.limit)
    const page = yield* filled({
      roomId,
      range,
      direction,
      isOpen: limit > 0 && comparePositions(to, beginning) === 0,
      read: Effect.map(
        events.page([range], direction, limit, maxPageBytes),
        ({ bytes, cut, events: page, mayHaveGaps }) => ({
          page,
          bytes,
          mayHaveGaps,
          count: page.length,
          end: cut || page.length === limit ? endOfPage(direction, page.at(-1)) : undefined
        })
      ),
      limits: direction === "b" ? pagingBack : inPassing
    })
    const first = page[0]
    const last = page.at(-1)
    const start = from === theEnd ? laterPosition(yield* log.currentPosition, first?.position ?? beginning) : from
    const end = endOfPage(direction, last) ?? start
    const shown = (yield* visibleTo(readerOf(userId, seen), page)).map(({ event }) => event)
    return {
      chunk: query.feedback
        ? yield* bundleFeedback(membership.roomNid, shown, upTo, now)
        : shown.map((event) => toClientEvent(event, now)),
      start: yield* log.tokenOf(start),
      end: yield* log.tokenOf(end)
    }
  })

  /** Snapshots of several rooms as of a position, in three queries for every `roomsAtOnce` of them. */
  const snapshots = (
    userId: UserId,
    memberships: ReadonlyArray<RoomMembership>,
    limit: number,
    at: StreamPosition
  ): Effect.Effect<ReadonlyArray<RoomSnapshot>> =>
    Effect.map(
      Effect.forEach(
        Arr.chunksOf(memberships, roomsAtOnce),
        (group) => snapshotsOf(userId, group, memberships.length, limit, at),
        {
          concurrency: groupsAtOnce
        }
      ),
      (groups) => groups.flat()
    )

  /** `total`: the rooms of the answer. */
  const snapshotsOf = Effect.fnUntraced(function* (
    userId: UserId,
    memberships: ReadonlyArray<RoomMembership>,
    total: number,
    limit: number,
    at: StreamPosition
  ) {
    const now = yield* Clock.currentTimeMillis
    const seen = memberships.flatMap((membership) => viewOf(membership) ?? [])
    const [entries, timeline] = yield* Effect.all(
      [
        states.read(seen.map((entry) => ({ roomNid: entry.membership.roomNid, ref: entry.state }))),
        events.timelines(
          seen.map((entry) => ({
            roomNid: entry.membership.roomNid,
            after: beginning,
            upTo: earlierPosition(at, entry.upTo)
          })),
          "b",
          limit,
          Math.max(minRoomBytes, Math.min(maxRoomBytes, maxBytes / total))
        )
      ],
      { concurrency: 2 }
    )
    // Everything in the snapshots lies before a position that this node has read.
    const epoch = log.epoch()
    const token = (position: StreamPosition) => formatToken({ position, epoch })
    const stateOf = Map.groupBy(entries, (entry) => entry.roomNid)
    const timelineOf = Map.groupBy(timeline, (entry) => entry.roomNid)
    const readers = seen.map((entry) => readerOf(userId, entry))
    const open = yield* openTo(readers)
    for (const reader of readers) {
      const entries = timelineOf.get(reader.roomNid)
      if (entries === undefined || open.has(reader.roomNid)) continue
      timelineOf.set(reader.roomNid, [...(yield* visibleTo(reader, entries))])
    }
    return memberships.map((membership): RoomSnapshot => {
      const { roomNid } = membership
      if (viewOf(membership) === undefined) return invitation(membership)
      const page = [...(timelineOf.get(roomNid) ?? [])].reverse()
      return {
        room_id: membership.roomId,
        membership: membership.membership,
        visibility: membership.visibility,
        messages: {
          chunk: page.map(({ event }) => toClientEvent(event, now)),
          start: token(page[0] === undefined ? at : positionBefore(page[0].position)),
          end: token(at)
        },
        state: (stateOf.get(roomNid) ?? []).map(({ event }) => toClientEvent(event, now))
      }
    })
  })

  /** One event, if the user may see its room at that event. */
  const event = Effect.fnUntraced(function* (userId: UserId, eventId: EventId) {
    const notFound = new NotFound({ error: `There is no event ${eventId} that ${userId} may see` })
    const stored = (yield* events.byIds([eventId]))[0]
    if (stored === undefined || stored.status > 1) return yield* notFound
    const seen = yield* Effect.mapError(view(userId, stored.event.room_id), () => notFound)
    if (comparePositions(stored.position, seen.upTo) > 0) return yield* notFound
    const [shown] = yield* visibleTo(readerOf(userId, seen), [stored])
    return shown === undefined ? yield* notFound : shown.event
  })

  return { view, state, stateIn, stateEvent, messages, snapshots, event }
})

const invitation = (membership: RoomMembership): RoomSnapshot => ({
  room_id: membership.roomId,
  membership: membership.membership,
  inviter: membership.sender,
  visibility: membership.visibility
})
