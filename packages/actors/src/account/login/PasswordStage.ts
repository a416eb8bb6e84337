/**
 * `m.login.password`: logs in by the password, or registers with one. An unknown user takes as long as a known one.
 *
 * Source: "Password-based" of "Registration and login" of the specification.
 */
import { BadJson, Forbidden } from "@greenroom/protocol/MatrixError"
import { Effect, Option, Redacted } from "effect"
import type { Accounts } from "../Accounts.ts"
import { expectedUser, type Outcome, passed, prove, type StageRequest, textOf } from "./LoginProgress.ts"
import type { LoginThrottle } from "./LoginThrottle.ts"

const wrong = "The user name or the password is wrong"

export const makePasswordStage = (accounts: Accounts["Service"], throttle: LoginThrottle["Service"]) => {
  const login = Effect.fnUntraced(function* (request: StageRequest, password: Redacted.Redacted) {
    const user = expectedUser(request.progress) ?? ""
    const check = Effect.flatMap(accounts.verifyPassword(user, password), (found) =>
      Option.isSome(found) ? Effect.succeed(found.value) : Effect.fail(new Forbidden({ error: wrong }))
    )
    const userId = yield* throttle.attempt(user || (textOf(request, "user") ?? ""), request.address, check)
    return passed(yield* prove(request.progress, userId, wrong))
  })

  return Effect.fnUntraced(function* (request: StageRequest) {
    const password = textOf(request, "password")
    const { progress, purpose } = request
    if (purpose === "login") {
      if (expectedUser(progress) === undefined) return yield* new BadJson({ error: "user: missing key" })
      if (password === undefined) return yield* new BadJson({ error: "password: missing key" })
      return yield* login(request, Redacted.make(password))
    }
    // The earliest form of a registration has no type, and needs no password.
    if (password === undefined) {
      if (request.body.type === undefined) return passed(progress)
      return yield* new BadJson({ error: "password: missing key" })
    }
    const hash = yield* accounts.hashPassword(Redacted.make(password))
    return passed({ ...progress, passwordHash: Redacted.value(hash) }) satisfies Outcome
  })
}
