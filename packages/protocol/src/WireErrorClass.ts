/**
 * The class of an error that travels as `{"errcode": "M_...", "error": "what is wrong"}`.
 *
 * Source: "API Standards" of the draft, "Standard error response" of the client-server specification.
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

/** What a class of errors says about itself, for responses and the documentation of the API. */
export interface WireErrorInfo {
  /** The HTTP status of the response. */
  readonly status: number
  /** When this error is the answer, in a few words. */
  readonly description: string
}

/** A class of errors, `Schema.TaggedError` with the text `error` and what `WireErrorInfo` says. The tag is the errcode. */
export const WireErrorClass =
  <Self>() =>
  <Tag extends string, const Details extends Schema.Struct.Fields = Record<never, never>>(
    errcode: Tag,
    status: number,
    description: string,
    details?: Details
  ): Schema.Class<
    Self,
    Schema.TaggedStruct<Tag, { readonly error: typeof Schema.String } & Details>,
    Cause.YieldableError
  > &
    WireErrorInfo => {
    const fields = { error: Schema.String, ...details }
    const defined = Schema.TaggedError<Cause.YieldableError>()(errcode, fields, { httpApiStatus: status })
    Object.defineProperty(defined.prototype, "message", message)
    return Object.assign(defined, { status, description }) as never
  }

const errcode = { _tag: "errcode" } as const

/** An error as it travels: the tag is the key `errcode`. Endpoints may give it a status of their own. */
export const wire = <
  E extends Schema.Top & { readonly fields: Schema.Struct.Fields & { readonly _tag: Schema.Top } } & WireErrorInfo
>(
  error: E,
  httpApiStatus: number = error.status
) => error.pipe(Schema.encodeKeys(errcode)).annotate({ httpApiStatus, description: error.description })
