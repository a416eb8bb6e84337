/**
 * Rooms, as gateways and embedding programs use them. Changes are messages to the `Room` actor; reads are answered from the
 * store without waking the actor. Every method states its callers.
 *
 * Source: "Rooms" of the specification, docs/client-api.md.
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

export class Rooms extends Context.Service<
  Rooms,
  {
    /** Any user. With `txnId`, a repeat returns the first room. */
    readonly create: (
      session: Session,
      options: CreateRoom,
      txnId?: string
    ) => Effect.Effect<{ readonly room_id: RoomId; readonly room_alias?: RoomAlias }, MatrixError>
    /** The same of any version and with any state. Errors: M_FORBIDDEN where the rules do not allow the state. */
    readonly createSeeded: (
      session: Session,
      room: SeededRoom,
      txnId?: string
    ) => Effect.Effect<{ readonly room_id: RoomId; readonly room_alias?: RoomAlias }, MatrixError>
    /** Members with the power to send the type. */
    readonly send: (
      session: Session,
      roomId: RoomId,
      type: string,
      content: JsonObject,
      txnId?: string
    ) => Effect.Effect<{ readonly event_id: EventId }, MatrixError>
    /** Members with the power to set the type; m.room.member with state key: the membership rules. */
    readonly setState: (
      session: Session,
      roomId: RoomId,
      type: string,
      stateKey: string,
      content: JsonObject,
      txnId?: string
    ) => Effect.Effect<{ readonly event_id: EventId }, MatrixError>
    /**
     * Users whom the join rules allow. Joins over federation where this server is not in the room: through the servers
     * of the alias, and those that are named.
     */
    readonly join: (
      session: Session,
      roomIdOrAlias: RoomId | RoomAlias,
      content?: JsonObject,
      txnId?: string,
      servers?: ReadonlyArray<ServerName>
    ) => Effect.Effect<{ readonly room_id: RoomId }, MatrixError>
    /** Joined and invited users: leaves, or rejects the invitation. */
    readonly leave: (
      session: Session,
      roomId: RoomId,
      txnId?: string,
      reason?: string
    ) => Effect.Effect<void, MatrixError>
    /**
     * Callers: users whom the membership rules and power levels allow. A knock goes through `servers` if this server is not
     * in the room.
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
    /** Callers: the sender of the event, and users with the power to redact. */
    readonly redact: (
      session: Session,
      roomId: RoomId,
      eventId: EventId,
      reason?: string,
      txnId?: string
    ) => Effect.Effect<{ readonly event_id: EventId }, MatrixError>
    /** Members, for themselves. `timeout` in ms, at most 120,000. */
    readonly setTyping: (
      session: Session,
      roomId: RoomId,
      userId: UserId,
      typing: boolean,
      timeout?: number
    ) => Effect.Effect<void, MatrixError>

    /** Members, past members as of when they left. The content alone. */
    readonly getState: (
      session: Session,
      roomId: RoomId,
      type: string,
      stateKey: string
    ) => Effect.Effect<JsonObject, MatrixError>
    /** Members, past members as of when they left. */
    readonly getFullState: (session: Session, roomId: RoomId) => Effect.Effect<ReadonlyArray<ClientEvent>, MatrixError>
    /** Members, past members as of when they left. Presence is merged into the content of each. */
    readonly members: (session: Session, roomId: RoomId) => Effect.Effect<MessagePage, MatrixError>
    /** Members, past members up to when they left. Back-fills over federation. */
    readonly messages: (
      session: Session,
      roomId: RoomId,
      query: MessagesQuery
    ) => Effect.Effect<MessagePage, MatrixError>
    /** Callers: users who may see the event. */
    readonly getEvent: (session: Session, eventId: EventId) => Effect.Effect<ClientEvent, MatrixError>
    /** Members. `presence` is that of the members. */
    readonly initialSync: (
      session: Session,
      roomId: RoomId,
      limit?: number
    ) => Effect.Effect<RoomSnapshot & { readonly presence: ReadonlyArray<PresenceEvent> }, MatrixError>
    /** Anyone, without a session. A page of at most `limit` rooms (default 1,000), the largest rooms first. */
    readonly publicRooms: (query?: PublicRoomsQuery) => Effect.Effect<PublicRoomPage, BadPagination>

    /** Anyone, without a session. Asks the alias's server where it is not ours. */
    readonly resolveAlias: (
      alias: RoomAlias
    ) => Effect.Effect<{ readonly room_id: RoomId; readonly servers: ReadonlyArray<ServerName> }, MatrixError>
    /**
     * Members of the room; aliases of this server only. Does nothing if the alias names this room already, and then gives false.
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
    /** The creator of the alias, those who may send m.room.aliases in the room, and administrators. */
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
      return Rooms.of({ ...requests, ...directory, ...reads })
    })
  )
}
