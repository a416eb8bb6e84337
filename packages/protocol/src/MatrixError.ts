/**
 * The standard errors: on the wire `{"errcode": "M_...", "error": "what is wrong"}` with an HTTP status, inside the
 * server a tagged error whose tag is the errcode, so that `Effect.catchTag("M_FORBIDDEN", ...)` reads as it should.
 * Source: "API Standards" of the specification.
 */
import * as Schema from "effect/Schema"
import { WireErrorClass } from "./WireErrorClass.ts"

const fields = { error: Schema.String }

/** 403: not allowed, or a wrong password. */
export class Forbidden extends WireErrorClass<Forbidden>()("M_FORBIDDEN", fields, { httpApiStatus: 403 }) {}
/** 401: the access token is unknown, expired or revoked. With `soft_logout` the device may log in again as itself. */
export class UnknownToken extends WireErrorClass<UnknownToken>()(
  "M_UNKNOWN_TOKEN",
  { ...fields, soft_logout: Schema.optionalKey(Schema.Boolean) },
  { httpApiStatus: 401 }
) {}
/** 401: no access token was given. */
export class MissingToken extends WireErrorClass<MissingToken>()("M_MISSING_TOKEN", fields, {
  httpApiStatus: 401
}) {}
/** 400: JSON, but a key is missing or of the wrong type; the text names the key. */
export class BadJson extends WireErrorClass<BadJson>()("M_BAD_JSON", fields, { httpApiStatus: 400 }) {}
/** 400: not JSON. */
export class NotJson extends WireErrorClass<NotJson>()("M_NOT_JSON", fields, { httpApiStatus: 400 }) {}
/** 404: no such thing, or none that the caller may see. */
export class NotFound extends WireErrorClass<NotFound>()("M_NOT_FOUND", fields, { httpApiStatus: 404 }) {}
/** 404 or 405: no such endpoint, or not with this method. */
export class Unrecognized extends WireErrorClass<Unrecognized>()("M_UNRECOGNIZED", fields, {
  httpApiStatus: 404
}) {}
/** 429: too many requests; `retry_after_ms` is the time until the next one may come. */
export class LimitExceeded extends WireErrorClass<LimitExceeded>()(
  "M_LIMIT_EXCEEDED",
  { ...fields, retry_after_ms: Schema.Number },
  { httpApiStatus: 429 }
) {}
/** 400: the user ID is taken. */
export class UserInUse extends WireErrorClass<UserInUse>()("M_USER_IN_USE", fields, { httpApiStatus: 400 }) {}
/** 400: the room alias is taken. */
export class RoomInUse extends WireErrorClass<RoomInUse>()("M_ROOM_IN_USE", fields, { httpApiStatus: 400 }) {}
/** 400: characters that a user ID may not have. */
export class InvalidUsername extends WireErrorClass<InvalidUsername>()("M_INVALID_USERNAME", fields, {
  httpApiStatus: 400
}) {}
/** 400: `from`, `to`, `limit`, `dir` or `timeout` is malformed or negative. */
export class BadPagination extends WireErrorClass<BadPagination>()("M_BAD_PAGINATION", fields, {
  httpApiStatus: 400
}) {}
/** 400: the link in the mail was not visited yet. */
export class LoginEmailUrlNotYet extends WireErrorClass<LoginEmailUrlNotYet>()("M_LOGIN_EMAIL_URL_NOT_YET", fields, {
  httpApiStatus: 400
}) {}
/** 413: a body, event or upload over its limit. */
export class TooLarge extends WireErrorClass<TooLarge>()("M_TOO_LARGE", fields, { httpApiStatus: 413 }) {}
/** 400: wrong in a way that no other code names. */
export class BadRequest extends WireErrorClass<BadRequest>()("M_UNKNOWN", fields, { httpApiStatus: 400 }) {}

// --- Errors of today's client API ------------------------------------------------------------------------------------
/** 400: a parameter has a value that is not allowed; the text names the parameter. */
export class InvalidParam extends WireErrorClass<InvalidParam>()("M_INVALID_PARAM", fields, {
  httpApiStatus: 400
}) {}
/** 400: a required parameter is missing; the text names it. */
export class MissingParam extends WireErrorClass<MissingParam>()("M_MISSING_PARAM", fields, {
  httpApiStatus: 400
}) {}
/** 403: the account was deactivated. */
export class UserDeactivated extends WireErrorClass<UserDeactivated>()("M_USER_DEACTIVATED", fields, {
  httpApiStatus: 403
}) {}
/** 401: an administrator locked the account; the session itself goes on. */
export class UserLocked extends WireErrorClass<UserLocked>()(
  "M_USER_LOCKED",
  { ...fields, soft_logout: Schema.optionalKey(Schema.Boolean) },
  {
    httpApiStatus: 401
  }
) {}
/**
 * 403: the account exists, and cannot log in before an administrator approves it. The code is that of MSC3866, which Synapse
 * and its clients use; `approval_notice_medium` says how its user is notified of the approval.
 */
export class UserAwaitingApproval extends WireErrorClass<UserAwaitingApproval>()(
  "ORG.MATRIX.MSC3866_USER_AWAITING_APPROVAL",
  { ...fields, approval_notice_medium: Schema.optionalKey(Schema.String) },
  { httpApiStatus: 403 }
) {}
/** 403: an administrator suspended the account, which may read but not write. */
export class UserSuspended extends WireErrorClass<UserSuspended>()("M_USER_SUSPENDED", fields, {
  httpApiStatus: 403
}) {}
/** 403: guests may not do this. */
export class GuestAccessForbidden extends WireErrorClass<GuestAccessForbidden>()("M_GUEST_ACCESS_FORBIDDEN", fields, {
  httpApiStatus: 403
}) {}
/** 400: the name belongs to the namespace of an application service. */
export class Exclusive extends WireErrorClass<Exclusive>()("M_EXCLUSIVE", fields, {
  httpApiStatus: 400
}) {}
/** 400: this server does not know the room version. */
export class UnsupportedRoomVersion extends WireErrorClass<UnsupportedRoomVersion>()(
  "M_UNSUPPORTED_ROOM_VERSION",
  fields,
  {
    httpApiStatus: 400
  }
) {}
/** 400: the room has a version, `room_version`, that the caller does not know. */
export class IncompatibleRoomVersion extends WireErrorClass<IncompatibleRoomVersion>()(
  "M_INCOMPATIBLE_ROOM_VERSION",
  { ...fields, room_version: Schema.optionalKey(Schema.String) },
  {
    httpApiStatus: 400
  }
) {}
/** 400: the initial state that a room was to be made with is not possible. */
export class InvalidRoomState extends WireErrorClass<InvalidRoomState>()("M_INVALID_ROOM_STATE", fields, {
  httpApiStatus: 400
}) {}
/** 403: the state of the room does not allow this. */
export class BadState extends WireErrorClass<BadState>()("M_BAD_STATE", fields, {
  httpApiStatus: 403
}) {}
/** 400: the alias does not point to the room. */
export class BadAlias extends WireErrorClass<BadAlias>()("M_BAD_ALIAS", fields, {
  httpApiStatus: 400
}) {}
/** 400: this server cannot check whether the restricted join is allowed. */
export class UnableToAuthoriseJoin extends WireErrorClass<UnableToAuthoriseJoin>()(
  "M_UNABLE_TO_AUTHORISE_JOIN",
  fields,
  {
    httpApiStatus: 400
  }
) {}
/** 400: this server cannot grant the restricted join; another one may. */
export class UnableToGrantJoin extends WireErrorClass<UnableToGrantJoin>()("M_UNABLE_TO_GRANT_JOIN", fields, {
  httpApiStatus: 400
}) {}
/** 400: the user has annotated the event with this key already. */
export class DuplicateAnnotation extends WireErrorClass<DuplicateAnnotation>()("M_DUPLICATE_ANNOTATION", fields, {
  httpApiStatus: 400
}) {}
/** 403: the room of server notices cannot be left. */
export class CannotLeaveServerNoticeRoom extends WireErrorClass<CannotLeaveServerNoticeRoom>()(
  "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM",
  fields,
  {
    httpApiStatus: 403
  }
) {}
/** 403: the invited user does not accept invitations of the sender. */
export class InviteBlocked extends WireErrorClass<InviteBlocked>()("M_INVITE_BLOCKED", fields, {
  httpApiStatus: 403
}) {}
/** 400: the password is shorter than the operator wants. */
export class WeakPassword extends WireErrorClass<WeakPassword>()("M_WEAK_PASSWORD", fields, {
  httpApiStatus: 400
}) {}
/** 400: the third-party ID belongs to another account. */
export class ThirdPartyIdInUse extends WireErrorClass<ThirdPartyIdInUse>()("M_THREEPID_IN_USE", fields, {
  httpApiStatus: 400
}) {}
/** 400: no account has the third-party ID. */
export class ThirdPartyIdNotFound extends WireErrorClass<ThirdPartyIdNotFound>()("M_THREEPID_NOT_FOUND", fields, {
  httpApiStatus: 400
}) {}
/** 400: the third-party ID is not validated. */
export class ThirdPartyIdAuthFailed extends WireErrorClass<ThirdPartyIdAuthFailed>()("M_THREEPID_AUTH_FAILED", fields, {
  httpApiStatus: 400
}) {}
/** 403: the operator does not allow the third-party ID. */
export class ThirdPartyIdDenied extends WireErrorClass<ThirdPartyIdDenied>()("M_THREEPID_DENIED", fields, {
  httpApiStatus: 403
}) {}
/** 400: third-party IDs of this medium cannot be added. */
export class ThirdPartyIdMediumNotSupported extends WireErrorClass<ThirdPartyIdMediumNotSupported>()(
  "M_THREEPID_MEDIUM_NOT_SUPPORTED",
  fields,
  {
    httpApiStatus: 400
  }
) {}
/** 400: the named server is not one that this one trusts. */
export class ServerNotTrusted extends WireErrorClass<ServerNotTrusted>()("M_SERVER_NOT_TRUSTED", fields, {
  httpApiStatus: 400
}) {}
/** 400: the profile would be larger than 64 KiB. */
export class ProfileTooLarge extends WireErrorClass<ProfileTooLarge>()("M_PROFILE_TOO_LARGE", fields, {
  httpApiStatus: 400
}) {}
/** 400: the name of the profile field is longer than 255 bytes. */
export class KeyTooLarge extends WireErrorClass<KeyTooLarge>()("M_KEY_TOO_LARGE", fields, {
  httpApiStatus: 400
}) {}
/** 400: the device that an application service acts as does not belong to the user. */
export class UnknownDevice extends WireErrorClass<UnknownDevice>()("M_UNKNOWN_DEVICE", fields, {
  httpApiStatus: 400
}) {}
/** 403: a limit of the account is reached. `info_uri` is a page for the user, which the gateway names. */
export class UserLimitExceeded extends WireErrorClass<UserLimitExceeded>()(
  "M_USER_LIMIT_EXCEEDED",
  { ...fields, info_uri: Schema.optionalKey(Schema.String) },
  {
    httpApiStatus: 403
  }
) {}
/** 403: another version of the key backup, `current_version`, is in use. */
export class WrongRoomKeysVersion extends WireErrorClass<WrongRoomKeysVersion>()(
  "M_WRONG_ROOM_KEYS_VERSION",
  { ...fields, current_version: Schema.optionalKey(Schema.String) },
  {
    httpApiStatus: 403
  }
) {}
/** 400: a key is not signed as it must be. */
export class InvalidSignature extends WireErrorClass<InvalidSignature>()("M_INVALID_SIGNATURE", fields, {
  httpApiStatus: 400
}) {}
/** 400: the position of the sliding sync connection is not known any more. */
export class UnknownPos extends WireErrorClass<UnknownPos>()("M_UNKNOWN_POS", fields, {
  httpApiStatus: 400
}) {}
/** 504: the content was announced but did not arrive yet. */
export class NotYetUploaded extends WireErrorClass<NotYetUploaded>()("M_NOT_YET_UPLOADED", fields, {
  httpApiStatus: 504
}) {}
/** 409: the content ID already has content. */
export class CannotOverwriteMedia extends WireErrorClass<CannotOverwriteMedia>()("M_CANNOT_OVERWRITE_MEDIA", fields, {
  httpApiStatus: 409
}) {}

/** 400: the registration of the application service has no URL. */
export class UrlNotSet extends WireErrorClass<UrlNotSet>()("M_URL_NOT_SET", fields, { httpApiStatus: 400 }) {}
/** 502: the application service answered a ping with another status than 200. */
export class BadStatus extends WireErrorClass<BadStatus>()(
  "M_BAD_STATUS",
  { ...fields, status: Schema.Int, body: Schema.String },
  { httpApiStatus: 502 }
) {}
/** 502: an application service or another server cannot be reached, or refuses what this server sent. */
export class ConnectionFailed extends WireErrorClass<ConnectionFailed>()("M_CONNECTION_FAILED", fields, {
  httpApiStatus: 502
}) {}
/** 504: the application service took the connection and did not answer. */
export class ConnectionTimeout extends WireErrorClass<ConnectionTimeout>()("M_CONNECTION_TIMEOUT", fields, {
  httpApiStatus: 504
}) {}

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
  BadRequest,
  InvalidParam,
  MissingParam,
  UserDeactivated,
  UserLocked,
  UserSuspended,
  UserAwaitingApproval,
  GuestAccessForbidden,
  Exclusive,
  UnsupportedRoomVersion,
  IncompatibleRoomVersion,
  InvalidRoomState,
  BadState,
  BadAlias,
  UnableToAuthoriseJoin,
  UnableToGrantJoin,
  DuplicateAnnotation,
  CannotLeaveServerNoticeRoom,
  InviteBlocked,
  WeakPassword,
  ThirdPartyIdInUse,
  ThirdPartyIdNotFound,
  ThirdPartyIdAuthFailed,
  ThirdPartyIdDenied,
  ThirdPartyIdMediumNotSupported,
  ServerNotTrusted,
  ProfileTooLarge,
  KeyTooLarge,
  UnknownDevice,
  UserLimitExceeded,
  WrongRoomKeysVersion,
  InvalidSignature,
  UnknownPos,
  NotYetUploaded,
  CannotOverwriteMedia,
  UrlNotSet,
  BadStatus,
  ConnectionFailed,
  ConnectionTimeout
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
  M_UNKNOWN: 400,
  M_INVALID_PARAM: 400,
  M_MISSING_PARAM: 400,
  M_USER_DEACTIVATED: 403,
  M_USER_LOCKED: 401,
  M_USER_SUSPENDED: 403,
  "ORG.MATRIX.MSC3866_USER_AWAITING_APPROVAL": 403,
  M_GUEST_ACCESS_FORBIDDEN: 403,
  M_EXCLUSIVE: 400,
  M_UNSUPPORTED_ROOM_VERSION: 400,
  M_INCOMPATIBLE_ROOM_VERSION: 400,
  M_INVALID_ROOM_STATE: 400,
  M_BAD_STATE: 403,
  M_BAD_ALIAS: 400,
  M_UNABLE_TO_AUTHORISE_JOIN: 400,
  M_UNABLE_TO_GRANT_JOIN: 400,
  M_DUPLICATE_ANNOTATION: 400,
  M_CANNOT_LEAVE_SERVER_NOTICE_ROOM: 403,
  M_INVITE_BLOCKED: 403,
  M_WEAK_PASSWORD: 400,
  M_THREEPID_IN_USE: 400,
  M_THREEPID_NOT_FOUND: 400,
  M_THREEPID_AUTH_FAILED: 400,
  M_THREEPID_DENIED: 403,
  M_THREEPID_MEDIUM_NOT_SUPPORTED: 400,
  M_SERVER_NOT_TRUSTED: 400,
  M_PROFILE_TOO_LARGE: 400,
  M_KEY_TOO_LARGE: 400,
  M_UNKNOWN_DEVICE: 400,
  M_USER_LIMIT_EXCEEDED: 403,
  M_WRONG_ROOM_KEYS_VERSION: 403,
  M_INVALID_SIGNATURE: 400,
  M_UNKNOWN_POS: 400,
  M_NOT_YET_UPLOADED: 504,
  M_CANNOT_OVERWRITE_MEDIA: 409,
  M_URL_NOT_SET: 400,
  M_BAD_STATUS: 502,
  M_CONNECTION_FAILED: 502,
  M_CONNECTION_TIMEOUT: 504
}

const known: ReadonlySet<unknown> = new Set(Object.keys(statusOf))

/** True for an error of this module. */
export const isMatrixError = (value: unknown): value is MatrixError =>
  typeof value === "object" && value !== null && "_tag" in value && known.has(value._tag) && "error" in value

/** The body of an error response, as a client receives it. */
export interface ErrorBody {
  readonly errcode: ErrCode
  readonly error: string
  readonly retry_after_ms?: number
  readonly soft_logout?: boolean
  readonly approval_notice_medium?: string
  readonly room_version?: string
  readonly current_version?: string
  readonly info_uri?: string
  readonly status?: number
  readonly body?: string
}

/** The fields of some errors beside their text. */
const details = [
  "retry_after_ms",
  "soft_logout",
  "approval_notice_medium",
  "room_version",
  "current_version",
  "info_uri",
  "status",
  "body"
] as const

/** The body of the response to an error. */
export const toErrorBody = (error: MatrixError): ErrorBody => {
  const out: Record<string, unknown> = { errcode: error._tag, error: error.error }
  for (const key of details) {
    const value: unknown = key in error ? error[key as never] : undefined
    if (value !== undefined) out[key] = value
  }
  return out as unknown as ErrorBody
}
