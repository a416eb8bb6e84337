/**
 * `m.login.email.code` and `m.login.email.url`: the user proves that they can read an address, by a code to type or a link to open.
 * To log in, the address must be bound to an account. If it is not, the answer is the same, but no mail is sent and the stage cannot
 * succeed.
 *
 * A code has eight digits. It is compared at most `maxTries` times, and a session has at most `maxMails` codes, so that the
 * chance to guess a session is 1.5 in ten million. A link must be confirmed by a button, because mail servers and browsers open
 * links that no person clicked.
 *
 * Source: "Email-based (code)" and "Email-based (url)" of "Registration and login" of the draft.
 */
import { createHash, randomInt } from "node:crypto"
import { clientPrefix } from "@greenroom/protocol/api/ClientApi"
import { canonicalEmail } from "@greenroom/protocol/identity/ThirdPartyId"
import { BadJson, Forbidden, LoginEmailUrlNotYet } from "@greenroom/protocol/MatrixError"
import { equalBytes, newSecret } from "@greenroom/store/Secrets"
import type { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Clock, Effect, Option, Redacted } from "effect"
import {
  expectedUser,
  type LoginProgress,
  type Outcome,
  type PendingEmail,
  type Purpose,
  passed,
  prove,
  type StageRequest,
  textOf,
  withoutPending
} from "./LoginProgress.ts"
import type { LoginThrottle } from "./LoginThrottle.ts"
import type { Mailer } from "./Mailer.ts"
import type { TemplateName } from "./MailTemplates.ts"

/** How many times a code may be guessed. */
export const maxTries = 5
/** How many mails one login may request. */
const maxMails = 3
const codeDigits = 8

/** The path of the link in a mail. */
const emailLinkPath = `${clientPrefix}/login/email/confirm`

const makeCode = (): string => String(randomInt(10 ** codeDigits)).padStart(codeDigits, "0")

/** The hash includes the session's secret, which the database does not have: a code alone could be found from its hash. */
const hashCode = (code: string, secret: Redacted.Redacted): Buffer =>
  createHash("sha256")
    .update(`${Redacted.value(secret)} ${code}`)
    .digest()

const isCode = (code: string, secret: Redacted.Redacted, codeHash: string): boolean =>
  equalBytes(hashCode(code.replace(/[\s-]/g, ""), secret), Buffer.from(codeHash, "base64"))

const actionOf = (purpose: Purpose, serverName: string): string => {
  switch (purpose) {
    case "login":
      return `log in to ${serverName}`
    case "registration":
      return `register at ${serverName}`
    case "link":
      return `add this address to your account at ${serverName}`
  }
}

/** The services and settings of the email stages. */
export interface EmailStageOptions {
  readonly identities: UserIdentityStore["Service"]
  readonly mailer: Mailer["Service"]
  readonly throttle: LoginThrottle["Service"]
  readonly serverName: string
  /** Milliseconds that a session lasts. */
  readonly sessionTtl: number
}

const isPendingHere = (progress: LoginProgress, type: PendingEmail["type"]): PendingEmail | undefined =>
  progress.pending !== undefined && progress.pending.type === type ? (progress.pending as PendingEmail) : undefined

/** The stages `m.login.email.code` and `m.login.email.url`. */
export const makeEmailStages = ({ identities, mailer, serverName, sessionTtl, throttle }: EmailStageOptions) => {
  /** Whether the mail is sent, and the user of the login. */
  const recipient = Effect.fnUntraced(function* ({ progress, purpose }: StageRequest, address: string) {
    const owner = Option.getOrUndefined(yield* identities.userOfAddress({ medium: "email", address }))
    if (purpose === "registration") return { sent: owner === undefined }
    const expected = expectedUser(progress)
    if (purpose === "link") return { sent: owner === undefined || owner === expected }
    const matches = owner !== undefined && (expected === undefined || expected === owner)
    return matches ? { sent: true, userId: owner } : { sent: false }
  })

  const requestedEmail = (request: StageRequest) => {
    const email = textOf(request, "email")
    if (email === undefined) return Effect.fail(new BadJson({ error: "email: missing key" }))
    const canonical = canonicalEmail(email)
    return canonical === undefined
      ? Effect.fail(new BadJson({ error: "email: must be an email address, such as alice@example.org" }))
      : Effect.succeed(canonical)
  }

  /** Requests the first or another mail. */
  const begin = Effect.fnUntraced(function* (request: StageRequest, type: PendingEmail["type"]) {
    const { progress, purpose, publicUrl, secret, session } = request
    const email = yield* requestedEmail(request)
    const mails = (isPendingHere(progress, type)?.mails ?? 0) + 1
    if (mails > maxMails) return yield* new Forbidden({ error: "No more mails are sent for this session: start again" })
    yield* throttle.mail(email, request.address)
    const code = makeCode()
    const link = Redacted.make(newSecret())
    const pending: PendingEmail = {
      type,
      email,
      mails,
      ...(yield* recipient(request, email)),
      ...(type === "m.login.email.code" ? { codeHash: hashCode(code, secret).toString("base64") } : {})
    }
    const template: TemplateName = type === "m.login.email.code" ? "login-code" : "login-link"
    const remaining = session === undefined ? sessionTtl : session.expiresAt - (yield* Clock.currentTimeMillis)
    const send = mailer.send(pending.sent ? email : undefined, template, {
      server: serverName,
      action: actionOf(purpose, serverName),
      minutes: String(Math.max(1, Math.round(remaining / 60_000))),
      address: request.address,
      code: `${code.slice(0, 4)} ${code.slice(4)}`,
      url: `${publicUrl}${emailLinkPath}?token=${Redacted.value(link)}`
    })
    const outcome: Outcome = {
      passed: false,
      progress: { ...progress, pending },
      freshTries: true,
      ...(type === "m.login.email.url" ? { link } : {}),
      afterwards: send
    }
    return outcome
  })

  /** Completes the stage: the client has proved that it can read the address. */
  const finish = Effect.fnUntraced(function* (request: StageRequest, pending: PendingEmail, refusal: string) {
    const progress = withoutPending({ ...request.progress, email: pending.email })
    if (request.purpose !== "login") return passed(progress)
    if (pending.userId === undefined) return yield* new Forbidden({ error: refusal })
    return passed(yield* prove(progress, pending.userId, refusal))
  })

  const code = Effect.fnUntraced(function* (request: StageRequest) {
    const given = textOf(request, "code")
    if (given === undefined || request.session === undefined) return yield* begin(request, "m.login.email.code")
    const refusal = "The code is wrong, was used, or has expired"
    const pending = isPendingHere(request.progress, "m.login.email.code")
    const codeHash = pending?.codeHash
    if (pending === undefined || codeHash === undefined) return yield* new Forbidden({ error: refusal })
    const right = isCode(given, request.secret, codeHash) && pending.sent
    const check = right ? Effect.void : Effect.fail(new Forbidden({ error: refusal }))
    yield* throttle.attempt(`code ${pending.email}`, request.address, check)
    return yield* finish(request, pending, refusal)
  })

  const url = Effect.fnUntraced(function* (request: StageRequest) {
    const pending = isPendingHere(request.progress, "m.login.email.url")
    if (pending === undefined || textOf(request, "email") !== undefined) {
      return yield* begin(request, "m.login.email.url")
    }
    if (!pending.confirmed) {
      return yield* new LoginEmailUrlNotYet({ error: "The link in the mail has not been opened and confirmed yet" })
    }
    return yield* finish(request, pending, "The link is not valid")
  })

  return { code, url }
}
