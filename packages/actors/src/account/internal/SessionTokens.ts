/**
 * Access tokens, refresh tokens and login tokens: secrets of 32 random bytes with a prefix. Refresh tokens of one login begin alike, so
 * that an earlier one is recognised.
 *
 * Source: "Refreshing access tokens" and "Login" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, UnknownToken } from "@greenroom/protocol/MatrixError"
import { AccountStore, type LoginGrantor } from "@greenroom/store/AccountStore"
import { newSecret } from "@greenroom/store/Secrets"
import { Clock, Effect, Option, Redacted } from "effect"
import { LoginConfig } from "../login/LoginConfig.ts"
import { loginDefaults } from "../login/LoginOptions.ts"

const tokenPrefix = "gr_"
const refreshPrefix = "grr_"
const loginTokenPrefix = "grl_"
/** How long a login token is valid, in ms. */
const loginTokenTtl = 2 * 60_000
/** The most valid login tokens of a user. One more ends the oldest. */
const maxLoginTokens = 100
const tokenPattern = /^gr_[A-Za-z0-9_-]{43}$/
const refreshPattern = /^grr_([A-Za-z0-9_-]{43})\.[A-Za-z0-9_-]{43}$/

/** Whether a text has the form of an access token: others are not looked up. */
export const isAccessToken = (text: string): boolean => tokenPattern.test(text)

/** The part of a refresh token that those of its login have in common; undefined for other texts. */
export const familyOf = (refreshToken: string): string | undefined => refreshPattern.exec(refreshToken)?.[1]

export const makeSessionTokens = Effect.gen(function* () {
  const loginOptions = yield* LoginConfig
  const store = yield* AccountStore

  /** The next tokens of a login, and how long the access token lasts. */
  const newTokens = Effect.fnUntraced(function* (refresh: boolean, family = newSecret()) {
    const ttl = refresh
      ? (loginOptions.refreshableTokenTtl ?? loginDefaults.refreshableTokenTtl)
      : loginOptions.tokenTtl
    const expiresAt = ttl === undefined ? undefined : (yield* Clock.currentTimeMillis) + ttl
    const token = `${tokenPrefix}${newSecret()}`
    const refreshToken = `${refreshPrefix}${family}.${newSecret()}`
    const answer = {
      access_token: token,
      ...(refresh ? { refresh_token: refreshToken } : {}),
      ...(ttl === undefined ? {} : { expires_in_ms: ttl })
    }
    return {
      answer,
      token: Redacted.make(token),
      refreshToken: Redacted.make(refreshToken),
      refreshFamily: Redacted.make(family),
      expiresAt
    }
  })

  const createLoginToken = Effect.fn("Accounts.createLoginToken")(function* (userId: UserId, grantedBy?: LoginGrantor) {
    const token = `${loginTokenPrefix}${newSecret()}`
    const expiresAt = (yield* Clock.currentTimeMillis) + loginTokenTtl
    const created = yield* store.createLoginToken(
      { userId, token: Redacted.make(token), expiresAt, grantedBy },
      maxLoginTokens
    )
    if (!created) return yield* new UnknownToken({ error: "The login that asks for a login token has ended" })
    return { login_token: token, expires_in_ms: loginTokenTtl }
  })

  const takeLoginToken = Effect.fn("Accounts.takeLoginToken")(function* (token: string) {
    const login = yield* store.takeLoginToken(Redacted.make(token))
    return Option.isSome(login)
      ? login.value
      : yield* new Forbidden({ error: "The login token is unknown, was used, or has expired" })
  })

  return { newTokens, createLoginToken, takeLoginToken }
})
