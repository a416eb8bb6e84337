/**
 * The keys by which an identity server's associations and invitations are checked.
 *
 * Source: "Security" of the draft.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { body, Done } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"

/** A public key of the identity server. */
export const PublicKeyAnswer = body(
  Schema.Struct({ public_key: Schema.String.annotate({ description: "Unpadded base64" }) }).annotate({
    identifier: "PublicKeyAnswer"
  })
)
export type PublicKeyAnswer = typeof PublicKeyAnswer.Type

/** Whether a public key is one of the identity server, in force. */
export const KeyValidity = body(Schema.Struct({ valid: Schema.Boolean }).annotate({ identifier: "KeyValidity" }))
export type KeyValidity = typeof KeyValidity.Type

export class KeysApi extends HttpApiGroup.make("keys")
  .add(
    HttpApiEndpoint.get("status", "/", { success: Done }).annotateMerge(
      documented({ summary: "Is there an identity server?", who: "anyone" })
    ),
    HttpApiEndpoint.get("isValid", "/pubkey/isvalid", {
      query: { public_key: Schema.String.check(Schema.isMaxLength(255)) },
      success: KeyValidity
    }).annotateMerge(documented({ summary: "Is a public key valid?", who: "anyone" })),
    HttpApiEndpoint.get("publicKey", "/pubkey/:keyId", {
      params: { keyId: Schema.String.check(Schema.isMaxLength(255)) },
      success: PublicKeyAnswer
    }).annotateMerge(
      documented({
        summary: "A public key by its ID",
        text: "Such as `ed25519:1a2b3c4d`. Errors: M_NOT_FOUND.",
        who: "anyone"
      })
    )
  )
  .annotateMerge(OpenApi.annotations({ title: "Keys", description: "How signatures are checked." })) {}
