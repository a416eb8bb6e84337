/**
 * Sends mails by SMTP. The mail of a request is sent after its answer, so that the time of the answer does not reveal whether a mail
 * was sent. Failures are retried a few times, and the queue is bounded.
 */
import { canonicalEmail, redactAddress } from "@greenroom/protocol/identity/ThirdPartyId"
import { keepRunning } from "@greenroom/store/Supervision"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import { describeSmtpError, smtpTransport } from "../SmtpServer.ts"
import { LoginConfig } from "./LoginConfig.ts"
import type { MailOptions } from "./LoginOptions.ts"
import { loadTemplates, type Mail, type MailValues, type TemplateName } from "./MailTemplates.ts"

/** The capacity of the queue, and how many mails are sent at once. */
const maxWaiting = 1_000
const senders = 4

const retries = { schedule: Schedule.exponential("1 second"), times: 3 }

/** The mail server did not accept a mail. `reason` names no recipient. */
export class MailFailed extends Data.TaggedError("MailFailed")<{ readonly reason: string }> {}

/** Headers of a mail, beside those of every mail. */
export interface MailHeaders {
  /** The same for every attempt to send one mail, so that mail servers can recognise duplicates. */
  readonly messageId: string
  /** The URL at which one click ends such mails (RFC 8058). */
  readonly unsubscribe: string
}

interface Waiting {
  readonly to: string
  readonly mail: Mail
}

const makeSender = Effect.fnUntraced(function* (options: MailOptions) {
  const render = yield* loadTemplates(options.templates)
  const transport = yield* smtpTransport(options)
  const queue = yield* Queue.dropping<Waiting>(maxWaiting)

  const submit = (to: string, mail: Mail, more?: MailHeaders) =>
    Effect.tryPromise({
      try: () =>
        transport.sendMail({
          from: options.from,
          to: { name: "", address: to },
          ...mail,
          ...(more === undefined ? {} : { messageId: more.messageId }),
          headers: {
            "Auto-Submitted": "auto-generated",
            ...(more === undefined
              ? {}
              : { "List-Unsubscribe": `<${more.unsubscribe}>`, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click" })
          }
        }),
      catch: (error) => new MailFailed({ reason: describeSmtpError(error) })
    })

  const deliver = ({ mail, to }: Waiting) =>
    submit(to, mail).pipe(
      Effect.retry(retries),
      Effect.catch(({ reason }) =>
        Effect.logWarning(`A mail to ${redactAddress({ medium: "email", address: to })} could not be sent: ${reason}`)
      )
    )

  for (let index = 0; index < senders; index++) {
    yield* keepRunning("Sending mails", Effect.flatMap(Queue.take(queue), deliver))
  }

  const send = Effect.fnUntraced(function* (to: string, template: TemplateName, values: MailValues) {
    if (canonicalEmail(to) !== to)
      return yield* Effect.die(new Error("The recipient of a mail is not an email address in canonical form"))
    const taken = yield* Queue.offer(queue, { to, mail: render(template, values) })
    if (!taken) yield* Effect.logWarning("A mail was dropped because the queue to the mail server is full")
  })

  return {
    send,
    deliver: (to: string, template: TemplateName, values: MailValues, headers?: MailHeaders) =>
      Effect.asVoid(submit(to, render(template, values), headers))
  }
})

export class Mailer extends Context.Service<
  Mailer,
  {
    /** Queues a mail to an address in canonical form. */
    readonly send: (to: string, template: TemplateName, values: MailValues) => Effect.Effect<void>
    /** Sends a mail now. Succeeds when the mail server has taken it; does not retry. */
    readonly deliver: (
      to: string,
      template: TemplateName,
      values: MailValues,
      headers?: MailHeaders
    ) => Effect.Effect<void, MailFailed>
  }
>()("greenroom/actors/Mailer") {
  static readonly layer = Layer.effect(
    Mailer,
    Effect.gen(function* () {
      const login = yield* LoginConfig
      if (login.mail !== undefined) return yield* makeSender(login.mail)
      const noServer = new MailFailed({ reason: "there is no mail server" })
      return { send: () => Effect.void, deliver: () => Effect.fail(noServer) }
    })
  )
}
