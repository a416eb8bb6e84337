/**
 * The session of a login in progress: finding it for a request, and storing what the request changed.
 */
import { Forbidden, LimitExceeded, type MatrixError } from "@greenroom/protocol/MatrixError"
import type { LoginSession, LoginSessionStore } from "@greenroom/store/LoginSessionStore"
import { Clock, Effect, Option, type Redacted } from "effect"
import { addressKey } from "../../runtime/AddressKey.ts"
import type { Session } from "../../runtime/Session.ts"
import type { Accounts } from "../Accounts.ts"
import { maxTries } from "./EmailStages.ts"
import { overtaken } from "./LoginCompletion.ts"
import type { LoginProgress, Outcome, Purpose, StageRequest } from "./LoginProgress.ts"

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

/** A stored session with its progress. */
export type Progressing = LoginSession<LoginProgress>

/** The error for a session that does not exist. */
export const expired = new Forbidden({ error: "The session is unknown, was used already, or has expired: start again" })
const tooMany = new LimitExceeded({
  error: "Too many logins are in progress from your address, try again later",
  retry_after_ms: 60_000
})

interface FlowSessionNeeds {
  readonly accounts: Accounts["Service"]
  readonly sessions: LoginSessionStore["Service"]
  /** In ms. */
  readonly sessionTtl: number
  readonly maxSessionsPerAddress: number
}

/** The sessions of logins that need several requests. */
export const makeFlowSessions = ({ accounts, maxSessionsPerAddress, sessions, sessionTtl }: FlowSessionNeeds) => {
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

  return { find: findSession, withUser, withDevice, store }
}
