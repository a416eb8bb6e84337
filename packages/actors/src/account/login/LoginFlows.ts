/**
 * Logins and registrations by the flows that the operator configured. A flow is a list of stages; passing all of them in order
 * gives credentials. Flows may have a common beginning: the passed stages determine which flows are still possible.
 *
 * Login sessions are in the database, under the hash of their secret. They expire, continue on any node, and are changed by
 * compare and swap, so that a stage is passed once and a session gives credentials once.
 *
 * A login with one stage and one request has no session.
 *
 * Source: "Registration and login" of the specification.
 */
import { randomBytes } from "node:crypto"
import type { LoginAnswer, LoginFlows as LoginFlowsAnswer } from "@greenroom/protocol/api/LoginFlow"
import { redactAddress } from "@greenroom/protocol/identity/ThirdPartyId"
import { BadJson, Forbidden, LimitExceeded, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { type LoginSession, LoginSessionStore } from "@greenroom/store/LoginSessionStore"
import { RegistrationTokenStore } from "@greenroom/store/RegistrationTokenStore"
import { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Clock, Context, Data, Effect, Layer, Option, Redacted } from "effect"
import { addressKey } from "../../runtime/AddressKey.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import type { Session } from "../../runtime/Session.ts"
import { periodicallyOnce } from "../../runtime/Singletons.ts"
import { Accounts } from "../Accounts.ts"
import { PasswordCheck } from "../PasswordCheck.ts"
import { makeEmailStages, maxTries } from "./EmailStages.ts"
import { FlowTable } from "./FlowTable.ts"
import { makeCompletion, overtaken } from "./LoginCompletion.ts"
import { LoginConfig } from "./LoginConfig.ts"
import { checkLoginOptions, type LoginOptions, loginDefaults, type StageType } from "./LoginOptions.ts"
import type { LoginProgress, Outcome, Purpose, StageRequest } from "./LoginProgress.ts"
import { LoginThrottle } from "./LoginThrottle.ts"
import { Mailer } from "./Mailer.ts"
import { OAuth2Client } from "./OAuth2Client.ts"
import { hashOfBrowserSecret, makeOAuth2Stage } from "./OAuth2Stage.ts"
import { makePasswordStage } from "./PasswordStage.ts"
import { makeRegistrationTokenStage } from "./RegistrationTokenStage.ts"

/** The configured flows are invalid. */
export class LoginFlowsError extends Data.TaggedError("LoginFlowsError")<{ readonly message: string }> {}

/** One request of a login. */
export interface FlowRequest {
  readonly purpose: Purpose
  /** The stage. Without a type: the earliest form of a registration. */
  readonly body: { readonly [key: string]: unknown }
  /** The network address of the client. */
  readonly address: string
  /** The URL of this server, without a slash at the end. */
  readonly publicUrl: string
  /** The user who adds to their account, for `link`. */
  readonly session?: Session
}

export interface FlowAnswer {
  readonly answer: LoginAnswer
  /** A secret that the browser keeps until it returns from a provider. */
  readonly browserSecret?: string
}

/** The subject of a link in a mail, for the page that confirms it. */
export interface EmailLink {
  readonly purpose: Purpose
  /** Mostly masked. */
  readonly email: string
  /** The network address from which the login was begun. */
  readonly address: string
  readonly confirmed: boolean
}

/** The choices on the page of services. */
export interface ServiceSelection {
  readonly purpose: Purpose
  readonly providers: ReadonlyArray<{ readonly id: string; readonly name: string }>
}

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

const sweepInterval = "10 minutes"

const expired = new Forbidden({ error: "The session is unknown, was used already, or has expired: start again" })
const closed = new Forbidden({ error: "Registration is closed on this server" })
const tooMany = new LimitExceeded({
  error: "Too many logins are in progress from your address, try again later",
  retry_after_ms: 60_000
})

const newSecret = () => Redacted.make(randomBytes(32).toString("base64url"))

type Progressing = LoginSession<LoginProgress>

const make = Effect.gen(function* () {
  const { enableRegistration = true, serverName } = yield* HomeServerConfig
  const login = yield* LoginConfig
  const options: LoginOptions = enableRegistration ? login : { ...login, registration: "closed" }
  const wrong = checkLoginOptions(options)
  if (wrong !== undefined) return yield* new LoginFlowsError({ message: wrong })
  const { maxSessionsPerAddress, sessionTtl } = { ...loginDefaults, ...options }
  const accounts = yield* Accounts
  const sessions = yield* LoginSessionStore
  const identities = yield* UserIdentityStore
  const tokens = yield* RegistrationTokenStore
  const throttle = yield* LoginThrottle
  const mailer = yield* Mailer
  const oauth2Client = yield* OAuth2Client
  const finish = yield* makeCompletion

  const table = new FlowTable(options)

  const email = makeEmailStages({ identities, mailer, throttle, serverName, sessionTtl })
  const oauth2 = makeOAuth2Stage(oauth2Client, identities)

  const returnedSubject = ({ pending }: LoginProgress) =>
    pending?.type === "m.login.oauth2" ? pending.returned : undefined

  /** The second request of a link: the user confirms that the returned identity is theirs. */
  const oauth2Stage = (request: StageRequest): Effect.Effect<Outcome, MatrixError> => {
    const subject = returnedSubject(request.progress)
    return subject === undefined
      ? oauth2.begin(request)
      : Effect.map(oauth2.finish(request.purpose, request.progress, subject), (progress) => ({
          passed: true,
          progress
        }))
  }

  const stages: { readonly [type in StageType]: (request: StageRequest) => Effect.Effect<Outcome, MatrixError> } = {
    "m.login.password": makePasswordStage(accounts, yield* PasswordCheck),
    "m.login.registration_token": makeRegistrationTokenStage(tokens, throttle),
    "m.login.email.code": email.code,
    "m.login.email.url": email.url,
    "m.login.oauth2": oauth2Stage
  }

  // --- The session of a request -----------------------------------------------------------------------------------------

  /** Finds the session. A code is a guess, which is counted before the session is read. */
  const findSession = Effect.fnUntraced(function* (request: FlowRequest, secret: Redacted.Redacted) {
    const guesses = typeof request.body.code === "string"
    const found: Option.Option<Progressing> = guesses
      ? yield* sessions.takeTry(secret, maxTries)
      : yield* sessions.find(secret)
    if (Option.isNone(found) || found.value.purpose !== request.purpose) return yield* expired
    const { session } = request
    if (session !== undefined && found.value.progress.userId !== session.userId) return yield* expired
    return found.value
  })

  /** Stores the user that the request names. The first name wins. */
  const withUser = Effect.fnUntraced(function* (
    progress: LoginProgress,
    { body, purpose }: FlowRequest
  ): Effect.fn.Return<LoginProgress, MatrixError> {
    const user = body.user ?? body.user_id
    if (typeof user !== "string" || purpose === "link") return progress
    if (purpose === "registration") {
      if (progress.wanted !== undefined && accounts.toUserId(user) === progress.wanted) return progress
      if (progress.wanted !== undefined) {
        return yield* new Forbidden({ error: `user: the session registers ${progress.wanted}` })
      }
      return { ...progress, wanted: yield* accounts.chooseUserId(user) }
    }
    const named: LoginProgress["named"] & string = accounts.toUserId(user) ?? ""
    if (progress.named !== undefined && progress.named !== named) {
      return yield* new Forbidden({ error: "user: the session belongs to another user" })
    }
    return { ...progress, named }
  })

  const withDevice = (progress: LoginProgress, { body }: FlowRequest): LoginProgress =>
    typeof body.device_name === "string" ? { ...progress, deviceName: body.device_name } : progress

  /** Stores the progress. Errors: M_FORBIDDEN if another request has changed the session. */
  const store = Effect.fnUntraced(function* (request: FlowRequest, stage: StageRequest, outcome: Outcome) {
    const { progress } = outcome
    const change = outcome.passed ? { freshTries: true } : outcome
    if (stage.session !== undefined) {
      const { freshTries = false, link, state } = { link: undefined, state: undefined, ...change }
      const stored = yield* sessions.update(stage.session, { progress, link, state, freshTries })
      return stored ? undefined : yield* overtaken
    }
    const { link, state } = { link: undefined, state: undefined, ...change }
    const created = yield* sessions.create(
      {
        secret: stage.secret,
        purpose: request.purpose,
        progress,
        address: addressKey(request.address),
        expiresAt: (yield* Clock.currentTimeMillis) + sessionTtl,
        link,
        state
      },
      maxSessionsPerAddress
    )
    if (!created) return yield* tooMany
  })

  // --- Requests -----------------------------------------------------------------------------------------------------------

  const waiting = (type: StageType, secret: Redacted.Redacted, outcome: Outcome & { passed: false }): FlowAnswer => ({
    answer: {
      type,
      session: Redacted.value(secret),
      ...(outcome.uri === undefined ? {} : { uri: outcome.uri })
    },
    ...(outcome.browserSecret === undefined ? {} : { browserSecret: outcome.browserSecret })
  })

  /** Continues after a stage: with the next one, or with the end. */
  const settle = Effect.fnUntraced(function* (request: FlowRequest, stage: StageRequest, outcome: Outcome) {
    if (!outcome.passed) {
      yield* store(request, stage, outcome)
      if (outcome.afterwards !== undefined) yield* outcome.afterwards
      return waiting(stage.type, stage.secret, outcome)
    }
    const passed = [...stage.progress.passed, stage.type]
    const progress = { ...outcome.progress, passed }
    if (table.isComplete(request.purpose, passed)) {
      return { answer: yield* finish(request.purpose, stage.session, progress) } satisfies FlowAnswer
    }
    yield* store(request, stage, { passed: true, progress })
    const next = table.next(request.purpose, passed)
    return { answer: { session: Redacted.value(stage.secret), ...(next === undefined ? {} : { next }) } }
  })

  const post = Effect.fn("LoginFlows.post")(function* (
    request: FlowRequest
  ): Effect.fn.Return<FlowAnswer, MatrixError> {
    const { body, purpose } = request
    if (table.isClosed(purpose)) return yield* purpose === "registration" ? closed : notHere
    const given = typeof body.session === "string" ? Redacted.make(body.session) : undefined
    const session = given === undefined ? undefined : yield* findSession(request, given)
    const begun: LoginProgress = session?.progress ?? {
      passed: [],
      ...(request.session === undefined ? {} : { userId: request.session.userId })
    }
    if (body.type === undefined && session !== undefined) return yield* new BadJson({ error: "type: missing key" })
    const wanted = typeof body.type === "string" ? body.type : "m.login.password"
    const type = yield* table.check(purpose, begun.passed, wanted)
    const progress = withDevice(yield* withUser(begun, request), request)
    const { address, publicUrl } = request
    const secret = given ?? newSecret()
    const stage: StageRequest = { purpose, type, progress, secret, session, body, address, publicUrl }
    return yield* settle(request, stage, yield* stages[type](stage))
  })

  const notHere = new NotFound({
    error: "This server has no mail server and no OAuth2 provider, so nothing can be added to an account"
  })

  // --- Links in mails -----------------------------------------------------------------------------------------------------

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

  const expiredLink = new NotFound({ error: "The link is unknown, was used already, or has expired" })

  const confirmEmail = Effect.fn("LoginFlows.confirmEmail")(function* (link: string) {
    const found = yield* findEmailLink(link)
    const pending = { ...found.pending, confirmed: true }
    const stored = yield* sessions.update(found.session, { progress: { ...found.session.progress, pending } })
    if (!stored) return yield* overtaken
    return { ...describeLink(found), confirmed: true }
  })

  // --- OAuth2 -------------------------------------------------------------------------------------------------------------

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
    const { progress, state, uri } = yield* oauth2.authorize(session.progress, provider, publicUrl)
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
    const subject = yield* oauth2Client.exchange({ provider, state, verifier, nonce, publicUrl, query })
    const secret = newSecret()
    const answer = { type: "m.login.oauth2", session: Redacted.value(secret) }
    if (purpose === "link") {
      const progress = { ...session.progress, pending: { type: "m.login.oauth2", returned: subject } }
      return (yield* sessions.update(session, { progress, secret })) ? answer : yield* overtaken
    }
    const done: ReadonlyArray<StageType> = [...passed, "m.login.oauth2"]
    const progress = { ...(yield* oauth2.finish(purpose, session.progress, subject)), passed: done }
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

  const foreignState = new Forbidden({
    error: "The login was not started here, or has ended already: start again"
  })

  yield* periodicallyOnce("Deleting expired login sessions", sweepInterval, sessions.removeExpired)

  const getFlows = (purpose: Purpose) =>
    purpose === "registration" && table.isClosed(purpose) ? Effect.fail(closed) : Effect.succeed(table.answer(purpose))

  return LoginFlows.of({
    flows: getFlows,
    post,
    emailLink: (link) => Effect.map(findEmailLink(link), describeLink),
    confirmEmail,
    services: (ticket) =>
      Effect.map(findSelection(ticket), ({ purpose }) => ({
        purpose: purpose as Purpose,
        providers: oauth2Client.providers
      })),
    selectService,
    callback
  })
})

export class LoginFlows extends Context.Service<
  LoginFlows,
  {
    /** All valid flows. Errors: M_FORBIDDEN where registration is closed. */
    readonly flows: (purpose: Purpose) => Effect.Effect<LoginFlowsAnswer, MatrixError>
    /**
     * One request of a login, a registration or a link. Answers with credentials, the next stage, or what the stage waits
     * for. Errors: M_FORBIDDEN, M_LIMIT_EXCEEDED, M_LOGIN_EMAIL_URL_NOT_YET, M_USER_IN_USE, M_INVALID_USERNAME,
     * M_BAD_JSON, M_UNKNOWN.
     */
    readonly post: (request: FlowRequest) => Effect.Effect<FlowAnswer, MatrixError>
    /** The subject of a link in a mail. Reading it confirms nothing. Errors: M_NOT_FOUND. */
    readonly emailLink: (link: string) => Effect.Effect<EmailLink, MatrixError>
    /** Confirms the address of a link, which the user has opened. Errors: M_NOT_FOUND. */
    readonly confirmEmail: (link: string) => Effect.Effect<EmailLink, MatrixError>
    /** The choices on the page of services. Errors: M_NOT_FOUND. */
    readonly services: (ticket: string) => Effect.Effect<ServiceSelection, MatrixError>
    /** The Authorization Request URI of the selected service. */
    readonly selectService: (ticket: string, provider: string, publicUrl: string) => Effect.Effect<string, MatrixError>
    /** Handles the return of a user from a provider. */
    readonly callback: (request: OAuth2Callback) => Effect.Effect<OAuth2Return>
  }
>()("greenroom/actors/LoginFlows") {
  static readonly layer = Layer.effect(LoginFlows, make).pipe(
    Layer.provide([Mailer.layer, OAuth2Client.layer, PasswordCheck.layer])
  )
}
