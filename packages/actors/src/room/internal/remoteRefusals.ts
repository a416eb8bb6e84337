/**
 * The errors for clients where another server refuses, or cannot be reached.
 */
import type { RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import {
  BadJson,
  BadRequest,
  Forbidden,
  IncompatibleRoomVersion,
  InviteBlocked,
  type MatrixError,
  NotFound
} from "@greenroom/protocol/MatrixError"
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

/** The error of an invite that the server of the invited user did not countersign. */
export const inviteRefusalOf = (destination: ServerName, failure: RemoteFailure): MatrixError => {
  const { errcode, reason } = failure
  if (errcode === "M_INVITE_BLOCKED") return new InviteBlocked({ error: reason })
  if (errcode === "M_BAD_JSON") return new BadJson({ error: `${destination} cannot take the invite: ${reason}` })
  return errcode === "M_FORBIDDEN" || errcode === "M_NOT_FOUND"
    ? new Forbidden({ error: reason })
    : new BadRequest({ error: `${destination} cannot take the invite now${answerOf(failure)}` })
}

/** The error of a join, a knock or a leave that another server did not accept. */
export const refusalOf = (roomId: RoomId, failure: RemoteFailure): MatrixError => {
  const { errcode, reason, roomVersion } = failure
  if (forbidding.has(errcode)) return new Forbidden({ error: reason })
  return errcode === "M_INCOMPATIBLE_ROOM_VERSION"
    ? new IncompatibleRoomVersion({
        error: reason,
        ...(roomVersion === undefined ? {} : { room_version: roomVersion })
      })
    : new NotFound({ error: `${roomId} cannot be reached now${answerOf(failure)}` })
}
