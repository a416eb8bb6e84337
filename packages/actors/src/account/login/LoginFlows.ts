/**
 * Logins and registrations by the flows that the operator configured. A flow is a list of stages; passing all of them in order
 * gives credentials. Flows may have a common beginning: the passed stages determine which flows are still possible.
 *
 * Login sessions are in the database, under the hash of their secret. They expire, continue on any node, and are changed by
 * compare and swap, so that a stage is passed once and a session gives credentials once.
 *
 * A login with one stage and one request has no session.
 *
 * Source: "Registration and login" of the draft.
 */
import type { LoginAnswer, LoginFlows as LoginFlowsAnswer } from "@greenroom/protocol/api/LoginFlow"
import { BadJson, Forbidden, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { LoginSessionStore } from "@greenroom/store/LoginSessionStore"
import { RegistrationTokenStore } from "@greenroom/store/RegistrationTokenStore"
import { newSecret } from "@greenroom/store/Secrets"
import { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Context, Data, Effect, Layer, Redacted } from "effect"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { periodicallyOnce } from "../../runtime/Singletons.ts"
import { Accounts } from "../Accounts.ts"
import { PasswordCheck } from "../PasswordCheck.ts"
import { type EmailLink, makeEmailLinks } from "./EmailLinks.ts"
import { makeEmailStages } from "./EmailStages.ts"
import { type FlowRequest, makeFlowSessions } from "./FlowSessions.ts"
import { FlowTable } from "./FlowTable.ts"
import { makeCompletion } from "./LoginCompletion.ts"
import { LoginConfig } from "./LoginConfig.ts"
import { checkLoginOptions, type LoginOptions, loginDefaults, type StageType } from "./LoginOptions.ts"
import type { LoginProgress, Outcome, Purpose, StageRequest } from "./LoginProgress.ts"
import { LoginThrottle } from "./LoginThrottle.ts"
import { Mailer } from "./Mailer.ts"
import { OAuth2Client } from "./OAuth2Client.ts"
import { makeOAuth2Returns, type OAuth2Callback, type OAuth2Return, type ServiceSelection } from "./OAuth2Returns.ts"
import { makeOAuth2Stage } from "./OAuth2Stage.ts"
import { makePasswordStage } from "./PasswordStage.ts"
import { makeRegistrationTokenStage } from "./RegistrationTokenStage.ts"

export type { EmailLink } from "./EmailLinks.ts"
export type { FlowRequest } from "./FlowSessions.ts"
export type { OAuth2Callback, OAuth2Return, ServiceSelection } from "./OAuth2Returns.ts"

/** The configured flows are invalid. */
export class LoginFlowsError extends Data.TaggedError("LoginFlowsError")<{ readonly message: string }> {}

/** The answer to one request of a flow: credentials, or what comes next. */
export interface FlowAnswer {
  readonly answer: LoginAnswer
  /** A secret that the browser keeps until it returns from a provider. */
  readonly browserSecret?: string
}

const sweepInterval = "10 minutes"

const closed = new Forbidden({ error: "Registration is closed on this server" })
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

  const current = makeFlowSessions({ accounts, maxSessionsPerAddress, sessions, sessionTtl })
  const links = makeEmailLinks(sessions)
  const email = makeEmailStages({ identities, mailer, throttle, serverName, sessionTtl })
  const oauth2 = makeOAuth2Stage(oauth2Client, identities)
  const returns = makeOAuth2Returns({ client: oauth2Client, finish, sessions, stage: oauth2, table })

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
      yield* current.store(request, stage, outcome)
      if (outcome.afterwards !== undefined) yield* outcome.afterwards
      return waiting(stage.type, stage.secret, outcome)
    }
    const passed = [...stage.progress.passed, stage.type]
    const progress = { ...outcome.progress, passed }
    if (table.isComplete(request.purpose, passed)) {
      return { answer: yield* finish(request.purpose, stage.session, progress) } satisfies FlowAnswer
    }
    yield* current.store(request, stage, { passed: true, progress })
    const next = table.next(request.purpose, passed)
    return { answer: { session: Redacted.value(stage.secret), ...(next === undefined ? {} : { next }) } }
  })

  const post = Effect.fn("LoginFlows.post")(function* (
    request: FlowRequest
  ): Effect.fn.Return<FlowAnswer, MatrixError> {
    const { body, purpose } = request
    if (table.isClosed(purpose)) return yield* purpose === "registration" ? closed : notHere
    const given = typeof body.session === "string" ? Redacted.make(body.session) : undefined
    const session = given === undefined ? undefined : yield* current.find(request, given)
    const begun: LoginProgress = session?.progress ?? {
      passed: [],
      ...(request.session === undefined ? {} : { userId: request.session.userId })
    }
    if (body.type === undefined && session !== undefined) return yield* new BadJson({ error: "type: missing key" })
    const wanted = typeof body.type === "string" ? body.type : "m.login.password"
    const type = yield* table.check(purpose, begun.passed, wanted)
    const progress = current.withDevice(yield* current.withUser(begun, request), request)
    const { address, publicUrl } = request
    const secret = given ?? Redacted.make(newSecret())
    const stage: StageRequest = { purpose, type, progress, secret, session, body, address, publicUrl }
    return yield* settle(request, stage, yield* stages[type](stage))
  })

  const notHere = new NotFound({
    error: "This server has no mail server and no OAuth2 provider, so nothing can be added to an account"
  })

  yield* periodicallyOnce("Deleting expired login sessions", sweepInterval, sessions.removeExpired)

  const getFlows = (purpose: Purpose) =>
    purpose === "registration" && table.isClosed(purpose) ? Effect.fail(closed) : Effect.succeed(table.answer(purpose))

  return LoginFlows.of({
    flows: getFlows,
    post,
    emailLink: links.describe,
    confirmEmail: links.confirm,
    ...returns
  })
})

/** Logins and registrations by the configured flows of stages. */
export class LoginFlows extends Context.Service<
  LoginFlows,
  {
    /** All valid flows. Errors: M_FORBIDDEN if registration is closed. */
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
