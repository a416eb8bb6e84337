/**
 * The public keys of this server over HTTP. Replaced keys stay readable, so that their signatures can be checked, but are no longer
 * valid.
 *
 * Source: "Security" of the draft.
 */
import { done } from "@greenroom/protocol/api/Body"
import { IdentityApi } from "@greenroom/protocol/identity/IdentityApi"
import { NotFound } from "@greenroom/protocol/MatrixError"
import { encodeBase64, exportVerifyKey } from "@greenroom/room/Signing"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"

/** Restores plus signs, which the decoding of a query turns into spaces; base64 has no spaces. */
const asBase64 = (text: string): string => text.replaceAll(" ", "+").replace(/=+$/, "")

export const keysHandlers = HttpApiBuilder.group(IdentityApi, "keys", (handlers) =>
  Effect.gen(function* () {
    const signingKeys = yield* SigningKeys
    return handlers
      .handle("status", () => Effect.succeed(done))
      .handle("isValid", ({ query }) =>
        Effect.map(signingKeys.list, (keys) => ({
          valid: keys.some(
            (key) =>
              key.expiredAt === undefined && encodeBase64(exportVerifyKey(key.publicKey)) === asBase64(query.public_key)
          )
        }))
      )
      .handle("publicKey", ({ params }) =>
        Effect.gen(function* () {
          const key = (yield* signingKeys.list).find(({ keyId }) => keyId === params.keyId)
          if (key === undefined) return yield* new NotFound({ error: "This server has no such key" })
          return { public_key: encodeBase64(exportVerifyKey(key.publicKey)) }
        })
      )
  })
)
