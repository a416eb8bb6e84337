/**
 * Bodies that are described in full in the API's documentation, and checked cheaply when they travel.
 *
 * Answers come from the server's own store and were checked when they entered; checking a page of 1,000 events
 * again, key by key, would cost more than to make it. A `body` is a JSON object of the described type: OpenAPI shows
 * every key of it, encoding and decoding look at its outermost shape alone.
 */
import { Schema } from "effect"
import { HttpApiSchema } from "effect/http-api"
import { isJsonObject, type Json, type JsonObject, nestsWithin } from "../Json.ts"
import { maxRequestDepth } from "../JsonShape.ts"

const isBody = isJsonObject as (value: unknown) => value is never
const isListBody = Array.isArray as (value: unknown) => value is never

/** Puts the JSON schema of `described` into the documentation without checking values against it. */
const describedBy = (described: Schema.Top) =>
  Schema.makeFilter(() => true, {
    representation: { id: "greenroom/Body", payload: null, schemas: [described.ast] },
    toJsonSchema: ({ schemas }) => schemas[0] ?? {}
  })

/** `expected` describes the value in the error of another value. */
const canonical = (expected: string) => ({ expected, toCodecJson: () => undefined })

/** A JSON object of the described shape. */
export const body = <T>(described: Schema.Schema<T> & Schema.Top): Schema.Codec<T> =>
  Schema.declare<T>(isBody, canonical("an object")).check(describedBy(described)) as never

/** A JSON array of the described shape. */
export const listBody = <T>(described: Schema.Schema<ReadonlyArray<T>> & Schema.Top): Schema.Codec<ReadonlyArray<T>> =>
  Schema.declare<ReadonlyArray<T>>(isListBody, canonical("an array")).check(describedBy(described)) as never

/** Any JSON object that the server answers with, as it is. */
export const AnyObject: Schema.Codec<JsonObject> = body(Schema.Record(Schema.String, Schema.Unknown)) as never

/** Bounds the depth, so that code which walks the value cannot exhaust the stack. */
const bounded = Schema.makeFilter(
  (value: unknown) => nestsWithin(value, maxRequestDepth) || `Expected at most ${maxRequestDepth} levels of nesting`
)

const isAny = (_value: unknown): _value is Json => true

/** Any JSON value of a request, as it is. */
export const AnyValue: Schema.Codec<Json> = Schema.declare<Json>(isAny, canonical("a JSON value")).check(
  bounded
) as never

/** Any JSON object of a request, as it is. */
export const AnyPayload: Schema.Codec<JsonObject> = Schema.declare<JsonObject>(
  isJsonObject,
  canonical("an object")
).check(describedBy(Schema.Record(Schema.String, Schema.Unknown)), bounded) as never

/** Any bytes. */
export const Bytes = HttpApiSchema.asUint8Array({ contentType: "application/octet-stream" })(Schema.Uint8Array)

/** `{}`: the answer to an operation without a result. */
export interface Done {
  readonly [key: string]: never
}
export const Done: Schema.Codec<Done> = body(Schema.Struct({})) as never

/** The one value of `Done`. */
export const done: Done = {}

const isObjectOrAbsent = (value: unknown): value is JsonObject | undefined => value === undefined || isJsonObject(value)

/** A request body that may be absent, which means the same as `{}`. */
export const OptionalObject: Schema.Codec<JsonObject | undefined> = Schema.declare<JsonObject | undefined>(
  isObjectOrAbsent,
  canonical("an object")
).check(describedBy(Schema.Record(Schema.String, Schema.Unknown).annotate({ default: {} })), bounded) as never

/**
 * The same for the endpoint by which rooms are joined: the console client of 2014 sends `null` to it where it has no body.
 * Everywhere else `null` is no body.
 */
export const OptionalObjectOrNull: Schema.Codec<JsonObject | null | undefined> = Schema.declare<
  JsonObject | null | undefined
>(
  (value): value is JsonObject | null | undefined => value === null || isObjectOrAbsent(value),
  canonical("an object")
).check(describedBy(Schema.Record(Schema.String, Schema.Unknown).annotate({ default: {} })), bounded) as never

const isAbsent = (value: unknown): value is undefined => value === undefined

/** A request body that is absent: one of the payloads of an endpoint that can do without. */
export const Absent: Schema.Codec<undefined> = Schema.declare<undefined>(isAbsent, canonical("no body")).check(
  describedBy(Schema.Null)
) as never
