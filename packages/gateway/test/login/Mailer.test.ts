import { assert, describe, it } from "@effect/vitest"
import type { MailOptions } from "@greenroom/actors/account/login/LoginOptions"
import { Effect, Redacted } from "effect"
import type { SMTPServerOptions } from "smtp-server"
import { emailCode, loginGateway, mailOptions, signUp } from "./TestLogin.ts"
import { codeIn, testMail } from "./TestMail.ts"

const withServer = (server: SMTPServerOptions, options: Partial<MailOptions>) =>
  Effect.gen(function* () {
    const mail = yield* testMail(server)
    const begun = yield* signUp({ type: emailCode, user: "alice", email: "alice@mail.test" }).pipe(
      Effect.andThen(mail.next("alice@mail.test")),
      Effect.provide(loginGateway({ mail: { ...mailOptions(mail), ...options }, registrationFlows: [[emailCode]] }))
    )
    return begun
  }).pipe(Effect.scoped)

const accounts: SMTPServerOptions = {
  authOptional: false,
  onAuth: ({ password, username }, _, done) =>
    username === "greenroom" && password === "hush" ? done(null, { user: username }) : done(new Error("no"))
}
const account = { user: "greenroom", password: Redacted.make("hush"), verifyCertificate: false }

describe("mails", () => {
  it.live("are sent by STARTTLS with an account of the mail server", () =>
    Effect.gen(function* () {
      const received = yield* withServer({ ...accounts, hideSTARTTLS: false }, { ...account, security: "starttls" })
      assert.deepStrictEqual([received.encrypted, received.user], [true, "greenroom"])
      assert.match(codeIn(received), /^\d{4} \d{4}$/)
      assert.strictEqual(received.from, "noreply@green.test")
      assert.strictEqual(received.headers["auto-submitted"], "auto-generated")
    })
  )

  it.live("are sent by implicit TLS", () =>
    Effect.gen(function* () {
      const received = yield* withServer({ ...accounts, secure: true }, { ...account, security: "tls" })
      assert.isTrue(received.encrypted)
    })
  )
})
