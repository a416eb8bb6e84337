/**
 * Users with bound email addresses, and logins by code, for tests.
 */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { emailCode, emailUrl, login, password, signUp } from "./TestLogin.ts"
import { codeIn, type TestMail } from "./TestMail.ts"

export const flows = [[password, emailCode], [emailUrl], [emailCode, emailUrl, password]] as const

export const registrationFlows = [[emailCode, password], [password]] as const

/** Registers a user with the code of a mail, which binds the address to the account. */
export const signUpWithEmail = Effect.fnUntraced(function* (mail: TestMail, name: string) {
  const email = `${name}@mail.test`
  const { body: begun } = yield* signUp({ type: emailCode, user: name, email })
  const code = codeIn(yield* mail.next(email))
  const { body: coded } = yield* signUp({ type: emailCode, session: begun.session, code })
  assert.strictEqual(coded.next, password)
  const done = yield* signUp({ type: password, session: coded.session, password: `secret-${name}` })
  assert.strictEqual(done.status, 200, done.text)
  return { id: done.body.user_id, token: done.body.access_token, email }
})

/** Starts a login by code, and reads the code from the mail. */
export const beginCode = Effect.fnUntraced(function* (mail: TestMail, user: string, email: string) {
  const { body } = yield* login({ type: emailCode, user, email })
  return { session: body.session, code: codeIn(yield* mail.next(email)) }
})
