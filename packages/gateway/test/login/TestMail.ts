/**
 * A mail server for tests, on a free port. Tests wait for its mails by recipient.
 */
import { Effect, type Scope } from "effect"
import { SMTPServer, type SMTPServerOptions } from "smtp-server"

export interface Received {
  readonly from: string
  readonly to: ReadonlyArray<string>
  /** The headers, unfolded, by their names in lower case. */
  readonly headers: { readonly [name: string]: string }
  readonly raw: string
  /** All parts, decoded. */
  readonly body: string
  readonly encrypted: boolean
  readonly user: string | undefined
}

export interface TestMail {
  readonly port: number
  /** Takes the oldest mail to an address that was not taken yet, or waits for one. */
  readonly next: (to: string) => Effect.Effect<Received>
  /** All mails so far. */
  readonly all: ReadonlyArray<Received>
}

const decodeQuotedPrintable = (text: string): string =>
  Buffer.from(
    text
      .replace(/=\r\n/g, "")
      .replace(/=([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    "latin1"
  ).toString("utf8")

const headersOf = (raw: string): { readonly [name: string]: string } =>
  Object.fromEntries(
    raw
      .slice(0, raw.indexOf("\r\n\r\n"))
      .replace(/\r\n[ \t]+/g, " ")
      .split("\r\n")
      .map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()])
  )

const read = (stream: NodeJS.ReadableStream): Promise<string> =>
  new Promise((resolve, reject) => {
    const chunks: Array<Buffer> = []
    stream.on("data", (chunk: Buffer) => chunks.push(chunk))
    stream.on("end", () => resolve(Buffer.concat(chunks).toString("utf8")))
    stream.on("error", reject)
  })

/** Starts a mail server. */
export const testMail = (options: SMTPServerOptions = {}): Effect.Effect<TestMail, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<{ readonly mail: TestMail; readonly server: SMTPServer }>((resume) => {
        const all: Array<Received> = []
        const waiting: Array<Received> = []
        const listeners = new Set<() => void>()
        const server = new SMTPServer({
          authOptional: true,
          disableReverseLookup: true,
          hideSTARTTLS: true,
          ...options,
          onData: (stream, session, done) => {
            read(stream).then((raw) => {
              const { mailFrom, rcptTo } = session.envelope
              const received: Received = {
                from: mailFrom === false ? "" : mailFrom.address,
                to: rcptTo.map(({ address }) => address),
                headers: headersOf(raw),
                raw,
                body: decodeQuotedPrintable(raw.slice(raw.indexOf("\r\n\r\n"))),
                encrypted: session.secure,
                user: session.user as string | undefined
              }
              all.push(received)
              waiting.push(received)
              done()
              for (const listener of [...listeners]) listener()
            }, done)
          }
        })
        const next = (to: string) =>
          Effect.callback<Received>((resumeNext) => {
            const look = () => {
              const index = waiting.findIndex((received) => received.to.includes(to))
              if (index === -1) return
              listeners.delete(look)
              const [found] = waiting.splice(index, 1)
              if (found !== undefined) resumeNext(Effect.succeed(found))
            }
            listeners.add(look)
            look()
          })
        const listening = server.listen(0, "127.0.0.1", () => {
          const address = listening.address()
          const port = typeof address === "object" && address !== null ? address.port : 0
          resume(Effect.succeed({ server, mail: { port, next, all } }))
        })
      }),
      ({ server }) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
    ),
    ({ mail }) => mail
  )

/** The code in a mail. */
export const codeIn = ({ body }: Received): string => /\b(\d{4} \d{4})\b/.exec(body)?.[1] ?? "no code"

/** The link in a mail. */
export const linkIn = ({ body }: Received): string => /http:\/\/\S+token=[\w.-]+/.exec(body)?.[0] ?? "no link"
