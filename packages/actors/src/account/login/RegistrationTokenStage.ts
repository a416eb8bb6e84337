/**
 * `m.login.registration_token`: `{"type", "token"}`, the secret that an operator hands out for registration. A use is counted when
 * the account is created, not before.
 */
import { BadJson, Forbidden } from "@greenroom/protocol/MatrixError"
import type { RegistrationTokenStore } from "@greenroom/store/RegistrationTokenStore"
import { hashOfSecret } from "@greenroom/store/Secrets"
import { Effect, Redacted } from "effect"
import { passed, type StageRequest, textOf } from "./LoginProgress.ts"
import type { LoginThrottle } from "./LoginThrottle.ts"

/** The stage `m.login.registration_token`. */
export const makeRegistrationTokenStage = (
  tokens: RegistrationTokenStore["Service"],
  throttle: LoginThrottle["Service"]
) =>
  Effect.fnUntraced(function* (request: StageRequest) {
    const token = textOf(request, "token")
    if (token === undefined) return yield* new BadJson({ error: "token: missing key" })
    const hash = hashOfSecret(Redacted.make(token))
    const check = Effect.flatMap(tokens.isValid(hash), (valid) =>
      valid
        ? Effect.void
        : Effect.fail(new Forbidden({ error: "The registration token is unknown, was used up, or has expired" }))
    )
    yield* throttle.attempt(`registration token ${request.address}`, request.address, check)
    return passed({ ...request.progress, registrationToken: Buffer.from(hash).toString("base64") })
  })
