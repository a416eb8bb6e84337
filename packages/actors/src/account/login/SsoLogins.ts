/**
 * `m.login.sso` of today's client API: the user logs in at a provider of `OAuth2Client` in a browser, which returns to the client
 * with a token for one login. A user without an account chooses a name, if registration needs nothing but the provider. A user
 * confirms an operation (`InteractiveAuth`) in the same way.
 *
 * Without providers, but with the OAuth 2.0 API, the login is on the pages of that: clients that do not speak the API get in by them, too.
 *
 * The state of a login is in `login_sessions`, and belongs to the browser that began it.
 *
 * Source: "SSO client login/authentication" and "OAuth 2.0 aware clients" of the client-server specification.
 */
import { createHash } from "node:crypto"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, InvalidParam, LimitExceeded, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { type LoginSession, LoginSessionStore } from "@greenroom/store/LoginSessionStore"
import { newSecret } from "@greenroom/store/Secrets"
import { type ProviderSubject, UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Clock, Context, Effect, Layer, Option, Redacted } from "effect"
import { addressKey } from "../../runtime/AddressKey.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { Accounts } from "../Accounts.ts"
import { InteractiveAuth } from "../InteractiveAuth.ts"
import { makeAccountCreation } from "./LoginCompletion.ts"
import { LoginConfig } from "./LoginConfig.ts"
import { loginDefaults, loginFlowsOf, registrationFlowsOf } from "./LoginOptions.ts"
import { OAuth2Client } from "./OAuth2Client.ts"

/** The purpose: to log a client in, or to confirm the operation of a session of `InteractiveAuth`. */
export type SsoTarget = { readonly redirectUrl: string } | { readonly interactive: string }

/** The beginning of a login by SSO. */
export interface SsoRequest {
  readonly target: SsoTarget
  /** Required if there are several. */
  readonly provider: string | undefined
  readonly address: string
  /** The URL of this server, without a slash at the end. */
  readonly publicUrl: string
}

/** The browser is sent to the provider with a secret that it keeps, selects a provider, or gets the page of this server. */
export type SsoBegun =
  | { readonly byPage: true }
  | { readonly uri: string; readonly browserSecret: string }
  | { readonly providers: ReadonlyArray<{ readonly id: string; readonly name: string }> }

/** The return of a browser from a provider. */
export interface SsoReturn {
  /** The query of the redirect URI, without `?`. */
  readonly query: string
  readonly browserSecret: string | undefined
  readonly publicUrl: string
}

/** The URL of the client with a token for one login. `trusted`: whether the operator trusts the URL. */
export interface SsoGrant {
  readonly location: string
  readonly trusted: boolean
  readonly userId: UserId
}

/**
 * The next step: return to the client, whose URL the operator trusts or not; choose a name for a new account; or the operation is
 * confirmed.
 */
export type SsoOutcome = SsoGrant | { readonly chooseName: string } | { readonly confirmed: true }

interface Progress {
  readonly target: SsoTarget
  readonly browserHash: string
  readonly provider: string
  readonly verifier: string
  readonly nonce: string
  /** The identity at the provider, without an account yet. */
  readonly subject?: ProviderSubject
}

type Session = LoginSession<Progress>

const purpose = "sso"
const maxRedirectUrlLength = 2_048
/** Schemes that make a browser run code or open other than a client's page. */
const forbiddenSchemes: ReadonlySet<string> = new Set([
  "javascript:",
  "data:",
  "vbscript:",
  "file:",
  "blob:",
  "about:",
  "view-source:"
])

const foreign = new Forbidden({ error: "This login was not started in this browser, or has ended: start again" })
const notOffered = new NotFound({ error: "This server has no single sign-on" })
const tooMany = new LimitExceeded({
  error: "Too many logins are in progress from your address",
  retry_after_ms: 60_000
})
const noAccount = new Forbidden({ error: "No account of this server is linked to that account" })

const hashOf = (secret: string): string => createHash("sha256").update(secret).digest("base64url")

/** The key of a session. It differs from the keys of `LoginFlows`, whose logins return to the same URI. */
const keyOf = (state: string) => Redacted.make(`sso ${state}`)

const checkTarget = (target: SsoTarget): Effect.Effect<void, MatrixError> => {
  if ("interactive" in target) return Effect.void
  const { redirectUrl } = target
  const url = redirectUrl.length <= maxRedirectUrlLength ? URL.parse(redirectUrl) : null
  return url === null || forbiddenSchemes.has(url.protocol)
    ? Effect.fail(new InvalidParam({ error: "redirectUrl: expected a URL that a browser can open" }))
    : Effect.void
}

/** The URL with the token added to its query. */
const withToken = (redirectUrl: string, token: string): string => {
  const hash = redirectUrl.indexOf("#")
  const [before, after] = hash === -1 ? [redirectUrl, ""] : [redirectUrl.slice(0, hash), redirectUrl.slice(hash)]
  return `${before}${before.includes("?") ? "&" : "?"}loginToken=${encodeURIComponent(token)}${after}`
}

const isAlone = (flows: ReadonlyArray<ReadonlyArray<string>>): boolean =>
  flows.some((flow) => flow.length === 1 && flow[0] === "m.login.oauth2")

const make = Effect.gen(function* () {
  const login = yield* LoginConfig
  const { enableRegistration = true } = yield* HomeServerConfig
  const { maxSessionsPerAddress, sessionTtl } = { ...loginDefaults, ...login }
  const accounts = yield* Accounts
  const identities = yield* UserIdentityStore
  const interactive = yield* InteractiveAuth
  const oauth2 = yield* OAuth2Client
  const sessions = yield* LoginSessionStore
  const { createAccount } = yield* makeAccountCreation

  const offered = isAlone(loginFlowsOf(login))
  const byPage = !offered && (login.oauth ?? "off") !== "off"
  const registers = enableRegistration && isAlone(registrationFlowsOf(login))

  const isTrusted = (redirectUrl: string): boolean =>
    (login.ssoRedirects ?? []).some((prefix) => redirectUrl.startsWith(prefix))

  const begin = Effect.fn("SsoLogins.begin")(function* ({ address, provider, publicUrl, target }: SsoRequest) {
    if (!offered && !byPage) return yield* notOffered
    yield* checkTarget(target)
    if (byPage) return provider === undefined && "redirectUrl" in target ? { byPage } : yield* notOffered
    const [only] = oauth2.providers
    const id = provider ?? (oauth2.providers.length === 1 ? only?.id : undefined)
    if (id === undefined) return { providers: oauth2.providers }
    if (!oauth2.providers.some((known) => known.id === id)) {
      return yield* new NotFound({ error: "idpId: there is no such provider" })
    }
    const { nonce, state, uri, verifier } = yield* oauth2.authorize(id, publicUrl)
    const browserSecret = newSecret()
    const progress: Progress = { target, browserHash: hashOf(browserSecret), provider: id, verifier, nonce }
    const created = yield* sessions.create(
      {
        secret: Redacted.make(newSecret()),
        purpose,
        progress,
        address: `sso ${addressKey(address)}`,
        expiresAt: (yield* Clock.currentTimeMillis) + sessionTtl,
        state: keyOf(Redacted.value(state))
      },
      maxSessionsPerAddress
    )
    return created ? { uri, browserSecret } : yield* tooMany
  })

  const grant = Effect.fn("SsoLogins.grant")(function* (
    userId: UserId,
    redirectUrl: string,
    passwordHash?: Redacted.Redacted
  ) {
    yield* checkTarget({ redirectUrl })
    // In a header there are no line breaks, and no characters but those of ASCII.
    const { href } = new URL(redirectUrl)
    const { login_token } = yield* accounts.createLoginToken(userId, { passwordHash })
    return { location: withToken(href, login_token), trusted: isTrusted(href), userId }
  })

  const finish = Effect.fnUntraced(function* (
    session: Session,
    userId: UserId
  ): Effect.fn.Return<SsoOutcome, MatrixError> {
    const { target } = session.progress
    if (!(yield* sessions.end(session))) return yield* foreign
    if ("interactive" in target) {
      yield* interactive.pass(target.interactive, "m.login.sso", userId)
      return { confirmed: true }
    }
    return yield* grant(userId, target.redirectUrl)
  })

  const comeBack = Effect.fnUntraced(function* (
    session: Session,
    { browserSecret, publicUrl, query }: SsoReturn
  ): Effect.fn.Return<SsoOutcome, MatrixError> {
    const { browserHash, nonce, provider, target, verifier } = session.progress
    if (hashOf(browserSecret ?? "") !== browserHash) return yield* foreign
    const state = Redacted.make(new URLSearchParams(query).get("state") ?? "")
    const subject = yield* oauth2.exchange({ provider, state, verifier, nonce, publicUrl, query })
    const owner = yield* identities.userOfSubject(subject)
    if (Option.isSome(owner)) return yield* finish(session, owner.value)
    if (!registers || "interactive" in target) return yield* noAccount
    const secret = newSecret()
    const change = { progress: { ...session.progress, subject }, secret: Redacted.make(secret) }
    return (yield* sessions.update(session, change)) ? { chooseName: secret } : yield* foreign
  })

  const register = Effect.fn("SsoLogins.register")(function* (
    secret: string,
    name: string,
    browserSecret: string | undefined
  ): Effect.fn.Return<SsoOutcome, MatrixError> {
    const found: Option.Option<Session> = yield* sessions.find(Redacted.make(secret))
    const session = Option.getOrUndefined(found)
    const subject = session?.progress.subject
    if (session?.purpose !== purpose || subject === undefined) return yield* foreign
    if (hashOf(browserSecret ?? "") !== session.progress.browserHash) return yield* foreign
    const wanted = yield* accounts.chooseUserId(name)
    const userId = yield* createAccount({ wanted, subject }, { isNamed: true })
    return yield* finish(session, userId)
  })

  return SsoLogins.of({
    providers: offered ? oauth2.providers : [],
    byPage,
    begin,
    grant,
    check: (redirectUrl) => checkTarget({ redirectUrl }),
    isTrusted,
    comeBack: Effect.fn("SsoLogins.comeBack")(function* (back: SsoReturn) {
      const state = new URLSearchParams(back.query).get("state")
      const found: Option.Option<Session> = state === null ? Option.none() : yield* sessions.takeByState(keyOf(state))
      return Option.isSome(found) ? Option.some(yield* comeBack(found.value, back)) : Option.none()
    }),
    register
  })
})

/** `m.login.sso`: logins of browsers at an OAuth2 provider, which return to the client with a login token. */
export class SsoLogins extends Context.Service<
  SsoLogins,
  {
    /** The providers that suffice to log in; empty if there are none. */
    readonly providers: ReadonlyArray<{ readonly id: string; readonly name: string }>
    /** Whether the login is on a page of this server. */
    readonly byPage: boolean
    /** Whether a browser may be sent to the URL of a client. Errors: M_INVALID_PARAM. */
    readonly check: (redirectUrl: string) => Effect.Effect<void, MatrixError>
    /** Whether the operator trusts the URL: the user is not asked. */
    readonly isTrusted: (redirectUrl: string) => boolean
    /**
     * Lets the client at a URL log the user in once. `passwordHash` is that of a user who has shown the password. Errors: M_INVALID_PARAM;
     * M_UNKNOWN_TOKEN if the password was replaced.
     */
    readonly grant: (
      userId: UserId,
      redirectUrl: string,
      passwordHash?: Redacted.Redacted
    ) => Effect.Effect<SsoGrant, MatrixError>
    /** Errors: M_INVALID_PARAM for a URL that a browser cannot open, M_NOT_FOUND, M_LIMIT_EXCEEDED. */
    readonly begin: (request: SsoRequest) => Effect.Effect<SsoBegun, MatrixError>
    /** Handles a browser that returned from a provider; none if `begin` did not send it there. Errors: M_FORBIDDEN. */
    readonly comeBack: (back: SsoReturn) => Effect.Effect<Option.Option<SsoOutcome>, MatrixError>
    /** Creates the account of the returned identity. Errors: M_USER_IN_USE, M_INVALID_USERNAME, M_FORBIDDEN. */
    readonly register: (
      secret: string,
      name: string,
      browserSecret: string | undefined
    ) => Effect.Effect<SsoOutcome, MatrixError>
  }
>()("greenroom/actors/SsoLogins") {
  static readonly layer = Layer.effect(SsoLogins, make).pipe(Layer.provide(OAuth2Client.layer))
}
