/**
 * The hash of a PDU: SHA-256 over its canonical JSON without `hashes`, `signatures` and `unsigned`, in unpadded base64.
 * It covers what redaction strips; the signature covers the hash.
 *
 * Source: "PDUs and EDUs" of the draft, "Calculating the content hash for an event" of the server-server specification.
 */
import { hash } from "node:crypto"
import type { JsonObject } from "@greenroom/protocol/Json"
import { type CanonicalNumbers, encodeOrThrow } from "./CanonicalJson.ts"
import { decodeBase64 } from "./Signing.ts"

/** SHA-256 of text in UTF-8, in unpadded base64: 43 characters. */
export const sha256 = (text: string): string => hash("sha256", text, "base64").slice(0, 43)

/** The bytes of a hash that another server states: in either alphabet of base64, and of any length. Undefined if it is no base64. */
export const decodeHash = (text: string): Uint8Array | undefined =>
  decodeBase64(text.replaceAll("-", "+").replaceAll("_", "/"))

/** The text that the content hash covers: the PDU without hashes and signatures, in canonical JSON. Throws `CanonicalJsonError`. */
export const hashedText = (pdu: JsonObject, numbers?: CanonicalNumbers): string => {
  const { hashes: _, signatures: __, unsigned: ___, ...hashed } = pdu
  return encodeOrThrow(hashed, numbers)
}

/** The content hash of a PDU in its wire form, of versions 1 to 12. Throws `CanonicalJsonError`. */
export const contentHash = (pdu: JsonObject, numbers?: CanonicalNumbers): string => sha256(hashedText(pdu, numbers))
