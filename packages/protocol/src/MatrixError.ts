/**
 * The standard errors: on the wire `{"errcode": "M_...", "error": "what is wrong"}` with an HTTP status, inside the
 * server a tagged error whose tag is the errcode, so that `Effect.catchTag("M_FORBIDDEN", ...)` reads as it should. Each class
 * states its errcode, HTTP status, description, and the fields that it has beside its text `error`.
 *
 * Source: "API Standards" of the draft, "Standard error response" of the client-server specification.
 */
import * as Schema from "effect/Schema"
import { WireErrorClass } from "./WireErrorClass.ts"

export class Forbidden extends WireErrorClass<Forbidden>()("M_FORBIDDEN", 403, "Not allowed, or a wrong password") {}
export class UnknownToken extends WireErrorClass<UnknownToken>()(
  "M_UNKNOWN_TOKEN",
  401,
  "The access token is unknown, expired or revoked. With `soft_logout` the device may log in again as itself",
  { soft_logout: Schema.optionalKey(Schema.Boolean) }
) {}
export class MissingToken extends WireErrorClass<MissingToken>()("M_MISSING_TOKEN", 401, "No access token was given") {}
export class BadJson extends WireErrorClass<BadJson>()(
  "M_BAD_JSON",
  400,
  "JSON, but a key is missing or of the wrong type; the text names the key"
) {}
export class NotJson extends WireErrorClass<NotJson>()("M_NOT_JSON", 400, "Not JSON") {}
export class NotFound extends WireErrorClass<NotFound>()(
  "M_NOT_FOUND",
  404,
  "No such thing, or none that the caller may see"
) {}
export class Unrecognized extends WireErrorClass<Unrecognized>()(
  "M_UNRECOGNIZED",
  404,
  "No such endpoint, or not with this method"
) {}
export class LimitExceeded extends WireErrorClass<LimitExceeded>()(
  "M_LIMIT_EXCEEDED",
  429,
  "Too many requests; `retry_after_ms` is the time until the next one may come",
  { retry_after_ms: Schema.Number }
) {}
export class UserInUse extends WireErrorClass<UserInUse>()("M_USER_IN_USE", 400, "The user ID is taken") {}
export class RoomInUse extends WireErrorClass<RoomInUse>()("M_ROOM_IN_USE", 400, "The room alias is taken") {}
export class InvalidUsername extends WireErrorClass<InvalidUsername>()(
  "M_INVALID_USERNAME",
  400,
  "Characters that a user ID may not have"
) {}
export class BadPagination extends WireErrorClass<BadPagination>()(
  "M_BAD_PAGINATION",
  400,
  "`from`, `to`, `limit`, `dir` or `timeout` is malformed or negative"
) {}
export class LoginEmailUrlNotYet extends WireErrorClass<LoginEmailUrlNotYet>()(
  "M_LOGIN_EMAIL_URL_NOT_YET",
  400,
  "The link in the mail was not visited yet"
) {}
export class TooLarge extends WireErrorClass<TooLarge>()(
  "M_TOO_LARGE",
  413,
  "A body, event or upload over its limit"
) {}
export class BadRequest extends WireErrorClass<BadRequest>()(
  "M_UNKNOWN",
  400,
  "Wrong in a way that no other code names"
) {}

// Errors of today's client API
export class InvalidParam extends WireErrorClass<InvalidParam>()(
  "M_INVALID_PARAM",
  400,
  "A parameter has a value that is not allowed; the text names the parameter"
) {}
export class MissingParam extends WireErrorClass<MissingParam>()(
  "M_MISSING_PARAM",
  400,
  "A required parameter is missing; the text names it"
) {}
export class UserDeactivated extends WireErrorClass<UserDeactivated>()(
  "M_USER_DEACTIVATED",
  403,
  "The account was deactivated"
) {}
export class UserLocked extends WireErrorClass<UserLocked>()(
  "M_USER_LOCKED",
  401,
  "An administrator locked the account; the session itself goes on",
  { soft_logout: Schema.optionalKey(Schema.Boolean) }
) {}
export class UserAwaitingApproval extends WireErrorClass<UserAwaitingApproval>()(
  "ORG.MATRIX.MSC3866_USER_AWAITING_APPROVAL",
  403,
  "The account exists, and cannot log in before an administrator approves it. The code is that of MSC3866, which Synapse and its clients use; `approval_notice_medium` says how its user is notified of the approval",
  { approval_notice_medium: Schema.optionalKey(Schema.String) }
) {}
export class UserSuspended extends WireErrorClass<UserSuspended>()(
  "M_USER_SUSPENDED",
  403,
  "An administrator suspended the account, which may read but not write"
) {}
export class GuestAccessForbidden extends WireErrorClass<GuestAccessForbidden>()(
  "M_GUEST_ACCESS_FORBIDDEN",
  403,
  "Guests may not do this"
) {}
export class Exclusive extends WireErrorClass<Exclusive>()(
  "M_EXCLUSIVE",
  400,
  "The name belongs to the namespace of an application service"
) {}
export class UnsupportedRoomVersion extends WireErrorClass<UnsupportedRoomVersion>()(
  "M_UNSUPPORTED_ROOM_VERSION",
  400,
  "This server does not know the room version"
) {}
export class IncompatibleRoomVersion extends WireErrorClass<IncompatibleRoomVersion>()(
  "M_INCOMPATIBLE_ROOM_VERSION",
  400,
  "The room has a version, `room_version`, that the caller does not know",
  { room_version: Schema.optionalKey(Schema.String) }
) {}
export class InvalidRoomState extends WireErrorClass<InvalidRoomState>()(
  "M_INVALID_ROOM_STATE",
  400,
  "The initial state that a room was to be made with is not possible"
) {}
export class BadState extends WireErrorClass<BadState>()(
  "M_BAD_STATE",
  403,
  "The state of the room does not allow this"
) {}
export class BadAlias extends WireErrorClass<BadAlias>()("M_BAD_ALIAS", 400, "The alias does not point to the room") {}
export class UnableToAuthoriseJoin extends WireErrorClass<UnableToAuthoriseJoin>()(
  "M_UNABLE_TO_AUTHORISE_JOIN",
  400,
  "This server cannot check whether the restricted join is allowed"
) {}
export class UnableToGrantJoin extends WireErrorClass<UnableToGrantJoin>()(
  "M_UNABLE_TO_GRANT_JOIN",
  400,
  "This server cannot grant the restricted join; another one may"
) {}
export class DuplicateAnnotation extends WireErrorClass<DuplicateAnnotation>()(
  "M_DUPLICATE_ANNOTATION",
  400,
  "The user has annotated the event with this key already"
) {}
export class CannotLeaveServerNoticeRoom extends WireErrorClass<CannotLeaveServerNoticeRoom>()(
  "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM",
  403,
  "The room of server notices cannot be left"
) {}
export class InviteBlocked extends WireErrorClass<InviteBlocked>()(
  "M_INVITE_BLOCKED",
  403,
  "The invited user does not accept invitations of the sender"
) {}
export class WeakPassword extends WireErrorClass<WeakPassword>()(
  "M_WEAK_PASSWORD",
  400,
  "The password is shorter than the operator wants"
) {}
export class ThirdPartyIdInUse extends WireErrorClass<ThirdPartyIdInUse>()(
  "M_THREEPID_IN_USE",
  400,
  "The third-party ID belongs to another account"
) {}
export class ThirdPartyIdNotFound extends WireErrorClass<ThirdPartyIdNotFound>()(
  "M_THREEPID_NOT_FOUND",
  400,
  "No account has the third-party ID"
) {}
export class ThirdPartyIdAuthFailed extends WireErrorClass<ThirdPartyIdAuthFailed>()(
  "M_THREEPID_AUTH_FAILED",
  400,
  "The third-party ID is not validated"
) {}
export class ThirdPartyIdMediumNotSupported extends WireErrorClass<ThirdPartyIdMediumNotSupported>()(
  "M_THREEPID_MEDIUM_NOT_SUPPORTED",
  400,
  "Third-party IDs of this medium cannot be added"
) {}
export class ServerNotTrusted extends WireErrorClass<ServerNotTrusted>()(
  "M_SERVER_NOT_TRUSTED",
  400,
  "The named server is not one that this one trusts"
) {}
export class ProfileTooLarge extends WireErrorClass<ProfileTooLarge>()(
  "M_PROFILE_TOO_LARGE",
  400,
  "The profile would be larger than 64 KiB"
) {}
export class KeyTooLarge extends WireErrorClass<KeyTooLarge>()(
  "M_KEY_TOO_LARGE",
  400,
  "The name of the profile field is longer than 255 bytes"
) {}
export class UnknownDevice extends WireErrorClass<UnknownDevice>()(
  "M_UNKNOWN_DEVICE",
  400,
  "The device that an application service acts as does not belong to the user"
) {}
export class UserLimitExceeded extends WireErrorClass<UserLimitExceeded>()(
  "M_USER_LIMIT_EXCEEDED",
  403,
  "A limit of the account is reached. `info_uri` is a page for the user, which the gateway names",
  { info_uri: Schema.optionalKey(Schema.String) }
) {}
export class WrongRoomKeysVersion extends WireErrorClass<WrongRoomKeysVersion>()(
  "M_WRONG_ROOM_KEYS_VERSION",
  403,
  "Another version of the key backup, `current_version`, is in use",
  { current_version: Schema.optionalKey(Schema.String) }
) {}
export class InvalidSignature extends WireErrorClass<InvalidSignature>()(
  "M_INVALID_SIGNATURE",
  400,
  "A key is not signed as it must be"
) {}
export class UnknownPos extends WireErrorClass<UnknownPos>()(
  "M_UNKNOWN_POS",
  400,
  "The position of the sliding sync connection is not known any more"
) {}
export class NotYetUploaded extends WireErrorClass<NotYetUploaded>()(
  "M_NOT_YET_UPLOADED",
  504,
  "The content was announced but did not arrive yet"
) {}
export class CannotOverwriteMedia extends WireErrorClass<CannotOverwriteMedia>()(
  "M_CANNOT_OVERWRITE_MEDIA",
  409,
  "The content ID already has content"
) {}
export class UrlNotSet extends WireErrorClass<UrlNotSet>()(
  "M_URL_NOT_SET",
  400,
  "The registration of the application service has no URL"
) {}
export class BadStatus extends WireErrorClass<BadStatus>()(
  "M_BAD_STATUS",
  502,
  "The application service answered a ping with another status than 200",
  { status: Schema.Int, body: Schema.String }
) {}
export class ConnectionFailed extends WireErrorClass<ConnectionFailed>()(
  "M_CONNECTION_FAILED",
  502,
  "An application service or another server cannot be reached, or refuses what this server sent"
) {}
export class ConnectionTimeout extends WireErrorClass<ConnectionTimeout>()(
  "M_CONNECTION_TIMEOUT",
  504,
  "The application service took the connection and did not answer"
) {}

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
/** The code of a standard error. */
export type ErrCode = MatrixError["_tag"]

/** The HTTP status of each errcode. */
export const statusOf = Object.fromEntries(MatrixError.members.map((member) => [member.identifier, member.status])) as {
  readonly [K in ErrCode]: number
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
const details = [...new Set(MatrixError.members.flatMap(({ fields }) => Object.keys(fields)))].filter(
  (field) => field !== "_tag" && field !== "error"
)

/** The body of the response to an error. */
export const toErrorBody = (error: MatrixError): ErrorBody => {
  const out: Record<string, unknown> = { errcode: error._tag, error: error.error }
  for (const key of details) {
    const value: unknown = key in error ? error[key as never] : undefined
    if (value !== undefined) out[key] = value
  }
  return out as unknown as ErrorBody
}
