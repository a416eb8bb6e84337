/**
 * Transactions: the envelope in which PDUs and EDUs travel from one server to another.
 *
 * PDUs and EDUs stay unread JSON here. The room's version reads a PDU (`RoomVersion.fromPdu`), `readEdu` an EDU, each
 * for itself, so that a bad one never rejects the others.
 *
 * Source: "Transactions" of the draft and of the server-server specification.
 */
import { Schema } from "effect"
import { ServerName } from "../Identifiers.ts"
import { Integer, type Json, type JsonObject } from "../Json.ts"
import { isText } from "../Text.ts"

/** The most PDUs in a transaction. */
export const maxPdus = 50

/** The most EDUs in a transaction. */
export const maxEdus = 100

/** The most transactions that `prev_ids` names. */
export const maxPrevIds = 100

/** The origin's ID of a transaction: opaque, 1 to 255 bytes. */
export const FederationTransactionId = Schema.String.check(
  Schema.makeFilter((text: string) => isText(text, 1) || "Expected a transaction ID: at most 255 bytes of text", {
    toJsonSchema: () => [{ minLength: 1, maxLength: 255 }, true]
  })
)

const key = <S extends Schema.Top>(schema: S, description: string) =>
  Schema.optionalKey(schema.annotate({ description }))

const parts = Schema.Array(Schema.Unknown)

/**
 * A transaction as it arrives. The fields that the request itself carries (ID, origin and destination) are optional. The
 * numbers of PDUs and EDUs are not limited here: too many of them get an error of their own.
 */
export const Transaction = Schema.Struct({
  transaction_id: key(FederationTransactionId, "The path's ID overrides this one"),
  origin: Schema.optionalKey(ServerName),
  destination: Schema.optionalKey(ServerName),
  ts: key(Integer, "Milliseconds since 1970, by the clock of the origin; of the draft"),
  origin_server_ts: key(Integer, "The same by its later name"),
  prev_ids: key(
    Schema.Array(FederationTransactionId).check(Schema.isMaxLength(maxPrevIds)),
    "Transactions that the origin sent before this one"
  ),
  pdus: key(parts, `At most ${maxPdus}`),
  edus: key(parts, `At most ${maxEdus}`)
}).annotate({ identifier: "Transaction" })

/** A transaction that arrived, its defaults filled in. */
export interface Transaction {
  readonly transaction_id: string
  readonly origin: ServerName
  readonly destination: ServerName
  readonly ts: number
  readonly prev_ids: ReadonlyArray<string>
  readonly pdus: ReadonlyArray<Json>
  readonly edus: ReadonlyArray<Json>
}

/** A transaction as we send it. `edus` may be absent if there are none. */
export interface OutgoingTransaction {
  readonly transaction_id: string
  readonly origin: ServerName
  readonly destination: ServerName
  readonly ts: number
  readonly prev_ids: ReadonlyArray<string>
  readonly pdus: ReadonlyArray<JsonObject>
  readonly edus?: ReadonlyArray<JsonObject>
}

/**
 * The outcome of a PDU: `{}` if it was accepted, else the reason. An accepted m.room.invite_join is answered with the
 * membership that it asked for, the state before that, and its auth chain.
 */
export interface PduAnswer {
  readonly error?: string
  readonly errcode?: string
  readonly membership?: JsonObject
  readonly state?: ReadonlyArray<JsonObject>
  readonly auth_chain?: ReadonlyArray<JsonObject>
}

/** The answer to a transaction: by `pduId,origin` of each of its PDUs. */
export interface TransactionAnswer {
  readonly pdus: { readonly [reference: string]: PduAnswer }
}
