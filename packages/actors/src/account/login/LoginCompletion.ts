/**
 * The end of a flow: the session ends, once, and the results of its stages become an account, an access token, or a login method of
 * the account.
 *
 * Source: "Registration and login" of the draft.
 */
import type { LoginAnswer } from "@greenroom/protocol/api/LoginFlow"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, type MatrixError } from "@greenroom/protocol/MatrixError"
import { type LoginSession, LoginSessionStore } from "@greenroom/store/LoginSessionStore"
import { RegistrationTokenStore } from "@greenroom/store/RegistrationTokenStore"
import { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Effect, identity, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { Accounts } from "../Accounts.ts"
import { LoginConfig } from "./LoginConfig.ts"
import type { LoginProgress, Purpose } from "./LoginProgress.ts"

/** The error of a request that lost the compare and swap of its session. */
export const overtaken = new Forbidden({ error: "Another request has changed this session" })

/** The results of a registration's stages. */
export type ShownByRegistration = Partial<
  Record<"wanted" | "guest", UserId | undefined> &
    Record<"phoneNumber", string> &
    Pick<LoginProgress, "passwordHash" | "email" | "subject" | "registrationToken">
>

interface MadeAccount {
  readonly userId: UserId
  /** To be run after the transaction. */
  readonly committed: Effect.Effect<void>
}

interface AccountOptions {
  /** If it is true, the localpart becomes the display name. */
  readonly isNamed?: boolean
  /** Adds to the transaction that makes the account. */
  readonly within?: (account: Effect.Effect<MadeAccount, MatrixError>) => Effect.Effect<MadeAccount, MatrixError>
}

/** Creates an account from the results of stages. Errors: M_FORBIDDEN, M_USER_IN_USE. */
export const makeAccountCreation = Effect.gen(function* () {
  const accounts = yield* Accounts
  const identities = yield* UserIdentityStore
  const tokens = yield* RegistrationTokenStore
  const { registrationApproval = false } = yield* LoginConfig
  const sql = yield* SqlClient.SqlClient

  /** Stores the results of the stages of a registration or a link for the user. */
  const bind = Effect.fnUntraced(function* (userId: UserId, shown: ShownByRegistration) {
    if (shown.email !== undefined) {
      const bound = yield* identities.bindAddress(userId, { medium: "email", address: shown.email })
      if (!bound) return yield* new Forbidden({ error: "The email address belongs to another user" })
    }
    if (shown.phoneNumber !== undefined) {
      const bound = yield* identities.bindAddress(userId, { medium: "msisdn", address: shown.phoneNumber })
      if (!bound) return yield* new Forbidden({ error: "The phone number belongs to another user" })
    }
    if (shown.subject !== undefined && !(yield* identities.linkSubject(userId, shown.subject))) {
      return yield* new Forbidden({ error: "That account is linked to another user" })
    }
  })

  const makeAccount = Effect.fnUntraced(function* (
    shown: ShownByRegistration,
    isNamed: boolean
  ): Effect.fn.Return<MadeAccount, MatrixError> {
    if (shown.registrationToken !== undefined) {
      const used = yield* tokens.use(Buffer.from(shown.registrationToken, "base64"))
      if (!used) return yield* new Forbidden({ error: "The registration token was used up, or has expired" })
    }
    const passwordHash = shown.passwordHash === undefined ? undefined : Redacted.make(shown.passwordHash)
    const options = { passwordHash, awaitingApproval: registrationApproval }
    const userId = shown.guest ?? (yield* accounts.create({ userId: shown.wanted, isNamed, ...options }))
    const committed = shown.guest === undefined ? Effect.void : yield* accounts.upgradeGuest(shown.guest, options)
    yield* bind(userId, shown)
    return { userId, committed }
  })

  /** Runs in one transaction, so that a registration that fails at the end can be tried again. */
  const together = <A>(effect: Effect.Effect<A, MatrixError>): Effect.Effect<A, MatrixError> =>
    Effect.catchTag(sql.withTransaction(effect), "SqlError", (error) => Effect.die(error))

  const createAccount = (
    shown: ShownByRegistration,
    { isNamed = false, within = identity }: AccountOptions = {}
  ): Effect.Effect<UserId, MatrixError> =>
    Effect.flatMap(together(within(makeAccount(shown, isNamed))), ({ committed, userId }) =>
      Effect.as(committed, userId)
    )

  return { bind, createAccount, together }
})

/** Turns the result of a flow into a login, an account, or a part of an account. */
export const makeCompletion = Effect.gen(function* () {
  const accounts = yield* Accounts
  const sessions = yield* LoginSessionStore
  const { bind, createAccount, together } = yield* makeAccountCreation

  const endSession = (session: LoginSession<LoginProgress> | undefined) =>
    session === undefined
      ? Effect.void
      : Effect.flatMap(sessions.end(session), (ended) => (ended ? Effect.void : Effect.fail(overtaken)))

  /** Errors: M_FORBIDDEN, also if another request ended the session before; M_USER_IN_USE. */
  return Effect.fn("LoginFlows.finish")(function* (
    purpose: Purpose,
    session: LoginSession<LoginProgress> | undefined,
    progress: LoginProgress
  ): Effect.fn.Return<LoginAnswer, MatrixError> {
    if (purpose === "registration") {
      const within = (account: Effect.Effect<MadeAccount, MatrixError>) => Effect.andThen(endSession(session), account)
      const userId = yield* createAccount(progress, { within })
      return yield* accounts.openSession(userId, { deviceName: progress.deviceName })
    }
    const { userId } = progress
    if (userId === undefined)
      return yield* Effect.die(new Error("A login finished without a stage that proves its user"))
    if (purpose === "link") {
      yield* together(Effect.andThen(endSession(session), bind(userId, progress)))
      return {}
    }
    yield* endSession(session)
    const { deviceName, passwordHash } = progress
    const verified = passwordHash === undefined ? {} : { passwordHash: Redacted.make(passwordHash) }
    return yield* accounts.openSession(userId, { deviceName, ...verified })
  })
})
