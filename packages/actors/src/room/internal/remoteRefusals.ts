/**
 * The errors for clients where another server refuses, or cannot be reached.
 */
import type { RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import {
  BadJson,
  BadRequest,
  ConnectionFailed,
  Forbidden,
  IncompatibleRoomVersion,
  InviteBlocked,
  LimitExceeded,
  MatrixError,
  NotFound,
  UnsupportedRoomVersion
} from "@greenroom/protocol/MatrixError"
import { Option, Schema } from "effect"
import type { RemoteFailure } from "../RemoteRooms.ts"

/**
 * The client's error text for a failure: the text of the other server. The reason of a failed connection goes only to the
 * log, because it shows which addresses and ports answer.
 */
const answerOf = ({ errcode, reason }: RemoteFailure): string =>
  errcode === undefined || errcode === "M_UNKNOWN" ? "" : `: ${reason}`

/** The errors by which servers refuse a join, a knock or a leave. */
const forbidding: ReadonlySet<string | undefined> = new Set([
  "M_FORBIDDEN",
  "M_UNABLE_TO_AUTHORISE_JOIN",
  "M_UNABLE_TO_GRANT_JOIN"
])

/**
 * The errors of other servers that mean the same for the client. Those about access tokens and accounts are not among them:
 * clients would take them for errors of this server, and log out.
 */
const passedOn: ReadonlySet<string | undefined> = new Set([
  "M_BAD_STATE",
  "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM",
  "M_GUEST_ACCESS_FORBIDDEN",
  "M_INVALID_ROOM_STATE",
  "M_TOO_LARGE",
  "M_UNSUPPORTED_ROOM_VERSION"
])

/** The errors by which another server says that this one made a fault. Clients get a 5xx error for them. */
const blaming: ReadonlySet<string | undefined> = new Set(["M_INVALID_PARAM", "M_MISSING_PARAM"])

const decodeError = Schema.decodeUnknownOption(MatrixError)

/** How long a client waits where this server or another one limits the rate, in ms: where that does not say it, and at most. */
const defaultWait = 5_000
const longestWait = 60_000

/**
 * The error of another server that the client gets: the errcode as it came where it means the same here, else that it is
 * forbidden, or that the servers do not understand each other. Undefined for errors that say nothing to a client.
 */
const passedError = (failure: RemoteFailure): MatrixError | undefined => {
  const { destination, errcode, isOwnLimit, reason, retryAfter, status } = failure
  if (isOwnLimit === true) {
    return new LimitExceeded({ error: `This server asks others for too much: ${reason}`, retry_after_ms: defaultWait })
  }
  if (errcode === "M_LIMIT_EXCEEDED" || status === 429) {
    return new LimitExceeded({
      error: reason,
      retry_after_ms: Math.min(Math.max(0, retryAfter ?? defaultWait), longestWait)
    })
  }
  if (blaming.has(errcode)) {
    return new ConnectionFailed({ error: `${destination} does not accept what this server sent: ${reason}` })
  }
  if (passedOn.has(errcode)) return Option.getOrUndefined(decodeError({ _tag: errcode, error: reason }))
  return status === 403 ? new Forbidden({ error: reason }) : undefined
}

/** Whether the same request may succeed later. */
export const mayPassLater = ({ _tag }: { readonly _tag: string }): boolean =>
  _tag === "M_NOT_FOUND" || _tag === "M_LIMIT_EXCEEDED" || _tag === "M_CONNECTION_FAILED"

/** The error of an invite that the server of the invited user did not countersign. */
export const inviteRefusalOf = (destination: ServerName, failure: RemoteFailure): MatrixError => {
  const { errcode, reason } = failure
  if (errcode === "M_INVITE_BLOCKED") return new InviteBlocked({ error: reason })
  if (errcode === "M_INCOMPATIBLE_ROOM_VERSION") {
    return new UnsupportedRoomVersion({ error: `${destination} does not know the version of the room` })
  }
  if (errcode === "M_BAD_JSON") return new BadJson({ error: `${destination} refuses the invite: ${reason}` })
  if (errcode === "M_FORBIDDEN" || errcode === "M_NOT_FOUND") return new Forbidden({ error: reason })
  return (
    passedError(failure) ?? new BadRequest({ error: `${destination} cannot take the invite now${answerOf(failure)}` })
  )
}

/** The error of a join, a knock or a leave that another server did not accept. */
export const refusalOf = (roomId: RoomId, failure: RemoteFailure): MatrixError => {
  const { errcode, reason, roomVersion } = failure
  if (forbidding.has(errcode)) return new Forbidden({ error: reason })
  if (errcode === "M_INCOMPATIBLE_ROOM_VERSION") {
    return new IncompatibleRoomVersion({
      error: reason,
      ...(roomVersion === undefined ? {} : { room_version: roomVersion })
    })
  }
  return passedError(failure) ?? new NotFound({ error: `${roomId} cannot be reached now${answerOf(failure)}` })
}
