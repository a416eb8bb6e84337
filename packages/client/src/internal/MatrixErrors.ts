/**
 * Errors as they travel, as the tagged errors of the protocol.
 */
import * as Errors from "@greenroom/protocol/MatrixError"

type Simple = Exclude<Errors.ErrCode, "M_LIMIT_EXCEEDED">

const classes: { readonly [Code in Simple]: new (fields: { readonly error: string }) => Errors.MatrixError } = {
  M_FORBIDDEN: Errors.Forbidden,
  M_UNKNOWN_TOKEN: Errors.UnknownToken,
  M_MISSING_TOKEN: Errors.MissingToken,
  M_BAD_JSON: Errors.BadJson,
  M_NOT_JSON: Errors.NotJson,
  M_NOT_FOUND: Errors.NotFound,
  M_UNRECOGNIZED: Errors.Unrecognized,
  M_USER_IN_USE: Errors.UserInUse,
  M_ROOM_IN_USE: Errors.RoomInUse,
  M_INVALID_USERNAME: Errors.InvalidUsername,
  M_BAD_PAGINATION: Errors.BadPagination,
  M_LOGIN_EMAIL_URL_NOT_YET: Errors.LoginEmailUrlNotYet,
  M_TOO_LARGE: Errors.TooLarge,
  M_UNKNOWN: Errors.BadRequest
}

/** A code that this client does not know is told as M_UNKNOWN. */
export const fromErrorBody = (body: {
  readonly errcode: string
  readonly error: string
  readonly retry_after_ms?: number
}): Errors.MatrixError => {
  const { errcode, error } = body
  if (errcode === "M_LIMIT_EXCEEDED") {
    return new Errors.LimitExceeded({ error, retry_after_ms: body.retry_after_ms ?? 1_000 })
  }
  return Object.hasOwn(classes, errcode)
    ? new classes[errcode as Simple]({ error })
    : new Errors.BadRequest({ error: `${errcode}: ${error}` })
}
