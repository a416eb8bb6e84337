/**
 * Answers of the federation API. PDUs are JSON objects in the form of their room's version.
 *
 * Source: "Federation" of the draft.
 */
import { Schema } from "effect"
import { body } from "../api/Body.ts"
import { RoomId, ServerName } from "../Identifiers.ts"
import type { JsonObject } from "../Json.ts"
import type { TransactionAnswer as TransactionAnswerType } from "./Transaction.ts"

const Pdu = Schema.Record(Schema.String, Schema.Unknown).annotate({ identifier: "PDU" })
const pdus = Schema.Array(Pdu)

/** A room's state and the PDUs that authorise it: their auth events, and the auth events of those. */
export interface StateAnswer {
  readonly pdus: ReadonlyArray<JsonObject>
  readonly auth_chain: ReadonlyArray<JsonObject>
}
export const StateAnswer: Schema.Codec<StateAnswer> = body(
  Schema.Struct({ pdus, auth_chain: pdus }).annotate({ identifier: "RoomState" }) as never
)

/** The state before the user's membership, with what authorises it, for a server that joins. */
export interface SendJoinAnswer {
  readonly state: ReadonlyArray<JsonObject>
  readonly auth_chain: ReadonlyArray<JsonObject>
}
export const SendJoinAnswer: Schema.Codec<SendJoinAnswer> = body(
  Schema.Struct({ state: pdus, auth_chain: pdus }).annotate({ identifier: "JoinedRoom" }) as never
)

/** A membership for the user's own server to complete, sign and send back. */
export interface MakeMembershipAnswer {
  /** The room's version, by which the event is completed and signed. */
  readonly room_version: string
  /** The PDU with its place in the graph, without ID, hash and signature. */
  readonly event: JsonObject
}
export const MakeMembershipAnswer: Schema.Codec<MakeMembershipAnswer> = body(
  Schema.Struct({ room_version: Schema.String, event: Pdu }).annotate({ identifier: "ProposedMembership" }) as never
)

/** The invite with the signature of the invited user's server beside that of its origin. */
export interface InviteAnswer {
  readonly event: JsonObject
}
export const InviteAnswer: Schema.Codec<InviteAnswer> = body(
  Schema.Struct({ event: Pdu }).annotate({ identifier: "CountersignedInvite" }) as never
)

/** The room of an alias. */
export interface DirectoryAnswer {
  readonly room_id: RoomId
  readonly servers: ReadonlyArray<ServerName>
}
export const DirectoryAnswer: Schema.Codec<DirectoryAnswer> = body(
  Schema.Struct({ room_id: RoomId, servers: Schema.Array(ServerName) }).annotate({ identifier: "AliasTarget" }) as never
)

/** A transaction that carries the requested PDUs, as `/pdu` and `/backfill` answer. */
export interface PdusAnswer {
  readonly origin: ServerName
  readonly ts: number
  readonly pdus: ReadonlyArray<JsonObject>
}
export const PdusAnswer: Schema.Codec<PdusAnswer> = body(
  Schema.Struct({ origin: ServerName, ts: Schema.Int, pdus }).annotate({ identifier: "PDUs" }) as never
)

/** The transactions that are sent again, oldest first. */
export interface PullAnswer {
  readonly origin: ServerName
  readonly ts: number
  readonly transactions: ReadonlyArray<JsonObject>
}
export const PullAnswer: Schema.Codec<PullAnswer> = body(
  Schema.Struct({ origin: ServerName, ts: Schema.Int, transactions: Schema.Array(Pdu) }).annotate({
    identifier: "RetransmittedTransactions"
  }) as never
)

/**
 * The outcome of each PDU of a transaction, by `pduId,origin`: `{}`, or `{"error": "..."}`, or for an m.room.invite_join the
 * membership with the state before it.
 */
export const TransactionAnswer: Schema.Codec<TransactionAnswerType> = body(
  Schema.Struct({
    pdus: Schema.Record(
      Schema.String,
      Schema.Struct({
        error: Schema.optionalKey(Schema.String),
        errcode: Schema.optionalKey(Schema.String),
        membership: Schema.optionalKey(Pdu),
        state: Schema.optionalKey(pdus),
        auth_chain: Schema.optionalKey(pdus)
      })
    )
  }).annotate({ identifier: "TransactionAnswer" }) as never
)
