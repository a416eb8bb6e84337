/**
 * Accounts: registration, login, tokens. A token is a secret of 32 random bytes; only its hash is stored.
 *
 * Sessions are cached in memory. A logout is answered when every node refuses the token (`SessionRevocations`).
 *
 * Source: "Registration and login" of the specification.
 */
import { randomBytes } from "node:crypto"
import {
  formatUserId,
  isUserId,
  localpartOf,
  lowerCaseLocalpart,
  type ServerName,
  serverNameOf,
  type UserId
} from "@greenroom/protocol/Identifiers"
import {
  Forbidden,
  GuestAccessForbidden,
  InvalidUsername,
  type MatrixError,
  NotFound,
  UnknownToken,
  UserAwaitingApproval,
  UserDeactivated,
  UserInUse
} from "@greenroom/protocol/MatrixError"
import { type Account, AccountStore, type NewAccountOptions } from "@greenroom/store/AccountStore"
import { NoticeStore } from "@greenroom/store/NoticeStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Clock, Context, Effect, Layer, Option, Redacted } from "effect"
import { type AppService, AppServices } from "../app-service/AppServices.ts"
import { Presences } from "../presence/Presences.ts"
import { DelayedEvents } from "../room/DelayedEvents.ts"
import { Rooms } from "../room/Rooms.ts"
import { Bans } from "../runtime/Bans.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { defaultLimits } from "../runtime/Limits.ts"
import type { Session } from "../runtime/Session.ts"
import { SessionRevocations } from "../runtime/SessionRevocations.ts"
import { periodicallyOnce } from "../runtime/Singletons.ts"
import { periodically } from "../runtime/Supervision.ts"
import { Users } from "../user/Users.ts"
import { AccountStandings, lockedError } from "./AccountStandings.ts"
import { maxPasswordLength, passwordCheck, requestedUserId } from "./internal/NewAccount.ts"
import { LoginConfig } from "./login/LoginConfig.ts"
import { loginDefaults } from "./login/LoginOptions.ts"
import { LoginThrottle } from "./login/LoginThrottle.ts"
import { Passwords } from "./Passwords.ts"
import { SessionCache } from "./SessionCache.ts"

/** The result of a login. */
export interface Credentials {
  readonly user_id: UserId
  readonly access_token: string
  readonly home_server: ServerName
  readonly device_id: string
  readonly refresh_token?: string
  /** How long the access token is good for, in ms; absent for one that does not expire. */
  readonly expires_in_ms?: number
}

/** The result of a refresh. */
export type RefreshedTokens = Required<Pick<Credentials, "access_token" | "refresh_token" | "device_id">> &
  Pick<Credentials, "expires_in_ms">

/** Options of a login. */
export interface LoginDevice {
  /** The device; if it exists, its earlier tokens end. Default: a new device. */
  readonly deviceId?: string | undefined
  /** Ignored if the device exists. */
  readonly deviceName?: string | undefined
  /** Whether the client renews its access token by a refresh token. */
  readonly refresh?: boolean | undefined
  /** The client of the OAuth 2.0 API that logs in. */
  readonly clientId?: string | undefined
  /** The network address of the client, if known. */
  readonly address?: string | undefined
}

export interface PasswordChange {
  readonly oldPassword: Redacted.Redacted
  readonly newPassword: Redacted.Redacted
  /** The network address of the client. */
  readonly address: string
}

export interface Device {
  readonly device_id: string
  readonly display_name?: string
  readonly last_seen_ts: number
  /** The address from which the device was used last. */
  readonly last_seen_ip?: string
}

/** The capacity of the session cache. */
const maxCachedSessions = 50_000
/** How often the last use of tokens is stored. */
const usageInterval = "30 seconds"
/** How often expired tokens are deleted and interrupted deactivations are finished. */
const sweepInterval = "10 minutes"
const maxDeviceNameLength = 200
const tokenPrefix = "gr_"
const refreshPrefix = "grr_"
const loginTokenPrefix = "grl_"
const tokenBytes = 32
/** How long a login token is good for, in ms. */
const loginTokenTtl = 2 * 60_000
const tokenPattern = /^gr_[A-Za-z0-9_-]{43}$/

/** The answer to a registration that awaits an administrator's approval, and to logins until then. */
export const awaitingApproval = new UserAwaitingApproval({
  error: "This account waits for an administrator to approve it",
  approval_notice_medium: "org.matrix.msc3866.none"
})

const newSecret = (prefix: string): string => prefix + randomBytes(tokenBytes).toString("base64url")

const make = Effect.gen(function* () {
  const { enableRegistration = true, guests = false, limits, serverName, serverNotices } = yield* HomeServerConfig
  const { devices: deviceLimit } = { ...defaultLimits, ...limits }
  const loginOptions = yield* LoginConfig
  const notices = yield* NoticeStore
  const store = yield* AccountStore
  const passwords = yield* Passwords
  const rooms = yield* Rooms
  const roomStore = yield* RoomStore
  const presences = yield* Presences
  const delayedEvents = yield* DelayedEvents
  const users = yield* Users
  const throttle = yield* LoginThrottle
  const standings = yield* AccountStandings
  const bans = yield* Bans
  const appServices = yield* AppServices
  const cache = new SessionCache(maxCachedSessions)
  const revocations = yield* SessionRevocations
  yield* revocations.cache((tokenIds) => (tokenIds === undefined ? cache.clear() : cache.remove(tokenIds)))
  const checkPassword = passwordCheck(loginOptions)

  /** Returns when every node refuses these tokens, which are no longer in the database. */
  const refuse = (tokenIds: ReadonlyArray<number>) =>
    Effect.suspend(() => {
      cache.remove(tokenIds)
      return tokenIds.length === 0 ? Effect.void : revocations.everywhere
    })

  // --- Tokens ---------------------------------------------------------------------------------------------------------

  /** The next tokens of a login, and how long the access token lasts. */
  const newTokens = Effect.fnUntraced(function* (refresh: boolean) {
    const ttl = refresh
      ? (loginOptions.refreshableTokenTtl ?? loginDefaults.refreshableTokenTtl)
      : loginOptions.tokenTtl
    const expiresAt = ttl === undefined ? undefined : (yield* Clock.currentTimeMillis) + ttl
    const token = newSecret(tokenPrefix)
    const refreshToken = newSecret(refreshPrefix)
    const answer = {
      access_token: token,
      ...(refresh ? { refresh_token: refreshToken } : {}),
      ...(ttl === undefined ? {} : { expires_in_ms: ttl })
    }
    return { answer, token: Redacted.make(token), refreshToken: Redacted.make(refreshToken), expiresAt }
  })

  const openSession = Effect.fnUntraced(function* (userId: UserId, device: LoginDevice = {}) {
    yield* bans.check("user", userId)
    if (standings.of(userId).locked) return yield* lockedError
    const { refresh = false } = device
    const { answer, expiresAt, refreshToken, token } = yield* newTokens(refresh)
    const deviceId = device.deviceId ?? randomBytes(8).toString("base64url")
    const created = yield* store.createToken({
      userId,
      token,
      deviceId,
      deviceName: device.deviceName?.slice(0, maxDeviceNameLength),
      expiresAt,
      clientId: device.clientId,
      refreshToken: refresh ? refreshToken : undefined,
      address: device.address
    })
    if (Option.isNone(created)) return yield* refusalOf(yield* store.find(userId))
    if (created.value.replaced) yield* refuse([created.value.tokenId])
    else for (const unused of yield* store.surplusDevices(userId, deviceLimit)) yield* logoutDevice(userId, unused)
    return { user_id: userId, ...answer, home_server: serverName, device_id: deviceId } satisfies Credentials
  })

  /** Why an account cannot be logged in on. */
  const refusalOf = (account: Option.Option<Account>) =>
    Option.isSome(account) && account.value.deactivatedAt === undefined && account.value.awaitingApproval
      ? awaitingApproval
      : new UserDeactivated({ error: "The account was deactivated" })

  const refresh = Effect.fn("Accounts.refresh")(function* (refreshToken: string, clientId?: string) {
    const next = yield* newTokens(true)
    const found = yield* store.refresh(Redacted.make(refreshToken), next, clientId)
    if (Option.isNone(found)) {
      return yield* new UnknownToken({ error: "The refresh token is unknown, was used, or was logged out" })
    }
    yield* bans.check("user", found.value.userId)
    if (standings.of(found.value.userId).locked) return yield* lockedError
    return { ...next.answer, device_id: found.value.deviceId } as RefreshedTokens
  })

  const createLoginToken = Effect.fn("Accounts.createLoginToken")(function* (userId: UserId) {
    const token = newSecret(loginTokenPrefix)
    yield* store.createLoginToken(userId, Redacted.make(token), (yield* Clock.currentTimeMillis) + loginTokenTtl)
    return { login_token: token, expires_in_ms: loginTokenTtl }
  })

  const takeLoginToken = Effect.fn("Accounts.takeLoginToken")(function* (token: string) {
    const userId = yield* store.takeLoginToken(Redacted.make(token))
    return Option.isSome(userId)
      ? userId.value
      : yield* new Forbidden({ error: "The login token is unknown, was used, or has expired" })
  })

  const authenticate = Effect.fnUntraced(function* (token: string, address?: string | undefined) {
    const now = yield* Clock.currentTimeMillis
    const known = revocations.isTrusted() ? cache.get(token, now, address) : undefined
    if (known !== undefined) return known
    const { revocations: before } = cache
    const found = tokenPattern.test(token) ? yield* store.findToken(Redacted.make(token)) : Option.none()
    if (Option.isNone(found)) {
      return yield* new UnknownToken({ error: "The access token is unknown, or was logged out" })
    }
    const { admin, clientId, deviceId, expiresAt, guest, since, tokenId, userId } = found.value
    if (expiresAt !== undefined && expiresAt <= now) {
      return yield* new UnknownToken({ error: "The access token has expired", soft_logout: true })
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
    return session
  })

  const writeUsage = Effect.gen(function* () {
    const used = cache.takeUsed()
    if (used.length === 0) return
    const now = yield* Clock.currentTimeMillis
    yield* store.touch(new Map(used.map(([tokenId, address]) => [tokenId, { at: now, address }])))
  })

  // Usage that could not be stored is stored with the next.
  yield* periodically("Writing when access tokens were last used", usageInterval, writeUsage)

  // Expired tokens are not looked up again, so their rows would otherwise stay for ever.
  yield* periodicallyOnce(
    "Deleting expired access tokens",
    sweepInterval,
    Effect.map(store.removeExpired, (tokenIds) => cache.remove(tokenIds))
  )

  // --- Registration and login -----------------------------------------------------------------------------------------

  /** An account whose name is a number that is not taken. */
  const allocate = (options: NewAccountOptions): Effect.Effect<UserId> =>
    Effect.gen(function* () {
      const userId = formatUserId(yield* store.allocateLocalpart, serverName)
      return yield* Effect.as(store.create(userId, options), userId)
    }).pipe(Effect.catchTag("M_USER_IN_USE", () => allocate(options)))

  const registerGuest = Effect.fn("Accounts.registerGuest")(function* (device: LoginDevice) {
    if (!guests) return yield* new GuestAccessForbidden({ error: "This server has no guest accounts" })
    return yield* openSession(yield* allocate({ guest: true }), device)
  })

  const guestOf = Effect.fn("Accounts.guestOf")(function* (token: string, username: string | undefined) {
    const { guest, userId } = yield* authenticate(token)
    if (guest !== true) return yield* new Forbidden({ error: "guest_access_token: is no token of a guest" })
    if (username === undefined || (yield* requestedUserId(username, serverName)) !== userId) {
      return yield* new InvalidUsername({ error: `username: a guest keeps the name, which is ${localpartOf(userId)}` })
    }
    return userId
  })

  /** Notifies administrators of the first account that waits. Further ones cause no notice, or strangers could flood them. */
  const tellAdministrators = Effect.fnUntraced(function* (userId: UserId) {
    if (serverNotices === undefined || (yield* store.awaitingApproval(2)).length > 1) return
    const body = `${userId} waits for approval. See who else does, and decide: greenroom user list --waiting`
    yield* Effect.forEach(yield* store.admins, (admin) => notices.add(admin, { msgtype: "m.text", body }))
  })

  const upgradeGuest = Effect.fn("Accounts.upgradeGuest")(function* (
    userId: UserId,
    options: Pick<NewAccountOptions, "passwordHash" | "awaitingApproval">
  ) {
    if (!(yield* store.upgradeGuest(userId, options))) {
      return yield* new Forbidden({ error: `${userId} is no guest` })
    }
    if (options.awaitingApproval) yield* tellAdministrators(userId)
    // Their sessions say that they are a guest.
    yield* refuse(yield* store.revokeAll(userId))
  })

  const create = Effect.fn("Accounts.create")(function* (options: {
    readonly userId?: UserId | undefined
    readonly passwordHash?: Redacted.Redacted | undefined
    readonly awaitingApproval?: boolean | undefined
  }) {
    const { userId, ...account } = options
    const created = yield* userId === undefined ? allocate(account) : Effect.as(store.create(userId, account), userId)
    if (account.awaitingApproval) yield* tellAdministrators(created)
    return created
  })

  const chooseUserId = Effect.fn("Accounts.chooseUserId")(function* (requested: string, caller?: AppService) {
    const userId = yield* requestedUserId(requested, serverName)
    yield* appServices.mayMakeUser(userId, caller)
    const sendsNotices = serverNotices !== undefined && userId === formatUserId(serverNotices.localpart, serverName)
    if (sendsNotices || Option.isSome(yield* store.find(userId)))
      return yield* new UserInUse({ error: `${userId} is taken` })
    return userId
  })

  const hashPassword = Effect.fn("Accounts.hashPassword")(function* (password: Redacted.Redacted) {
    yield* checkPassword(password)
    return Redacted.make(yield* passwords.hash(password))
  })

  const register = Effect.fn("Accounts.register")(function* (options: {
    readonly localpart?: string
    readonly password?: Redacted.Redacted
    readonly deviceName?: string
  }) {
    if (!enableRegistration) return yield* new Forbidden({ error: "Registration is closed on this server" })
    if (options.password !== undefined) yield* checkPassword(options.password)
    const { localpart } = options
    // Checked before the expensive hash; `create` decides.
    const wanted = localpart === undefined ? undefined : yield* chooseUserId(localpart)
    const passwordHash = options.password && (yield* hashPassword(options.password))
    const { registrationApproval } = loginOptions
    const userId = yield* create({ userId: wanted, passwordHash, awaitingApproval: registrationApproval })
    return yield* openSession(userId, options)
  })

  /** True for the right password. A hash with an outdated cost is replaced. */
  const verify = Effect.fnUntraced(function* (userId: UserId | undefined, password: Redacted.Redacted) {
    const account = userId === undefined ? Option.none() : yield* store.find(userId)
    const hash = Option.isSome(account) ? account.value.passwordHash : undefined
    const tooLong = Redacted.value(password).length > maxPasswordLength
    const { correct, outdated } = yield* passwords.verify(
      tooLong ? Redacted.make("") : password,
      hash && Redacted.value(hash)
    )
    if (!correct || tooLong || userId === undefined) return false
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

  const login = Effect.fn("Accounts.login")(function* (options: {
    readonly user: string
    readonly password: Redacted.Redacted
    readonly deviceName?: string
  }) {
    const userId = yield* verifyPassword(options.user, options.password)
    if (Option.isNone(userId)) return yield* new Forbidden({ error: "The user name or the password is wrong" })
    return yield* openSession(userId.value, options)
  })

  // --- The end of sessions --------------------------------------------------------------------------------------------

  const logout = Effect.fn("Accounts.logout")(function* (session: Session) {
    yield* store.revoke(session.userId, session.tokenId)
    yield* refuse([session.tokenId])
  })

  const revokeSecret = Effect.fn("Accounts.revokeSecret")(function* (secret: string) {
    const ended = yield* store.revokeSecret(Redacted.make(secret))
    yield* refuse(ended)
    return ended
  })

  const logoutAll = Effect.fn("Accounts.logoutAll")(function* (session: Session) {
    yield* refuse(yield* store.revokeAll(session.userId))
  })

  const logoutOthers = Effect.fn("Accounts.logoutOthers")(function* (session: Session) {
    const ended = yield* store.revokeAll(session.userId, { except: session.tokenId })
    yield* refuse(ended)
    return ended
  })

  const logoutDevice = Effect.fn("Accounts.logoutDevice")(function* (userId: UserId, deviceId: string) {
    const tokenIds = (yield* store.devices(userId)).flatMap((row) => (row.deviceId === deviceId ? [row.tokenId] : []))
    if (tokenIds.length === 0) return yield* new NotFound({ error: "There is no such device" })
    for (const tokenId of tokenIds) yield* store.revoke(userId, tokenId)
    yield* refuse(tokenIds)
    return tokenIds
  })

  const renameDevice = Effect.fn("Accounts.renameDevice")(function* (
    userId: UserId,
    deviceId: string,
    name: string | undefined
  ) {
    const renamed = yield* store.renameDevice(userId, deviceId, name?.slice(0, maxDeviceNameLength))
    if (!renamed) return yield* new NotFound({ error: "There is no such device" })
  })

  const setPassword = Effect.fn("Accounts.setPassword")(function* (userId: UserId, password: Redacted.Redacted) {
    yield* store.setPasswordHash(userId, yield* hashPassword(password))
    yield* refuse(yield* store.revokeAll(userId))
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

  /** Leaves the rooms of an account that was deactivated, and declines its invitations. */
  const leaveRooms = Effect.fnUntraced(function* (session: Session) {
    const memberships = yield* roomStore.membershipsOf(session.userId, ["join", "invite", "knock"])
    yield* Effect.forEach(
      memberships,
      ({ roomId }) =>
        Effect.catchCause(rooms.leave(session, roomId), (cause) =>
          Effect.logWarning(`${session.userId} was deactivated but could not leave ${roomId}`, cause)
        ),
      { concurrency: 8, discard: true }
    )
  })

  /** The work that follows a deactivation. May run twice. */
  const clearAway = Effect.fnUntraced(function* (session: Session) {
    yield* delayedEvents.cancelAll(session.userId)
    yield* presences.forget(session.userId)
    yield* users.forget(session.userId)
    yield* leaveRooms(session)
  })

  const unregister = Effect.fn("Accounts.unregister")(function* (session: Session, erase = false) {
    cache.remove(yield* store.deactivate(session.userId, erase))
    // Application services may have sessions of the user too.
    yield* revocations.everywhere
    yield* clearAway(session)
  })

  const deactivate = (userId: UserId, erase?: boolean) => unregister({ userId, tokenId: 0, deviceId: "" }, erase)

  // Deactivations that were interrupted by a restart, or done by the command line.
  const finishDeactivations = Effect.gen(function* () {
    for (const userId of yield* store.unfinishedDeactivations) yield* clearAway({ userId, tokenId: 0, deviceId: "" })
  })
  yield* periodicallyOnce("Finishing deactivations of accounts", sweepInterval, finishDeactivations, { atOnce: true })

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

  return Accounts.of({
    register,
    login,
    authenticate,
    logout,
    logoutAll,
    logoutOthers,
    logoutDevice,
    devices: (session) => Effect.andThen(writeUsage, devicesOf(session.userId)),
    devicesOf,
    changePassword,
    replacePassword,
    setPassword,
    unregister,
    deactivate,
    toUserId,
    chooseUserId,
    hashPassword,
    verifyPassword,
    create,
    registerGuest,
    guestOf,
    upgradeGuest,
    openSession,
    refresh,
    revokeSecret,
    createLoginToken,
    takeLoginToken,
    renameDevice
  })
})

export class Accounts extends Context.Service<
  Accounts,
  {
    /**
     * Creates an account with a password and logs it in. Without `localpart` the server allocates one. `localpart` may
     * also be a whole user ID of this server. Errors: M_USER_IN_USE, M_INVALID_USERNAME, M_BAD_JSON.
     */
    readonly register: (options: {
      readonly localpart?: string
      readonly password?: Redacted.Redacted
      readonly deviceName?: string
    }) => Effect.Effect<Credentials, MatrixError>
    /**
     * `user` is a whole user ID or a localpart. Takes the same time whether the user exists or not.
     * Errors: M_FORBIDDEN.
     */
    readonly login: (options: {
      readonly user: string
      readonly password: Redacted.Redacted
      readonly deviceName?: string
    }) => Effect.Effect<Credentials, MatrixError>
    /**
     * The session of an access token, which is used from a network address. Served from memory after the first time.
     * Errors: M_UNKNOWN_TOKEN, with `soft_logout` for one that has expired.
     */
    readonly authenticate: (token: string, address?: string | undefined) => Effect.Effect<Session, MatrixError>
    readonly logout: (session: Session) => Effect.Effect<void>
    readonly logoutAll: (session: Session) => Effect.Effect<void>
    /** Ends every session of the user but this one; the token IDs that ended. */
    readonly logoutOthers: (session: Session) => Effect.Effect<ReadonlyArray<number>>
    /** Ends the session of one device; the token IDs that ended. Errors: M_NOT_FOUND. */
    readonly logoutDevice: (userId: UserId, deviceId: string) => Effect.Effect<ReadonlyArray<number>, MatrixError>
    readonly devices: (session: Session) => Effect.Effect<ReadonlyArray<Device>>
    readonly devicesOf: (userId: UserId) => Effect.Effect<ReadonlyArray<Device>>
    /**
     * Checks the old password; ends every other session, and tells their token IDs. Errors: M_FORBIDDEN, M_BAD_JSON,
     * M_LIMIT_EXCEEDED.
     */
    readonly changePassword: (
      session: Session,
      change: PasswordChange
    ) => Effect.Effect<ReadonlyArray<number>, MatrixError>
    /**
     * Sets the password of a user who has proved their identity. Ends every other login if wanted; the token IDs that
     * ended. Errors: M_BAD_JSON.
     */
    readonly replacePassword: (
      session: Session,
      password: Redacted.Redacted,
      options: { readonly logoutOthers: boolean }
    ) => Effect.Effect<ReadonlyArray<number>, MatrixError>
    /**
     * Deactivates the account: deletes tokens, keys, account data, presence and profile, and leaves its rooms; the user ID
     * stays taken. With `erase` its files are deleted too, and its events are shown without content to users who were not
     * in the room.
     */
    readonly unregister: (session: Session, erase?: boolean) => Effect.Effect<void, MatrixError>
    /** The same, by an operator. */
    readonly deactivate: (userId: UserId, erase?: boolean) => Effect.Effect<void, MatrixError>
    /** A new password by an operator; ends every session. Errors: M_BAD_JSON. */
    readonly setPassword: (userId: UserId, password: Redacted.Redacted) => Effect.Effect<void, MatrixError>

    // The parts of logins and registrations of several stages (`LoginFlows`).

    /**
     * The user of this server with a user ID or a localpart, whether it exists or not. Capitals count as small
     * letters.
     */
    readonly toUserId: (user: string) => UserId | undefined
    /** The user ID that a registration asks for. Errors: M_USER_IN_USE, M_INVALID_USERNAME. */
    readonly chooseUserId: (requested: string, caller?: AppService) => Effect.Effect<UserId, MatrixError>
    /** Errors: M_BAD_JSON for a password that is too short or too long. */
    readonly hashPassword: (password: Redacted.Redacted) => Effect.Effect<Redacted.Redacted, MatrixError>
    /** The user ID, if the password is right. Takes the same time whether the user exists or not. */
    readonly verifyPassword: (user: string, password: Redacted.Redacted) => Effect.Effect<Option.Option<UserId>>
    /** A new account; without `userId` under a number that the server allocates. Errors: M_USER_IN_USE. */
    readonly create: (options: {
      readonly userId?: UserId | undefined
      readonly passwordHash?: Redacted.Redacted | undefined
      readonly awaitingApproval?: boolean | undefined
    }) => Effect.Effect<UserId, UserInUse>
    /** A new account of a guest, and a login on it. Errors: M_GUEST_ACCESS_FORBIDDEN where guests are off. */
    readonly registerGuest: (device: LoginDevice) => Effect.Effect<Credentials, MatrixError>
    /**
     * The guest who has the access token and wants an account under `username`, which must be theirs. Errors:
     * M_UNKNOWN_TOKEN, M_FORBIDDEN, M_INVALID_USERNAME.
     */
    readonly guestOf: (token: string, username: string | undefined) => Effect.Effect<UserId, MatrixError>
    /** Turns the account of a guest into a regular one; ends its sessions. Errors: M_FORBIDDEN. */
    readonly upgradeGuest: (
      userId: UserId,
      options: Pick<NewAccountOptions, "passwordHash" | "awaitingApproval">
    ) => Effect.Effect<void, MatrixError>
    /** Logs in a user who has proved their identity. Errors: M_USER_DEACTIVATED, M_USER_LOCKED. */
    readonly openSession: (userId: UserId, device?: LoginDevice) => Effect.Effect<Credentials, MatrixError>
    /** The next tokens of a login. The present ones end when one of the next is used. Errors: M_UNKNOWN_TOKEN. */
    readonly refresh: (refreshToken: string, clientId?: string) => Effect.Effect<RefreshedTokens, MatrixError>
    /** Ends the login of an access token or a refresh token; its token ID, if there was one. */
    readonly revokeSecret: (secret: string) => Effect.Effect<ReadonlyArray<number>>
    /** A token by which another client of the user logs in, once, within two minutes. */
    readonly createLoginToken: (
      userId: UserId
    ) => Effect.Effect<{ readonly login_token: string; readonly expires_in_ms: number }>
    /** Consumes a login token and returns its user. Errors: M_FORBIDDEN. */
    readonly takeLoginToken: (token: string) => Effect.Effect<UserId, MatrixError>
    /** Errors: M_NOT_FOUND. */
    readonly renameDevice: (
      userId: UserId,
      deviceId: string,
      name: string | undefined
    ) => Effect.Effect<void, MatrixError>
  }
>()("greenroom/actors/Accounts") {
  static readonly layer = Layer.effect(Accounts, make)
}
