/**
 * How large a PDU may be. Source: "PDUs and EDUs" of the draft, "Size limits" of today's specification.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { PduProblem } from "./RoomVersion.ts"

/** The largest PDU, in bytes of canonical JSON. */
export const maxPduBytes = 65_536

/** The longest type and state key, in bytes of UTF-8. */
export const maxKeyBytes = 255

/** Undefined if a PDU of so many bytes of canonical JSON may travel. */
export const checkSize = (bytes: number): PduProblem | undefined =>
  bytes > maxPduBytes ? { _tag: "TooLarge", bytes } : undefined

/** True for text that can be the type or state key of an event. U+0000 is no part of it, since PostgreSQL cannot store it. */
export const isKeyText = (value: unknown): value is string =>
  typeof value === "string" && !value.includes("\0") && Buffer.byteLength(value) <= maxKeyBytes

const longestKeyId = `ed25519:${"x".repeat(100)}`
const seal = { hashes: { sha256: "x".repeat(43) }, signatures: { "": { [longestKeyId]: "x".repeat(86) } } }
const sealBytesOfNobody = JSON.stringify(seal).length - 1

/** How many bytes `hashes` and the signature of the server add to a PDU, at most. */
export const sealBytes = (server: ServerName): number => sealBytesOfNobody + server.length
