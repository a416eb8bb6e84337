/**
 * Bodies that are described in full in the API's documentation, and checked cheaply when they travel.
 *
 * What the server answers comes from its own store and was checked when it entered; checking a page of 1,000 events
 * again, key by key, would cost more than to make it. A `body` is a JSON object of the described type: OpenAPI shows
 * every key of it, encoding and decoding look at its outermost shape alone.
 */
import { Schema } from "effect"
import { isJsonObject, type JsonObject } from "../Json.ts"

const isBody = isJsonObject as (value: unknown) => value is never
const isListBody = Array.isArray as (value: unknown) => value is never

/** Puts the JSON schema of `described` into the documentation without checking values against it. */
const describedBy = (described: Schema.Top) =>
  Schema.makeFilter(() => true, {
    representation: { id: "greenroom/Body", payload: null, schemas: [described.ast] },
    toJsonSchema: ({ schemas }) => schemas[0] ?? {}
  })

const canonical = { toCodecJson: () => undefined }

/** A JSON object of the described shape. */
export const body = <T>(described: Schema.Schema<T> & Schema.Top): Schema.Codec<T> =>
  Schema.declare<T>(isBody, canonical).check(describedBy(described)) as never

/** A JSON array of the described shape. */
export const listBody = <T>(described: Schema.Schema<ReadonlyArray<T>> & Schema.Top): Schema.Codec<ReadonlyArray<T>> =>
  Schema.declare<ReadonlyArray<T>>(isListBody, canonical).check(describedBy(described)) as never

/** Any JSON object, as it is. */
export const AnyObject: Schema.Codec<JsonObject> = body(Schema.Record(Schema.String, Schema.Unknown)) as never

/** `{}`: there is nothing to say but that it is done. */
export interface Done {
  readonly [key: string]: never
}
export const Done: Schema.Codec<Done> = body(Schema.Struct({})) as never

/** The one value of `Done`. */
export const done: Done = {}

const isObjectOrAbsent = (value: unknown): value is JsonObject | undefined => value === undefined || isJsonObject(value)

/** A request body that may be absent, which says the same as `{}`. */
export const OptionalObject: Schema.Codec<JsonObject | undefined> = Schema.declare<JsonObject | undefined>(
  isObjectOrAbsent,
  { ...canonical, expected: "a JSON object" }
).check(describedBy(Schema.Record(Schema.String, Schema.Unknown))) as never
