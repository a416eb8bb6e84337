/**
 * The errors that only an identity server answers with, beside those of `MatrixError`. On the wire they look the same:
 * `{"errcode": "M_...", "error": "what is wrong"}`.
 */
import { Schema } from "effect"
import { UserId } from "../Identifiers.ts"
import { WireErrorClass } from "../WireErrorClass.ts"

const fields = { error: Schema.String }
const errcode = { _tag: "errcode" } as const

/** 400: not an email address, or not a phone number. */
export class InvalidAddress extends WireErrorClass<InvalidAddress>()("M_INVALID_ADDRESS", fields, {
  httpApiStatus: 400
}) {}
/** 400: no validation session has this `sid` and `client_secret`. */
export class NoValidSession extends WireErrorClass<NoValidSession>()("M_NO_VALID_SESSION", fields, {
  httpApiStatus: 400
}) {}
/** 400: the session has expired. */
export class SessionExpired extends WireErrorClass<SessionExpired>()("M_SESSION_EXPIRED", fields, {
  httpApiStatus: 400
}) {}
/** 400: the token of the session was not submitted yet. */
export class SessionNotValidated extends WireErrorClass<SessionNotValidated>()("M_SESSION_NOT_VALIDATED", fields, {
  httpApiStatus: 400
}) {}
/** 400: the token is wrong, was used already, or too many wrong ones were tried. */
export class TokenIncorrect extends WireErrorClass<TokenIncorrect>()("M_TOKEN_INCORRECT", fields, {
  httpApiStatus: 400
}) {}
/** 400: addresses were hashed with a pepper or an algorithm that does not hold; the right ones are given. */
export class InvalidPepper extends WireErrorClass<InvalidPepper>()(
  "M_INVALID_PEPPER",
  { ...fields, algorithm: Schema.String, lookup_pepper: Schema.String },
  { httpApiStatus: 400 }
) {}
/** 400: the address belongs to a user already, who can be invited as such. */
export class ThirdPartyIdInUse extends WireErrorClass<ThirdPartyIdInUse>()(
  "M_THREEPID_IN_USE",
  { ...fields, mxid: UserId },
  { httpApiStatus: 400 }
) {}
/** 400: this server sends no messages to this sort of address. */
export class MediumNotSupported extends WireErrorClass<MediumNotSupported>()(
  "M_THREEPID_MEDIUM_NOT_SUPPORTED",
  fields,
  {
    httpApiStatus: 400
  }
) {}
/** 502: the mail or the text message could not be handed over. */
export class MessageSendError extends WireErrorClass<MessageSendError>()("M_MESSAGE_SEND_ERROR", fields, {
  httpApiStatus: 502
}) {}

/** The errors of validation sessions, in their wire form. */
export const sessionErrors = [
  NoValidSession.pipe(Schema.encodeKeys(errcode)).annotate({ httpApiStatus: 400, description: "No such session" }),
  SessionExpired.pipe(Schema.encodeKeys(errcode)).annotate({
    httpApiStatus: 400,
    description: "The session is too old"
  }),
  SessionNotValidated.pipe(Schema.encodeKeys(errcode)).annotate({
    httpApiStatus: 400,
    description: "The token was not submitted yet"
  }),
  TokenIncorrect.pipe(Schema.encodeKeys(errcode)).annotate({
    httpApiStatus: 400,
    description: "The token is wrong or was used"
  })
] as const

/** The errors of messages to an address, in their wire form. */
export const messageErrors = [
  InvalidAddress.pipe(Schema.encodeKeys(errcode)).annotate({ httpApiStatus: 400, description: "Not an address" }),
  MediumNotSupported.pipe(Schema.encodeKeys(errcode)).annotate({
    httpApiStatus: 400,
    description: "No messages are sent to this medium"
  }),
  ThirdPartyIdInUse.pipe(Schema.encodeKeys(errcode)).annotate({
    httpApiStatus: 400,
    description: "The address belongs to a user"
  }),
  MessageSendError.pipe(Schema.encodeKeys(errcode)).annotate({
    httpApiStatus: 502,
    description: "The message could not be sent"
  })
] as const

/** The errors of lookups, in their wire form. */
export const lookupErrors = [
  InvalidAddress.pipe(Schema.encodeKeys(errcode)).annotate({ httpApiStatus: 400, description: "Not an address" }),
  InvalidPepper.pipe(Schema.encodeKeys(errcode)).annotate({
    httpApiStatus: 400,
    description: "Hashed with another pepper or algorithm"
  })
] as const
