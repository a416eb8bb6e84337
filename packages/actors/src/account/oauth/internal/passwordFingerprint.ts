/** The password of an account as logins and approvals on pages remember it, which end when it changes. */
import { createHash } from "node:crypto"
import { Redacted } from "effect"

/** Empty for an account without a password. */
export const passwordFingerprint = (passwordHash: Redacted.Redacted | undefined): string =>
  passwordHash === undefined ? "" : createHash("sha256").update(Redacted.value(passwordHash)).digest("base64url")
