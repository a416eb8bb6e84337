/**
 * Reading the stream tokens that clients send. A token is refused if this server did not make it, or if it is from a future
 * that the database does not have, because it was restored from a backup: see `EventLog.isLost`.
 */
import { EventLog } from "@greenroom/store/EventLog"
import { parseToken, type StreamToken } from "@greenroom/store/StreamToken"
import { Data, Effect, Option } from "effect"

/** A token that is malformed, or from a future that was lost. */
export class TokenRefused extends Data.TaggedError("TokenRefused")<{
  /** The fault of the token, for an error that names the parameter. */
  readonly reason: string
  /** Whether it is from a lost future: the client must start again from nothing. */
  readonly isLost: boolean
}> {
  override get message(): string {
    return this.reason
  }
}

/** Reads a token, and checks that its position exists in this database. */
export type ReadToken = (text: string) => Effect.Effect<StreamToken, TokenRefused>

const lost = new TokenRefused({
  reason: "the token is from before the server's database was restored from a backup: start afresh",
  isLost: true
})

/** What precedes the stream token in the `pos` of sliding sync, which other endpoints take as well (MSC4186). */
const connection = /^c[0-9]{1,15}\.[0-9]{1,15}_/

/** Makes `ReadToken` for the event log of this node. */
export const makeReadToken: Effect.Effect<ReadToken, never, EventLog> = Effect.map(
  EventLog,
  (log) => (text) =>
    Option.match(parseToken(text.replace(connection, "")), {
      onNone: () =>
        Effect.fail(new TokenRefused({ reason: `${text.slice(0, 64)} is not a token of this server`, isLost: false })),
      onSome: (token) =>
        Effect.flatMap(log.isLost(token), (isLost) => (isLost ? Effect.fail(lost) : Effect.succeed(token)))
    })
)
