import { type AddressInfo, createServer } from "node:net"
import { assert, it, layer } from "@effect/vitest"
import { makeSelfSigned } from "@greenroom/gateway/federation/TlsCredentials"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Fiber, Layer, Logger, Option, Queue, Redacted } from "effect"
import { TestClock } from "effect/testing"
import { MailSender, type SmtpOptions } from "../src/MailSender.ts"
import { Mailbox } from "./support/Mailbox.ts"

/** Sends a mail to the mailbox. */
const send = Effect.fnUntraced(function* (options: Partial<SmtpOptions>) {
  const { port } = yield* Mailbox
  const smtp: SmtpOptions = {
    host: "localhost",
    port,
    security: "none",
    from: { name: "Greenroom", address: "noreply@id.test" },
    verifyCertificate: true,
    ...options
  }
  return yield* MailSender.use((sender) =>
    Option.getOrThrow(sender)({ to: "a@example.org", subject: "Grüße", text: "text", html: "<p>html</p>" })
  ).pipe(Effect.provide(MailSender.layer(smtp)))
})

const secured = Layer.unwrap(
  Effect.map(
    Effect.promise(() => makeSelfSigned(ServerName.make("localhost"), Date.now())),
    (credentials) => Mailbox.layerWith({ ...credentials, authOptional: false })
  )
)

layer(secured, { excludeTestServices: true })("an SMTP server with TLS and accounts", (it) => {
  it.effect("mails are sent over TLS with the password of the account", () =>
    Effect.gen(function* () {
      const password = Redacted.make("secret")
      yield* send({ security: "starttls", user: "user", password, verifyCertificate: false })
      const mail = yield* Mailbox.use(({ take }) => take)
      assert.deepStrictEqual(mail.to, ["a@example.org"])
      assert.include(mail.headers, "Auto-Submitted: auto-generated")
      const refused: ReadonlyArray<Partial<SmtpOptions>> = [
        { security: "starttls", user: "user", password },
        { security: "starttls", user: "user", password: Redacted.make("wrong"), verifyCertificate: false },
        { security: "starttls", verifyCertificate: false },
        { security: "tls", user: "user", password, verifyCertificate: false }
      ]
      for (const options of refused) {
        const error = yield* Effect.flip(send(options))
        assert.strictEqual(error._tag, "M_MESSAGE_SEND_ERROR")
      }
      assert.strictEqual(yield* Mailbox.use(({ waiting }) => waiting), 0)
    })
  )

  it.effect("the log has the fault of the connection or the account, and no content of the mail", () =>
    Effect.gen(function* () {
      const { refuseRecipients } = yield* Mailbox
      const logged: Array<string> = []
      const log = Logger.make(({ message }) => void logged.push(String(message)))
      const attempt = (options: Partial<SmtpOptions>) =>
        Effect.as(Effect.flip(send(options)), undefined).pipe(Effect.provide(Logger.layer([log])))
      const account: Partial<SmtpOptions> = { security: "starttls", user: "user", password: Redacted.make("secret") }
      yield* attempt(account)
      assert.match(logged.at(-1)!, /ESOCKET CONN \(.*certificate.*\)$/)
      yield* attempt({ ...account, verifyCertificate: false, password: Redacted.make("wrong") })
      assert.match(logged.at(-1)!, /EAUTH .*535$/)
      refuseRecipients("no such user a@example.org")
      yield* attempt({ ...account, verifyCertificate: false })
      assert.match(logged.at(-1)!, /EENVELOPE RCPT TO 550$/)
      refuseRecipients(undefined)
    })
  )
})

layer(Mailbox.layer, { excludeTestServices: true })("an SMTP server without TLS", (it) => {
  it.effect("mails are sent without TLS only if the settings allow it", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(send({ security: "starttls", verifyCertificate: false }))
      assert.strictEqual(error._tag, "M_MESSAGE_SEND_ERROR")
      yield* send({ security: "none" })
      assert.strictEqual((yield* Mailbox.use(({ take }) => take)).text.trim(), "text")
      assert.strictEqual(yield* Mailbox.use(({ waiting }) => waiting), 0)
    })
  )
})

it.effect("a mail server that answers byte by byte, without end, is given up", () =>
  Effect.gen(function* () {
    const greeted = yield* Queue.unbounded<void>()
    const closed = yield* Queue.unbounded<void>()
    const server = createServer((socket) => {
      socket.on("error", () => {}).write("220 mail.test\r\n")
      socket.once("data", () => {
        socket.write("250-")
        const dripping = setInterval(() => socket.write("."), 10)
        socket.once("close", () => {
          clearInterval(dripping)
          Queue.offerUnsafe(closed, undefined)
        })
        Queue.offerUnsafe(greeted, undefined)
      })
    })
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => {
        server.listen(0, "127.0.0.1", () => resume(Effect.void))
      }),
      () => Effect.sync(() => server.close())
    )
    const { port } = server.address() as AddressInfo
    const smtp: SmtpOptions = {
      host: "127.0.0.1",
      port,
      security: "none",
      from: { name: "Greenroom", address: "noreply@id.test" }
    }
    const sending = yield* MailSender.use((sender) =>
      Option.getOrThrow(sender)({ to: "a@example.org", subject: "s", text: "t", html: "<p>h</p>" })
    ).pipe(Effect.flip, Effect.provide(MailSender.layer(smtp)), Effect.forkChild)
    yield* Queue.take(greeted)
    yield* TestClock.adjust("2 minutes")
    assert.strictEqual((yield* Fiber.join(sending))._tag, "M_MESSAGE_SEND_ERROR")
    yield* Queue.take(closed)
  }).pipe(Effect.scoped)
)
