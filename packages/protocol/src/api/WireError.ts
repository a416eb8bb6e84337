/**
 * The errors of the protocol as they travel, `{"errcode": "M_...", "error": "..."}`, and the middleware by which a
 * request that does not fit the schemas of its endpoint is answered with one of them.
 *
 * Source: "API Standards" of the specification.
 */
import { Effect, Option, Schema } from "effect"
import { HttpServerRequest } from "effect/http"
import { type HttpApiError, HttpApiMiddleware } from "effect/http-api"
import { describeIssue } from "../IssueDescription.ts"
import { isJsonObject } from "../Json.ts"
import * as Errors from "../MatrixError.ts"
import { isPaginationKey } from "../Pagination.ts"

const errcode = { _tag: "errcode" } as const

/** An error as it travels, with a status. */
export const wire = <E extends Schema.Top & { readonly fields: Schema.Struct.Fields & { readonly _tag: Schema.Top } }>(
  error: E,
  httpApiStatus: number,
  description: string
) => error.pipe(Schema.encodeKeys(errcode)).annotate({ httpApiStatus, description })

/** Every error in its wire form. A handler may fail with any of them. */
export const wireErrors = [
  wire(Errors.BadJson, 400, "A key is missing or of the wrong type"),
  wire(Errors.NotJson, 400, "Not JSON"),
  wire(Errors.BadPagination, 400, "Malformed pagination"),
  wire(Errors.UserInUse, 400, "User ID taken"),
  wire(Errors.RoomInUse, 400, "Room alias taken"),
  wire(Errors.InvalidUsername, 400, "Not allowed in a user ID"),
  wire(Errors.LoginEmailUrlNotYet, 400, "Link not visited yet"),
  wire(Errors.BadRequest, 400, "Anything else"),
  wire(Errors.UnknownToken, 401, "Access token unknown or expired"),
  wire(Errors.MissingToken, 401, "No access token"),
  wire(Errors.Forbidden, 403, "Not allowed"),
  wire(Errors.NotFound, 404, "No such thing, or not for you to see"),
  wire(Errors.Unrecognized, 404, "No such endpoint"),
  wire(Errors.TooLarge, 413, "Over a limit of size"),
  wire(Errors.LimitExceeded, 429, "Too many requests"),
  wire(Errors.InvalidParam, 400, "A parameter has a value that is not allowed"),
  wire(Errors.MissingParam, 400, "A required parameter is missing"),
  wire(Errors.UserDeactivated, 403, "The account was deactivated"),
  wire(Errors.UserLocked, 401, "An administrator locked the account; the session itself goes on"),
  wire(Errors.UserSuspended, 403, "An administrator suspended the account, which may read but not write"),
  wire(Errors.UserAwaitingApproval, 403, "The account waits until an administrator approves it"),
  wire(Errors.GuestAccessForbidden, 403, "Guests may not do this"),
  wire(Errors.Exclusive, 400, "The name belongs to the namespace of an application service"),
  wire(Errors.UnsupportedRoomVersion, 400, "This server does not know the room version"),
  wire(Errors.IncompatibleRoomVersion, 400, "The room has a version, `room_version`, that the caller does not know"),
  wire(Errors.InvalidRoomState, 400, "The initial state that a room was to be made with is not possible"),
  wire(Errors.BadState, 403, "The state of the room does not allow this"),
  wire(Errors.BadAlias, 400, "The alias does not point to the room"),
  wire(Errors.UnableToAuthoriseJoin, 400, "This server cannot check whether the restricted join is allowed"),
  wire(Errors.UnableToGrantJoin, 400, "This server cannot grant the restricted join; another one may"),
  wire(Errors.DuplicateAnnotation, 400, "The user has annotated the event with this key already"),
  wire(Errors.CannotLeaveServerNoticeRoom, 403, "The room of server notices cannot be left"),
  wire(Errors.InviteBlocked, 403, "The invited user does not accept invitations of the sender"),
  wire(Errors.WeakPassword, 400, "The password is shorter than the operator wants"),
  wire(Errors.ThirdPartyIdInUse, 400, "The third-party ID belongs to another account"),
  wire(Errors.ThirdPartyIdNotFound, 400, "No account has the third-party ID"),
  wire(Errors.ThirdPartyIdAuthFailed, 400, "The third-party ID is not validated"),
  wire(Errors.ThirdPartyIdDenied, 403, "The operator does not allow the third-party ID"),
  wire(Errors.ThirdPartyIdMediumNotSupported, 400, "Third-party IDs of this medium cannot be added"),
  wire(Errors.ServerNotTrusted, 400, "The named server is not one that this one trusts"),
  wire(Errors.ProfileTooLarge, 400, "The profile would be larger than 64 KiB"),
  wire(Errors.KeyTooLarge, 400, "The name of the profile field is longer than 255 bytes"),
  wire(Errors.UnknownDevice, 400, "The device that an application service acts as does not belong to the user"),
  wire(Errors.UserLimitExceeded, 403, "A limit of the account is reached; `info_uri` is a page about it"),
  wire(Errors.WrongRoomKeysVersion, 403, "Another version of the key backup, `current_version`, is in use"),
  wire(Errors.InvalidSignature, 400, "A key is not signed as it must be"),
  wire(Errors.UnknownPos, 400, "The position of the sliding sync connection is not known any more"),
  wire(Errors.NotYetUploaded, 504, "The content was announced but did not arrive yet"),
  wire(Errors.CannotOverwriteMedia, 409, "The content ID already has content"),
  wire(Errors.UrlNotSet, 400, "The registration of the application service has no URL"),
  wire(Errors.BadStatus, 502, "The application service answered with an error, `status` and `body`"),
  wire(
    Errors.ConnectionFailed,
    502,
    "An application service or another server cannot be reached, or refuses what it was sent"
  ),
  wire(Errors.ConnectionTimeout, 504, "The application service did not answer in time")
] as const

/** Declares the errors for every endpoint, and turns what the schemas refuse into M_BAD_JSON and its like. */
export class WireErrors extends HttpApiMiddleware.Service<WireErrors>()("greenroom/protocol/WireErrors", {
  error: wireErrors
}) {
  static readonly layer = HttpApiMiddleware.layerSchemaErrorTransform(WireErrors, (error) => {
    switch (error.kind) {
      case "Payload":
        return Effect.flatMap(payloadError(error), Effect.fail)
      case "Query":
        return Effect.fail(queryError(error))
      case "Params":
      case "Headers":
        return Effect.fail(new Errors.BadRequest({ error: describeIssue(error.cause.issue).text }))
      default:
        return Effect.fail(error)
    }
  })
}

const parseJson = (text: string): Option.Option<unknown> => {
  try {
    return Option.some(JSON.parse(text))
  } catch {
    return Option.none()
  }
}

/** The body was read already and is remembered by the request, so that asking for it again costs nothing. */
const payloadError = Effect.fnUntraced(function* (error: HttpApiError.HttpApiSchemaError) {
  const { key, text } = describeIssue(error.cause.issue)
  if (key !== "") return new Errors.BadJson({ error: text })
  const request = yield* HttpServerRequest.HttpServerRequest
  const body = parseJson(yield* Effect.orDie(request.text))
  if (Option.isNone(body)) return new Errors.NotJson({ error: "The body is not JSON" })
  return new Errors.BadJson({ error: isJsonObject(body.value) ? text : "The body is not a JSON object" })
})

const queryError = (error: HttpApiError.HttpApiSchemaError): Errors.BadPagination | Errors.BadRequest => {
  const { key, text } = describeIssue(error.cause.issue)
  return isPaginationKey(key.split(".")[0])
    ? new Errors.BadPagination({ error: text })
    : new Errors.BadRequest({ error: text })
}
