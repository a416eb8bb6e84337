/**
 * Secrets: tokens of links, codes of text messages, tokens of invitations. The database holds only keyed hashes of them
 * (HMAC-SHA-256), with a key that is generated on the first start.
 *
 * The hash does not protect a short code from someone who has the database and the key. Its short lifetime and the limit of attempts
 * do.
 */
import { createHmac, randomBytes, randomInt } from "node:crypto"
import { ServerSettings } from "@greenroom/store/ServerSettings"
import { Context, Effect, Layer, Redacted } from "effect"

/** The number of digits of a code. */
const codeDigits = 6

/** 192 random bits, in URL-safe base64. */
export const newToken = (): string => randomBytes(24).toString("base64url")

/** Six random digits. */
export const newCode = (): string => String(randomInt(10 ** codeDigits)).padStart(codeDigits, "0")

export class Secrets extends Context.Service<
  Secrets,
  {
    /** The keyed hash of the parts. Different lists never have the same input. */
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
