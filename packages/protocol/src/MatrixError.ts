/**
 * The standard errors: on the wire `{"errcode": "M_...", "error": "what is wrong"}` with an HTTP status, inside the
 * server a tagged error whose tag is the errcode, so that `Effect.catchTag("M_FORBIDDEN", ...)` reads as it should.
 * Source: "API Standards" of the specification.
 */
import { Schema } from "effect"

const fields = { error: Schema.String }

/** 403: not allowed, or a wrong password. */
export class Forbidden extends Schema.TaggedError<Forbidden>()("M_FORBIDDEN", fields, { httpApiStatus: 403 }) {}
/** 401: the access token is unknown, expired or revoked. */
export class UnknownToken extends Schema.TaggedError<UnknownToken>()("M_UNKNOWN_TOKEN", fields, {
  httpApiStatus: 401
}) {}
/** 401: no access token was given. */
export class MissingToken extends Schema.TaggedError<MissingToken>()("M_MISSING_TOKEN", fields, {
  httpApiStatus: 401
}) {}
/** 400: JSON, but a key is missing or of the wrong type; the text names the key. */
export class BadJson extends Schema.TaggedError<BadJson>()("M_BAD_JSON", fields, { httpApiStatus: 400 }) {}
/** 400: not JSON. */
export class NotJson extends Schema.TaggedError<NotJson>()("M_NOT_JSON", fields, { httpApiStatus: 400 }) {}
/** 404: no such thing, or none that the caller may see. */
export class NotFound extends Schema.TaggedError<NotFound>()("M_NOT_FOUND", fields, { httpApiStatus: 404 }) {}
/** 404 or 405: no such endpoint, or not with this method. */
export class Unrecognized extends Schema.TaggedError<Unrecognized>()("M_UNRECOGNIZED", fields, {
  httpApiStatus: 404
}) {}
/** 429: too many requests; `retry_after_ms` says when the next one is welcome. */
export class LimitExceeded extends Schema.TaggedError<LimitExceeded>()(
  "M_LIMIT_EXCEEDED",
  { ...fields, retry_after_ms: Schema.Number },
  { httpApiStatus: 429 }
) {}
/** 400: the user ID is taken. */
export class UserInUse extends Schema.TaggedError<UserInUse>()("M_USER_IN_USE", fields, { httpApiStatus: 400 }) {}
/** 400: the room alias is taken. */
export class RoomInUse extends Schema.TaggedError<RoomInUse>()("M_ROOM_IN_USE", fields, { httpApiStatus: 400 }) {}
/** 400: characters that a user ID may not have. */
export class InvalidUsername extends Schema.TaggedError<InvalidUsername>()("M_INVALID_USERNAME", fields, {
  httpApiStatus: 400
}) {}
/** 400: `from`, `to`, `limit`, `dir` or `timeout` is malformed or negative. */
export class BadPagination extends Schema.TaggedError<BadPagination>()("M_BAD_PAGINATION", fields, {
  httpApiStatus: 400
}) {}
/** 400: the link in the mail was not visited yet. */
export class LoginEmailUrlNotYet extends Schema.TaggedError<LoginEmailUrlNotYet>()(
  "M_LOGIN_EMAIL_URL_NOT_YET",
  fields,
  { httpApiStatus: 400 }
) {}
/** 413: a body, event or upload over its limit. */
export class TooLarge extends Schema.TaggedError<TooLarge>()("M_TOO_LARGE", fields, { httpApiStatus: 413 }) {}
/** 400: wrong in a way that no other code names. */
export class BadRequest extends Schema.TaggedError<BadRequest>()("M_UNKNOWN", fields, { httpApiStatus: 400 }) {}

/** Every error that an actor or repository may answer with. Anything else is a defect, which clients see as a 500. */
export const MatrixError = Schema.Union([
  Forbidden,
  UnknownToken,
  MissingToken,
  BadJson,
  NotJson,
  NotFound,
  Unrecognized,
  LimitExceeded,
  UserInUse,
  RoomInUse,
  InvalidUsername,
  BadPagination,
  LoginEmailUrlNotYet,
  TooLarge,
  BadRequest
])
export type MatrixError = typeof MatrixError.Type
export type ErrCode = MatrixError["_tag"]

/** The HTTP status of each errcode. */
export const statusOf: { readonly [K in ErrCode]: number } = {
  M_FORBIDDEN: 403,
  M_UNKNOWN_TOKEN: 401,
  M_MISSING_TOKEN: 401,
  M_BAD_JSON: 400,
  M_NOT_JSON: 400,
  M_NOT_FOUND: 404,
  M_UNRECOGNIZED: 404,
  M_LIMIT_EXCEEDED: 429,
  M_USER_IN_USE: 400,
  M_ROOM_IN_USE: 400,
  M_INVALID_USERNAME: 400,
  M_BAD_PAGINATION: 400,
  M_LOGIN_EMAIL_URL_NOT_YET: 400,
  M_TOO_LARGE: 413,
  M_UNKNOWN: 400
}

const known: ReadonlySet<unknown> = new Set(Object.keys(statusOf))

export const isMatrixError = (value: unknown): value is MatrixError =>
  typeof value === "object" && value !== null && "_tag" in value && known.has(value._tag) && "error" in value

/** The body of an error response, as a client receives it. */
export interface ErrorBody {
  readonly errcode: ErrCode
  readonly error: string
  readonly retry_after_ms?: number
}

export const toErrorBody = (error: MatrixError): ErrorBody =>
  error._tag === "M_LIMIT_EXCEEDED"
    ? { errcode: error._tag, error: error.error, retry_after_ms: error.retry_after_ms }
    : { errcode: error._tag, error: error.error }
