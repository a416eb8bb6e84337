/**
 * The rooms that this server shares with others: incoming events and requests for their content. Requests of other servers
 * arrive here from `Federation` and `ServerServer`.
 *
 * Source: "PDUs and EDUs" and "Backfilling" of the draft, "PDUs" of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { InviteAnswer, StateAnswer } from "@greenroom/protocol/federation/FederationAnswers"
import type { EventId, RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import type { StoredEvent } from "@greenroom/store/EventStore"
import { Context, Effect, Layer } from "effect"
import type { MakeMembership, SendMembership } from "./Federation.ts"
import { makeIncomingHandshakes } from "./internal/IncomingHandshakes.ts"
import { makeIncomingInvites, type ReceivedInvite } from "./internal/IncomingInvites.ts"
import { type Dialect, makeKnownVersions } from "./internal/KnownVersions.ts"
import { makePduIntake, type ReceivedPdu, type ReceiveOptions } from "./internal/PduIntake.ts"
import { makePduReads } from "./internal/PduReads.ts"
import type { VerifiedPdu } from "./PduVerification.ts"

/** A join of a user of another server that was taken. */
export interface TakenJoin {
  readonly state: ReadonlyArray<Event>
  readonly authChain: ReadonlyArray<Event>
  /** The join, with our signature where a user of ours authorises it. */
  readonly event: JsonObject
  readonly servers_in_room?: ReadonlyArray<ServerName>
}

/** The rooms that this server shares with others, as requests of other servers read and change them. */
export class FederationRooms extends Context.Service<
  FederationRooms,
  {
    /**
     * Takes PDUs as they came, in any order and of any rooms: form, signature, hash, missing predecessors, rules. Answers
     * when the accepted PDUs are durable. Never fails for a bad PDU; dies if a repeat may succeed, except at the last
     * attempt.
     */
    readonly receive: (
      origin: ServerName,
      pdus: ReadonlyArray<unknown>,
      options?: ReceiveOptions
    ) => Effect.Effect<ReadonlyArray<ReceivedPdu>>
    /** Reads PDUs, each by the version of its room, and checks their form, signatures and hashes. */
    readonly verify: (pdus: ReadonlyArray<unknown>) => Effect.Effect<ReadonlyArray<VerifiedPdu>>
    /** Fails with M_NOT_FOUND if the room is known and its federation speaks another dialect. */
    readonly requireDialect: (roomId: RoomId, dialect: Dialect) => Effect.Effect<void, MatrixError>
    /** As `Federation.getPdu`, for rooms of any version. */
    readonly getPdu: (origin: ServerName, eventId: EventId) => Effect.Effect<JsonObject, MatrixError>
    /** As `Federation.getState`, for rooms of any version. */
    readonly getState: (origin: ServerName, roomId: RoomId, at?: EventId) => Effect.Effect<StateAnswer, MatrixError>
    /** As `Federation.backfill`, for rooms of any version. */
    readonly backfill: (
      origin: ServerName,
      roomId: RoomId,
      from: ReadonlyArray<EventId>,
      limit: number
    ) => Effect.Effect<ReadonlyArray<JsonObject>, MatrixError>
    /** As `Federation.makeJoin`, for rooms of any version. */
    readonly makeJoin: MakeMembership
    /**
     * The state before the join with what authorises it, as events, which `toPdus` signs: they may be many. `omitMembers`
     * leaves out memberships that need not be known at first, and names the servers that took part in the room before the
     * join instead.
     */
    readonly sendJoin: (
      origin: ServerName,
      roomId: RoomId,
      eventId: EventId,
      pdu: JsonObject,
      omitMembers?: boolean
    ) => Effect.Effect<TakenJoin, MatrixError>
    /** As `Federation.makeLeave`, for rooms of any version. */
    readonly makeLeave: MakeMembership
    /** As `Federation.sendLeave`, for rooms of any version. */
    readonly sendLeave: SendMembership<void>
    /** As `Federation.makeKnock`, for rooms of any version. */
    readonly makeKnock: MakeMembership
    /** Answers with the state that the knocking user is shown. */
    readonly sendKnock: SendMembership<ReadonlyArray<JsonObject>>
    /**
     * An invite of one of our users: answered with this server's signature. Errors: M_BAD_JSON, M_FORBIDDEN, M_NOT_FOUND.
     */
    readonly invite: SendMembership<InviteAnswer>
    /** The same for a room of any version, with what the invited user is shown of the room. */
    readonly inviteTo: (
      origin: ServerName,
      roomId: RoomId,
      eventId: EventId,
      invite: ReceivedInvite
    ) => Effect.Effect<InviteAnswer, MatrixError>
    /** The events, of those that the server may see, in the form in which it may see them. */
    readonly visiblePdus: (
      origin: ServerName,
      events: ReadonlyArray<StoredEvent>
    ) => Effect.Effect<ReadonlyArray<JsonObject>>
    /** The IDs of the state before an event and of what authorises it. Errors: M_NOT_FOUND. */
    readonly getStateIds: (
      origin: ServerName,
      roomId: RoomId,
      at: EventId
    ) => Effect.Effect<
      { readonly pdu_ids: ReadonlyArray<EventId>; readonly auth_chain_ids: ReadonlyArray<EventId> },
      MatrixError
    >
    /**
     * Fails with M_NOT_FOUND for a server that has no part in the room, which does not exist for it, and with M_FORBIDDEN for
     * one in the room that its m.room.server_acl keeps out.
     */
    readonly requireServer: (origin: ServerName, roomId: RoomId) => Effect.Effect<void, MatrixError>
    /** Events that are to be sent, in PDU form and signed by us where they bear no signature yet. */
    readonly toPdus: (events: ReadonlyArray<Event>) => Effect.Effect<ReadonlyArray<JsonObject>>
  }
>()("greenroom/actors/federation/FederationRooms") {
  static readonly layer = Layer.effect(
    FederationRooms,
    Effect.suspend(() => make)
  )
}

const make = Effect.gen(function* () {
  const versions = yield* makeKnownVersions
  const reads = yield* makePduReads(versions)
  const handshakes = yield* makeIncomingHandshakes(versions)
  const invites = yield* makeIncomingInvites(versions, handshakes)
  const { receive, verify } = yield* makePduIntake(versions, reads, invites)
  const { makeMembership, sendMembership } = handshakes
  return FederationRooms.of({
    ...reads,
    receive,
    verify,
    requireDialect: versions.requireDialect,
    makeJoin: makeMembership("join"),
    makeLeave: makeMembership("leave"),
    makeKnock: makeMembership("knock"),
    sendJoin: handshakes.sendJoin,
    sendLeave: (...parameters) => Effect.asVoid(sendMembership("leave", ...parameters)),
    sendKnock: (...parameters) =>
      Effect.flatMap(sendMembership("knock", ...parameters), ({ state }) => reads.toPdus(state)),
    invite: invites.invite,
    inviteTo: invites.inviteTo
  })
})
