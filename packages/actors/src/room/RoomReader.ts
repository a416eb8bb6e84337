/**
 * Reading rooms by the rules of today: history visibility on every read, previews of world-readable rooms, the state that
 * a past member left behind. Answered from the store, without waking the room's actor; events leave as clients of today
 * receive them.
 *
 * Source: "Getting events for a room" and "Room history visibility" of the client-server specification.
 */
import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomAlias, RoomId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Forbidden, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { DirectoryStore } from "@greenroom/store/DirectoryStore"
import { EventStore } from "@greenroom/store/EventStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { StateStore } from "@greenroom/store/StateStore"
import { beginning, comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"
import { Context, Effect, Layer } from "effect"
import type { Session } from "../runtime/Session.ts"
import { type EventRenderer, makeEventRenderer } from "./EventRenderer.ts"
import { makeRoomViewer, type View } from "./internal/RoomViewer.ts"
import {
  type ContextRequest,
  type EventContext,
  type MessagesPage,
  type MessagesRequest,
  makeTimelinePages
} from "./internal/TimelinePages.ts"

export type { ContextRequest, EventContext, MessagesPage, MessagesRequest }

const make = Effect.gen(function* () {
  const rooms = yield* RoomStore
  const states = yield* StateStore
  const events = yield* EventStore
  const directory = yield* DirectoryStore
  const viewer = yield* makeRoomViewer
  const { notSeen, outside, positionOf, shownEvent, stateOf, view, visibleTo } = viewer
  const renderer: EventRenderer = yield* makeEventRenderer
  const { context, messages } = yield* makeTimelinePages(viewer, renderer)

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
