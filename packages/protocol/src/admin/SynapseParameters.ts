/** Paths, parameters and fields that endpoints of Synapse's administration API have in common. */
import { Schema } from "effect"
import { Absent } from "../api/Body.ts"
import { boundedText } from "../api/Parameters.ts"
import { RoomId, ServerName, UserId } from "../Identifiers.ts"

export const prefix = "/_synapse/admin"
/** Who may call the endpoints, for their documentation. */
export const who = "administrators"

export const Text = boundedText(512)
export const Count = Schema.NumberFromString.check(Schema.isInt(), Schema.isBetween({ minimum: 0, maximum: 1e15 }))
/** A flag in a query. */
export const Flag = Schema.Literals(["true", "false"])
/** Unix time in ms. */
export const Time = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1e15 }))
/** A field that clients also send as null, which means the same as leaving it out, or taking the value away. */
export const nullable = <S extends Schema.Top>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

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
