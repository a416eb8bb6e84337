/**
 * Logins by OAuth2 providers, after the first request: the user selects a provider on a page, and returns from it.
 */
import type { LoginAnswer } from "@greenroom/protocol/api/LoginFlow"
import { Forbidden, type MatrixError } from "@greenroom/protocol/MatrixError"
import type { LoginSessionStore } from "@greenroom/store/LoginSessionStore"
import { newSecret } from "@greenroom/store/Secrets"
import { Effect, Option, Redacted } from "effect"
import { expiredLink } from "./EmailLinks.ts"
import { expired, type Progressing } from "./FlowSessions.ts"
import type { FlowTable } from "./FlowTable.ts"
import { type makeCompletion, overtaken } from "./LoginCompletion.ts"
import type { StageType } from "./LoginOptions.ts"
import type { Purpose } from "./LoginProgress.ts"
import type { OAuth2Client } from "./OAuth2Client.ts"
import { hashOfBrowserSecret, type makeOAuth2Stage } from "./OAuth2Stage.ts"

/** The choices on the page of services. */
export interface ServiceSelection {
  readonly purpose: Purpose
  readonly providers: ReadonlyArray<{ readonly id: string; readonly name: string }>
}

/** The request with which a provider sends the browser back. */
export interface OAuth2Callback {
  /** The query of the redirect URI, without `?`. */
  readonly query: string
  /** The secret that the browser kept. */
  readonly browserSecret: string | undefined
  readonly publicUrl: string
}

/** The result for a user who came back from a provider. `page`: whether the fallback page began the login, and continues it. */
export interface OAuth2Return {
  readonly page: boolean
  readonly purpose: Purpose
  readonly result: { readonly answer: LoginAnswer } | { readonly error: MatrixError }
}

const foreignState = new Forbidden({ error: "The login was not started here, or has ended already: start again" })

interface OAuth2ReturnNeeds {
  readonly sessions: LoginSessionStore["Service"]
  readonly client: OAuth2Client["Service"]
  readonly stage: ReturnType<typeof makeOAuth2Stage>
  readonly table: FlowTable
  readonly finish: Effect.Success<typeof makeCompletion>
}

/** The pages of a login at a provider. */
export const makeOAuth2Returns = ({ client, finish, sessions, stage, table }: OAuth2ReturnNeeds) => {
  const findSelection = Effect.fnUntraced(function* (ticket: string) {
    const found: Option.Option<Progressing> = yield* sessions.findByLink(Redacted.make(ticket))
    const pending = Option.isSome(found) ? found.value.progress.pending : undefined
    if (Option.isNone(found) || pending?.type !== "m.login.oauth2") return yield* expiredLink
    return found.value
  })

  const selectService = Effect.fn("LoginFlows.selectService")(function* (
    ticket: string,
    provider: string,
    publicUrl: string
  ) {
    const session = yield* findSelection(ticket)
    const { progress, state, uri } = yield* stage.authorize(session.progress, provider, publicUrl)
    return (yield* sessions.update(session, { progress, state })) ? uri : yield* overtaken
  })

  /** Takes the session of a returned user, and renews its secret, because another person may know the old one. */
  const comeBack = Effect.fnUntraced(function* (
    session: Progressing,
    { publicUrl, query }: OAuth2Callback
  ): Effect.fn.Return<LoginAnswer, MatrixError> {
    const purpose = session.purpose as Purpose
    const { pending, passed } = session.progress
    if (pending?.type !== "m.login.oauth2" || pending.provider === undefined) return yield* expired
    const { nonce = "", provider, verifier = "" } = pending
    const state = Redacted.make(new URLSearchParams(query).get("state") ?? "")
    const subject = yield* client.exchange({ provider, state, verifier, nonce, publicUrl, query })
    const secret = Redacted.make(newSecret())
    const answer = { type: "m.login.oauth2", session: Redacted.value(secret) }
    if (purpose === "link") {
      const progress = { ...session.progress, pending: { type: "m.login.oauth2", returned: subject } }
      return (yield* sessions.update(session, { progress, secret })) ? answer : yield* overtaken
    }
    const done: ReadonlyArray<StageType> = [...passed, "m.login.oauth2"]
    const progress = { ...(yield* stage.finish(purpose, session.progress, subject)), passed: done }
    if (table.isComplete(purpose, done)) return yield* finish(purpose, session, progress)
    if (!(yield* sessions.update(session, { progress, secret, freshTries: true }))) return yield* overtaken
    const next = table.next(purpose, done)
    return { session: Redacted.value(secret), ...(next === undefined ? {} : { next }) }
  })

  const callback = Effect.fn("LoginFlows.callback")(function* (
    request: OAuth2Callback
  ): Effect.fn.Return<OAuth2Return> {
    const state = new URLSearchParams(request.query).get("state")
    const found: Option.Option<Progressing> =
      state === null ? Option.none() : yield* sessions.takeByState(Redacted.make(state))
    if (Option.isNone(found)) return { page: false, purpose: "login", result: { error: foreignState } }
    const { browserHash } = found.value.progress
    const purpose = found.value.purpose as Purpose
    const page = browserHash !== undefined
    if (page && hashOfBrowserSecret(request.browserSecret ?? "") !== browserHash) {
      return { page, purpose, result: { error: foreignState } }
    }
    const result = yield* Effect.match(comeBack(found.value, request), {
      onSuccess: (answer) => ({ answer }),
      onFailure: (error) => ({ error })
    })
    return { page, purpose, result }
  })

  const services = (ticket: string) =>
    Effect.map(findSelection(ticket), ({ purpose }) => ({ purpose: purpose as Purpose, providers: client.providers }))

  return { services, selectService, callback }
}
