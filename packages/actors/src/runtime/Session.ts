/**
 * Who is asking. A session is one login of a user: an access token and the device that holds it.
 */
import { UserId } from "@greenroom/protocol/Identifiers"
import { Schema } from "effect"

/** A login. `tokenId` scopes transaction IDs; `deviceId` scopes presence. */
export const Session = Schema.Struct({
  userId: UserId,
  tokenId: Schema.Number,
  deviceId: Schema.String
})
export type Session = typeof Session.Type

/** The transaction ID of a PUT: a repeat within the same session is answered with the first answer. */
export const Transaction = Schema.Struct({
  tokenId: Schema.Number,
  txnId: Schema.String
})
export type Transaction = typeof Transaction.Type
