/**
 * Mails: at once, or stored with the request that sends them and then sent in the background (`OutgoingMails`), so that the end of a
 * process loses none, and the time of an answer does not reveal whether a mail was sent.
 */
import { canonicalEmail } from "@greenroom/protocol/identity/ThirdPartyId"
import { OutgoingMailStore } from "@greenroom/store/OutgoingMailStore"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { describeSmtpError, isSmtpRefusal, sendMail, smtpTransport } from "../SmtpServer.ts"
import { LoginConfig } from "./LoginConfig.ts"
import type { MailOptions } from "./LoginOptions.ts"
import { loadTemplates, type Mail, type MailValues, type TemplateName } from "./MailTemplates.ts"

/** The mail server did not accept a mail. `reason` names no recipient. */
export class MailFailed extends Data.TaggedError("MailFailed")<{
  readonly reason: string
  /** The mail server has refused this mail, and would again. */
  readonly isRefusal: boolean
}> {
  override get message(): string {
    return this.reason
  }
}

/** What the headers of a mail name. */
export interface MailHeaders {
  /** The same for every attempt to send one mail, so that mail servers can recognise duplicates by its Message-ID. */
  readonly mailId: string
  /** The URL at which one click ends such mails (RFC 8058). */
  readonly unsubscribe?: string
}

const unsubscribeHeaders = (url: string | undefined) =>
  url === undefined ? {} : { "List-Unsubscribe": `<${url}>`, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click" }

const makeSender = Effect.fnUntraced(function* (options: MailOptions) {
  const render = yield* loadTemplates(options.templates)
  const transport = yield* smtpTransport(options)
  const store = yield* OutgoingMailStore
  const { serverName } = yield* HomeServerConfig
  const domain = serverName.replace(/[^\w.-]/g, "_")

  const deliver = (to: string, mail: Mail, { mailId, unsubscribe }: MailHeaders) =>
    Effect.mapError(
      sendMail(transport, {
        from: options.from,
        to: { name: "", address: to },
        ...mail,
        messageId: `<${mailId}@${domain}>`,
        headers: { "Auto-Submitted": "auto-generated", ...unsubscribeHeaders(unsubscribe) }
      }),
      (error) => new MailFailed({ reason: describeSmtpError(error), isRefusal: isSmtpRefusal(error) })
    )

  const send = Effect.fnUntraced(function* (
    to: string | undefined,
    template: TemplateName,
    values: MailValues
  ): Effect.fn.Return<void> {
    if (to !== undefined && canonicalEmail(to) !== to)
      return yield* Effect.die(new Error("The recipient of a mail is not an email address in canonical form"))
    yield* store.add({ recipient: to, ...render(template, values) })
  })

  return { send, render, deliver }
})

/** Without a mail server there is nothing to send. */
const noSender = Effect.map(loadTemplates(undefined), (render) => ({
  send: () => Effect.void,
  render,
  deliver: () => Effect.fail(new MailFailed({ reason: "there is no mail server", isRefusal: false }))
}))

/** Sends the mails of this server, or stores them to be sent in the background. */
export class Mailer extends Context.Service<
  Mailer,
  {
    /**
     * Stores a mail to an address in canonical form: it is sent soon, also after a crash. Undefined: nothing is sent, and the request
     * takes as long as with a mail.
     */
    readonly send: (to: string | undefined, template: TemplateName, values: MailValues) => Effect.Effect<void>
    /** The text of a mail. */
    readonly render: (template: TemplateName, values: MailValues) => Mail
    /** Sends a mail now. Succeeds when the mail server has taken it; does not retry. */
    readonly deliver: (to: string, mail: Mail, headers: MailHeaders) => Effect.Effect<void, MailFailed>
  }
>()("greenroom/actors/Mailer") {
  static readonly layer = Layer.effect(
    Mailer,
    Effect.gen(function* () {
      const { mail } = yield* LoginConfig
      return mail === undefined ? yield* noSender : yield* makeSender(mail)
    })
  )
}
