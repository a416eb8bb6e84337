/**
 * A mail server that takes our mails by SMTP, and the connections to it: none without the protection that the operator
 * asked for, each step limited in time.
 */
import { Effect, Redacted, type Scope } from "effect"
import type { Transporter } from "nodemailer"

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

/** How long the mail server may take for a step, in ms. */
const smtpTimeout = 15_000

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
 * Why a mail was not sent, for the log: what was wrong with the connection, or the code of what the server answered. The
 * text of an answer may repeat whom the mail was for, and is left out.
 */
export const describeSmtpError = (error: unknown): string => {
  const { code, command, message, responseCode } = error as { readonly [key: string]: unknown }
  const connection = command === "CONN" && responseCode === undefined && typeof message === "string"
  const reason = connection ? `(${message.replaceAll(/\s+/g, " ").trim().slice(0, maxReason)})` : undefined
  return [code ?? "unknown", command, responseCode, reason].filter((part) => part !== undefined).join(" ")
}

/**
 * What mails to the server go through. Connects when there is a mail to send. With `pool` so many connections at most are
 * kept and used again, and end with the scope; without it every mail has one of its own, which ends when it is sent.
 */
export const smtpTransport = (
  server: SmtpServer,
  pool?: { readonly maxConnections: number }
): Effect.Effect<Transporter, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async (): Promise<Transporter> => {
      // Most servers send no mails, and do without these 4 MB.
      const { createTransport } = await import("nodemailer")
      const settings = settingsOf(server)
      return pool === undefined ? createTransport(settings) : createTransport({ ...settings, ...pool, pool: true })
    }),
    (transport) => Effect.sync(() => transport.close())
  )
