/**
 * The session of a request: one login of a user, that is, an access token and the device that holds it.
 */
import { UserId } from "@greenroom/protocol/Identifiers"
import { Schema } from "effect"

/**
 * A login. `tokenId` scopes transaction IDs; `deviceId` scopes presence. `since` is the position in the log at which the
 * device was logged in, which tells this login from a former one with the same `tokenId`. `expiresAt`, in milliseconds
 * since 1970, is for an access token that expires.
 */
export const Session = Schema.Struct({
  userId: UserId,
  tokenId: Schema.Number,
  deviceId: Schema.String,
  since: Schema.optionalKey(Schema.Number),
  expiresAt: Schema.optionalKey(Schema.Number),
  /** The client of the OAuth 2.0 API that logged in. */
  clientId: Schema.optionalKey(Schema.String),
  /** Whether the user is a guest. Absent for everybody else. */
  guest: Schema.optionalKey(Schema.Boolean),
  /** Whether the user was an administrator when the session was looked up. For rates, not for authorisation. */
  admin: Schema.optionalKey(Schema.Boolean),
  /** The ID of the application service that acts as the user. */
  appService: Schema.optionalKey(Schema.String),
  /** When an application service says that its event was made, in milliseconds since 1970. */
  at: Schema.optionalKey(Schema.Number)
})
export type Session = typeof Session.Type

/** In place of the login by which a delayed event is sent: its transaction ID is the ID of the delayed event. */
export const delayedTokenId = 0

/** The transaction ID of a PUT: a repeat within the same session gets the first answer. */
export const Transaction = Schema.Struct({
  tokenId: Schema.Number,
  txnId: Schema.String
})
export type Transaction = typeof Transaction.Type
