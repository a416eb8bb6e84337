/**
 * The passwords of accounts: checking and changing them.
 *
 * Source: "Registration and login" of the draft.
 */
import {
  formatUserId,
  isUserId,
  lowerCaseLocalpart,
  type ServerName,
  serverNameOf,
  type UserId
} from "@greenroom/protocol/Identifiers"
import { Forbidden } from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { Effect, Option, Redacted } from "effect"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import type { Session } from "../../runtime/Session.ts"
import type { VerifiedUser } from "../Credentials.ts"
import { LoginConfig } from "../login/LoginConfig.ts"
import { LoginThrottle } from "../login/LoginThrottle.ts"
import { Passwords } from "../Passwords.ts"
import type { AccountSessions } from "./AccountSessions.ts"
import { maxPasswordLength, passwordCheck } from "./NewAccount.ts"

export interface PasswordChange {
  readonly oldPassword: Redacted.Redacted
  readonly newPassword: Redacted.Redacted
  /** The network address of the client. */
  readonly address: string
}

export const makeAccountPasswords = Effect.fnUntraced(function* ({ refuseTokens }: AccountSessions) {
  const { serverName } = yield* HomeServerConfig
  const store = yield* AccountStore
  const passwords = yield* Passwords
  const throttle = yield* LoginThrottle
  const checkPassword = passwordCheck(yield* LoginConfig)

  const hashPassword = Effect.fn("Accounts.hashPassword")(function* (password: Redacted.Redacted) {
    yield* checkPassword(password)
    return Redacted.make(yield* passwords.hash(password))
  })

  /** None for a wrong password. A hash with an outdated cost is replaced. */
  const verify = Effect.fnUntraced(function* (
    userId: UserId | undefined,
    password: Redacted.Redacted
  ): Effect.fn.Return<Option.Option<VerifiedUser>> {
    const account = userId === undefined ? Option.none() : yield* store.find(userId)
    const hash = Option.isSome(account) ? account.value.passwordHash : undefined
    const text = Redacted.value(password)
    // In UTF-8 all lone surrogates become the same character, so such a password would match others.
    const isPossible = text.length <= maxPasswordLength && text.isWellFormed()
    const { correct, outdated } = yield* passwords.verify(
      isPossible ? password : Redacted.make(""),
      hash && Redacted.value(hash)
    )
    if (!correct || !isPossible || userId === undefined || hash === undefined) return Option.none()
    if (!outdated) return Option.some({ userId, passwordHash: hash })
    const passwordHash = Redacted.make(yield* passwords.hash(password))
    const isReplaced = yield* store.setPasswordHash(userId, passwordHash, hash)
    // Another login may have replaced the hash, or the user the password.
    return isReplaced ? Option.some({ userId, passwordHash }) : yield* verify(userId, password)
  })

  const toUserId = (user: string): UserId | undefined => {
    const [, name = user, server = serverName] = /^@([^:]*):(.*)$/s.exec(user) ?? []
    const userId = formatUserId(lowerCaseLocalpart(name), server as ServerName)
    return isUserId(userId) && serverNameOf(userId) === serverName ? userId : undefined
  }

  const verifyPassword = Effect.fn("Accounts.verifyPassword")(function* (user: string, password: Redacted.Redacted) {
    return yield* verify(toUserId(user), password)
  })

  const setPassword = Effect.fn("Accounts.setPassword")(function* (userId: UserId, password: Redacted.Redacted) {
    yield* refuseTokens(yield* store.replacePassword(userId, yield* hashPassword(password)))
  })

  /** Returns the IDs of the ended tokens, when every node refuses them. */
  const replaceAndEndOthers = Effect.fnUntraced(function* (session: Session, hash: Redacted.Redacted) {
    const ended = yield* store.replacePassword(session.userId, hash, { except: session.tokenId })
    yield* refuseTokens(ended)
    return ended
  })

  const changePassword = Effect.fn("Accounts.changePassword")(function* (
    session: Session,
    { address, newPassword, oldPassword }: PasswordChange
  ) {
    yield* checkPassword(newPassword, "new_password")
    const check = Effect.flatMap(verify(session.userId, oldPassword), (verified) =>
      Option.isSome(verified) ? Effect.void : Effect.fail(new Forbidden({ error: "The old password is wrong" }))
    )
    // Attempts with only the access token are throttled like logins.
    yield* throttle.attempt(session.userId, address, check)
    return yield* replaceAndEndOthers(session, Redacted.make(yield* passwords.hash(newPassword)))
  })

  const replacePassword = Effect.fn("Accounts.replacePassword")(function* (
    session: Session,
    password: Redacted.Redacted,
    options: { readonly logoutOthers: boolean }
  ) {
    const hash = yield* hashPassword(password)
    if (options.logoutOthers) return yield* replaceAndEndOthers(session, hash)
    yield* store.setPasswordHash(session.userId, hash)
    return []
  })

  return { changePassword, checkPassword, hashPassword, replacePassword, setPassword, toUserId, verifyPassword }
})

export type AccountPasswords = Effect.Success<ReturnType<typeof makeAccountPasswords>>
