/**
 * How a request to another home server can fail.
 */
import { ServerName } from "@greenroom/protocol/Identifiers"
import { Schema } from "effect"

/** No connection, no answer in time, or it was not tried because the last attempts failed. Worth another try later. */
export class RemoteUnreachable extends Schema.TaggedError<RemoteUnreachable>()("RemoteUnreachable", {
  destination: ServerName,
  reason: Schema.String,
  /** When the next attempt will be made (ms since 1970), where this one was not. */
  retryAt: Schema.optionalKey(Schema.Number),
  /** This server gave the request up by a limit of its own: nothing is known of the other one. */
  isOwnLimit: Schema.optionalKey(Schema.Boolean)
}) {
  override get message(): string {
    return `${this.destination}: ${this.reason}`
  }
}

/** The server answered with an error. */
export class RemoteRefused extends Schema.TaggedError<RemoteRefused>()("RemoteRefused", {
  destination: ServerName,
  /** The HTTP status, 300 or more. */
  status: Schema.Number,
  /** `M_UNKNOWN` where the server did not say. */
  errcode: Schema.String,
  error: Schema.String,
  /** How long to wait, in ms, if the server said so. */
  retryAfter: Schema.optionalKey(Schema.Number),
  /** The version of the room, where it is the reason. */
  roomVersion: Schema.optionalKey(Schema.String)
}) {
  override get message(): string {
    return `${this.destination}: ${this.status} ${this.errcode}: ${this.error}`
  }
}

/** The server answered with something that is no answer: not JSON, too large, not of the form that was asked for. */
export class RemoteInvalid extends Schema.TaggedError<RemoteInvalid>()("RemoteInvalid", {
  destination: ServerName,
  reason: Schema.String,
  /** The server was not asked, as the request cannot be encoded or its answer would be too large: nothing is known of it. */
  isUnsent: Schema.optionalKey(Schema.Boolean)
}) {
  override get message(): string {
    return `${this.destination}: ${this.reason}`
  }
}

/** The failure of a request to another home server. */
export type RemoteError = RemoteUnreachable | RemoteRefused | RemoteInvalid
