/**
 * Failures that are no errors of the protocol: the server cannot be reached, or its answer is not of the client API.
 */
import { Schema } from "effect"

/**
 * `status` is the HTTP status where there was an answer. `transient` says whether the same request may succeed later:
 * no connection, or a server that is overloaded, restarting or has an internal error. The error does not contain the
 * request, which carries the access token.
 */
export class ConnectionError extends Schema.TaggedError<ConnectionError>()("ConnectionError", {
  error: Schema.String,
  transient: Schema.Boolean,
  status: Schema.optionalKey(Schema.Number)
}) {
  override get message(): string {
    return this.error
  }
}
