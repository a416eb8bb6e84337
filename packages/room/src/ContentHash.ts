/**
 * The hash of a PDU: SHA-256 over its canonical JSON without `hashes`, `signatures` and `unsigned`, in unpadded base64.
 * It covers what redaction strips; the signature covers the hash. Source: "PDUs and EDUs" of the specification.
 */
import { hash } from "node:crypto"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Result } from "effect"
import { type CanonicalJsonError, encode } from "./CanonicalJson.ts"
import { decodeBase64 } from "./Signing.ts"

/** SHA-256 of text in UTF-8, in unpadded base64: 43 characters. */
export const sha256 = (text: string): string => hash("sha256", text, "base64").slice(0, 43)

/** The bytes of a hash that another server states: in either alphabet of base64, and of any length. Undefined if it is no base64. */
export const decodeHash = (text: string): Uint8Array | undefined =>
  decodeBase64(text.replaceAll("-", "+").replaceAll("_", "/"))

/** The content hash of a PDU in its wire form. */
export const contentHash = (pdu: JsonObject): Result.Result<string, CanonicalJsonError> => {
  const { hashes: _, signatures: __, unsigned: ___, ...rest } = pdu
  return Result.map(encode(rest), sha256)
}
