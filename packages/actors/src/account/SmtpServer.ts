/**
 * The SMTP server for outgoing mails, and connections to it. No connection is made without the configured protection; each
 * step has a timeout, and so has a mail as a whole.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { SendMailOptions, Transporter } from "nodemailer"

/** The mail server that takes the mails of this server. */
export interface SmtpServer {
  readonly host: string
  readonly port: number
  /** `tls` from the first byte, `starttls` or no connection, `none` for a server on the same machine. */
  readonly security: "tls" | "starttls" | "none"
  readonly user?: string | undefined
  readonly password?: Redacted.Redacted | undefined
  /** False accepts any certificate. For tests only. */
  readonly verifyCertificate?: boolean | undefined
}

/** The timeout of each step, in ms. A server that answers byte by byte never exceeds it. */
const smtpTimeout = 15_000

/** How long a mail may take as a whole. */
const mailTimeout = "2 minutes"

const credentialsOf = ({ password, user }: SmtpServer) =>
  user === undefined ? {} : { auth: { user, pass: password === undefined ? "" : Redacted.value(password) } }

const settingsOf = (server: SmtpServer) => ({
  host: server.host,
  port: server.port,
  secure: server.security === "tls",
  requireTLS: server.security === "starttls",
  ignoreTLS: server.security === "none",
  tls: { rejectUnauthorized: server.verifyCertificate ?? true },
  ...credentialsOf(server),
  connectionTimeout: smtpTimeout,
  greetingTimeout: smtpTimeout,
  socketTimeout: smtpTimeout,
  disableFileAccess: true,
  disableUrlAccess: true
})

const maxReason = 200

/**
 * Why a mail was not sent, for the log: the failure of the connection, or the code of the answer. The text of the answer is
 * left out, since it may contain the recipient.
 */
export const describeSmtpError = (error: unknown): string => {
  const { code, command, message, responseCode } = error as { readonly [key: string]: unknown }
  const connection = command === "CONN" && responseCode === undefined && typeof message === "string"
  const reason = connection ? `(${message.replaceAll(/\s+/g, " ").trim().slice(0, maxReason)})` : undefined
  return [code ?? "unknown", command, responseCode, reason].filter((part) => part !== undefined).join(" ")
}

/** Whether the server refuses the recipient or the text for good, and not this client or every mail. */
export const isSmtpRefusal = (error: unknown): boolean => {
  const { code, command, responseCode } = error as { readonly [key: string]: unknown }
  const isOfMail = (code === "EENVELOPE" && command === "RCPT TO") || code === "EMESSAGE"
  return isOfMail && typeof responseCode === "number" && responseCode >= 500
}

const tooSlow = Object.assign(new Error(`The mail server took longer than ${mailTimeout}`), {
  code: "ETIMEDOUT",
  command: "CONN"
})

/** Sends a mail, in bounded time. Fails with the error of the library. */
export const sendMail = (transport: Transporter, mail: SendMailOptions): Effect.Effect<void, unknown> =>
  Effect.tryPromise({
    try: (signal) => transport.sendMail({ ...mail, signal }),
    catch: (error) => error
  }).pipe(Effect.timeoutOrElse({ duration: mailTimeout, orElse: () => Effect.fail(tooSlow) }), Effect.asVoid)

/**
 * A transport to the server, which connects on demand. With `pool` up to that many connections are kept and reused until the
 * scope closes; without it every mail has its own connection.
 */
export const smtpTransport = (
  server: SmtpServer,
  pool?: { readonly maxConnections: number }
): Effect.Effect<Transporter, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async (): Promise<Transporter> => {
      // Loaded on demand: the library takes 4 MB, and most servers send no mails.
      const { createTransport } = await import("nodemailer")
      const settings = settingsOf(server)
      return pool === undefined ? createTransport(settings) : createTransport({ ...settings, ...pool, pool: true })
    }),
    (transport) => Effect.sync(() => transport.close())
  )
