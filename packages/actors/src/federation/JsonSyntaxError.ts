/**
 * The error of JSON that cannot be read.
 */
import { Schema } from "effect"

/** Bytes that are not JSON, or that would become more than is read (`internal/ListReader.ts` has the bounds). */
export class JsonSyntaxError extends Schema.TaggedError<JsonSyntaxError>()("JsonSyntaxError", {
  reason: Schema.String,
  /** It may be JSON: one of the bounds was reached. */
  isTooLong: Schema.Boolean
}) {
  override get message(): string {
    return this.reason
  }
}
