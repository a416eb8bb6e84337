/**
 * The stages of user-interactive authentication. Each checks the proof of a client, and adds to the results of earlier stages.
 *
 * Source: "Authentication types" of the client-server specification.
 */
import type { Medium } from "@greenroom/protocol/identity/ThirdPartyId"
import { SessionProof } from "@greenroom/protocol/identity/ValidationApi"
import {
  BadJson,
  Forbidden,
  type MatrixError,
  ThirdPartyIdAuthFailed,
  ThirdPartyIdInUse
} from "@greenroom/protocol/MatrixError"
import { OAuthClientStore } from "@greenroom/store/OAuthClientStore"
import { RegistrationTokenStore } from "@greenroom/store/RegistrationTokenStore"
import { hashOfSecret } from "@greenroom/store/Secrets"
import { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Effect, Option, Redacted, Schema } from "effect"
import { Accounts } from "../Accounts.ts"
import { AddressValidations } from "../AddressValidations.ts"
import {
  type AuthData,
  type InteractiveRequest,
  registering,
  resettingPassword,
  type StageResults
} from "../InteractiveRequest.ts"
import { LoginThrottle } from "../login/LoginThrottle.ts"
import { userOfIdentifier } from "../UserIdentifier.ts"
import { approvalStage, termsStage } from "./InteractiveFlows.ts"

/** The error for the password of another user: further attempts cannot succeed. */
export const otherUser = new Forbidden({ error: "auth.identifier: expected the user of the access token" })

const decodeProof = Schema.decodeUnknownOption(
  Schema.Struct({ ...SessionProof.fields, id_server: Schema.optionalKey(Schema.String) })
)

/** An attempt to complete a stage. */
interface StageAttempt {
  readonly request: InteractiveRequest
  readonly auth: AuthData
  /** The results of earlier stages. */
  readonly results: StageResults
}

/** Completes a stage, or fails with the reason. */
type InteractiveStage = (attempt: StageAttempt) => Effect.Effect<StageResults, MatrixError>

export const makeInteractiveStages = Effect.gen(function* () {
  const accounts = yield* Accounts
  const identities = yield* UserIdentityStore
  const tokens = yield* RegistrationTokenStore
  const throttle = yield* LoginThrottle
  const validations = yield* AddressValidations
  const oauthClients = yield* OAuthClientStore

  const password = Effect.fnUntraced(function* ({ auth, request, results }: StageAttempt) {
    const { session } = request
    const given = auth.password
    if (typeof given !== "string") return yield* new BadJson({ error: "auth.password: expected a string" })
    const wrong = new Forbidden({ error: "The password is wrong" })
    // A client may leave the identifier out: then the user is that of the access token.
    const named = yield* userOfIdentifier(auth, identities)
    const user = named === undefined ? session?.userId : accounts.toUserId(named)
    if (session === undefined) return yield* wrong
    if (user !== session.userId) return yield* otherUser
    const check = Effect.flatMap(accounts.verifyPassword(user, Redacted.make(given)), (found) =>
      Option.isSome(found) ? Effect.void : Effect.fail(wrong)
    )
    yield* throttle.attempt(user, request.address, check)
    return results
  })

  const registrationToken = Effect.fnUntraced(function* ({ auth, request, results }: StageAttempt) {
    if (typeof auth.token !== "string") return yield* new BadJson({ error: "auth.token: expected a string" })
    const hash = hashOfSecret(Redacted.make(auth.token))
    const check = Effect.flatMap(tokens.isValid(hash), (valid) =>
      valid ? Effect.void : Effect.fail(new Forbidden({ error: "The registration token is unknown or used up" }))
    )
    yield* throttle.attempt(`registration token ${request.address}`, request.address, check)
    return { ...results, registrationToken: Buffer.from(hash).toString("base64") }
  })

  /** The user has agreed to a reset of their cross-signing keys on the account page. */
  const approvedReset = Effect.fnUntraced(function* ({ request, results }: StageAttempt) {
    const approved = request.session !== undefined && (yield* oauthClients.mayResetKeys(request.session.userId))
    return approved ? results : yield* new Forbidden({ error: "Approve the reset on the page of your account first" })
  })

  /** An address that a session of `AddressValidations` has validated. */
  const address = (medium: Medium) =>
    Effect.fnUntraced(function* ({ auth, request, results }: StageAttempt) {
      const proof = decodeProof(auth.threepid_creds ?? auth.threepidCreds)
      if (Option.isNone(proof))
        return yield* new BadJson({ error: "auth.threepid_creds: expected sid and client_secret" })
      // A new password needs a link of that purpose: opening a link of another purpose validates the address, and programs open links too.
      const purpose = request.operation === resettingPassword && request.session === undefined ? "password" : undefined
      const found = yield* validations.validated(proof.value, purpose)
      if (found.medium !== medium) {
        return yield* new ThirdPartyIdAuthFailed({
          error: `threepid_creds: the session has no address of the medium ${medium}`
        })
      }
      const owner = Option.getOrUndefined(yield* identities.userOfAddress(found))
      if (request.operation === registering && owner !== undefined) {
        return yield* new ThirdPartyIdInUse({ error: "The address belongs to an account" })
      }
      return {
        ...results,
        [medium === "email" ? "email" : "phoneNumber"]: found.address,
        ...(owner === undefined ? {} : { owner })
      }
    })

  /** The client has shown the policies, and the user agrees to all of them. */
  const terms = ({ results }: StageAttempt) => Effect.succeed(results)

  const stages: { readonly [type: string]: InteractiveStage } = {
    "m.login.dummy": ({ results }) => Effect.succeed(results),
    [termsStage]: terms,
    "m.login.password": password,
    "m.login.registration_token": registrationToken,
    [approvalStage]: approvedReset,
    "org.matrix.cross_signing_reset": approvedReset,
    "m.login.email.identity": address("email"),
    "m.login.msisdn": address("msisdn")
  }

  return stages
})
