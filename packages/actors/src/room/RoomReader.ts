/**
 * Reading rooms by the rules of today: history visibility on every read, previews of world-readable rooms, the state that
 * a past member left behind. Answered from the store, without waking the room's actor; events leave as clients of today
 * receive them.
 *
 * Source: "Getting events for a room" and "Room history visibility" of the client-server specification.
 */

import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { RoomEventFilter } from "@greenroom/protocol/client-server/Filter"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomAlias, RoomId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Forbidden, type MatrixError, MissingParam, NotFound } from "@greenroom/protocol/MatrixError"
import { DirectoryStore } from "@greenroom/store/DirectoryStore"
import { EventLog, type StreamedEvent } from "@greenroom/store/EventLog"
import { EventStore, type TimelineRange } from "@greenroom/store/EventStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { StateStore } from "@greenroom/store/StateStore"
import {
  beginning,
  comparePositions,
  laterPosition,
  positionBefore,
  type StreamPosition,
  theEnd
} from "@greenroom/store/StreamToken"
import { Context, Effect, Layer } from "effect"
import type { Session } from "../runtime/Session.ts"
import { type EventRenderer, makeEventRenderer } from "./EventRenderer.ts"
import { makeEventSelections } from "./EventSelection.ts"
import { type FillLimits, inPassing, makeGapFilling, pagingBack } from "./internal/GapFilling.ts"
import { makeRoomViewer, type Scan, type View } from "./internal/RoomViewer.ts"

const maxPage = 1_000
const defaultPage = 10

/** Selects a page of messages. */
export interface MessagesRequest {
  readonly from?: string | undefined
  readonly to?: string | undefined
  /** Required. */
  readonly dir: "f" | "b" | undefined
  readonly limit?: number | undefined
  /** If it has `lazy_load_members`, the answer has the memberships of the senders. */
  readonly filter?: RoomEventFilter | undefined
  /** Reads a room in which the user need not be. The caller has checked that the user is an administrator. */
  readonly asAdministrator?: boolean | undefined
}

export interface ContextRequest extends Pick<MessagesRequest, "filter" | "asAdministrator"> {
  /** Of the events around. */
  readonly limit?: number | undefined
}

/** A page of messages, with the tokens at its ends. */
export interface MessagesPage {
  readonly start: string
  /** Absent if there is nothing more. */
  readonly end?: string
  readonly chunk: ReadonlyArray<ClientServerEvent>
  readonly state?: ReadonlyArray<ClientServerEvent>
}

/** An event with the events around it, and the state there. */
export interface EventContext {
  readonly event: ClientServerEvent
  readonly events_before: ReadonlyArray<ClientServerEvent>
  readonly events_after: ReadonlyArray<ClientServerEvent>
  readonly start: string
  readonly end: string
  readonly state: ReadonlyArray<ClientServerEvent>
}

const make = Effect.gen(function* () {
  const rooms = yield* RoomStore
  const states = yield* StateStore
  const events = yield* EventStore
  const log = yield* EventLog
  const directory = yield* DirectoryStore
  const filled = yield* makeGapFilling
  const { administratorsView, notSeen, outside, positionOf, scan, shownEvent, stateOf, view, visibleTo } =
    yield* makeRoomViewer
  const selectionOf = yield* makeEventSelections
  const renderer: EventRenderer = yield* makeEventRenderer

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
        : yield* membersAt(seen, yield* positionOf(options.at, "at"))
    const wanted = found.filter(
      ({ content }) =>
        (options.membership === undefined || content.membership === options.membership) &&
        (options.notMembership === undefined || content.membership !== options.notMembership)
    )
    return yield* renderer.render(session, wanted)
  })

  /** The members as of the newest event up to a position. Errors: M_FORBIDDEN if the reader may not see that event. */
  const membersAt = Effect.fnUntraced(function* (seen: View, at: StreamPosition) {
    const { leftAt, roomNid } = seen.reader
    const upTo = leftAt !== undefined && comparePositions(leftAt, at) < 0 ? leftAt : at
    const [newest] = yield* events.timelines([{ roomNid, after: beginning, upTo }], "b", 1)
    const stored = newest === undefined ? undefined : (yield* events.byIds([newest.event.event_id]))[0]
    const ref = stored?.stateAfter ?? stored?.stateBefore
    if (stored === undefined || ref === undefined) return []
    if ((yield* visibleTo(seen.reader, [stored])).length === 0) {
      return yield* new Forbidden({ error: "at: you may not see the room as it was at that position" })
    }
    return (yield* states.read([{ roomNid, ref }], { types: ["m.room.member"] })).map(({ event }) => event)
  })

  const joinedMembers = Effect.fn("RoomReader.joinedMembers")(function* (session: Session, roomId: RoomId) {
    const seen = yield* view(session.userId, roomId)
    if (seen.membership !== "join") return yield* outside(session.userId, roomId)
    return (yield* stateOf(seen, { types: ["m.room.member"] })).filter(({ content }) => content.membership === "join")
  })

  /** An event in a room that the reader may not see is answered like one that does not exist. */
  const event = Effect.fn("RoomReader.event")(function* (session: Session, roomId: RoomId, eventId: EventId) {
    const seen = yield* Effect.mapError(view(session.userId, roomId), () => notSeen(eventId))
    return (yield* renderer.renderTimeline(session, seen.reader, [yield* shownEvent(seen, roomId, eventId)]))[0]!
  })

  const anyEvent = Effect.fn("RoomReader.anyEvent")(function* (session: Session, eventId: EventId) {
    const [stored] = yield* events.byIds([eventId])
    if (stored === undefined) return yield* new NotFound({ error: `There is no event ${eventId}` })
    return (yield* renderer.render(session, [stored.event]))[0]!
  })

  /** A part of the timeline as the reader sees it, with what was missing in it. */
  const filledScan = (
    { reader }: View,
    roomId: RoomId,
    { after, upTo }: Omit<TimelineRange, "roomNid">,
    direction: "f" | "b",
    limit: number,
    filter: RoomEventFilter | undefined,
    limits: FillLimits
  ): Effect.Effect<Scan> =>
    filled({
      roomId,
      direction,
      range: { roomNid: reader.roomNid, after, upTo },
      isOpen: comparePositions(after, beginning) === 0,
      read: Effect.map(scan(reader, { after, upTo }, direction, limit, filter), (page) => ({
        page,
        count: page.found.length,
        end: page.end
      })),
      limits
    })

  const messages = Effect.fn("RoomReader.messages")(function* (
    session: Session,
    roomId: RoomId,
    request: MessagesRequest
  ): Effect.fn.Return<MessagesPage, MatrixError> {
    const { asAdministrator, dir } = request
    const seen = yield* (asAdministrator ? administratorsView : view)(session.userId, roomId)
    if (dir === undefined) return yield* new MissingParam({ error: "dir: missing key" })
    const limit = Math.min(request.limit ?? defaultPage, maxPage)
    const from =
      request.from === undefined ? (dir === "b" ? theEnd : beginning) : yield* positionOf(request.from, "from")
    const to = request.to === undefined ? (dir === "b" ? beginning : theEnd) : yield* positionOf(request.to, "to")
    const range = dir === "b" ? { after: to, upTo: from } : { after: from, upTo: to }
    const limits = dir === "b" ? pagingBack : inPassing
    const page = yield* filledScan(seen, roomId, range, dir, limit, request.filter, limits)
    const newest = page.found[0]?.position ?? beginning
    // Another node may have committed what was found, and this one not have followed the log so far.
    const start = comparePositions(from, theEnd) === 0 ? laterPosition(yield* log.currentPosition, newest) : from
    // A page with events has a next position, an empty page is the last one: forwards events may come, and clients of both directions
    // read `end` of every page that has events.
    const last = page.found.at(-1)
    const end = page.end ?? (last === undefined || dir === "f" ? last?.position : positionBefore(last.position))
    return {
      start: yield* log.tokenOf(start),
      ...(end === undefined ? {} : { end: yield* log.tokenOf(end) }),
      chunk: yield* renderer.renderTimeline(session, seen.reader, page.found),
      ...(request.filter?.lazy_load_members ? { state: yield* membersFor(session, seen, page.found) } : {})
    }
  })

  /** The memberships of the senders. */
  const membersFor = Effect.fnUntraced(function* (session: Session, seen: View, page: ReadonlyArray<StreamedEvent>) {
    const senders = [...new Set(page.map(({ event }) => event.sender))]
    const keys = senders.map((sender) => ["m.room.member", sender] as const)
    return yield* renderer.render(session, keys.length === 0 ? [] : yield* stateOf(seen, { keys }))
  })

  const context = Effect.fn("RoomReader.context")(function* (
    session: Session,
    roomId: RoomId,
    eventId: EventId,
    request: ContextRequest
  ): Effect.fn.Return<EventContext, MatrixError> {
    const { asAdministrator, filter } = request
    const seen = yield* (asAdministrator ? administratorsView : view)(session.userId, roomId)
    const centre = yield* shownEvent(seen, roomId, eventId)
    const limit = Math.min(request.limit ?? defaultPage, maxPage)
    const lazyMembers = filter?.lazy_load_members ?? false
    const scanAround = (range: Omit<TimelineRange, "roomNid">, direction: "f" | "b", size: number) =>
      filledScan(seen, roomId, range, direction, size, filter, inPassing)
    const [older, newer] = yield* Effect.all([
      limit === 0
        ? Effect.succeed<Scan>({ found: [], end: positionBefore(centre.position) })
        : scanAround({ after: beginning, upTo: positionBefore(centre.position) }, "b", Math.ceil(limit / 2)),
      limit < 2
        ? Effect.succeed<Scan>({ found: [], end: centre.position })
        : scanAround({ after: centre.position, upTo: theEnd }, "f", Math.floor(limit / 2))
    ])
    const last = newer.found.at(-1) ?? centre
    const [stored] = yield* events.byIds([last.event.event_id])
    const ref = stored?.stateAfter ?? stored?.stateBefore ?? seen.state
    const timeline = [centre, ...older.found, ...newer.found]
    const members = [...new Set(timeline.map(({ event }) => event.sender))].map(
      (sender) => ["m.room.member", sender] as const
    )
    const at = [{ roomNid: seen.reader.roomNid, ref }]
    const state = lazyMembers
      ? [...(yield* states.read(at, { except: "m.room.member" })), ...(yield* states.read(at, { keys: members }))]
      : yield* states.read(at)
    const wanted = yield* selectionOf(filter).of(seen.reader.roomNid, state)
    const [event, ...around] = yield* renderer.renderTimeline(session, seen.reader, timeline)
    return {
      event: event!,
      events_before: around.slice(0, older.found.length),
      events_after: around.slice(older.found.length),
      start: yield* log.tokenOf(older.end ?? positionBefore((older.found.at(-1) ?? centre).position)),
      end: yield* log.tokenOf(newer.end ?? last.position),
      state: yield* renderer.render(
        session,
        wanted.map(({ event }) => event)
      )
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
    anyEvent,
    messages,
    context,
    aliases,
    localAliases: directory.aliasesOf,
    joinedRooms: (session) => rooms.joinedRooms(session.userId)
  })
})

/** Reads rooms as today's client API does: state, members, messages, events with context. */
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
    /** An event of any room, also one that was rejected. The caller has checked that the user is an administrator. Errors: M_NOT_FOUND. */
    readonly anyEvent: (session: Session, eventId: EventId) => Effect.Effect<ClientServerEvent, MatrixError>
    /** A page of the timeline, gaps in it filled over federation. Errors: M_FORBIDDEN, M_INVALID_PARAM, M_MISSING_PARAM. */
    readonly messages: (
      session: Session,
      roomId: RoomId,
      request: MessagesRequest
    ) => Effect.Effect<MessagesPage, MatrixError>
    /** An event with its context, gaps in it filled over federation. Errors: M_FORBIDDEN, M_NOT_FOUND. */
    readonly context: (
      session: Session,
      roomId: RoomId,
      eventId: EventId,
      request: ContextRequest
    ) => Effect.Effect<EventContext, MatrixError>
    /** The aliases of the room on this server. */
    readonly aliases: (session: Session, roomId: RoomId) => Effect.Effect<ReadonlyArray<RoomAlias>, MatrixError>
    /** The same, for callers that may read every room. */
    readonly localAliases: (roomId: RoomId) => Effect.Effect<ReadonlyArray<RoomAlias>>
    /** The rooms that the user is joined to. */
    readonly joinedRooms: (session: Session) => Effect.Effect<ReadonlyArray<RoomId>>
  }
>()("greenroom/actors/RoomReader") {
  static readonly layer = Layer.effect(RoomReader, make)
}

/** The content of a member as `joined_members` shows it. matrix-nio before 0.25 reads no list in which a name is missing: it is empty then. */
export const joinedMember = ({ content }: Event): JsonObject => ({
  display_name: typeof content.displayname === "string" ? content.displayname : "",
  ...(typeof content.avatar_url === "string" ? { avatar_url: content.avatar_url } : {})
})
