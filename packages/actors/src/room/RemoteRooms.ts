/**
 * Requests of a Room actor to other servers: events and memberships of rooms that this server shares with them. Every event
 * that is returned has passed the checks of its form, signature and hash, and belongs to the room. The federation provides
 * the service (`federation/RemoteRoomsLive.ts`).
 *
 * Source: "Backfilling" and "PDUs and EDUs" of the draft, "Backfilling and retrieving missing events" of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import type { RoomPolicy } from "@greenroom/room/RoomPolicy"
import type { RoomVersion } from "@greenroom/room/RoomVersion"
import { Context, type Effect, type Result, Schema } from "effect"

/** The other server could not be reached, refused, or gave an unusable answer. */
export class RemoteFailure extends Schema.TaggedError<RemoteFailure>()("RemoteFailure", {
  destination: Schema.String,
  reason: Schema.String,
  /** The HTTP status of its answer, where it refused. */
  status: Schema.optionalKey(Schema.Number),
  /** The errcode that the other server gave. */
  errcode: Schema.optionalKey(Schema.String),
  /** When it may be asked again, in ms, if it says so. */
  retryAfter: Schema.optionalKey(Schema.Number),
  /** The version of the room, where the other server gives it as the reason. */
  roomVersion: Schema.optionalKey(Schema.String),
  /** This server gave the request up by a limit of its own: nothing is known of the other one. */
  isOwnLimit: Schema.optionalKey(Schema.Boolean)
}) {
  override get message(): string {
    return `${this.destination}: ${this.reason}`
  }
}

/** The server lacks the requested events, or refuses them. Any other failure may be temporary. */
export const isRefusal = ({ status = 0 }: RemoteFailure): boolean => status >= 400 && status < 500 && status !== 429

/** A room's state with the events that authorise it. */
export interface RemoteState {
  readonly state: ReadonlyArray<Event>
  readonly authChain: ReadonlyArray<Event>
}

/** The handshakes in which a server asks another one for a membership event. */
export type MembershipHandshake = "join" | "leave" | "knock"

/** The events, by ID, that a room knows already. */
export type KnownEvents = (ids: ReadonlyArray<EventId>) => Effect.Effect<ReadonlyMap<EventId, Event>>

/** The answer of a server to a join. */
export interface RemoteJoin extends RemoteState {
  /** The join with the signature of the server that let the user in, where the room is restricted. */
  readonly event?: Event | undefined
}

/** Joins, history and state of rooms from other servers, provided by `federation/RemoteRoomsLive`. */
export class RemoteRooms extends Context.Service<
  RemoteRooms,
  {
    /** Checks PDUs of any origin. Invalid ones have a reason. `voucher` is a server that vouches for keys of others. */
    readonly verify: (
      version: RoomVersion,
      pdus: ReadonlyArray<unknown>,
      voucher?: ServerName
    ) => Effect.Effect<ReadonlyArray<Result.Result<Event, string>>>
    /** The predecessors of the events, newest first, at most `limit`. */
    readonly backfill: (
      destination: ServerName,
      version: RoomVersion,
      roomId: RoomId,
      from: ReadonlyArray<EventId>,
      limit: number
    ) => Effect.Effect<ReadonlyArray<Event>, RemoteFailure>
    /** The events between the earliest events and the latest ones, both excluded. */
    readonly missingEvents: (
      destination: ServerName,
      version: RoomVersion,
      roomId: RoomId,
      earliest: ReadonlyArray<EventId>,
      latest: ReadonlyArray<EventId>,
      limit: number
    ) => Effect.Effect<ReadonlyArray<Event>, RemoteFailure>
    /**
     * The state before an event. Events that are `known` are not fetched, if the other server can omit them. Without `known` the
     * state is fetched at once.
     */
    readonly stateAt: (
      destination: ServerName,
      version: RoomVersion,
      roomId: RoomId,
      at: EventId,
      known?: KnownEvents
    ) => Effect.Effect<RemoteState, RemoteFailure>
    /** The IDs of the events of that state. Fails for a room of the draft's version: servers give its states whole. */
    readonly stateIds: (
      destination: ServerName,
      version: RoomVersion,
      roomId: RoomId,
      at: EventId
    ) => Effect.Effect<ReadonlyArray<EventId>, RemoteFailure>
    /** One event. */
    readonly event: (
      destination: ServerName,
      version: RoomVersion,
      roomId: RoomId,
      eventId: EventId
    ) => Effect.Effect<Event, RemoteFailure>
    /** The template of a membership of our user. */
    readonly makeMembership: (
      destination: ServerName,
      handshake: MembershipHandshake,
      roomId: RoomId,
      userId: UserId
    ) => Effect.Effect<{ readonly room_version: string; readonly event: JsonObject }, RemoteFailure>
    /**
     * Sends the join of our user. The destination vouches for the keys of those who signed the state, and from now on for keys in the
     * room. With `known`, for a room whose members are mostly known from an earlier stay, the state comes without members at first, and
     * those that are unknown are fetched before this returns: the state is always whole.
     */
    readonly sendJoin: (
      destination: ServerName,
      version: RoomVersion,
      event: Event,
      known?: KnownEvents
    ) => Effect.Effect<RemoteJoin, RemoteFailure>
    /** Sends a leave or a knock of our user. Returns, after a knock, the state that the user is shown. */
    readonly sendMembership: (
      destination: ServerName,
      version: RoomVersion,
      handshake: "leave" | "knock",
      event: Event
    ) => Effect.Effect<{ readonly shown: ReadonlyArray<Json> }, RemoteFailure>
    /**
     * Sends an invite, with the stripped state of the room, to the server of the invited user. Returns it countersigned.
     */
    readonly invite: (
      destination: ServerName,
      version: RoomVersion,
      event: Event,
      shown: ReadonlyArray<Event>
    ) => Effect.Effect<Event, RemoteFailure>
    /** The event with the signature of the room's policy server, which may be this server. */
    readonly askPolicy: (policy: RoomPolicy, version: RoomVersion, event: Event) => Effect.Effect<Event, RemoteFailure>
  }
>()("greenroom/actors/room/RemoteRooms") {}
