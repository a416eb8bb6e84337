/**
 * The sessions of accounts: logging devices in, tokens, and the end of sessions. A token is a secret of 32 random bytes; only its
 * hash is stored. Sessions are cached in memory. A logout is answered once every node refuses the token (`SessionRevocations`).
 *
 * Source: "Registration and login" of the draft, "Refreshing access tokens" of the client-server specification.
 */
import { randomBytes } from "node:crypto"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, NotFound, UnknownToken, UserDeactivated } from "@greenroom/protocol/MatrixError"
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
  type Device,
  type LoginDevice,
  type RefreshedTokens
} from "../Credentials.ts"
import { LoginConfig } from "../login/LoginConfig.ts"
import { loginDefaults } from "../login/LoginOptions.ts"
import { SessionCache } from "../SessionCache.ts"

/** The capacity of the session cache. */
const maxCachedSessions = 50_000
/** How often the last use of tokens is stored. */
const usageInterval = "30 seconds"
/** How often expired tokens are deleted. */
const sweepInterval = "10 minutes"
const maxDeviceNameLength = 200
const tokenPrefix = "gr_"
const refreshPrefix = "grr_"
const loginTokenPrefix = "grl_"
const tokenBytes = 32
/** How long a login token is valid, in ms. */
const loginTokenTtl = 2 * 60_000
/** The most valid login tokens of a user. One more ends the oldest. */
const maxLoginTokens = 100
const refreshPattern = /^grr_([A-Za-z0-9_-]{43})\.[A-Za-z0-9_-]{43}$/
/** The names of cross-signing keys. */
const publicKeyPattern = /^[A-Za-z0-9+/]{43}$/
const tokenPattern = /^gr_[A-Za-z0-9_-]{43}$/

/** The device is still logged in: its client renews the token, or logs in again as itself. */
const softly = { soft_logout: true } as const

const newSecret = (prefix: string): string => prefix + randomBytes(tokenBytes).toString("base64url")

/** The error of a login on an account that is deactivated or waits for approval. */
const refusalOf = (account: Option.Option<Account>) =>
  Option.isSome(account) && account.value.deactivatedAt === undefined && account.value.awaitingApproval
    ? awaitingApproval
    : new UserDeactivated({ error: "The account was deactivated" })

export const makeAccountSessions = Effect.gen(function* () {
  const { limits, serverName } = yield* HomeServerConfig
  const { devices: deviceLimit } = { ...defaultLimits, ...limits }
  const loginOptions = yield* LoginConfig
  const store = yield* AccountStore
  const crossSigning = yield* CrossSigningStore
  const standings = yield* AccountStandings
  const bans = yield* Bans
  const cache = new SessionCache(maxCachedSessions)
  const revocations = yield* SessionRevocations
  yield* revocations.cache((tokenIds) => (tokenIds === undefined ? cache.clear() : cache.remove(tokenIds)))

  /** Returns when no node goes by what it remembers of these tokens, which are not in the database any more, or have changed there. */
  const refuseTokens = (tokenIds: ReadonlyArray<number>) =>
    Effect.suspend(() => {
      cache.remove(tokenIds)
      return tokenIds.length === 0 ? Effect.void : revocations.everywhere
    })

  const revokeAll = (userId: UserId) => Effect.flatMap(store.revokeAll(userId), refuseTokens)

  /** The next tokens of a login, and how long the access token lasts. */
  const newTokens = Effect.fnUntraced(function* (refresh: boolean, family = newSecret("")) {
    const ttl = refresh
      ? (loginOptions.refreshableTokenTtl ?? loginDefaults.refreshableTokenTtl)
      : loginOptions.tokenTtl
    const expiresAt = ttl === undefined ? undefined : (yield* Clock.currentTimeMillis) + ttl
    const token = newSecret(tokenPrefix)
    const refreshToken = newSecret(`${refreshPrefix}${family}.`)
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
      address: device.address
    })
    if (Option.isNone(created)) return yield* refusalOf(yield* store.find(userId))
    const { tokenId } = created.value
    // A ban is stored before it ends the sessions, so it either has ended this session too, or this check sees it.
    yield* Effect.tapError(bans.checkStored("user", userId), () =>
      Effect.andThen(store.revoke(userId, tokenId), refuseTokens([tokenId]))
    )
    if (created.value.replaced) yield* refuseTokens([tokenId])
    else for (const unused of yield* store.surplusDevices(userId, deviceLimit)) yield* logoutDevice(userId, unused)
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
    const family = refreshPattern.exec(refreshToken)?.[1]
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

  const createLoginToken = Effect.fn("Accounts.createLoginToken")(function* (userId: UserId) {
    const token = newSecret(loginTokenPrefix)
    const expiresAt = (yield* Clock.currentTimeMillis) + loginTokenTtl
    yield* store.createLoginToken(userId, Redacted.make(token), expiresAt, maxLoginTokens)
    return { login_token: token, expires_in_ms: loginTokenTtl }
  })

  const takeLoginToken = Effect.fn("Accounts.takeLoginToken")(function* (token: string) {
    const userId = yield* store.takeLoginToken(Redacted.make(token))
    return Option.isSome(userId)
      ? userId.value
      : yield* new Forbidden({ error: "The login token is unknown, was used, or has expired" })
  })

  const authenticate = (token: string, address?: string | undefined) =>
    Effect.clockWith((clock) => {
      const now = clock.currentTimeMillisUnsafe()
      const known = revocations.isTrusted() ? cache.get(token, now, address) : undefined
      return known === undefined ? findSession(token, now) : Effect.succeed(known)
    })

  const findSession = Effect.fnUntraced(function* (token: string, now: number) {
    const { revocations: before } = cache
    const found = tokenPattern.test(token) ? yield* store.findToken(Redacted.make(token)) : Option.none()
    if (Option.isNone(found)) {
      if (tokenPattern.test(token) && (yield* store.wasReplaced(Redacted.make(token)))) {
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

  const logout = Effect.fn("Accounts.logout")(function* (session: Session) {
    yield* store.revoke(session.userId, session.tokenId)
    yield* refuseTokens([session.tokenId])
  })

  const revokeSecret = Effect.fn("Accounts.revokeSecret")(function* (secret: string) {
    const ended = yield* store.revokeSecret(Redacted.make(secret))
    yield* refuseTokens(ended)
    return ended
  })

  const logoutAll = Effect.fn("Accounts.logoutAll")(function* (session: Session) {
    yield* revokeAll(session.userId)
  })

  const logoutOthers = Effect.fn("Accounts.logoutOthers")(function* (session: Session) {
    const ended = yield* store.revokeAll(session.userId, { except: session.tokenId })
    yield* refuseTokens(ended)
    return ended
  })

  const logoutDevices = Effect.fn("Accounts.logoutDevices")(function* (userId: UserId, deviceIds: Iterable<string>) {
    const wanted = new Set(deviceIds)
    const tokenIds = (yield* store.devices(userId)).flatMap((row) => (wanted.has(row.deviceId) ? [row.tokenId] : []))
    for (const tokenId of tokenIds) yield* store.revoke(userId, tokenId)
    yield* refuseTokens(tokenIds)
    return tokenIds
  })

  const logoutDevice = Effect.fn("Accounts.logoutDevice")(function* (userId: UserId, deviceId: string) {
    const tokenIds = yield* logoutDevices(userId, [deviceId])
    return tokenIds.length === 0 ? yield* new NotFound({ error: "There is no such device" }) : tokenIds
  })

  const renameDevice = Effect.fn("Accounts.renameDevice")(function* (
    userId: UserId,
    deviceId: string,
    name: string | undefined
  ) {
    const renamed = yield* store.renameDevice(userId, deviceId, name?.slice(0, maxDeviceNameLength))
    if (!renamed) return yield* new NotFound({ error: "There is no such device" })
  })

  /** Deactivates an account in the database; returns when every node refuses its tokens. */
  const endAccount = Effect.fnUntraced(function* (userId: UserId, erase: boolean) {
    cache.remove(yield* store.deactivate(userId, erase))
    // Application services may have sessions of the user too. Nodes hear of erased users by the log.
    yield* erase ? revocations.followedEverywhere : revocations.everywhere
  })

  const devicesOf = (userId: UserId) =>
    Effect.map(store.devices(userId), (rows) =>
      rows.map(
        ({ deviceId, lastSeenAddress, lastUsedAt, name }): Device => ({
          device_id: deviceId,
          last_seen_ts: lastUsedAt,
          ...(lastSeenAddress === undefined ? {} : { last_seen_ip: lastSeenAddress }),
          ...(name === undefined ? {} : { display_name: name })
        })
      )
    )

  return {
    authenticate,
    createLoginToken,
    endAccount,
    devices: (session: Session) => Effect.andThen(writeUsage, devicesOf(session.userId)),
    devicesOf,
    logout,
    logoutAll,
    logoutDevice,
    logoutDevices,
    logoutOthers,
    openSession,
    refresh,
    refuseTokens,
    renameDevice,
    revokeAll,
    revokeSecret,
    takeLoginToken
  }
})

export type AccountSessions = Effect.Success<typeof makeAccountSessions>
