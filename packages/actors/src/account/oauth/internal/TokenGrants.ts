/**
 * The grants, which exchange a code, a device code or a refresh token for an access token and a refresh token. Each gives tokens once.
 *
 * Source: RFC 6749, 4.1.3 and 6; RFC 8628, 3.4 and 3.5.
 */
import { createHash } from "node:crypto"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { AccountStore } from "@greenroom/store/AccountStore"
import { LoginSessionStore } from "@greenroom/store/LoginSessionStore"
import { equalBytes } from "@greenroom/store/Secrets"
import { Clock, Effect, Option, Redacted } from "effect"
import { Accounts } from "../../Accounts.ts"
import type { Credentials, RefreshedTokens } from "../../Credentials.ts"
import { oauthError } from "../OAuthError.ts"
import type { OAuthClient, TokenAnswer } from "../OAuthRequests.ts"
import type { Authorisations, Progress } from "./Authorisations.ts"
import type { IdTokens } from "./IdTokens.ts"
import { type Params, required } from "./OAuthParameters.ts"
import { passwordFingerprint } from "./passwordFingerprint.ts"

/** Seconds between two polls of a device. */
export const pollInterval = 5
/** How many times a code may be tried. */
const maxTries = 5

const verifierPattern = /^[A-Za-z0-9._~-]{43,128}$/

const badCode = oauthError("invalid_grant", "the code is unknown, was used, or has expired")

const passwordChanged = oauthError("invalid_grant", "the password was changed after the user approved")

const isVerified = (verifier: string, challenge: string): boolean =>
  verifierPattern.test(verifier) &&
  equalBytes(createHash("sha256").update(verifier).digest(), Buffer.from(challenge, "base64url"))

export const makeTokenGrants = Effect.fnUntraced(function* ({ ofOAuth }: Authorisations, idTokens: IdTokens) {
  const accounts = yield* Accounts
  const store = yield* AccountStore
  const sessions = yield* LoginSessionStore

  const toAnswer = (tokens: Credentials | RefreshedTokens, scope: string): TokenAnswer => ({
    access_token: tokens.access_token,
    token_type: "Bearer",
    expires_in: Math.floor((tokens.expires_in_ms ?? 0) / 1_000),
    refresh_token: tokens.refresh_token ?? "",
    scope
  })

  const logIn = Effect.fnUntraced(function* (client: OAuthClient, progress: Progress, userId: UserId) {
    const { deviceId, openid, password, scope } = progress
    const passwordHash = Option.getOrUndefined(yield* store.find(userId))?.passwordHash
    if (passwordFingerprint(passwordHash) !== password) return yield* passwordChanged
    const credentials = yield* Effect.mapError(
      accounts.openSession(userId, {
        deviceId,
        deviceName: client.client_name,
        refresh: true,
        clientId: client.client_id,
        passwordHash
      }),
      ({ error }) => oauthError("access_denied", error)
    )
    const answer = toAnswer(credentials, scope)
    if (openid === undefined) return answer
    return { ...answer, id_token: yield* idTokens.issue(client.client_id, userId, openid.nonce) }
  })

  /** Ends the login of a code that is used twice: two parties have it. */
  const endReplayed = ({ deviceId, userId }: Progress) =>
    userId === undefined ? Effect.void : Effect.ignore(accounts.logoutDevice(userId, deviceId))

  const byCode = Effect.fnUntraced(function* (params: Params, client: OAuthClient) {
    const code = Redacted.make(yield* required(params, "code"))
    const session = Option.getOrUndefined(ofOAuth(yield* sessions.takeTry(code, maxTries)))
    if (session === undefined) return yield* badCode
    const { progress } = session
    const { challenge, codeUntil = 0, redirect, userId } = progress
    if (userId === undefined || redirect === undefined || challenge === undefined) return yield* badCode
    if (progress.clientId !== client.client_id) return yield* badCode
    if (progress.used) {
      yield* endReplayed(progress)
      return yield* badCode
    }
    if (codeUntil <= (yield* Clock.currentTimeMillis)) return yield* badCode
    if ((yield* required(params, "redirect_uri")) !== redirect.uri) {
      return yield* oauthError("invalid_grant", "redirect_uri: differs from that of the authorisation")
    }
    if (!isVerified(yield* required(params, "code_verifier"), challenge)) {
      return yield* oauthError("invalid_grant", "code_verifier: does not match the code_challenge")
    }
    if (!(yield* sessions.update(session, { progress: { ...progress, used: true } }))) return yield* badCode
    return yield* logIn(client, progress, userId)
  })

  const byDevice = Effect.fnUntraced(function* (params: Params, client: OAuthClient) {
    const secret = Redacted.make(yield* required(params, "device_code"))
    const session = Option.getOrUndefined(ofOAuth(yield* sessions.find(secret)))
    if (session === undefined || session.progress.redirect !== undefined) {
      return yield* oauthError("expired_token", "the device code is unknown, was used, or has expired")
    }
    const { progress } = session
    if (progress.clientId !== client.client_id)
      return yield* oauthError("invalid_grant", "device_code: belongs to another client")
    if (progress.userId !== undefined || progress.denied) {
      if (!(yield* sessions.end(session))) return yield* oauthError("expired_token", "the device code was used")
      return progress.userId === undefined
        ? yield* oauthError("access_denied", "the user has refused")
        : yield* logIn(client, progress, progress.userId)
    }
    const now = yield* Clock.currentTimeMillis
    const early = progress.polledAt !== undefined && now - progress.polledAt < (pollInterval - 1) * 1_000
    // If the user decides at the same time, the next poll gets the decision.
    if (!early) yield* sessions.update(session, { progress: { ...progress, polledAt: now } })
    return yield* early
      ? oauthError("slow_down", `poll at most every ${pollInterval} seconds`)
      : oauthError("authorization_pending", "the user has not decided yet")
  })

  const byRefreshToken = Effect.fnUntraced(function* (params: Params, client: OAuthClient) {
    const refreshToken = yield* required(params, "refresh_token")
    const tokens = yield* Effect.mapError(accounts.refresh(refreshToken, client.client_id), ({ error }) =>
      oauthError("invalid_grant", error)
    )
    return toAnswer(tokens, `urn:matrix:client:api:* urn:matrix:client:device:${tokens.device_id}`)
  })

  return { byCode, byDevice, byRefreshToken }
})
