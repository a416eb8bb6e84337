/**
 * `m.login.password`: logs in by the password, or registers with one. An unknown user takes as long as a known one.
 *
 * Source: "Password-based" of "Registration and login" of the draft.
 */
import { BadJson } from "@greenroom/protocol/MatrixError"
import { Effect, Redacted } from "effect"
import type { Accounts } from "../Accounts.ts"
import { wrongCredentials } from "../Credentials.ts"
import type { PasswordCheck } from "../PasswordCheck.ts"
import { expectedUser, type Outcome, passed, prove, type StageRequest, textOf } from "./LoginProgress.ts"

/** The stage `m.login.password`. */
export const makePasswordStage = (accounts: Accounts["Service"], passwords: PasswordCheck["Service"]) => {
  const login = Effect.fnUntraced(function* (request: StageRequest, password: Redacted.Redacted) {
    const user = expectedUser(request.progress) || (textOf(request, "user") ?? "")
    const { passwordHash, userId } = yield* passwords.check(user, password, request.address)
    const progress = yield* prove(request.progress, userId, wrongCredentials.error)
    return passed({ ...progress, passwordHash: Redacted.value(passwordHash) })
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
