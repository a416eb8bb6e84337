/**
 * The class of an error that travels as `{"errcode": "M_...", "error": "what is wrong"}`. Source: "API Standards" of the
 * specification.
 */
import type * as Cause from "effect/Cause"
import * as Schema from "effect/Schema"

/** The text of the error is the message of the exception, too. It is inherited, so that it does not travel twice. */
const message: PropertyDescriptor & ThisType<{ readonly error: string }> = {
  configurable: true,
  get() {
    return this.error
  }
}

/** `Schema.TaggedError` for fields that have the text `error`. */
export const WireErrorClass =
  <Self>() =>
  <Tag extends string, const Fields extends Schema.Struct.Fields & { readonly error: typeof Schema.String }>(
    tag: Tag,
    fields: Fields,
    annotations: { readonly httpApiStatus: number }
  ): Schema.Class<Self, Schema.TaggedStruct<Tag, Fields>, Cause.YieldableError> => {
    const defined = Schema.TaggedError<Cause.YieldableError>()(tag, fields, annotations)
    Object.defineProperty(defined.prototype, "message", message)
    return defined as never
  }
