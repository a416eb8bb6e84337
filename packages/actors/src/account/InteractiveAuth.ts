/**
 * User-interactive authentication: the client repeats an operation that needs more than an access token, each time with one more
 * stage of a flow, until a flow is complete.
 *
 * The results of the stages are in `login_sessions`, under the hash of the session ID. A session belongs to one operation of one
 * user, is changed by compare and swap, and authorises one success: `finish` ends it.
 *
 * Source: "User-Interactive Authentication API" of the client-server specification.
 */
import { randomBytes } from "node:crypto"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Forbidden, LimitExceeded, type MatrixError } from "@greenroom/protocol/MatrixError"
import { type LoginSession, LoginSessionStore } from "@greenroom/store/LoginSessionStore"
import { Clock, Context, Data, Effect, Layer, Option, Redacted, Result } from "effect"
import { addressKey } from "../runtime/AddressKey.ts"
import type { Session } from "../runtime/Session.ts"
import {
  type AuthData,
  type InteractiveFlow,
  type InteractiveRequest,
  registering,
  type StageResults
} from "./InteractiveRequest.ts"
import { approvalStage, makeInteractiveFlows, termsStage } from "./internal/InteractiveFlows.ts"
import { makeInteractiveStages, otherUser } from "./internal/InteractiveStages.ts"
import { LoginConfig } from "./login/LoginConfig.ts"
import { loginDefaults } from "./login/LoginOptions.ts"
import { openParameters, sealParameters } from "./SealedParameters.ts"

/** A session as it is stored. */
interface Progress {
  /** The operation and its user, for which alone the session is valid. */
  readonly operation: string
  readonly userId?: UserId
  /** The parameters of the first request (`SealedParameters`). */
  readonly parameters?: string
  /** The account that the session created. */
  readonly registered?: UserId
  readonly completed: ReadonlyArray<string>
  /** The results of the completed stages. */
  readonly shown: StageResults
}

/** The operation needs another stage: the body of the 401 response that names it. */
export class InteractionRequired extends Data.TaggedError("InteractionRequired")<{
  readonly session: string
  readonly flows: ReadonlyArray<InteractiveFlow>
  readonly completed: ReadonlyArray<string>
  readonly params: JsonObject
  /** The error of the attempted stage. */
  readonly reason: MatrixError | undefined
}> {}

/** A registration that is in progress or complete. */
export interface BegunRegistration {
  /** The parameters of its first request. */
  readonly parameters: JsonObject
  /** The account that it created. A repeat of the last request, whose answer was lost, logs in on it again. */
  readonly registered: UserId | undefined
}

/** All stages of a flow are complete. */
export interface Authorised {
  /** The results of its stages. */
  readonly results: StageResults
  /** Ends the session. Errors: M_FORBIDDEN if another request ended it first. */
  readonly finish: Effect.Effect<void, MatrixError>
  /** `finish` of a registration: the session stays for repeats of the request. */
  readonly finishAs: (userId: UserId) => Effect.Effect<void, MatrixError>
}

const ended = new Forbidden({ error: "The session is unknown, or has expired: start again in your client" })

const overtaken = new Forbidden({ error: "auth: another request has changed this session" })

/** The error for the session of another operation. */
const otherOperation = new Forbidden({ error: "auth.session: the session belongs to another operation" })

const tooMany = new LimitExceeded({
  error: "Too many operations are in progress from your address, try again later",
  retry_after_ms: 60_000
})

const noParams: JsonObject = {}

const newSession = () => randomBytes(24).toString("base64url")

/** Whether the completed stages are the first ones of the flow. */
const beginsWith = (flow: InteractiveFlow, completed: ReadonlyArray<string>): boolean =>
  completed.every((stage, index) => flow[index] === stage)

const make = Effect.gen(function* () {
  const { maxSessionsPerAddress, sessionTtl } = { ...loginDefaults, ...(yield* LoginConfig) }
  const sessions = yield* LoginSessionStore
  const stages = yield* makeInteractiveStages
  const { flowsOf, keysResetFlowsOf, policies, registrationFlows, resetFlows } = yield* makeInteractiveFlows

  const findAny = Effect.fnUntraced(function* (secret: string) {
    const found: Option.Option<LoginSession<Progress>> = yield* sessions.find(Redacted.make(secret))
    return Option.filter(found, ({ purpose }) => purpose === "interactive")
  })

  const begin = Effect.fnUntraced(function* (request: InteractiveRequest, secret: string, progress: Progress) {
    const created = yield* sessions.create(
      {
        secret: Redacted.make(secret),
        purpose: "interactive",
        progress:
          request.keep === undefined ? progress : { ...progress, parameters: sealParameters(secret, request.keep) },
        address: addressKey(request.address),
        expiresAt: (yield* Clock.currentTimeMillis) + sessionTtl
      },
      maxSessionsPerAddress
    )
    if (!created) return yield* tooMany
  })

  const newProgress = ({ operation, session }: InteractiveRequest): Progress => ({
    operation,
    ...(session === undefined ? {} : { userId: session.userId }),
    completed: [],
    shown: {}
  })

  /** The session of a request. An unknown or expired session is replaced by a new one. Errors: M_FORBIDDEN for another operation. */
  const findSession = Effect.fnUntraced(function* (request: InteractiveRequest, secret: string) {
    const found = Option.getOrUndefined(yield* findAny(secret))
    if (found === undefined) return undefined
    const { operation, userId } = found.progress
    return operation === request.operation && userId === request.session?.userId ? found : yield* otherOperation
  })

  const paramsOf = ({ flows, params = noParams }: InteractiveRequest): JsonObject =>
    flows.some((flow) => flow.includes(termsStage)) ? { ...params, [termsStage]: { policies } } : params

  const required = (
    request: InteractiveRequest,
    session: string,
    progress: Progress,
    reason?: MatrixError
  ): InteractionRequired =>
    new InteractionRequired({
      session,
      flows: request.flows,
      completed: progress.completed,
      params: paramsOf(request),
      reason
    })

  /** If the user approves on another page, the client continues with the session alone. */
  const untypedStage = ({ flows }: InteractiveRequest, { session }: AuthData, { completed }: Progress) => {
    const isNext = flows.some((flow) => beginsWith(flow, completed) && flow[completed.length] === approvalStage)
    return isNext && session !== undefined ? approvalStage : undefined
  }

  /** Attempts a stage that may come next. A failure is the error of the attempt, except for `otherUser`. */
  const attempt = Effect.fnUntraced(function* (request: InteractiveRequest, auth: AuthData, progress: Progress) {
    const type = auth.type ?? untypedStage(request, auth, progress)
    if (typeof type !== "string") return progress
    if (progress.completed.includes(type)) return progress
    const mayCome = request.flows.some(
      (flow) => beginsWith(flow, progress.completed) && flow[progress.completed.length] === type
    )
    const stage = stages[type]
    if (!mayCome || stage === undefined) {
      return yield* new Forbidden({ error: `auth.type: ${JSON.stringify(type)} is not the next stage of a flow` })
    }
    const results = yield* stage({ request, auth, results: progress.shown })
    return { ...progress, completed: [...progress.completed, type], shown: results }
  })

  const isComplete = (request: InteractiveRequest, { completed }: Progress): boolean =>
    request.flows.some((flow) => flow.length === completed.length && beginsWith(flow, completed))

  const authorised = (progress: Progress, session?: LoginSession<Progress>): Authorised => {
    const ifFirst = (change: Effect.Effect<boolean>) =>
      Effect.flatMap(change, (isFirst) => (isFirst ? Effect.void : Effect.fail(overtaken)))
    return {
      results: progress.shown,
      finish: session === undefined ? Effect.void : ifFirst(sessions.end(session)),
      finishAs: (registered) =>
        session === undefined
          ? Effect.void
          : ifFirst(sessions.update(session, { progress: { ...session.progress, registered }, reached: true }))
    }
  }

  /** Handles a request without a session. Most clients begin without `auth`; some complete a flow of one stage at once. */
  const first = Effect.fnUntraced(function* (
    request: InteractiveRequest
  ): Effect.fn.Return<Authorised, MatrixError | InteractionRequired> {
    const progress = newProgress(request)
    const secret = newSession()
    const tried = yield* Effect.result(attempt(request, request.auth ?? {}, progress))
    if (Result.isFailure(tried) && tried.failure === otherUser) return yield* otherUser
    const now = Result.getOrElse(tried, () => progress)
    if (isComplete(request, now)) return authorised(now)
    yield* begin(request, secret, now)
    return yield* required(request, secret, now, Option.getOrUndefined(Result.getFailure(tried)))
  })

  const next = Effect.fnUntraced(function* (
    request: InteractiveRequest,
    auth: AuthData,
    secret: string,
    session: LoginSession<Progress>
  ): Effect.fn.Return<Authorised, MatrixError | InteractionRequired> {
    const tried = yield* Effect.result(attempt(request, auth, session.progress))
    if (Result.isFailure(tried) && tried.failure === otherUser) return yield* otherUser
    if (Result.isFailure(tried)) return yield* required(request, secret, session.progress, tried.failure)
    const progress = tried.success
    if (isComplete(request, progress)) return authorised(progress, session)
    if (progress !== session.progress && !(yield* sessions.update(session, { progress }))) return yield* overtaken
    return yield* required(request, secret, progress)
  })

  const authorise = Effect.fn("InteractiveAuth.authorise")(function* (
    request: InteractiveRequest
  ): Effect.fn.Return<Authorised, MatrixError | InteractionRequired> {
    const { auth } = request
    const secret = typeof auth?.session === "string" ? auth.session : undefined
    if (auth === undefined || secret === undefined) return yield* first(request)
    const session = yield* findSession(request, secret)
    return session === undefined
      ? yield* first({ ...request, auth: undefined })
      : yield* next(request, auth, secret, session)
  })

  const begunRegistration = Effect.fn("InteractiveAuth.begunRegistration")(function* (
    secret: string
  ): Effect.fn.Return<BegunRegistration> {
    const found = Option.getOrUndefined(yield* findAny(secret))
    if (found?.progress.operation !== registering) return { parameters: {}, registered: undefined }
    const { parameters, registered } = found.progress
    return { parameters: (parameters && openParameters(secret, parameters)) || {}, registered }
  })

  // Pages on which stages are completed.

  const addStage = Effect.fnUntraced(function* (session: LoginSession<Progress>, type: string, results: StageResults) {
    const { progress } = session
    if (progress.completed.includes(type)) return
    const next = { ...progress, completed: [...progress.completed, type], shown: results }
    if (!(yield* sessions.update(session, { progress: next }))) return yield* overtaken
  })

  const pass = Effect.fn("InteractiveAuth.pass")(function* (secret: string, type: string, userId: UserId) {
    const session = Option.getOrUndefined(yield* findAny(secret))
    if (session === undefined) return yield* ended
    if (session.progress.userId !== userId)
      return yield* new Forbidden({ error: "That account is linked to another user" })
    yield* addStage(session, type, session.progress.shown)
  })

  const passByForm = Effect.fn("InteractiveAuth.passByForm")(function* (
    secret: string,
    auth: AuthData & { readonly type: string },
    address: string
  ) {
    const session = Option.getOrUndefined(yield* findAny(secret))
    if (session === undefined) return yield* ended
    const { operation, shown, userId } = session.progress
    const stage = stages[auth.type]
    if (stage === undefined) return yield* new Forbidden({ error: `There is no stage ${auth.type}` })
    const request: InteractiveRequest = {
      operation,
      session: userId === undefined ? undefined : { userId, tokenId: 0, deviceId: "" },
      auth,
      address,
      flows: []
    }
    yield* addStage(session, auth.type, yield* stage({ request, auth, results: shown }))
  })

  return InteractiveAuth.of({
    authorise,
    begunRegistration,
    registrationFlows,
    resetFlows,
    flowsOf,
    isUnderWay: (secret) => Effect.map(findAny(secret), Option.isSome),
    pass,
    passByForm,
    keysResetFlowsOf
  })
})

/** User-interactive authentication of operations that need more than an access token. */
export class InteractiveAuth extends Context.Service<
  InteractiveAuth,
  {
    /** Succeeds once all stages of a flow are complete. Errors: InteractionRequired with the next stages; M_FORBIDDEN. */
    readonly authorise: (request: InteractiveRequest) => Effect.Effect<Authorised, MatrixError | InteractionRequired>
    /** The registration of a session. Without such a session it has no parameters. */
    readonly begunRegistration: (session: string) => Effect.Effect<BegunRegistration>
    /** Empty if registration is closed. */
    readonly registrationFlows: ReadonlyArray<InteractiveFlow>
    /** Proves the ownership of an account without a session, to set a new password. */
    readonly resetFlows: ReadonlyArray<InteractiveFlow>
    /**
     * The flows by which the user of a session authenticates again. Errors: M_FORBIDDEN if the client has logged in by the OAuth 2.0
     * API: then the page of the account does it.
     */
    readonly flowsOf: (session: Session) => Effect.Effect<ReadonlyArray<InteractiveFlow>, MatrixError>
    /** Whether there is such a session. */
    readonly isUnderWay: (session: string) => Effect.Effect<boolean>
    /** Records that this user completed a stage elsewhere. Errors: M_FORBIDDEN. */
    readonly pass: (session: string, type: string, userId: UserId) => Effect.Effect<void, MatrixError>
    /** Completes a stage by the form of a page. The client continues with the session ID only. Errors: those of the stage. */
    readonly passByForm: (
      session: string,
      auth: AuthData & { readonly type: string },
      address: string
    ) => Effect.Effect<void, MatrixError>
    /** `flowsOf` for a reset of cross-signing keys, which users of the OAuth 2.0 API approve on the page of the account. */
    readonly keysResetFlowsOf: (session: Session) => Effect.Effect<ReadonlyArray<InteractiveFlow>, MatrixError>
  }
>()("greenroom/actors/InteractiveAuth") {
  static readonly layer = Layer.effect(InteractiveAuth, make)
}
