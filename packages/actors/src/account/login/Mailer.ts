/**
 * Sends mails by SMTP, after the request was answered: so the time of the answer does not reveal whether a mail was sent.
 * Failures are retried a few times. The queue is bounded.
 */
import { canonicalEmail, redactAddress } from "@greenroom/protocol/identity/ThirdPartyId"
import { Context, Effect, Layer, Queue, Schedule } from "effect"
import { keepRunning } from "../../runtime/Supervision.ts"
import { describeSmtpError, smtpTransport } from "../SmtpServer.ts"
import { LoginConfig } from "./LoginConfig.ts"
import type { MailOptions } from "./LoginOptions.ts"
import { loadTemplates, type Mail, type MailValues, type TemplateName } from "./MailTemplates.ts"

/** The capacity of the queue, and how many mails are sent at once. */
const maxWaiting = 1_000
const senders = 4

const retries = { schedule: Schedule.exponential("1 second"), times: 3 }

interface Waiting {
  readonly to: string
  readonly mail: Mail
}

const makeSender = Effect.fnUntraced(function* (options: MailOptions) {
  const render = yield* loadTemplates(options.templates)
  const transport = yield* smtpTransport(options)
  const queue = yield* Queue.dropping<Waiting>(maxWaiting)

  const deliver = ({ mail, to }: Waiting) =>
    Effect.tryPromise(() =>
      transport.sendMail({
        from: options.from,
        to: { name: "", address: to },
        headers: { "Auto-Submitted": "auto-generated" },
        ...mail
      })
    ).pipe(
      Effect.retry(retries),
      Effect.catch((error) =>
        Effect.logWarning(
          `A mail to ${redactAddress({ medium: "email", address: to })} could not be sent: ${describeSmtpError(error.cause)}`
        )
      )
    )

  for (let index = 0; index < senders; index++) {
    yield* keepRunning("Sending mails", Effect.flatMap(Queue.take(queue), deliver))
  }

  return Effect.fnUntraced(function* (to: string, template: TemplateName, values: MailValues) {
    if (canonicalEmail(to) !== to) return yield* Effect.die(new Error("A mail was to go to what is no address"))
    const taken = yield* Queue.offer(queue, { to, mail: render(template, values) })
    if (!taken) yield* Effect.logWarning("A mail was dropped, because the queue to the mail server is full")
  })
})

export class Mailer extends Context.Service<
  Mailer,
  {
    /** Queues a mail to an address in canonical form. */
    readonly send: (to: string, template: TemplateName, values: MailValues) => Effect.Effect<void>
  }
>()("greenroom/actors/Mailer") {
  static readonly layer = Layer.effect(
    Mailer,
    Effect.gen(function* () {
      const login = yield* LoginConfig
      if (login.mail === undefined) return { send: () => Effect.void }
      return { send: yield* makeSender(login.mail) }
    })
  )
}
