/**
 * Links that end the mails of a pusher without a login. A token is the number of the pusher and a signature with a secret of
 * this server, so that links stay valid as long as the pusher exists.
 */
import { createHmac } from "node:crypto"
import { equalBytes } from "@greenroom/store/Secrets"
import { ServerSettings } from "@greenroom/store/ServerSettings"
import { Effect, Redacted } from "effect"

/** The path of the links. */
export const unsubscribePath = "/_greenroom/unsubscribe"

export const makeUnsubscription = Effect.gen(function* () {
  const secret = yield* (yield* ServerSettings).secret("unsubscribe")
  const sign = (pusherId: string): string =>
    createHmac("sha256", Redacted.value(secret)).update(pusherId).digest("base64url")
  return {
    tokenOf: (pusherId: number): string => `${pusherId}.${sign(String(pusherId))}`,
    /** The pusher of a token; undefined if the token is not ours. */
    pusherOf: (token: string): number | undefined => {
      const [pusherId = "", signature = ""] = token.split(".")
      if (!/^\d{1,15}$/.test(pusherId)) return undefined
      return equalBytes(Buffer.from(sign(pusherId)), Buffer.from(signature)) ? Number(pusherId) : undefined
    }
  }
})
