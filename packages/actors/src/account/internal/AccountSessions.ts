/**
 * The sessions of accounts: logging devices in, and finding the session of a token. Only the hash of a token is stored. Sessions are
 * cached in memory. `SessionTokens` makes the tokens, `DeviceSessions` ends sessions.
 *
 * Source: "Registration and login" of the draft, "Refreshing access tokens" of the client-server specification.
 */
import { randomBytes } from "node:crypto"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, UnknownToken, UserDeactivated } from "@greenroom/protocol/MatrixError"
import { type Account, AccountStore } from "@greenroom/store/AccountStore"
import { CrossSigningStore } from "@greenroom/store/CrossSigningStore"
import { periodically } from "@greenroom/store/Supervision"
import { Clock, Effect, Option, Redacted } from "effect"
import { Bans } from "../../runtime/Bans.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { defaultLimits } from "../../runtime/Limits.ts"
import type { Session } from "../../runtime/Session.ts"
import { SessionRevocations } from "../../runtime/SessionRevocations.ts"
import { periodicallyOnce } from "../../runtime/Singletons.ts"
import { AccountStandings, lockedError } from "../AccountStandings.ts"
import {
  awaitingApproval,
  type Credentials,
  type LoginDevice,
  type RefreshedTokens,
  wrongCredentials
} from "../Credentials.ts"
import { SessionCache } from "../SessionCache.ts"
import { makeDeviceSessions, maxDeviceNameLength } from "./DeviceSessions.ts"
import { familyOf, isAccessToken, makeSessionTokens } from "./SessionTokens.ts"

/** The capacity of the session cache. */
const maxCachedSessions = 50_000
/** How often the last use of tokens is stored. */
const usageInterval = "30 seconds"
/** How often expired tokens are deleted. */
const sweepInterval = "10 minutes"
/** The names of cross-signing keys. */
const publicKeyPattern = /^[A-Za-z0-9+/]{43}$/

/** The device is still logged in: its client renews the token, or logs in again as itself. */
const softly = { soft_logout: true } as const

/** The error of a login on an account that is deactivated or waits for approval, or whose password was replaced meanwhile. */
const refusalOf = (account: Option.Option<Account>) => {
  if (Option.isNone(account) || account.value.deactivatedAt !== undefined) {
    return new UserDeactivated({ error: "The account was deactivated" })
  }
  return account.value.awaitingApproval ? awaitingApproval : wrongCredentials
}

export const makeAccountSessions = Effect.gen(function* () {
  const { limits, serverName } = yield* HomeServerConfig
  const { devices: deviceLimit } = { ...defaultLimits, ...limits }
  const store = yield* AccountStore
  const crossSigning = yield* CrossSigningStore
  const standings = yield* AccountStandings
  const bans = yield* Bans
  const cache = new SessionCache(maxCachedSessions)
  const revocations = yield* SessionRevocations
  yield* revocations.cache((tokenIds) => (tokenIds === undefined ? cache.clear() : cache.remove(tokenIds)))

  /** Removes tokens, which were deleted or changed in the database, from the caches of all nodes. Returns when all have done so. */
  const refuseTokens = (tokenIds: ReadonlyArray<number>) =>
    Effect.suspend(() => {
      cache.remove(tokenIds)
      return tokenIds.length === 0 ? Effect.void : revocations.everywhere
    })

  const { createLoginToken, newTokens, takeLoginToken } = yield* makeSessionTokens
  const devices = yield* makeDeviceSessions(refuseTokens)

  /** A device with the name of a cross-signing key of the user could be taken for the key. Errors: M_FORBIDDEN. */
  const mustNotNameKey = Effect.fnUntraced(function* (userId: UserId, deviceId: string) {
    if (!publicKeyPattern.test(deviceId)) return
    const keys = Object.values((yield* crossSigning.keys([userId])).get(userId) ?? {})
    if (keys.some((key) => Object.hasOwn(JSON.parse(key.keys).keys, `ed25519:${deviceId}`))) {
      return yield* new Forbidden({ error: "device_id: a cross-signing key of the user has this name" })
    }
  })

  const openSession = Effect.fnUntraced(function* (userId: UserId, device: LoginDevice = {}) {
    yield* bans.check("user", userId)
    if (standings.of(userId).locked) return yield* lockedError
    const { refresh = false } = device
    const { answer, expiresAt, refreshFamily, refreshToken, token } = yield* newTokens(refresh)
    // A device without a name could not be found by its path.
    const deviceId = device.deviceId || randomBytes(8).toString("base64url")
    yield* mustNotNameKey(userId, deviceId)
    const created = yield* store.createToken({
      userId,
      token,
      deviceId,
      deviceName: device.deviceName?.slice(0, maxDeviceNameLength),
      expiresAt,
      clientId: device.clientId,
      refreshToken: refresh ? refreshToken : undefined,
      refreshFamily: refresh ? refreshFamily : undefined,
      address: device.address,
      passwordHash: device.passwordHash
    })
    if (Option.isNone(created)) return yield* refusalOf(yield* store.find(userId))
    const { tokenId } = created.value
    // A ban is stored before it ends the sessions, so it either has ended this session too, or this check sees it.
    yield* Effect.tapError(bans.checkStored("user", userId), () =>
      Effect.andThen(store.revoke(userId, tokenId), refuseTokens([tokenId]))
    )
    if (created.value.replaced) yield* refuseTokens([tokenId])
    else
      for (const unused of yield* store.surplusDevices(userId, deviceLimit)) yield* devices.logoutDevice(userId, unused)
    return { user_id: userId, ...answer, home_server: serverName, device_id: deviceId } satisfies Credentials
  })

  /**
   * Ends a login of the OAuth 2.0 API if an earlier refresh token is used, because two parties have it. The present one stays valid
   * until one of the next tokens is used, so that a client which missed an answer can repeat its request.
   */
  const endReused = Effect.fnUntraced(function* (family: string | undefined, clientId: string | undefined) {
    if (family === undefined || clientId === undefined) return
    yield* refuseTokens(yield* store.revokeFamily(Redacted.make(family), clientId))
  })

  const refresh = Effect.fn("Accounts.refresh")(function* (refreshToken: string, clientId?: string) {
    const family = familyOf(refreshToken)
    const next = yield* newTokens(true, family)
    const found = yield* store.refresh(Redacted.make(refreshToken), next, clientId)
    if (Option.isNone(found)) {
      yield* endReused(family, clientId)
      return yield* new UnknownToken({
        error: "The refresh token is unknown, was used, or was logged out",
        ...(family !== undefined && (yield* store.hasRefreshFamily(Redacted.make(family))) ? softly : {})
      })
    }
    yield* bans.check("user", found.value.userId)
    if (standings.of(found.value.userId).locked) return yield* lockedError
    // If the tokens of the refresh before were never used, the present access token is theirs now.
    yield* refuseTokens([found.value.tokenId])
    return { ...next.answer, device_id: found.value.deviceId } as RefreshedTokens
  })

  const authenticate = (token: string, address?: string | undefined) =>
    Effect.clockWith((clock) => {
      const now = clock.currentTimeMillisUnsafe()
      const known = revocations.isTrusted() ? cache.get(token, now, address) : undefined
      return known === undefined ? findSession(token, now) : Effect.succeed(known)
    })

  const findSession = Effect.fnUntraced(function* (token: string, now: number) {
    const { revocations: before } = cache
    const found = isAccessToken(token) ? yield* store.findToken(Redacted.make(token)) : Option.none()
    if (Option.isNone(found)) {
      if (isAccessToken(token) && (yield* store.wasReplaced(Redacted.make(token)))) {
        return yield* new UnknownToken({ error: "The access token was replaced by a refresh", ...softly })
      }
      return yield* new UnknownToken({ error: "The access token is unknown, or was logged out" })
    }
    const { admin, clientId, deviceId, expiresAt, guest, replaces, since, tokenId, userId } = found.value
    if (expiresAt !== undefined && expiresAt <= now) {
      return yield* new UnknownToken({ error: "The access token has expired", ...softly })
    }
    const session: Session = {
      userId,
      tokenId,
      deviceId,
      since,
      ...(expiresAt === undefined ? {} : { expiresAt }),
      ...(clientId === undefined ? {} : { clientId }),
      ...(guest ? { guest } : {}),
      ...(admin ? { admin } : {})
    }
    cache.add(token, { session, expiresAt }, before)
    if (replaces) yield* revocations.everywhere
    return session
  })

  const writeUsage = Effect.gen(function* () {
    const used = cache.takeUsed()
    if (used.length === 0) return
    const now = yield* Clock.currentTimeMillis
    yield* store.touch(new Map(used.map(([tokenId, address]) => [tokenId, { at: now, address }])))
  })

  // Usage that could not be stored is stored the next time.
  yield* periodically("Writing when access tokens were last used", usageInterval, writeUsage)

  // Expired tokens are not looked up again, so nothing else would delete their rows.
  yield* periodicallyOnce(
    "Deleting expired access tokens",
    sweepInterval,
    Effect.map(store.removeExpired, (tokenIds) => cache.remove(tokenIds))
  )

  /** Deactivates an account in the database; returns when every node refuses its tokens. */
  const endAccount = Effect.fnUntraced(function* (userId: UserId, erase: boolean) {
    cache.remove(yield* store.deactivate(userId, erase))
    // Nodes hear of erased users by the log.
    yield* erase ? revocations.followedEverywhere : revocations.everywhere
  })

  return {
    ...devices,
    authenticate,
    createLoginToken,
    endAccount,
    devices: (session: Session) => Effect.andThen(writeUsage, devices.devicesOf(session.userId)),
    openSession,
    refresh,
    refuseTokens,
    takeLoginToken
  }
})

export type AccountSessions = Effect.Success<typeof makeAccountSessions>
