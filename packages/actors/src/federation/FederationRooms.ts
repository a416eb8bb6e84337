/**
 * The rooms that other servers and this one share: what comes in for them, and what is given out of them. Requests of
 * other servers arrive here from `Federation`, those of our own users from `Rooms`.
 *
 * Source: "PDUs and EDUs" and "Backfilling" of the specification.
 */

import type { Event } from "@greenroom/protocol/Event"
import type { InviteAnswer, SendJoinAnswer, StateAnswer } from "@greenroom/protocol/federation/FederationAnswers"
import type { EventId, RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Context, type Effect } from "effect"
import type { MakeMembership, SendMembership } from "./Federation.ts"

/** What became of a PDU of a transaction: undefined if it was taken (or was known), else why not. */
export interface ReceivedPdu {
  /** `<pdu_id>,<origin>`, as the answer to a transaction names it; undefined if the PDU has no ID. */
  readonly name: string | undefined
  readonly error: string | undefined
}

export class FederationRooms extends Context.Service<
  FederationRooms,
  {
    /**
     * Takes PDUs as they came, in any order and of any rooms: form, signature, hash, missing predecessors, rules. Answers
     * when what was taken is durable. Never fails for a bad PDU.
     */
    readonly receive: (origin: ServerName, pdus: ReadonlyArray<unknown>) => Effect.Effect<ReadonlyArray<ReceivedPdu>>
    readonly getPdu: (origin: ServerName, eventId: EventId) => Effect.Effect<JsonObject, MatrixError>
    readonly getState: (origin: ServerName, roomId: RoomId, at?: EventId) => Effect.Effect<StateAnswer, MatrixError>
    readonly backfill: (
      origin: ServerName,
      roomId: RoomId,
      from: ReadonlyArray<EventId>,
      limit: number
    ) => Effect.Effect<ReadonlyArray<JsonObject>, MatrixError>
    readonly makeJoin: MakeMembership
    readonly sendJoin: SendMembership<SendJoinAnswer>
    readonly makeLeave: MakeMembership
    readonly sendLeave: SendMembership<void>
    readonly makeKnock: MakeMembership
    readonly sendKnock: SendMembership<void>
    readonly invite: SendMembership<InviteAnswer>
    /** Events that are to be sent, in PDU form and signed by us where they bear no signature yet. */
    readonly toPdus: (events: ReadonlyArray<Event>) => Effect.Effect<ReadonlyArray<JsonObject>>
  }
>()("greenroom/actors/federation/FederationRooms") {}
