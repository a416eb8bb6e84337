/**
 * Secrets that this server gives out and recognises: tokens, links, states of logins. The database has only their SHA-256 hashes, so
 * that a reader of it cannot use them. Secrets have 256 random bits, so a slow hash would add no protection.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto"
import * as Redacted from "effect/Redacted"

/** A new secret: 256 random bits in URL-safe base64, 43 characters. */
export const newSecret = (): string => randomBytes(32).toString("base64url")

/** The hash of a secret, by which it is stored and found. */
export const hashOfSecret = (secret: Redacted.Redacted): Uint8Array =>
  createHash("sha256").update(Redacted.value(secret)).digest()

/** Compares bytes in a time that does not depend on where they differ. */
export const equalBytes = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && timingSafeEqual(a, b)
