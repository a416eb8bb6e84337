/**
 * Binding addresses to users, and unbinding them.
 *
 * Source: "Identity" of the draft.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { body, Done } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { UserId } from "../Identifiers.ts"
import { SignedAssociation } from "./Association.ts"
import { sessionErrors } from "./IdentityError.ts"
import { Medium, ThirdPartyId } from "./ThirdPartyId.ts"
import { ClientSecret, SessionId } from "./ValidationApi.ts"

const proof = { sid: SessionId, client_secret: ClientSecret }

/** An address that a session has validated. */
export const ValidatedThirdPartyId = body(
  Schema.Struct({
    medium: Medium,
    address: Schema.String,
    validated_at: Schema.Int.annotate({ description: "Milliseconds since 1970" })
  }).annotate({ identifier: "ValidatedThirdPartyId" })
)
export type ValidatedThirdPartyId = typeof ValidatedThirdPartyId.Type

/** A validated address, and the user to whom it is bound. */
export const Bind = Schema.Struct({ ...proof, mxid: UserId }).annotate({ identifier: "Bind" })
export type Bind = typeof Bind.Type

/** An address whose binding ends, and its user. */
export const Unbind = Schema.Struct({ ...proof, mxid: UserId, threepid: ThirdPartyId }).annotate({
  identifier: "Unbind"
})
export type Unbind = typeof Unbind.Type

export class ThirdPartyIdApi extends HttpApiGroup.make("thirdPartyIds")
  .add(
    HttpApiEndpoint.get("validated", "/3pid/getValidated3pid", {
      query: proof,
      success: ValidatedThirdPartyId,
      error: sessionErrors
    }).annotateMerge(
      documented({
        summary: "The address that a session has validated",
        text: "Errors: M_NO_VALID_SESSION, M_SESSION_NOT_VALIDATED, M_SESSION_EXPIRED.",
        who: "clients that have the client secret"
      })
    ),
    HttpApiEndpoint.post("bind", "/3pid/bind", {
      payload: Bind,
      success: body(SignedAssociation),
      error: sessionErrors
    }).annotateMerge(
      documented({
        summary: "Bind the validated address to a user",
        text: "Replaces the user that it was bound to. Answers with the signed association.",
        who: "clients that have the client secret"
      })
    ),
    HttpApiEndpoint.post("unbind", "/3pid/unbind", {
      payload: Unbind,
      success: Done,
      error: sessionErrors
    }).annotateMerge(
      documented({
        summary: "End an association",
        text: "The session must have validated the same address. Errors: M_FORBIDDEN, M_NOT_FOUND.",
        who: "clients that have the client secret"
      })
    )
  )
  .annotateMerge(
    OpenApi.annotations({ title: "Third-party IDs", description: "Which address belongs to which user." })
  ) {}
