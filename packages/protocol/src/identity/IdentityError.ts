/**
 * The errors that only an identity server answers with, beside those of `MatrixError`. On the wire they look the same:
 * `{"errcode": "M_...", "error": "what is wrong"}`.
 */
import { Schema } from "effect"
import { UserId } from "../Identifiers.ts"
import { WireErrorClass, wire } from "../WireErrorClass.ts"

export class InvalidAddress extends WireErrorClass<InvalidAddress>()(
  "M_INVALID_ADDRESS",
  400,
  "Not an email address, or not a phone number"
) {}
export class NoValidSession extends WireErrorClass<NoValidSession>()(
  "M_NO_VALID_SESSION",
  400,
  "No validation session has this `sid` and `client_secret`"
) {}
export class SessionExpired extends WireErrorClass<SessionExpired>()(
  "M_SESSION_EXPIRED",
  400,
  "The session has expired"
) {}
export class SessionNotValidated extends WireErrorClass<SessionNotValidated>()(
  "M_SESSION_NOT_VALIDATED",
  400,
  "The token of the session was not submitted yet"
) {}
export class TokenIncorrect extends WireErrorClass<TokenIncorrect>()(
  "M_TOKEN_INCORRECT",
  400,
  "The token is wrong, was used already, or too many wrong ones were tried"
) {}
export class InvalidPepper extends WireErrorClass<InvalidPepper>()(
  "M_INVALID_PEPPER",
  400,
  "Addresses were hashed with a pepper or an algorithm that does not hold; the right ones are given",
  { algorithm: Schema.String, lookup_pepper: Schema.String }
) {}
export class ThirdPartyIdInUse extends WireErrorClass<ThirdPartyIdInUse>()(
  "M_THREEPID_IN_USE",
  400,
  "The address belongs to a user already, who can be invited as such",
  { mxid: UserId }
) {}
export class MediumNotSupported extends WireErrorClass<MediumNotSupported>()(
  "M_THREEPID_MEDIUM_NOT_SUPPORTED",
  400,
  "This server sends no messages to this sort of address"
) {}
export class MessageSendError extends WireErrorClass<MessageSendError>()(
  "M_MESSAGE_SEND_ERROR",
  502,
  "The mail or the text message could not be handed over"
) {}

/** The errors of validation sessions, in their wire form. */
export const sessionErrors = [
  wire(NoValidSession),
  wire(SessionExpired),
  wire(SessionNotValidated),
  wire(TokenIncorrect)
] as const

/** The errors of messages to an address, in their wire form. */
export const messageErrors = [
  wire(InvalidAddress),
  wire(MediumNotSupported),
  wire(ThirdPartyIdInUse),
  wire(MessageSendError)
] as const

/** The errors of lookups, in their wire form. */
export const lookupErrors = [wire(InvalidAddress), wire(InvalidPepper)] as const
