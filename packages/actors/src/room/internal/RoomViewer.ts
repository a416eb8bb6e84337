/**
 * Rooms as a user may see them by the rules of today: members see the present, former members the room as it was when they
 * left, everybody a world-readable room; the history as its visibility allows.
 *
 * Source: "Room history visibility" of the client-server specification.
 */
import type { RoomEventFilter } from "@greenroom/protocol/client-server/Filter"
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, InvalidParam, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { maxPageBytes } from "@greenroom/protocol/Pagination"
import type { StreamedEvent } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { ForgottenRoomStore } from "@greenroom/store/ForgottenRoomStore"
import { giveBytes, givingBack } from "@greenroom/store/LargeReads"
import { type RoomMembership, RoomStore } from "@greenroom/store/RoomStore"
import { type StateRef, type StateSelection, StateStore } from "@greenroom/store/StateStore"
import type { StreamPosition } from "@greenroom/store/StreamToken"
import { positionBefore } from "@greenroom/store/StreamToken"
import { Effect, Option } from "effect"
import { makeReadToken } from "../../runtime/StreamTokens.ts"
import { makeEventSelections } from "../EventSelection.ts"
import { makeHistoryVisibility, type Reader, visibilityOf } from "../HistoryVisibility.ts"
import { type IgnoredUsers, makeIgnoredUsers, nobody, withoutIgnored } from "../IgnoredUsers.ts"

/** The most events of a page that are read to find `limit` which pass the filter, and the bytes after which no more are read. */
const maxScanned = 5_000
const maxScannedBytes = 8 * 1024 * 1024

/** A room as a user may see it. */
export interface View {
  readonly reader: Reader
  /** The state now, or as it was when the user left. */
  readonly state: StateRef
  readonly membership: string
}

export interface Scan {
  readonly found: ReadonlyArray<StreamedEvent>
  /** The position at the end of the scan; undefined at the end of the room's timeline. */
  readonly end: StreamPosition | undefined
  /** How many bytes were read, and how many the pages have in which something was found. */
  readonly bytes: number
  readonly kept: number
  /** False if the range has no gaps for sure. */
  readonly mayHaveGaps: boolean
}

/** A scan that reads nothing. */
export const noScan = (end: StreamPosition | undefined): Scan => ({
  found: [],
  end,
  bytes: 0,
  kept: 0,
  mayHaveGaps: false
})

export const makeRoomViewer = Effect.gen(function* () {
  const rooms = yield* RoomStore
  const states = yield* StateStore
  const events = yield* EventStore
  const forgotten = yield* ForgottenRoomStore
  const { visibleTo } = yield* makeHistoryVisibility
  const readToken = yield* makeReadToken
  const selectionOf = yield* makeEventSelections
  const ignoredUsers = yield* makeIgnoredUsers

  /** The position of a token. Errors: M_INVALID_PARAM. */
  const positionOf = (token: string, name: string): Effect.Effect<StreamPosition, MatrixError> =>
    Effect.mapBoth(readToken(token), {
      onFailure: ({ reason }) => new InvalidParam({ error: `${name}: ${reason}` }),
      onSuccess: ({ position }) => position
    })

  const outside = (userId: UserId, roomId: RoomId) => new Forbidden({ error: `${userId} is not in ${roomId}` })

  /** Anybody may look at the present of a room whose history is world-readable. */
  const preview = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId): Effect.fn.Return<View, MatrixError> {
    const current = yield* rooms.currentState(roomId)
    if (Option.isNone(current)) return yield* outside(userId, roomId)
    const { roomNid, state } = current.value
    const visibility = (yield* states.read([{ roomNid, ref: state }], { key: ["m.room.history_visibility", ""] }))[0]
    if (visibilityOf(visibility?.event) !== "world_readable") return yield* outside(userId, roomId)
    return { reader: { userId, roomNid, isJoined: false, leftAt: undefined }, state, membership: "leave" }
  })

  const viewOf = (userId: UserId, found: RoomMembership): View | undefined => {
    const { current, ended, membership, roomNid } = found
    if (membership === "join" && current !== undefined) {
      return { reader: { userId, roomNid, isJoined: true, leftAt: undefined }, state: current, membership }
    }
    if (ended === undefined) return undefined
    return { reader: { userId, roomNid, isJoined: false, leftAt: ended.at }, state: ended.state, membership }
  }

  /** Whether the user left the room and wants to see it no more. */
  const isForgotten = ({ reader: { leftAt, roomNid, userId } }: View) =>
    leftAt === undefined
      ? Effect.succeed(false)
      : Effect.map(forgotten.of(userId), (rooms) => (rooms.get(roomNid) ?? -1) >= leftAt.xid)

  /** Errors: M_FORBIDDEN, also if there is no such room. */
  const view = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId): Effect.fn.Return<View, MatrixError> {
    const membership = yield* rooms.membership(userId, roomId)
    const found = Option.isSome(membership) ? viewOf(userId, membership.value) : undefined
    const seen = found !== undefined && (yield* isForgotten(found)) ? undefined : found
    return seen ?? (yield* preview(userId, roomId))
  })

  /** Administrators see the present of every room that this server knows, and its whole history. Errors: M_NOT_FOUND. */
  const administratorsView = Effect.fnUntraced(function* (
    userId: UserId,
    roomId: RoomId
  ): Effect.fn.Return<View, MatrixError> {
    const current = yield* rooms.currentState(roomId)
    if (Option.isNone(current)) return yield* new NotFound({ error: `There is no room ${roomId}` })
    const { roomNid, state } = current.value
    return {
      reader: { userId, roomNid, isJoined: false, leftAt: undefined, isAdministrator: true },
      state,
      membership: "leave"
    }
  })

  const stateOf = (seen: View, selection?: StateSelection) =>
    Effect.map(states.read([{ roomNid: seen.reader.roomNid, ref: seen.state }], selection), (entries) =>
      entries.map(({ event }) => event)
    )

  const notSeen = (eventId: EventId) => new NotFound({ error: `There is no event ${eventId} here that you may see` })

  /** The users whom the reader ignores. Administrators get all events. */
  const ignoredBy = ({ isAdministrator, userId }: Reader): Effect.Effect<IgnoredUsers> =>
    isAdministrator ? Effect.succeed(nobody) : ignoredUsers.of(userId)

  /** An event that the reader may see, also one by a user whom the reader ignores. Errors: M_NOT_FOUND. */
  const visibleEvent = Effect.fnUntraced(function* (seen: View, roomId: RoomId, eventId: EventId) {
    const [stored] = yield* events.byIds([eventId])
    if (stored === undefined || stored.status > 1 || stored.event.room_id !== roomId) return yield* notSeen(eventId)
    const [visible] = yield* visibleTo(seen.reader, [stored])
    return visible ?? (yield* notSeen(eventId))
  })

  /** An event that the reader gets. Errors: M_NOT_FOUND. */
  const shownEvent = Effect.fnUntraced(function* (seen: View, roomId: RoomId, eventId: EventId) {
    const visible = yield* visibleEvent(seen, roomId, eventId)
    const [shown] = withoutIgnored(yield* ignoredBy(seen.reader), [visible])
    return shown ?? (yield* notSeen(eventId))
  })

  /**
   * Reads on until `limit` events match, are visible and not of ignored users, or the range ends. A page with `maxBytes` bytes in which one
   * was found is the last.
   */
  const scan = Effect.fnUntraced(function* (
    reader: Reader,
    range: { readonly after: StreamPosition; readonly upTo: StreamPosition },
    direction: "f" | "b",
    limit: number,
    filter: RoomEventFilter | undefined,
    maxBytes = maxPageBytes
  ): Effect.fn.Return<Scan> {
    if (limit === 0) return noScan(direction === "b" ? range.upTo : range.after)
    const selection = selectionOf(filter)
    const ignored = yield* ignoredBy(reader)
    const isEverything = selection.isEverything && ignored.size === 0
    const found: Array<StreamedEvent> = []
    let { after, upTo } = range
    let [bytes, kept] = [0, 0]
    let mayHaveGaps = false
    for (let scanned = 0; scanned < maxScanned && bytes < maxScannedBytes; ) {
      const size = Math.max(limit - found.length, isEverything ? 1 : 100)
      const page = yield* events.page([{ roomNid: reader.roomNid, after, upTo }], direction, size, maxBytes)
      scanned += page.events.length
      bytes += page.bytes
      mayHaveGaps ||= page.mayHaveGaps
      const before = found.length
      const visible = withoutIgnored(ignored, yield* givingBack(visibleTo(reader, page.events)))
      found.push(...(yield* selection.of(reader.roomNid, visible)).slice(0, limit - before))
      if (found.length > before) kept += page.bytes
      else yield* giveBytes(page.bytes)
      const end = found.length === limit ? found.at(-1) : undefined
      if (end !== undefined) {
        return { found, end: direction === "b" ? positionBefore(end.position) : end.position, bytes, kept, mayHaveGaps }
      }
      const last = page.events.at(-1)
      if (last === undefined || (page.events.length < size && !page.cut))
        return { found, end: undefined, bytes, kept, mayHaveGaps }
      if (direction === "b") upTo = positionBefore(last.position)
      else after = last.position
      // A page that is cut has the largest size of an answer.
      if (page.cut && found.length > 0) break
    }
    return { found, end: direction === "b" ? upTo : after, bytes, kept, mayHaveGaps }
  })

  return {
    outside,
    positionOf,
    view,
    administratorsView,
    stateOf,
    notSeen,
    visibleEvent,
    shownEvent,
    scan,
    visibleTo
  }
})

export type RoomViewer = Effect.Success<typeof makeRoomViewer>
