/**
 * Sends mails by SMTP. The recipient is an address in canonical form, passed to nodemailer as an object and never as part of
 * a header, so no address and no text can add recipients or headers.
 */
import { describeSmtpError, type SmtpServer, sendMail, smtpTransport } from "@greenroom/actors/account/SmtpServer"
import { MessageSendError } from "@greenroom/protocol/identity/IdentityError"
import { Context, Effect, Layer, Option } from "effect"

export interface SmtpOptions extends SmtpServer {
  /** The address that mails come from. */
  readonly from: { readonly name: string; readonly address: string }
}

export interface Mail {
  /** An address in canonical form. */
  readonly to: string
  readonly subject: string
  readonly text: string
  readonly html: string
}

const notSent = new MessageSendError({ error: "The mail could not be sent" })

const make = Effect.fnUntraced(function* (options: SmtpOptions) {
  const transport = yield* smtpTransport(options, { maxConnections: 4 })
  return Option.some((mail: Mail) =>
    sendMail(transport, {
      from: options.from,
      to: { name: "", address: mail.to },
      subject: mail.subject,
      text: mail.text,
      html: mail.html,
      headers: { "auto-submitted": "auto-generated" }
    }).pipe(
      Effect.tapError((error) => Effect.logWarning(`A mail could not be sent: ${describeSmtpError(error)}`)),
      Effect.mapError(() => notSent)
    )
  )
})

export class MailSender extends Context.Service<
  MailSender,
  /** Absent if no SMTP server is configured. Errors: M_MESSAGE_SEND_ERROR. */
  Option.Option<(mail: Mail) => Effect.Effect<void, MessageSendError>>
>()("greenroom/identity/MailSender") {
  static readonly layer = (options: SmtpOptions | undefined): Layer.Layer<MailSender> =>
    Layer.effect(MailSender, options === undefined ? Effect.succeedNone : make(options))
}
