/**
 * Links in the mails of a login: the page that a link opens, and the confirmation on it.
 */
import { redactAddress } from "@greenroom/protocol/identity/ThirdPartyId"
import { NotFound } from "@greenroom/protocol/MatrixError"
import type { LoginSessionStore } from "@greenroom/store/LoginSessionStore"
import { Effect, Option, Redacted } from "effect"
import type { Progressing } from "./FlowSessions.ts"
import { overtaken } from "./LoginCompletion.ts"
import type { Purpose } from "./LoginProgress.ts"

/** The subject of a link in a mail, for the page that confirms it. */
export interface EmailLink {
  readonly purpose: Purpose
  /** Mostly masked. */
  readonly email: string
  /** The network address from which the login was begun. */
  readonly address: string
  readonly confirmed: boolean
}

/** The error for a link that leads to no session. */
export const expiredLink = new NotFound({ error: "The link is unknown, was used already, or has expired" })

/** The pages behind the links in mails. */
export const makeEmailLinks = (sessions: LoginSessionStore["Service"]) => {
  const findEmailLink = Effect.fnUntraced(function* (link: string) {
    const found: Option.Option<Progressing> = yield* sessions.findByLink(Redacted.make(link))
    const pending = Option.isSome(found) ? found.value.progress.pending : undefined
    if (Option.isNone(found) || pending?.type !== "m.login.email.url") return yield* expiredLink
    return { session: found.value, pending }
  })

  const describeLink = ({ pending, session }: Effect.Success<ReturnType<typeof findEmailLink>>): EmailLink => ({
    purpose: session.purpose as Purpose,
    email: redactAddress({ medium: "email", address: pending.email }),
    address: session.address,
    confirmed: pending.confirmed ?? false
  })

  const confirmEmail = Effect.fn("LoginFlows.confirmEmail")(function* (link: string) {
    const found = yield* findEmailLink(link)
    const pending = { ...found.pending, confirmed: true }
    const stored = yield* sessions.update(found.session, { progress: { ...found.session.progress, pending } })
    if (!stored) return yield* overtaken
    return { ...describeLink(found), confirmed: true }
  })

  return { describe: (link: string) => Effect.map(findEmailLink(link), describeLink), confirm: confirmEmail }
}
