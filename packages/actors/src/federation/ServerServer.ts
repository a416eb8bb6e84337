/**
 * The server-server API as a service: one method for each endpoint that differs from the draft's (`Federation`). Both use
 * `FederationRooms`.
 *
 * By then the request is authenticated: `origin` is the server that signed it. A room that the origin has no part in, and a
 * room of the draft's version, does not exist for it (M_NOT_FOUND).
 *
 * Source: the server-server specification.
 */
import {
  type EventId,
  isHistoricalUserId,
  type RoomId,
  type ServerName,
  serverNameOf,
  type UserId
} from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Forbidden, type MatrixError, NotFound, UnknownToken } from "@greenroom/protocol/MatrixError"
import { AuthChainStore } from "@greenroom/store/AuthChainStore"
import { EventStatus } from "@greenroom/store/EventLog"
import { EventStore, type StoredEvent } from "@greenroom/store/EventStore"
import { expectEvents } from "@greenroom/store/LargeReads"
import { OpenIdTokenStore } from "@greenroom/store/OpenIdTokenStore"
import { comparePositions } from "@greenroom/store/StreamToken"
import { Context, Effect, Layer, Option, Redacted } from "effect"
import type { PublicRooms, PublicRoomsRequest } from "../room/PublicRooms.ts"
import type { MembershipHandshake } from "../room/RemoteRooms.ts"
import { RoomFinder } from "../room/RoomFinder.ts"
import { RoomSummaries } from "../room/RoomSummaries.ts"
import { Federation } from "./Federation.ts"
import { FederationRooms, type TakenJoin } from "./FederationRooms.ts"
import type { ReceivedInvite } from "./internal/IncomingInvites.ts"

/** The room versions that a server knows which does not say. */
const versionsOfOldServers = ["1", "1-draft"]

/** The most events that are examined to find the missing ones. */
const maxRounds = 100

type Pdus = ReadonlyArray<JsonObject>

const noSuchEvent = (roomId: RoomId, eventId: EventId) =>
  new NotFound({ error: `There is no event ${eventId} in ${roomId}` })

const make = Effect.gen(function* () {
  const rooms = yield* FederationRooms
  const federation = yield* Federation
  const events = yield* EventStore
  const chains = yield* AuthChainStore
  const finder = yield* RoomFinder
  const summaries = yield* RoomSummaries
  const tokens = yield* OpenIdTokenStore

  /** The room has a version of today's, and the server takes part in it. */
  const require = Effect.fnUntraced(function* (origin: ServerName, roomId: RoomId) {
    yield* rooms.requireDialect(roomId, "today")
    yield* rooms.requireServer(origin, roomId)
  })

  /**
   * Rejected events are not a part of history or of auth chains. A server that asks for one by its ID gets it: the event is a
   * predecessor of others, and that server may know a state which allows it.
   */
  const isGiven = ({ status }: StoredEvent): boolean => status !== EventStatus.rejected

  const eventsIn = Effect.fnUntraced(function* (roomId: RoomId, ids: ReadonlyArray<EventId>) {
    return (yield* events.byIds(ids)).filter((storedEvent) => storedEvent.event.room_id === roomId)
  })

  const mustExist = Effect.fnUntraced(function* (roomId: RoomId, eventId: EventId) {
    const [found] = yield* eventsIn(roomId, [eventId])
    return found ?? (yield* noSuchEvent(roomId, eventId))
  })

  const getState = Effect.fnUntraced(function* (origin: ServerName, roomId: RoomId, at: EventId) {
    yield* require(origin, roomId)
    yield* mustExist(roomId, at)
    return yield* rooms.getState(origin, roomId, at)
  })

  /** The specification has 403 here for a server outside the room. A room that does not exist gives the same answer. */
  const getStateIds = Effect.fnUntraced(function* (origin: ServerName, roomId: RoomId, at: EventId) {
    const outside = new Forbidden({ error: `${origin} is not in the room` })
    yield* Effect.catchTag(require(origin, roomId), "M_NOT_FOUND", () => Effect.fail(outside))
    yield* mustExist(roomId, at)
    return yield* rooms.getStateIds(origin, roomId, at)
  })

  const getEventAuth = Effect.fnUntraced(function* (origin: ServerName, roomId: RoomId, eventId: EventId) {
    yield* require(origin, roomId)
    const found = yield* mustExist(roomId, eventId)
    if (!isGiven(found)) return yield* noSuchEvent(roomId, eventId)
    const { event } = found
    const named = (yield* eventsIn(roomId, event.auth_events)).filter(isGiven)
    const behind = yield* chains.events(event.auth_events)
    return yield* rooms.toPdus([...named.map((storedEvent) => storedEvent.event), ...behind])
  })

  const backfill = Effect.fnUntraced(function* (
    origin: ServerName,
    roomId: RoomId,
    from: ReadonlyArray<EventId>,
    limit: number
  ) {
    yield* require(origin, roomId)
    const named = (yield* eventsIn(roomId, from)).filter(isGiven)
    const newestFirst = named.toSorted((a, b) => comparePositions(b.position, a.position))
    const first = yield* rooms.visiblePdus(origin, newestFirst)
    const before = yield* rooms.backfill(origin, roomId, from, limit)
    return [...first, ...before].slice(0, Math.max(1, limit))
  })

  const getMissingEvents = Effect.fnUntraced(function* (
    origin: ServerName,
    roomId: RoomId,
    missing: Effect.Effect<MissingEvents, MatrixError>
  ) {
    yield* require(origin, roomId)
    const { earliest, latest, limit, minDepth } = yield* missing
    const seen = new Set([...earliest, ...latest])
    const found: Array<StoredEvent> = []
    let edge = yield* eventsIn(roomId, latest)
    for (let round = 0; round < maxRounds && edge.length > 0 && found.length < limit; round++) {
      const wanted = edge.flatMap(({ event }) => event.prev_events).filter((id) => !seen.has(id))
      for (const id of wanted) seen.add(id)
      yield* expectEvents(found.length + wanted.length)
      edge = (yield* eventsIn(roomId, [...new Set(wanted)])).filter(({ event }) => event.depth >= minDepth)
      found.push(...edge.filter(isGiven))
    }
    const chosen = found.slice(0, limit).sort((a, b) => a.event.depth - b.event.depth)
    return yield* rooms.visiblePdus(origin, chosen)
  })

  const timestampToEvent = Effect.fnUntraced(function* (
    origin: ServerName,
    roomId: RoomId,
    ts: number,
    direction: "f" | "b"
  ) {
    yield* require(origin, roomId)
    return yield* finder.eventNear(roomId, ts, direction)
  })

  const makers = { join: rooms.makeJoin, leave: rooms.makeLeave, knock: rooms.makeKnock }

  const makeMembership = Effect.fnUntraced(function* (
    origin: ServerName,
    handshake: MembershipHandshake,
    roomId: RoomId,
    userId: UserId,
    versions: ReadonlyArray<string> | undefined
  ) {
    const known = handshake === "leave" ? undefined : (versions ?? versionsOfOldServers)
    return yield* makers[handshake](origin, roomId, userId, known)
  })

  const sendJoin = Effect.fnUntraced(function* (
    origin: ServerName,
    roomId: RoomId,
    eventId: EventId,
    pdu: JsonObject,
    omitMembers: boolean
  ) {
    yield* rooms.requireDialect(roomId, "today")
    const answer = yield* rooms.sendJoin(origin, roomId, eventId, pdu, omitMembers)
    return { ...answer, members_omitted: omitMembers }
  })

  const invite = Effect.fnUntraced(function* (
    origin: ServerName,
    roomId: RoomId,
    eventId: EventId,
    invitation: ReceivedInvite
  ) {
    yield* rooms.requireDialect(roomId, "today")
    return yield* rooms.inviteTo(origin, roomId, eventId, invitation)
  })

  const userInfo = Effect.fnUntraced(function* (token: string) {
    const user = yield* tokens.find(Redacted.make(token))
    if (Option.isSome(user)) return { sub: user.value }
    return yield* new UnknownToken({ error: "The token is unknown or has expired" })
  })

  return ServerServer.of({
    event: (origin, eventId) => federation.getPdu(origin, eventId),
    getState,
    getStateIds,
    getEventAuth,
    backfill,
    getMissingEvents,
    timestampToEvent,
    makeMembership,
    sendJoin: (origin, roomId, eventId, pdu, omitMembers) =>
      isHistoricalUserId(pdu.sender) && serverNameOf(pdu.sender) === origin
        ? sendJoin(origin, roomId, eventId, pdu, omitMembers)
        : Effect.fail(new Forbidden({ error: `The PDU is not a join of a user of ${origin}` })),
    toPdus: rooms.toPdus,
    sendLeave: (origin, roomId, eventId, pdu) =>
      Effect.andThen(rooms.requireDialect(roomId, "today"), rooms.sendLeave(origin, roomId, eventId, pdu)),
    sendKnock: (origin, roomId, eventId, pdu) =>
      Effect.andThen(rooms.requireDialect(roomId, "today"), rooms.sendKnock(origin, roomId, eventId, pdu)),
    invite,
    publicRooms: summaries.publicRooms,
    hierarchy: summaries.hierarchyFor,
    userInfo
  })
})

/** The request of `get_missing_events`. */
export interface MissingEvents {
  /** Events that the origin has. */
  readonly earliest: ReadonlyArray<EventId>
  /** Events whose predecessors it wants. */
  readonly latest: ReadonlyArray<EventId>
  readonly limit: number
  readonly minDepth: number
}

/** Today's server-server API as a service. Callers: listeners, after authentication. */
export class ServerServer extends Context.Service<
  ServerServer,
  {
    /** One event. Errors: M_NOT_FOUND. */
    readonly event: (origin: ServerName, eventId: EventId) => Effect.Effect<JsonObject, MatrixError>
    /** The state before an event, with what authorises it. Errors: M_NOT_FOUND. */
    readonly getState: (
      origin: ServerName,
      roomId: RoomId,
      at: EventId
    ) => Effect.Effect<{ readonly pdus: Pdus; readonly auth_chain: Pdus }, MatrixError>
    /** The same by IDs. Errors: M_NOT_FOUND; M_FORBIDDEN for a server outside the room. */
    readonly getStateIds: (
      origin: ServerName,
      roomId: RoomId,
      at: EventId
    ) => Effect.Effect<
      { readonly pdu_ids: ReadonlyArray<EventId>; readonly auth_chain_ids: ReadonlyArray<EventId> },
      MatrixError
    >
    /** The auth events of an event, and theirs in turn. Errors: M_NOT_FOUND. */
    readonly getEventAuth: (origin: ServerName, roomId: RoomId, eventId: EventId) => Effect.Effect<Pdus, MatrixError>
    /** The events and what precedes them, newest first, at most `limit`. Errors: M_NOT_FOUND. */
    readonly backfill: (
      origin: ServerName,
      roomId: RoomId,
      from: ReadonlyArray<EventId>,
      limit: number
    ) => Effect.Effect<Pdus, MatrixError>
    /** The events between two sets of events, oldest first. `missing` is read when the server was let in. Errors: M_NOT_FOUND. */
    readonly getMissingEvents: (
      origin: ServerName,
      roomId: RoomId,
      missing: Effect.Effect<MissingEvents, MatrixError>
    ) => Effect.Effect<Pdus, MatrixError>
    /** The event closest to a time, in ms since 1970. Errors: M_NOT_FOUND. */
    readonly timestampToEvent: (
      origin: ServerName,
      roomId: RoomId,
      ts: number,
      direction: "f" | "b"
    ) => Effect.Effect<{ readonly event_id: EventId; readonly origin_server_ts: number }, MatrixError>
    /** The template of a membership. Errors: M_NOT_FOUND, M_FORBIDDEN, M_INCOMPATIBLE_ROOM_VERSION. */
    readonly makeMembership: (
      origin: ServerName,
      handshake: MembershipHandshake,
      roomId: RoomId,
      userId: UserId,
      versions: ReadonlyArray<string> | undefined
    ) => Effect.Effect<{ readonly room_version: string; readonly event: JsonObject }, MatrixError>
    /**
     * Takes a join. Answers with the state before it, as events for `toPdus`; `omitMembers` leaves out memberships that need
     * not be known.
     */
    readonly sendJoin: (
      origin: ServerName,
      roomId: RoomId,
      eventId: EventId,
      pdu: JsonObject,
      omitMembers: boolean
    ) => Effect.Effect<TakenJoin & { readonly members_omitted: boolean }, MatrixError>
    /** Events that are to be sent, in PDU form and signed by us where they bear no signature yet. */
    readonly toPdus: FederationRooms["Service"]["toPdus"]
    /** Takes a leave, or the rejection of an invitation. Errors: M_NOT_FOUND, M_FORBIDDEN, M_BAD_JSON. */
    readonly sendLeave: (
      origin: ServerName,
      roomId: RoomId,
      eventId: EventId,
      pdu: JsonObject
    ) => Effect.Effect<void, MatrixError>
    /** Takes a knock. Answers with the state that the knocking user is shown. */
    readonly sendKnock: (
      origin: ServerName,
      roomId: RoomId,
      eventId: EventId,
      pdu: JsonObject
    ) => Effect.Effect<Pdus, MatrixError>
    /** An invite of one of our users: countersigned. Errors: M_INCOMPATIBLE_ROOM_VERSION, M_NOT_FOUND, M_FORBIDDEN. */
    readonly invite: (
      origin: ServerName,
      roomId: RoomId,
      eventId: EventId,
      invitation: ReceivedInvite
    ) => Effect.Effect<{ readonly event: JsonObject }, MatrixError>
    /** A page of the public rooms of this server. Errors: M_INVALID_PARAM. */
    readonly publicRooms: (request: PublicRoomsRequest) => Effect.Effect<PublicRooms, MatrixError>
    /** A space and the rooms in it that users of the server may know of. Errors: M_NOT_FOUND. */
    readonly hierarchy: RoomSummaries["Service"]["hierarchyFor"]
    /** The user of an OpenID token. Errors: M_UNKNOWN_TOKEN. */
    readonly userInfo: (token: string) => Effect.Effect<{ readonly sub: UserId }, MatrixError>
  }
>()("greenroom/actors/ServerServer") {
  static readonly layer = Layer.effect(ServerServer, make)
}
