/** An SMTP server on a free port, with the received mails. */
import type { AddressInfo } from "node:net"
import { Context, Effect, Layer, Queue } from "effect"
import { SMTPServer, type SMTPServerOptions } from "smtp-server"

export interface ReceivedMail {
  readonly from: string
  /** The recipients of the envelope. */
  readonly to: ReadonlyArray<string>
  /** The header of the mail, unfolded. */
  readonly headers: ReadonlyArray<string>
  readonly text: string
  readonly html: string
  readonly raw: string
}

const decodeQuotedPrintable = (text: string): string =>
  Buffer.from(
    text
      .replace(/=\r\n/g, "")
      .replace(/=([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    "latin1"
  ).toString("utf8")

const decodePart = (part: string): string => {
  const [head = "", ...rest] = part.split("\r\n\r\n")
  const body = rest.join("\r\n\r\n")
  if (/^content-transfer-encoding: base64/im.test(head)) return Buffer.from(body, "base64").toString("utf8")
  return /^content-transfer-encoding: quoted-printable/im.test(head) ? decodeQuotedPrintable(body) : body
}

const parse = (raw: string, from: string, to: ReadonlyArray<string>): ReceivedMail => {
  const head = raw.slice(0, raw.indexOf("\r\n\r\n"))
  const boundary = /boundary="([^"]+)"/.exec(head)?.[1] ?? "none"
  const parts = raw.split(`--${boundary}`)
  const partOf = (type: string) =>
    decodePart((parts.find((part) => part.includes(`Content-Type: ${type}`)) ?? "").trimStart())
  return {
    from,
    to,
    headers: head.replace(/\r\n[ \t]+/g, " ").split("\r\n"),
    text: partOf("text/plain"),
    html: partOf("text/html"),
    raw
  }
}

export class Mailbox extends Context.Service<
  Mailbox,
  {
    readonly port: number
    /** Waits for the next mail. */
    readonly take: Effect.Effect<ReceivedMail>
    /** The number of mails not yet taken. */
    readonly waiting: Effect.Effect<number>
    /** Sets the server's answer to recipients; undefined accepts them. */
    readonly refuseRecipients: (message: string | undefined) => void
  }
>()("greenroom/identity/test/Mailbox") {
  static readonly layer: Layer.Layer<Mailbox> = Layer.suspend(() =>
    Mailbox.layerWith({ disabledCommands: ["STARTTLS"] })
  )

  /** A mailbox with other options of the SMTP server, whose account is `user` with the password `secret`. */
  static readonly layerWith = (options: SMTPServerOptions): Layer.Layer<Mailbox> =>
    Layer.effect(
      Mailbox,
      Effect.gen(function* () {
        const mails = yield* Queue.unbounded<ReceivedMail>()
        let refusal: string | undefined
        const server = new SMTPServer({
          authOptional: true,
          onAuth: ({ password, username }, _session, done) =>
            username === "user" && password === "secret" ? done(null, { user: username }) : done(new Error("no")),
          onRcptTo: (_address, _session, done) => done(refusal === undefined ? null : new Error(refusal)),
          onData: (stream, { envelope }, done) => {
            const chunks: Array<Buffer> = []
            stream.on("data", (chunk: Buffer) => chunks.push(chunk))
            stream.on("end", () => {
              const from = envelope.mailFrom === false ? "" : envelope.mailFrom.address
              const to = envelope.rcptTo.map(({ address }) => address)
              Queue.offerUnsafe(mails, parse(Buffer.concat(chunks).toString("utf8"), from, to))
              done()
            })
          },
          ...options
        })
        yield* Effect.acquireRelease(
          Effect.callback<void>((resume) => {
            server.listen(0, "127.0.0.1", () => resume(Effect.void))
          }),
          () => Effect.callback<void>((resume) => server.close(() => resume(Effect.void)))
        )
        return Mailbox.of({
          port: (server.server.address() as AddressInfo).port,
          take: Queue.take(mails),
          waiting: Queue.size(mails),
          refuseRecipients: (message) => {
            refusal = message
          }
        })
      })
    )
}
