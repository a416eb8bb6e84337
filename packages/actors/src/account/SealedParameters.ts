/**
 * Parameters that a session keeps for its later requests, encrypted with the secret of the session. The database has only the hash
 * of the secret, so that its readers see no password.
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"

const cipher = "aes-256-gcm"
const nonceBytes = 12
const tagBytes = 16

const keyOf = (secret: string): Buffer =>
  Buffer.from(hkdfSync("sha256", secret, "", "greenroom parameters of a session", 32))

/** The parameters as base64. */
export const sealParameters = (secret: string, parameters: JsonObject): string => {
  const nonce = randomBytes(nonceBytes)
  const sealing = createCipheriv(cipher, keyOf(secret), nonce, { authTagLength: tagBytes })
  const text = Buffer.concat([sealing.update(JSON.stringify(parameters), "utf8"), sealing.final()])
  return Buffer.concat([nonce, sealing.getAuthTag(), text]).toString("base64")
}

/** The parameters; undefined if the secret does not decrypt them. */
export const openParameters = (secret: string, sealed: string): JsonObject | undefined => {
  const bytes = Buffer.from(sealed, "base64")
  const opening = createDecipheriv(cipher, keyOf(secret), bytes.subarray(0, nonceBytes), { authTagLength: tagBytes })
  try {
    opening.setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes))
    const text = Buffer.concat([opening.update(bytes.subarray(nonceBytes + tagBytes)), opening.final()])
    const parameters = JSON.parse(text.toString("utf8"))
    return isJsonObject(parameters) ? parameters : undefined
  } catch {
    return undefined
  }
}
