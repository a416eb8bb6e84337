/**
 * The passwords of accounts: checking and changing them.
 *
 * Source: "Registration and login" of the specification.
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

export const makeAccountPasswords = Effect.fnUntraced(function* ({ logoutOthers, revokeAll }: AccountSessions) {
  const { serverName } = yield* HomeServerConfig
  const store = yield* AccountStore
  const passwords = yield* Passwords
  const throttle = yield* LoginThrottle
  const checkPassword = passwordCheck(yield* LoginConfig)

  const hashPassword = Effect.fn("Accounts.hashPassword")(function* (password: Redacted.Redacted) {
    yield* checkPassword(password)
    return Redacted.make(yield* passwords.hash(password))
  })

  /** True for the right password. A hash with an outdated cost is replaced. */
  const verify = Effect.fnUntraced(function* (userId: UserId | undefined, password: Redacted.Redacted) {
    const account = userId === undefined ? Option.none() : yield* store.find(userId)
    const hash = Option.isSome(account) ? account.value.passwordHash : undefined
    const text = Redacted.value(password)
    // In UTF-8 all lone surrogates become the same character, so such a password would match others.
    const isPossible = text.length <= maxPasswordLength && text.isWellFormed()
    const { correct, outdated } = yield* passwords.verify(
      isPossible ? password : Redacted.make(""),
      hash && Redacted.value(hash)
    )
    if (!correct || !isPossible || userId === undefined) return false
    if (outdated) yield* store.setPasswordHash(userId, Redacted.make(yield* passwords.hash(password)), hash)
    return true
  })

  const toUserId = (user: string): UserId | undefined => {
    const [, name = user, server = serverName] = /^@([^:]*):(.*)$/s.exec(user) ?? []
    const userId = formatUserId(lowerCaseLocalpart(name), server as ServerName)
    return isUserId(userId) && serverNameOf(userId) === serverName ? userId : undefined
  }

  const verifyPassword = Effect.fn("Accounts.verifyPassword")(function* (user: string, password: Redacted.Redacted) {
    const userId = toUserId(user)
    return (yield* verify(userId, password)) ? Option.fromNullishOr(userId) : Option.none()
  })

  const setPassword = Effect.fn("Accounts.setPassword")(function* (userId: UserId, password: Redacted.Redacted) {
    yield* store.setPasswordHash(userId, yield* hashPassword(password))
    yield* revokeAll(userId)
  })

  const changePassword = Effect.fn("Accounts.changePassword")(function* (
    session: Session,
    { address, newPassword, oldPassword }: PasswordChange
  ) {
    yield* checkPassword(newPassword, "new_password")
    const check = Effect.flatMap(verify(session.userId, oldPassword), (correct) =>
      correct ? Effect.void : Effect.fail(new Forbidden({ error: "The old password is wrong" }))
    )
    // Attempts with only the access token are throttled like logins.
    yield* throttle.attempt(session.userId, address, check)
    yield* store.setPasswordHash(session.userId, Redacted.make(yield* passwords.hash(newPassword)))
    return yield* logoutOthers(session)
  })

  const replacePassword = Effect.fn("Accounts.replacePassword")(function* (
    session: Session,
    password: Redacted.Redacted,
    options: { readonly logoutOthers: boolean }
  ) {
    yield* store.setPasswordHash(session.userId, yield* hashPassword(password))
    return options.logoutOthers ? yield* logoutOthers(session) : []
  })

  return { changePassword, checkPassword, hashPassword, replacePassword, setPassword, toUserId, verifyPassword }
})

export type AccountPasswords = Effect.Success<ReturnType<typeof makeAccountPasswords>>
