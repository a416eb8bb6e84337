/**
 * How large a PDU may be.
 *
 * Source: "PDUs and EDUs" of the draft, "Size limits" of the client-server specification.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { PduProblem } from "./RoomVersion.ts"

/** The largest PDU, in bytes of canonical JSON. */
export const maxPduBytes = 65_536

/**
 * The unit of the length limit of types and state keys in the format: bytes of UTF-8 from room version 11 on, and Unicode characters before,
 * as in Synapse. The authorisation rules reject events with more bytes in all versions.
 */
export type KeyLengths = "characters" | "bytes"

/** The longest type and state key, in the unit that the room version counts in (`KeyLengths`). */
export const maxKeyLength = 255

/** Undefined if a PDU of so many bytes of canonical JSON may travel. */
export const checkSize = (bytes: number): PduProblem | undefined =>
  bytes > maxPduBytes ? { _tag: "TooLarge", bytes } : undefined

/** True for text that can be the type or state key of an event. U+0000 is no part of it, since PostgreSQL cannot store it. */
export const isKeyText = (value: unknown, lengths: KeyLengths): value is string =>
  typeof value === "string" && !value.includes("\0") && isShort(value, lengths)

/** A UTF-16 unit takes at most three bytes, so that most texts need no counting. */
const isShort = (text: string, lengths: KeyLengths): boolean =>
  3 * text.length <= maxKeyLength || lengthOf(text, lengths) <= maxKeyLength

/** Counts no further than it must: a text of more UTF-16 code units than twice the limit is too long in any case. */
const lengthOf = (text: string, lengths: KeyLengths): number =>
  lengths === "bytes" || text.length > 2 * maxKeyLength ? Buffer.byteLength(text) : Array.from(text).length

const longestKeyId = `ed25519:${"x".repeat(100)}`
const seal = { hashes: { sha256: "x".repeat(43) }, signatures: { "": { [longestKeyId]: "x".repeat(86) } } }
const sealBytesOfNobody = JSON.stringify(seal).length - 1

/** How many bytes `hashes` and the signature of the server add to a PDU, at most. */
export const sealBytes = (server: ServerName): number => sealBytesOfNobody + server.length
