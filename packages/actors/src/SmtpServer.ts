/**
 * A mail server that takes our mails by SMTP, and the connections to it: a few that are kept and used again, none of them
 * without the protection that the operator asked for, each step limited in time.
 */
import { Effect, Redacted, type Scope } from "effect"
import { createTransport, type Transporter } from "nodemailer"

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

/** The most connections at a time. */
export const maxConnections = 4

/** How long the mail server may take for a step, in ms. */
const patience = 15_000

const credentialsOf = ({ password, user }: SmtpServer) =>
  user === undefined ? {} : { auth: { user, pass: password === undefined ? "" : Redacted.value(password) } }

const makeTransport = (server: SmtpServer) =>
  createTransport({
    host: server.host,
    port: server.port,
    secure: server.security === "tls",
    requireTLS: server.security === "starttls",
    ignoreTLS: server.security === "none",
    tls: { rejectUnauthorized: server.verifyCertificate ?? true },
    ...credentialsOf(server),
    pool: true,
    maxConnections,
    connectionTimeout: patience,
    greetingTimeout: patience,
    socketTimeout: patience,
    disableFileAccess: true,
    disableUrlAccess: true
  })

/** What mails to the server go through, until the scope closes. Connects when there is a mail to send. */
export const smtpTransport = (server: SmtpServer): Effect.Effect<Transporter, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync((): Transporter => makeTransport(server)),
    (transport) => Effect.sync(() => transport.close())
  )
