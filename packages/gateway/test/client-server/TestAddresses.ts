/**
 * Email addresses for tests: validated by the link of a mail, and added to accounts.
 */
import { Effect } from "effect"
import { linkIn, type TestMail } from "../login/TestMail.ts"
import { askToday, passwordOf, type TestUser } from "../TestGateway.ts"

export const post = (path: string, json: unknown, token?: string) => askToday("POST", path, { json, token })

export const requestToken = (path: string, email: string, client_secret: string, send_attempt = 1, more: object = {}) =>
  post(`${path}/email/requestToken`, { email, client_secret, send_attempt, ...more })

/** Opens the link of a mail. */
export const openLink = (link: string) =>
  Effect.promise(async () => {
    const answer = await fetch(link)
    return { status: answer.status, page: await answer.text() }
  })

/** Opens the link of a mail, and clicks its button. */
export const clickLink = (link: string) =>
  Effect.promise(async () => {
    const seen = await fetch(link)
    const clicked = await fetch(link, { method: "POST" })
    return { seen: seen.status, clicked: clicked.status, page: await clicked.text() }
  })

/** Validates an address by the link of a mail. Returns the session. */
export const validate = Effect.fnUntraced(function* (
  mail: TestMail,
  path: string,
  email: string,
  client_secret: string
) {
  const { body } = yield* requestToken(path, email, client_secret)
  yield* clickLink(linkIn(yield* mail.next(email)))
  return { sid: body.sid, client_secret }
})

export const identityStage = (threepid_creds: object, session?: unknown) => ({
  type: "m.login.email.identity",
  threepid_creds,
  ...(session === undefined ? {} : { session })
})

/** Adds an email address to the account of a user. */
export const addEmail = Effect.fnUntraced(function* (mail: TestMail, user: TestUser, name: string, email: string) {
  const creds = yield* validate(mail, "/v3/account/3pid", email, `secret.of.${name}`)
  return yield* post("/v3/account/3pid/add", { ...creds, auth: passwordOf(name) }, user.token)
})
