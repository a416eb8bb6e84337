/**
 * Random IDs, from a pool of random bytes: one call of the system for many.
 */
import { randomFillSync } from "node:crypto"

const idBytes = 16
const randomPool = Buffer.alloc(idBytes * 256)
let randomUsed = randomPool.length

/** 22 random characters that are safe in URLs: 128 bits. */
export const randomId = (): string => {
  if (randomUsed === randomPool.length) {
    randomFillSync(randomPool)
    randomUsed = 0
  }
  randomUsed += idBytes
  return randomPool.toString("base64url", randomUsed - idBytes, randomUsed)
}
