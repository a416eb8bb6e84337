/**
 * JSON values as Matrix uses them: event contents, canonical JSON, wire bodies.
 */
import * as Schema from "effect/Schema"

/** A JSON value. */
export type Json = null | boolean | number | string | ReadonlyArray<Json> | JsonObject

/** A JSON object. */
export interface JsonObject {
  readonly [key: string]: Json
}

/** Any JSON object. Used for contents whose keys the protocol does not fix. */
export const JsonObject: Schema.Codec<JsonObject> = Schema.Record(Schema.String, Schema.Json) as never

/** An integer that every JSON implementation keeps: between -(2^53)+1 and (2^53)-1. */
export const Integer = Schema.Number.check(Schema.isInt({ expected: "an integer" }))

/** A key of an object that may be absent or null, which mean the same: some clients send every key. */
export const nullable = <S extends Schema.Top>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

/** True for a JSON object. Its members are not checked. */
export const isJsonObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The items of a JSON array; none for any other value. */
export const itemsOf = (value: unknown): ReadonlyArray<Json> => (Array.isArray(value) ? value : [])

/** The value of JSON text that somebody else wrote. Undefined for text that is not JSON. */
export const parseJsonText = (text: string): Json | undefined => {
  try {
    return JSON.parse(text) as Json
  } catch {
    return undefined
  }
}

/** True if arrays and objects nest at most so many levels deep. The value itself, if it is one, is the first level. */
export const nestsWithin = (value: unknown, levels: number): boolean => {
  if (typeof value !== "object" || value === null) return true
  if (levels === 0) return false
  for (const member of Array.isArray(value) ? value : Object.values(value)) {
    if (typeof member === "object" && !nestsWithin(member, levels - 1)) return false
  }
  return true
}
