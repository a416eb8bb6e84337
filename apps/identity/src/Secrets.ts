/**
 * Secrets that people prove something by: tokens of links, codes of text messages, invitations. The database holds
 * keyed hashes (HMAC-SHA-256) of them only, under a key that is made on the first start.
 *
 * A code of few digits cannot be hidden from one who has the database and the key; its short life and the few tries
 * that it allows protect it.
 */
import { createHmac, randomBytes, randomInt, timingSafeEqual } from "node:crypto"
import { ServerSettings } from "@greenroom/store/ServerSettings"
import { Context, Effect, Layer, Redacted } from "effect"

/** The number of digits of a code. */
const codeDigits = 6

/** 192 random bits, in URL-safe base64. */
export const newToken = (): string => randomBytes(24).toString("base64url")

/** Six random digits. */
export const newCode = (): string => String(randomInt(10 ** codeDigits)).padStart(codeDigits, "0")

/** Compares hashes in a time that does not depend on where they differ. */
export const equalHashes = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && timingSafeEqual(a, b)

export class Secrets extends Context.Service<
  Secrets,
  {
    /** The keyed hash of the parts, no two lists of which have the same one. */
    readonly hash: (purpose: string, ...parts: ReadonlyArray<string>) => Uint8Array
  }
>()("greenroom/identity/Secrets") {
  static readonly layer: Layer.Layer<Secrets, never, ServerSettings> = Layer.effect(
    Secrets,
    Effect.gen(function* () {
      const key = yield* ServerSettings.use((settings) => settings.secret("identity"))
      return Secrets.of({
        hash: (purpose, ...parts) =>
          createHmac("sha256", Redacted.value(key))
            .update(JSON.stringify([purpose, ...parts]))
            .digest()
      })
    })
  )
}
