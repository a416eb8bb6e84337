/**
 * Limits on text that travels as a name: event types, state keys, transaction IDs, device names.
 */

/** The longest event type, state key or identifier, in bytes of UTF-8. */
export const maxNameBytes = 255

const encoder = new TextEncoder()

/** The length in bytes of UTF-8. */
export const byteLength = (text: string): number => encoder.encode(text).length

/** True for text that PostgreSQL can hold: well-formed Unicode without U+0000. */
export const isStorable = (text: string): boolean => text.isWellFormed() && !text.includes("\0")

/** True for text that can be stored, of `least` characters or more and at most 255 bytes. */
export const isText = (text: string, least = 0): boolean =>
  text.length >= least &&
  text.length <= maxNameBytes &&
  isStorable(text) &&
  (text.length * 3 <= maxNameBytes || byteLength(text) <= maxNameBytes)
