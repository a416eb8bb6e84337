/**
 * Finding users, shared rooms and moments in rooms; forgetting rooms; reporting to the operators.
 *
 * Source: "User Directory", "Leaving rooms", "Reporting Content" and "Getting events for a room" of the client-server
 * specification.
 */
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { BadRequest, InvalidParam, LimitExceeded, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { ContactStore } from "@greenroom/store/ContactStore"
import type { StreamedEvent } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { ForgottenRoomStore } from "@greenroom/store/ForgottenRoomStore"
import { ReportStore } from "@greenroom/store/ReportStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { beginning, type StreamPosition, theEnd } from "@greenroom/store/StreamToken"
import { type FoundUser, UserDirectoryStore } from "@greenroom/store/UserDirectoryStore"
import { Context, Effect, Layer, Option } from "effect"
import type { Session } from "../runtime/Session.ts"
import { makeDirectoryIndexing } from "./internal/DirectoryIndexing.ts"
import { makeEarlierEvents } from "./internal/EarlierEvents.ts"
import { makeRoomViewer } from "./internal/RoomViewer.ts"

const maxFound = 100
const defaultFound = 10
const mutualPage = 200
/** The longest reason of a report, in characters, and the most reports of one user a day. */
const maxReason = 2_000
const maxReports = 200
/** How many events around a moment are compared by their clocks. */
const around = 100

const make = Effect.gen(function* () {
  const contacts = yield* ContactStore
  const directory = yield* UserDirectoryStore
  const forgotten = yield* ForgottenRoomStore
  const reports = yield* ReportStore
  const rooms = yield* RoomStore
  const events = yield* EventStore
  const viewer = yield* makeRoomViewer
  const fetchEarlier = yield* makeEarlierEvents
  const updateDirectory = yield* makeDirectoryIndexing

  const findUsers = Effect.fn("RoomFinder.findUsers")(function* (session: Session, term: string, limit?: number) {
    const most = Math.min(Math.max(limit ?? defaultFound, 1), maxFound)
    const text = term.trim()
    if (text === "") return { results: [], limited: false }
    yield* updateDirectory
    const own = yield* contacts.users(session.userId, text, most + 1)
    const known = new Set(own.map(({ userId }) => userId))
    const others = yield* directory.search(session.userId, text, most + 1 + known.size)
    const found = [...own, ...others.filter(({ userId }) => !known.has(userId))]
    return { results: found.slice(0, most), limited: found.length > most }
  })

  const mutualRooms = Effect.fn("RoomFinder.mutualRooms")(function* (
    session: Session,
    userId: UserId,
    from: string | undefined
  ) {
    if (userId === session.userId) return yield* new InvalidParam({ error: "user_id: must be another user" })
    if (from?.startsWith("!") === false)
      return yield* new InvalidParam({ error: "from: is not a token of this endpoint" })
    const found = yield* directory.mutualRooms(session.userId, userId, from as RoomId | undefined, mutualPage + 1)
    const joined = found.rooms.slice(0, mutualPage)
    const last = joined.at(-1)
    const isCut = found.rooms.length > mutualPage && last !== undefined
    return { joined, count: found.count, ...(isCut ? { next_batch: last as string } : {}) }
  })

  const forget = Effect.fn("RoomFinder.forget")(function* (session: Session, roomId: RoomId) {
    if (yield* forgotten.forget(session.userId, roomId)) return
    if (Option.isNone(yield* rooms.membership(session.userId, roomId))) {
      return yield* new NotFound({ error: `You were never in ${roomId}` })
    }
    return yield* new BadRequest({ error: `${session.userId} must leave ${roomId} first` })
  })

  const report = Effect.fn("RoomFinder.report")(function* (
    session: Session,
    subject: { readonly roomId?: RoomId; readonly eventId?: EventId; readonly userId?: UserId },
    reason: string
  ) {
    if (reason.length > maxReason) {
      return yield* new InvalidParam({ error: `reason: must have at most ${maxReason} characters` })
    }
    const { eventId, roomId } = subject
    if (roomId !== undefined && eventId !== undefined) {
      const seen = yield* Effect.mapError(viewer.view(session.userId, roomId), () => viewer.notSeen(eventId))
      if (!seen.reader.isJoined) return yield* viewer.notSeen(eventId)
      yield* viewer.visibleEvent(seen, roomId, eventId)
    } else if (roomId !== undefined && !(yield* rooms.exists(roomId))) {
      return
    }
    const added = yield* reports.add({ reporter: session.userId, ...subject, reason }, maxReports)
    if (!added) {
      return yield* new LimitExceeded({ error: `At most ${maxReports} reports a day`, retry_after_ms: 3_600_000 })
    }
  })

  /** The first event of the room at or after a transaction, by which a moment is searched for. */
  const firstFrom = (roomNid: number, xid: number) =>
    Effect.map(
      events.timelines([{ roomNid, after: { xid, nid: Number.MIN_SAFE_INTEGER }, upTo: theEnd }], "f", 1),
      ([entry]) => entry
    )

  /** The number of the event at a moment before the join; such numbers are negative and rise. Undefined for a later moment. */
  const positionInHistory = Effect.fnUntraced(function* (roomNid: number, ts: number) {
    const at = (nid: number) => ({ xid: 0, nid }) satisfies StreamPosition
    const firstAfter = (after: StreamPosition) =>
      Effect.map(events.timelines([{ roomNid, after, upTo: at(0) }], "f", 1), ([entry]) => entry)
    const oldest = yield* firstAfter(beginning)
    if (oldest === undefined) return undefined
    let [low, high] = [oldest.position.nid, 0]
    while (low < high) {
      const middle = Math.floor((low + high) / 2)
      const entry = yield* firstAfter(at(middle - 1))
      if (entry === undefined || entry.event.origin_server_ts >= ts) high = middle
      else low = entry.position.nid + 1
    }
    return (yield* firstAfter(at(low - 1))) === undefined ? undefined : at(low - 1)
  })

  /**
   * The approximate position of a moment in the log: events stand there in the order in which they arrived, which is nearly the
   * order in which they were made.
   */
  const positionOf = Effect.fnUntraced(function* (roomNid: number, ts: number) {
    const newest = (yield* events.timelines([{ roomNid, after: beginning, upTo: theEnd }], "b", 1))[0]
    const history = yield* positionInHistory(roomNid, ts)
    if (history !== undefined) return history
    let [low, high] = [0, newest?.position.xid ?? 0]
    while (low < high) {
      const middle = Math.floor((low + high) / 2)
      const entry = yield* firstFrom(roomNid, middle)
      if (entry === undefined || entry.event.origin_server_ts >= ts) high = middle
      else low = entry.position.xid + 1
    }
    return { xid: low, nid: Number.MIN_SAFE_INTEGER } satisfies StreamPosition
  })

  /** The nearest of the events that `filter` leaves. */
  const nearest = Effect.fnUntraced(function* <E>(
    roomNid: number,
    ts: number,
    direction: "f" | "b",
    filter: (read: ReadonlyArray<StreamedEvent>) => Effect.Effect<ReadonlyArray<StreamedEvent>, E>
  ) {
    const position = yield* positionOf(roomNid, ts)
    const [older, newer] = yield* Effect.all([
      events.timelines([{ roomNid, after: beginning, upTo: position }], "b", around),
      events.timelines([{ roomNid, after: position, upTo: theEnd }], "f", around)
    ])
    const distance = (at: number) => (direction === "f" ? at - ts : ts - at)
    // Among events of the same moment, the first one in the direction of the search.
    const inOrder = [...older.toReversed(), ...newer]
    const [found] = (yield* filter(direction === "f" ? inOrder : inOrder.reverse()))
      .filter(({ event }) => distance(event.origin_server_ts) >= 0)
      .sort((a, b) => distance(a.event.origin_server_ts) - distance(b.event.origin_server_ts))
    if (found === undefined) {
      return yield* new NotFound({ error: `There is no event ${direction === "f" ? "after" : "before"} ${ts}` })
    }
    return { event_id: found.event.event_id, origin_server_ts: found.event.origin_server_ts }
  })

  const eventNear = Effect.fn("RoomFinder.eventNear")(function* (roomId: RoomId, ts: number, direction: "f" | "b") {
    const current = yield* rooms.currentState(roomId)
    if (Option.isNone(current)) return yield* new NotFound({ error: `There is no room ${roomId}` })
    return yield* nearest(current.value.roomNid, ts, direction, Effect.succeed)
  })

  const eventAt = Effect.fn("RoomFinder.eventAt")(function* (
    session: Session,
    roomId: RoomId,
    ts: number,
    direction: "f" | "b"
  ) {
    const view = yield* viewer.view(session.userId, roomId)
    if (view.reader.isJoined) yield* fetchEarlier(roomId, view.reader.roomNid, ts, direction)
    return yield* nearest(view.reader.roomNid, ts, direction, (read) => viewer.visibleTo(view.reader, read))
  })

  return RoomFinder.of({ findUsers, mutualRooms, forget, report, eventAt, eventNear })
})

/** The user directory, shared rooms, forgotten rooms, reports. */
export class RoomFinder extends Context.Service<
  RoomFinder,
  {
    /**
     * Users among the contacts of the caller, then those who share a room with them, or are in a room that anybody may join or
     * read. Any user.
     */
    readonly findUsers: (
      session: Session,
      term: string,
      limit?: number
    ) => Effect.Effect<{ readonly results: ReadonlyArray<FoundUser>; readonly limited: boolean }>
    /** The rooms that the user shares with another one. Errors: M_INVALID_PARAM. */
    readonly mutualRooms: (
      session: Session,
      userId: UserId,
      from: string | undefined
    ) => Effect.Effect<
      { readonly joined: ReadonlyArray<RoomId>; readonly count: number; readonly next_batch?: string },
      MatrixError
    >
    /** Users who have left the room. It is no longer shown to them. Errors: M_UNKNOWN, M_NOT_FOUND. */
    readonly forget: (session: Session, roomId: RoomId) => Effect.Effect<void, MatrixError>
    /**
     * Reports an event that the user may see in a room that they are in, a room or a user. A report of a room that is not here is
     * accepted and dropped: the answer does not tell whether a room exists. Errors: M_NOT_FOUND, M_LIMIT_EXCEEDED.
     */
    readonly report: (
      session: Session,
      subject: { readonly roomId?: RoomId; readonly eventId?: EventId; readonly userId?: UserId },
      reason: string
    ) => Effect.Effect<void, MatrixError>
    /** The event closest to a time, in ms since 1970, for any caller. Errors: M_NOT_FOUND. */
    readonly eventNear: (
      roomId: RoomId,
      ts: number,
      direction: "f" | "b"
    ) => Effect.Effect<{ readonly event_id: EventId; readonly origin_server_ts: number }, MatrixError>
    /** The event that was made closest to a time, in ms since 1970. Errors: M_NOT_FOUND. */
    readonly eventAt: (
      session: Session,
      roomId: RoomId,
      ts: number,
      direction: "f" | "b"
    ) => Effect.Effect<{ readonly event_id: EventId; readonly origin_server_ts: number }, MatrixError>
  }
>()("greenroom/actors/RoomFinder") {
  static readonly layer = Layer.effect(RoomFinder, make)
}
