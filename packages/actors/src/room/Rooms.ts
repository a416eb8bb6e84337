/**
 * Rooms, as gateways and embedding programs use them. Changes are messages to the `Room` actor; reads are answered from the
 * store without waking the actor. Every method states who may call it; others get M_FORBIDDEN, also for rooms that do not exist.
 * With `txnId` a repeated call of the same session returns the first result and changes nothing.
 *
 * Source: "Rooms" of the draft and of the client-server specification, docs/client-api.md.
 */
import type { ClientEvent } from "@greenroom/protocol/Event"
import type { EventId, RoomAlias, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { BadPagination, MatrixError } from "@greenroom/protocol/MatrixError"
import { Context, Effect, Layer } from "effect"
import type { PresenceEvent } from "../presence/PresenceContent.ts"
import type { Session } from "../runtime/Session.ts"
import { makeRoomDirectory } from "./internal/RoomDirectory.ts"
import { makeRoomReads } from "./internal/RoomReads.ts"
import { makeRoomRequests } from "./internal/RoomRequests.ts"
import { expireTransactions } from "./internal/TransactionExpiry.ts"
import type {
  CreateRoom,
  MessagePage,
  MessagesQuery,
  PublicRoomPage,
  PublicRoomsQuery,
  RoomSnapshot,
  SeededRoom
} from "./RoomModel.ts"
import { finishMemberships } from "./UnfinishedMemberships.ts"
import { placeWaitingEvents } from "./WaitingEventRetries.ts"

/** Creates rooms, sends events, changes memberships, reads rooms as the API of 2014 does. */
export class Rooms extends Context.Service<
  Rooms,
  {
    /** Creates a room, which the user joins. Callers: any user. Errors: M_ROOM_IN_USE for a taken alias. */
    readonly create: (
      session: Session,
      options: CreateRoom,
      txnId?: string
    ) => Effect.Effect<{ readonly room_id: RoomId; readonly room_alias?: RoomAlias }, MatrixError>
    /** Creates a room of any version and with any state. Callers: any user. Errors: M_FORBIDDEN for state that the rules refuse. */
    readonly createSeeded: (
      session: Session,
      room: SeededRoom,
      txnId?: string
    ) => Effect.Effect<{ readonly room_id: RoomId; readonly room_alias?: RoomAlias }, MatrixError>
    /** Sends an event. Callers: members with the power level of the type. Errors: M_BAD_JSON, M_TOO_LARGE. */
    readonly send: (
      session: Session,
      roomId: RoomId,
      type: string,
      content: JsonObject,
      txnId?: string
    ) => Effect.Effect<{ readonly event_id: EventId }, MatrixError>
    /**
     * Sends a state event. Callers: members with the power level of the type; for m.room.member users whom the membership rules
     * allow. Errors: M_BAD_JSON, M_TOO_LARGE.
     */
    readonly setState: (
      session: Session,
      roomId: RoomId,
      type: string,
      stateKey: string,
      content: JsonObject,
      txnId?: string
    ) => Effect.Effect<{ readonly event_id: EventId }, MatrixError>
    /**
     * Joins a room. Callers: users whom the join rules allow. If this server is not in the room, it joins through the servers of
     * the alias and `servers`. `content` is added to the membership. Errors: M_NOT_FOUND for an unknown alias.
     */
    readonly join: (
      session: Session,
      roomIdOrAlias: RoomId | RoomAlias,
      content?: JsonObject,
      txnId?: string,
      servers?: ReadonlyArray<ServerName>
    ) => Effect.Effect<{ readonly room_id: RoomId }, MatrixError>
    /** Leaves a room, rejects an invitation, or takes back a knock. Callers: users who are in the room, invited, or knock. */
    readonly leave: (
      session: Session,
      roomId: RoomId,
      txnId?: string,
      reason?: string
    ) => Effect.Effect<void, MatrixError>
    /**
     * Invites, bans, removes or unbans a user, or knocks. Callers: users whom the membership rules and power levels allow. A
     * knock goes through `servers` if this server is not in the room.
     */
    readonly setMembership: (
      session: Session,
      roomId: RoomId,
      action: "invite" | "ban" | "kick" | "unban" | "knock",
      target: UserId,
      reason?: string,
      txnId?: string,
      servers?: ReadonlyArray<ServerName>
    ) => Effect.Effect<void, MatrixError>
    /**
     * Redacts an event. Callers: its sender, and users with the power level `redact`. `content` is that of the redaction, such as a
     * `reason`. Errors: M_NOT_FOUND, M_BAD_JSON, M_INVALID_PARAM.
     */
    readonly redact: (
      session: Session,
      roomId: RoomId,
      eventId: EventId,
      content?: JsonObject,
      txnId?: string
    ) => Effect.Effect<{ readonly event_id: EventId }, MatrixError>
    /** Sets whether the user is typing. Callers: members, for themselves. `timeout` is in ms, at most 120,000. */
    readonly setTyping: (
      session: Session,
      roomId: RoomId,
      userId: UserId,
      typing: boolean,
      timeout?: number
    ) => Effect.Effect<void, MatrixError>

    /** The content of a state event. Callers: members; past members get the state at which they left. Errors: M_NOT_FOUND. */
    readonly getState: (
      session: Session,
      roomId: RoomId,
      type: string,
      stateKey: string
    ) => Effect.Effect<JsonObject, MatrixError>
    /** The current state. Callers: members; past members get the state at which they left. */
    readonly getFullState: (session: Session, roomId: RoomId) => Effect.Effect<ReadonlyArray<ClientEvent>, MatrixError>
    /** The memberships, with presence merged into the content of each. Callers: members, and past members as for the state. */
    readonly members: (session: Session, roomId: RoomId) => Effect.Effect<MessagePage, MatrixError>
    /**
     * A page of events. Callers: members, and past members up to the event by which they left. Missing history is fetched from
     * other servers. Errors: M_BAD_PAGINATION.
     */
    readonly messages: (
      session: Session,
      roomId: RoomId,
      query: MessagesQuery
    ) => Effect.Effect<MessagePage, MatrixError>
    /** An event. Callers: users who may see it. Errors: M_NOT_FOUND. */
    readonly getEvent: (session: Session, eventId: EventId) => Effect.Effect<ClientEvent, MatrixError>
    /** The room with its newest messages and the presence of its members. Callers: members. */
    readonly initialSync: (
      session: Session,
      roomId: RoomId,
      limit?: number
    ) => Effect.Effect<RoomSnapshot & { readonly presence: ReadonlyArray<PresenceEvent> }, MatrixError>
    /** A page of at most `limit` public rooms (default 1,000), the largest first. Callers: anybody, without a session. */
    readonly publicRooms: (query?: PublicRoomsQuery) => Effect.Effect<PublicRoomPage, BadPagination>

    /**
     * The room of an alias, and servers through which to join it. Callers: anybody, without a session. The server of the alias is
     * asked if it is another one. Errors: M_NOT_FOUND.
     */
    readonly resolveAlias: (
      alias: RoomAlias
    ) => Effect.Effect<{ readonly room_id: RoomId; readonly servers: ReadonlyArray<ServerName> }, MatrixError>
    /**
     * Makes an alias of this server name a room. Callers: members of the room. False if the alias names this room already.
     * Errors: M_INVALID_PARAM for an alias of another server, M_ROOM_IN_USE, M_NOT_FOUND.
     */
    readonly setAlias: (
      session: Session,
      alias: RoomAlias,
      roomId: RoomId,
      servers?: ReadonlyArray<ServerName>
    ) => Effect.Effect<boolean, MatrixError>
    /**
     * Gives the user's membership the display name and avatar of their profile, where the user is joined. For the
     * `User` actor: no session.
     */
    readonly refreshMember: (userId: UserId, roomId: RoomId) => Effect.Effect<void, MatrixError>
    /**
     * Removes an alias. Callers: its creator, users who may send m.room.aliases in the room (m.room.canonical_alias in rooms of today's
     * versions), and administrators; in the namespace of an application service, the service. Errors: M_NOT_FOUND, M_EXCLUSIVE.
     */
    readonly removeAlias: (session: Session, alias: RoomAlias) => Effect.Effect<void, MatrixError>
  }
>()("greenroom/actors/Rooms") {
  static readonly layer = Layer.effect(
    Rooms,
    Effect.gen(function* () {
      const requests = yield* makeRoomRequests
      const directory = yield* makeRoomDirectory(requests)
      const reads = yield* makeRoomReads
      yield* expireTransactions
      yield* finishMemberships
      yield* placeWaitingEvents
      return Rooms.of({ ...requests, ...directory, ...reads })
    })
  )
}
