/**
 * Reading rooms by the rules of today: history visibility on every read, previews of world-readable rooms, the state that
 * a past member left behind. Answered from the store, without waking the room's actor; events leave as clients of today
 * receive them.
 *
 * Source: "Getting events for a room" and "Room history visibility" of the client-server specification.
 */

import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomAlias, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Forbidden, InvalidParam, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { maxPageBytes } from "@greenroom/protocol/Pagination"
import { DirectoryStore } from "@greenroom/store/DirectoryStore"
import { EventLog, type StreamedEvent } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { type RoomMembership, RoomStore } from "@greenroom/store/RoomStore"
import { type StateRef, type StateSelection, StateStore } from "@greenroom/store/StateStore"
import {
  beginning,
  comparePositions,
  formatPosition,
  parseToken,
  type StreamPosition
} from "@greenroom/store/StreamToken"
import { Context, Effect, Layer, Option } from "effect"
import { ask } from "../runtime/Ask.ts"
import type { Session } from "../runtime/Session.ts"
import { type EventRenderer, makeEventRenderer } from "./internal/EventRenderer.ts"
import { makeHistoryVisibility, type Reader, visibilityOf } from "./internal/HistoryVisibility.ts"
import { Room } from "./RoomProtocol.ts"

/** How much history is asked for at once where ours ends. */
const backfillSize = 100
/** The most events of a page that are read to find `limit` which pass the filter. */
const maxScanned = 5_000
const maxPage = 1_000
const defaultPage = 10

/** After everything. */
const theEnd: StreamPosition = { xid: Number.MAX_SAFE_INTEGER, nid: Number.MAX_SAFE_INTEGER }

/** Which events a page is to have. */
export type EventPredicate = (event: Event) => boolean

export interface MessagesRequest {
  readonly from?: string | undefined
  readonly to?: string | undefined
  readonly dir: "f" | "b"
  readonly limit?: number | undefined
  readonly matches?: EventPredicate | undefined
  /** Whether the memberships of the senders come along. */
  readonly lazyMembers?: boolean | undefined
}

export interface MessagesPage {
  readonly start: string
  /** Absent where there is nothing more. */
  readonly end?: string
  readonly chunk: ReadonlyArray<ClientServerEvent>
  readonly state?: ReadonlyArray<ClientServerEvent>
}

export interface EventContext {
  readonly event: ClientServerEvent
  readonly events_before: ReadonlyArray<ClientServerEvent>
  readonly events_after: ReadonlyArray<ClientServerEvent>
  readonly start: string
  readonly end: string
  readonly state: ReadonlyArray<ClientServerEvent>
}

/** A room as a user may see it. */
interface View {
  readonly reader: Reader
  /** The state now, or as it was when the user left. */
  readonly state: StateRef
  readonly membership: string
}

const before = ({ position }: StreamedEvent): StreamPosition => ({ xid: position.xid, nid: position.nid - 1 })

/** The place of a token. Errors: M_INVALID_PARAM. */
const placeOf = (token: string, name: string): Effect.Effect<StreamPosition, MatrixError> =>
  Option.match(parseToken(token), {
    onNone: () => Effect.fail(new InvalidParam({ error: `${name}: ${token.slice(0, 64)} is no token of this server` })),
    onSome: ({ position }) => Effect.succeed(position)
  })

const make = Effect.gen(function* () {
  const rooms = yield* RoomStore
  const states = yield* StateStore
  const events = yield* EventStore
  const log = yield* EventLog
  const directory = yield* DirectoryStore
  const room = yield* Room.client
  const { visibleTo } = yield* makeHistoryVisibility
  const renderer: EventRenderer = yield* makeEventRenderer

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

  /** Errors: M_FORBIDDEN, also where there is no such room. */
  const view = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId): Effect.fn.Return<View, MatrixError> {
    const membership = yield* rooms.membership(userId, roomId)
    const seen = Option.isSome(membership) ? viewOf(userId, membership.value) : undefined
    return seen ?? (yield* preview(userId, roomId))
  })

  const stateOf = (seen: View, selection?: StateSelection) =>
    Effect.map(states.read([{ roomNid: seen.reader.roomNid, ref: seen.state }], selection), (entries) =>
      entries.map(({ event }) => event)
    )

  const state = Effect.fn("RoomReader.state")(function* (session: Session, roomId: RoomId) {
    return yield* renderer.render(session, yield* stateOf(yield* view(session.userId, roomId)))
  })

  const stateEvent = Effect.fn("RoomReader.stateEvent")(function* (
    session: Session,
    roomId: RoomId,
    type: string,
    stateKey: string
  ) {
    const [event] = yield* stateOf(yield* view(session.userId, roomId), { key: [type, stateKey] })
    if (event === undefined) return yield* new NotFound({ error: `The room has no state ${type} ${stateKey}`.trim() })
    return (yield* renderer.render(session, [event]))[0]!
  })

  const members = Effect.fn("RoomReader.members")(function* (
    session: Session,
    roomId: RoomId,
    options: {
      readonly at?: string | undefined
      readonly membership?: string | undefined
      readonly notMembership?: string | undefined
    }
  ) {
    const seen = yield* view(session.userId, roomId)
    const found =
      options.at === undefined
        ? yield* stateOf(seen, { types: ["m.room.member"] })
        : yield* membersAt(seen, yield* placeOf(options.at, "at"))
    const wanted = found.filter(
      ({ content }) =>
        (options.membership === undefined || content.membership === options.membership) &&
        (options.notMembership === undefined || content.membership !== options.notMembership)
    )
    return yield* renderer.render(session, wanted)
  })

  /** The members as of the newest event up to a position. */
  const membersAt = Effect.fnUntraced(function* (seen: View, at: StreamPosition) {
    const { leftAt, roomNid } = seen.reader
    const upTo = leftAt !== undefined && comparePositions(leftAt, at) < 0 ? leftAt : at
    const [newest] = yield* events.timelines([{ roomNid, after: beginning, upTo }], "b", 1)
    const stored = newest === undefined ? undefined : (yield* events.byIds([newest.event.event_id]))[0]
    const ref = stored?.stateAfter ?? stored?.stateBefore
    if (ref === undefined) return []
    return (yield* states.read([{ roomNid, ref }], { types: ["m.room.member"] })).map(({ event }) => event)
  })

  const joinedMembers = Effect.fn("RoomReader.joinedMembers")(function* (session: Session, roomId: RoomId) {
    const seen = yield* view(session.userId, roomId)
    if (seen.membership !== "join") return yield* outside(session.userId, roomId)
    return (yield* stateOf(seen, { types: ["m.room.member"] })).filter(({ content }) => content.membership === "join")
  })

  const notSeen = (eventId: EventId) => new NotFound({ error: `There is no event ${eventId} here that you may see` })

  const visibleEvent = Effect.fnUntraced(function* (seen: View, roomId: RoomId, eventId: EventId) {
    const [stored] = yield* events.byIds([eventId])
    if (stored === undefined || stored.status > 1 || stored.event.room_id !== roomId) return yield* notSeen(eventId)
    const [visible] = yield* visibleTo(seen.reader, [stored])
    return visible ?? (yield* notSeen(eventId))
  })

  /** Without a room the reader has nothing to do there, which is said as of an event that is not there. */
  const event = Effect.fn("RoomReader.event")(function* (session: Session, roomId: RoomId, eventId: EventId) {
    const seen = yield* Effect.mapError(view(session.userId, roomId), () => notSeen(eventId))
    const found = yield* visibleEvent(seen, roomId, eventId)
    return (yield* renderer.render(session, [found.event]))[0]!
  })

  /** Where our history ends before the room does, the rest is asked for; true if there is more of it now. */
  const fetchHistory = Effect.fnUntraced(function* (roomId: RoomId, roomNid: number) {
    const [oldest] = yield* events.timelines([{ roomNid, after: beginning, upTo: theEnd }], "f", 1)
    if (oldest === undefined || oldest.event.type === "m.room.create") return false
    return yield* Effect.orElseSucceed(ask(room(roomId).Backfill({ limit: backfillSize })), () => false)
  })

  interface Scan {
    readonly found: ReadonlyArray<StreamedEvent>
    /** Where the scan ended; undefined where the room did. */
    readonly end: StreamPosition | undefined
  }

  /** Reads on until `limit` events match, are visible, or the range ends. */
  const scan = Effect.fnUntraced(function* (
    reader: Reader,
    range: { readonly after: StreamPosition; readonly upTo: StreamPosition },
    direction: "f" | "b",
    limit: number,
    matches: EventPredicate
  ): Effect.fn.Return<Scan> {
    const found: Array<StreamedEvent> = []
    let { after, upTo } = range
    for (let scanned = 0; scanned < maxScanned; ) {
      const size = Math.max(limit - found.length, matches === all ? 1 : 100)
      const page = yield* events.page([{ roomNid: reader.roomNid, after, upTo }], direction, size, maxPageBytes)
      scanned += page.events.length
      for (const entry of yield* visibleTo(reader, page.events)) {
        if (!matches(entry.event)) continue
        found.push(entry)
        if (found.length === limit) return { found, end: direction === "b" ? before(entry) : entry.position }
      }
      const last = page.events.at(-1)
      if (last === undefined || (page.events.length < size && !page.cut)) return { found, end: undefined }
      if (direction === "b") upTo = before(last)
      else after = last.position
      // A page that is cut has as many bytes as an answer may have.
      if (page.cut && found.length > 0) break
    }
    return { found, end: direction === "b" ? upTo : after }
  })

  const all: EventPredicate = () => true

  const messages = Effect.fn("RoomReader.messages")(function* (
    session: Session,
    roomId: RoomId,
    request: MessagesRequest
  ): Effect.fn.Return<MessagesPage, MatrixError> {
    const { dir } = request
    const seen = yield* view(session.userId, roomId)
    const { reader } = seen
    const limit = Math.min(request.limit ?? defaultPage, maxPage)
    const from = request.from === undefined ? (dir === "b" ? theEnd : beginning) : yield* placeOf(request.from, "from")
    const to = request.to === undefined ? (dir === "b" ? beginning : theEnd) : yield* placeOf(request.to, "to")
    const range = dir === "b" ? { after: to, upTo: from } : { after: from, upTo: to }
    const read = scan(reader, range, dir, limit, request.matches ?? all)
    const stored = yield* read
    const isShort = dir === "b" && stored.end === undefined && request.to === undefined
    const page = isShort && (yield* fetchHistory(roomId, reader.roomNid)) ? yield* read : stored
    const chunk = page.found.map((entry) => entry.event)
    const start = comparePositions(from, theEnd) === 0 ? yield* log.currentPosition : from
    // Forwards there is always a place to go on from: what is to come.
    const end = page.end ?? (dir === "f" ? (page.found.at(-1)?.position ?? start) : undefined)
    return {
      start: formatPosition(start),
      ...(end === undefined ? {} : { end: formatPosition(end) }),
      chunk: yield* renderer.render(session, chunk),
      ...(request.lazyMembers ? { state: yield* membersFor(session, seen, chunk) } : {})
    }
  })

  /** The memberships of the senders. */
  const membersFor = Effect.fnUntraced(function* (session: Session, seen: View, chunk: ReadonlyArray<Event>) {
    const senders = [...new Set(chunk.map(({ sender }) => sender))]
    const keys = senders.map((sender) => ["m.room.member", sender] as const)
    return yield* renderer.render(session, keys.length === 0 ? [] : yield* stateOf(seen, { keys }))
  })

  const context = Effect.fn("RoomReader.context")(function* (
    session: Session,
    roomId: RoomId,
    eventId: EventId,
    options: {
      readonly limit?: number | undefined
      readonly matches?: EventPredicate | undefined
      readonly lazyMembers?: boolean | undefined
    }
  ): Effect.fn.Return<EventContext, MatrixError> {
    const seen = yield* Effect.mapError(view(session.userId, roomId), () => notSeen(eventId))
    const centre = yield* visibleEvent(seen, roomId, eventId)
    const limit = Math.min(options.limit ?? defaultPage, maxPage)
    const matches = options.matches ?? all
    const [older, newer] = yield* Effect.all([
      limit === 0
        ? Effect.succeed<Scan>({ found: [], end: before(centre) })
        : scan(seen.reader, { after: beginning, upTo: before(centre) }, "b", Math.ceil(limit / 2), matches),
      limit < 2
        ? Effect.succeed<Scan>({ found: [], end: centre.position })
        : scan(seen.reader, { after: centre.position, upTo: theEnd }, "f", Math.floor(limit / 2), matches)
    ])
    const last = newer.found.at(-1) ?? centre
    const [stored] = yield* events.byIds([last.event.event_id])
    const ref = stored?.stateAfter ?? stored?.stateBefore ?? seen.state
    const shown = [centre, ...older.found, ...newer.found].map((entry) => entry.event)
    const members = [...new Set(shown.map(({ sender }) => sender))].map((sender) => ["m.room.member", sender] as const)
    const state = (yield* states.read(
      [{ roomNid: seen.reader.roomNid, ref }],
      options.lazyMembers ? { keys: members } : undefined
    )).map((entry) => entry.event)
    const rest = options.lazyMembers
      ? (yield* stateOf({ ...seen, state: ref })).filter(({ type }) => type !== "m.room.member")
      : []
    return {
      event: (yield* renderer.render(session, [centre.event]))[0]!,
      events_before: yield* renderer.render(
        session,
        older.found.map((entry) => entry.event)
      ),
      events_after: yield* renderer.render(
        session,
        newer.found.map((entry) => entry.event)
      ),
      start: formatPosition(
        older.end ?? (older.found.at(-1) === undefined ? before(centre) : before(older.found.at(-1)!))
      ),
      end: formatPosition(newer.end ?? last.position),
      state: yield* renderer.render(session, [...rest, ...state])
    }
  })

  const aliases = Effect.fn("RoomReader.aliases")(function* (session: Session, roomId: RoomId) {
    yield* view(session.userId, roomId)
    return yield* directory.aliasesOf(roomId)
  })

  return RoomReader.of({
    state,
    stateEvent,
    members,
    joinedMembers,
    event,
    messages,
    context,
    aliases,
    joinedRooms: (session) => rooms.joinedRooms(session.userId)
  })
})

export class RoomReader extends Context.Service<
  RoomReader,
  {
    /** All state. Members, past members as of when they left, anybody where the history is world-readable; so below. */
    readonly state: (session: Session, roomId: RoomId) => Effect.Effect<ReadonlyArray<ClientServerEvent>, MatrixError>
    /** Errors: M_NOT_FOUND, M_FORBIDDEN. */
    readonly stateEvent: (
      session: Session,
      roomId: RoomId,
      type: string,
      stateKey: string
    ) => Effect.Effect<ClientServerEvent, MatrixError>
    /** Memberships, now or at a token, of some kind or of all but one. */
    readonly members: (
      session: Session,
      roomId: RoomId,
      options: {
        readonly at?: string | undefined
        readonly membership?: string | undefined
        readonly notMembership?: string | undefined
      }
    ) => Effect.Effect<ReadonlyArray<ClientServerEvent>, MatrixError>
    /** The memberships of those who are joined. Members only. */
    readonly joinedMembers: (session: Session, roomId: RoomId) => Effect.Effect<ReadonlyArray<Event>, MatrixError>
    /** Errors: M_NOT_FOUND, also for what the user may not see. */
    readonly event: (
      session: Session,
      roomId: RoomId,
      eventId: EventId
    ) => Effect.Effect<ClientServerEvent, MatrixError>
    /** A page of the timeline. Back-fills over federation. Errors: M_FORBIDDEN, M_INVALID_PARAM. */
    readonly messages: (
      session: Session,
      roomId: RoomId,
      request: MessagesRequest
    ) => Effect.Effect<MessagesPage, MatrixError>
    /** An event with what is around it. Errors: M_NOT_FOUND. */
    readonly context: (
      session: Session,
      roomId: RoomId,
      eventId: EventId,
      options: {
        readonly limit?: number | undefined
        readonly matches?: EventPredicate | undefined
        readonly lazyMembers?: boolean | undefined
      }
    ) => Effect.Effect<EventContext, MatrixError>
    /** The aliases of the room on this server. */
    readonly aliases: (session: Session, roomId: RoomId) => Effect.Effect<ReadonlyArray<RoomAlias>, MatrixError>
    readonly joinedRooms: (session: Session) => Effect.Effect<ReadonlyArray<RoomId>>
  }
>()("greenroom/actors/RoomReader") {
  static readonly layer = Layer.effect(RoomReader, make)
}

/** The content of a member as `joined_members` shows it. */
export const joinedMember = ({ content }: Event): JsonObject => ({
  ...(typeof content.displayname === "string" ? { display_name: content.displayname } : {}),
  ...(typeof content.avatar_url === "string" ? { avatar_url: content.avatar_url } : {})
})
