/**
 * Checks a user's password. Attempts are limited as for every login.
 */
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Context, Effect, Layer, Option, type Redacted } from "effect"
import { Accounts } from "./Accounts.ts"
import { type VerifiedUser, wrongCredentials } from "./Credentials.ts"
import { LoginThrottle } from "./login/LoginThrottle.ts"

/** Checks a user's password under the limits of `LoginThrottle`. */
export class PasswordCheck extends Context.Service<
  PasswordCheck,
  {
    /** `user` is a localpart or a whole user ID. Errors: M_FORBIDDEN, M_LIMIT_EXCEEDED. */
    readonly check: (
      user: string,
      password: Redacted.Redacted,
      address: string
    ) => Effect.Effect<VerifiedUser, MatrixError>
  }
>()("greenroom/actors/PasswordCheck") {
  static readonly layer = Layer.effect(
    PasswordCheck,
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const throttle = yield* LoginThrottle
      return PasswordCheck.of({
        check: Effect.fn("PasswordCheck.check")((user, password, address) =>
          throttle.attempt(
            accounts.toUserId(user) ?? user,
            address,
            Effect.flatMap(accounts.verifyPassword(user, password), (found) =>
              Option.isSome(found) ? Effect.succeed(found.value) : Effect.fail(wrongCredentials)
            )
          )
        )
      })
    })
  )
}
