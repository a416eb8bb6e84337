/**
 * Sends mails by SMTP. Who it goes to is an address in canonical form, given to nodemailer as an object and never as
 * part of a header, so no address and no text can add recipients or headers.
 */
import { MessageSendError } from "@greenroom/protocol/identity/IdentityError"
import { Context, Effect, Layer, Option, Redacted } from "effect"
import { createTransport } from "nodemailer"

/** How the connection to the SMTP server is protected: `starttls` and `tls` refuse to go on without. */
export type SmtpSecurity = "starttls" | "tls" | "none"

export interface SmtpOptions {
  readonly host: string
  readonly port: number
  readonly security: SmtpSecurity
  readonly user?: string | undefined
  readonly password?: Redacted.Redacted | undefined
  /** The address that mails come from. */
  readonly from: { readonly name: string; readonly address: string }
  /** Whether the certificate of the SMTP server is checked. */
  readonly verifyCertificate: boolean
}

export interface Mail {
  /** An address in canonical form. */
  readonly to: string
  readonly subject: string
  readonly text: string
  readonly html: string
}

/** How long the SMTP server may take for a step, in ms. */
const patience = 15_000

const toTransport = (options: SmtpOptions) =>
  createTransport({
    host: options.host,
    port: options.port,
    secure: options.security === "tls",
    requireTLS: options.security === "starttls",
    ignoreTLS: options.security === "none",
    tls: { rejectUnauthorized: options.verifyCertificate },
    ...(options.user === undefined
      ? {}
      : { auth: { user: options.user, pass: options.password === undefined ? "" : Redacted.value(options.password) } }),
    pool: true,
    maxConnections: 4,
    connectionTimeout: patience,
    greetingTimeout: patience,
    socketTimeout: patience,
    disableFileAccess: true,
    disableUrlAccess: true
  })

const notSent = new MessageSendError({ error: "The mail could not be sent" })

/** What went wrong, without what was sent. */
const describe = (cause: unknown): string => {
  const { code, command, responseCode } = cause as { code?: string; command?: string; responseCode?: number }
  return [code ?? "unknown", command, responseCode].filter((part) => part !== undefined).join(" ")
}

const make = Effect.fnUntraced(function* (options: SmtpOptions) {
  const transport = yield* Effect.acquireRelease(
    Effect.sync(() => toTransport(options)),
    (transport) => Effect.sync(() => transport.close())
  )
  return Option.some((mail: Mail) =>
    Effect.tryPromise(() =>
      transport.sendMail({
        from: options.from,
        to: { name: "", address: mail.to },
        subject: mail.subject,
        text: mail.text,
        html: mail.html,
        headers: { "auto-submitted": "auto-generated" }
      })
    ).pipe(
      Effect.tapError((error) => Effect.logWarning(`A mail could not be sent: ${describe(error.cause)}`)),
      Effect.mapError(() => notSent),
      Effect.asVoid
    )
  )
})

export class MailSender extends Context.Service<
  MailSender,
  /** None where no SMTP server is configured. Errors: M_MESSAGE_SEND_ERROR. */
  Option.Option<(mail: Mail) => Effect.Effect<void, MessageSendError>>
>()("greenroom/identity/MailSender") {
  static readonly layer = (options: SmtpOptions | undefined): Layer.Layer<MailSender> =>
    Layer.effect(MailSender, options === undefined ? Effect.succeedNone : make(options))
}
