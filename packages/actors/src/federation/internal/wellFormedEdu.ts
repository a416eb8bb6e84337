/**
 * Text of clients in EDUs: messages to devices and names of devices may hold lone surrogates, which have no canonical form. They are sent
 * as U+FFFD, so that the transaction, in which others have EDUs too, can be encoded.
 */
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import type { EduContent } from "../PendingEdus.ts"

const wellFormed = (value: Json): Json => {
  if (typeof value === "string") return value.toWellFormed()
  if (Array.isArray(value)) return value.map(wellFormed)
  return isJsonObject(value) ? wellFormedObject(value) : value
}

const wellFormedObject = (object: JsonObject): JsonObject =>
  Object.fromEntries(Object.entries(object).map(([key, value]) => [key.toWellFormed(), wellFormed(value)]))

export const wellFormedEdu = ({ content, edu_type }: EduContent): EduContent => ({
  edu_type,
  content: wellFormedObject(content)
})
