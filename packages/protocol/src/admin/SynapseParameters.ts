/** Parameters and fields that endpoints of Synapse's administration API have in common. */
import { Schema } from "effect"
import { Absent } from "../api/Body.ts"
import { boundedText } from "../api/Parameters.ts"
import { RoomId, ServerName, UserId } from "../Identifiers.ts"

/** The prefix of the endpoints. */
export const prefix = "/_synapse/admin"
/** Who may call the endpoints, for their documentation. */
export const who = "administrators"

/** Text of a parameter or field: at most 512 characters. */
export const Text = boundedText(512)
/** A count in a query. */
export const Count = Schema.NumberFromString.check(Schema.isInt(), Schema.isBetween({ minimum: 0, maximum: 1e15 }))
/** A flag in a query. */
export const Flag = Schema.Literals(["true", "false"])
/** Unix time in ms. */
export const Time = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1e15 }))

/** The query of a list: `from` counts rows, and `dir` is the order (`f` forwards, `b` backwards). */
export const page = {
  from: Schema.optionalKey(Count),
  limit: Schema.optionalKey(Count),
  dir: Schema.optionalKey(Schema.Literals(["f", "b"]))
}
export const ofUser = { userId: UserId }
export const ofRoom = { roomId: RoomId }
export const ofMedia = { serverName: ServerName, mediaId: boundedText(255) }
/** Some endpoints are called without a body, or with one that is empty. */
export const anyBody = [Schema.Record(Schema.String, Schema.Unknown), Absent] as const
