/**
 * Accounts: registration, login, tokens. A token is a secret of 32 random bytes; only its hash is stored.
 *
 * Sessions are served from memory. A logout here ends them here at once; on other nodes when these report next which
 * tokens were used, which is when they learn which are gone: at most `usageInterval` later.
 *
 * Source: "Registration and login" of the specification.
 */
import { randomBytes } from "node:crypto"
import {
  formatUserId,
  isUserId,
  localpartGrammar,
  maxIdentifierBytes,
  type ServerName,
  serverNameOf,
  type UserId
} from "@greenroom/protocol/Identifiers"
import {
  BadJson,
  Forbidden,
  InvalidUsername,
  type MatrixError,
  UnknownToken,
  UserInUse
} from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Clock, Context, Effect, Layer, Option, Redacted } from "effect"
import { HomeServerConfig } from "./HomeServerConfig.ts"
import { Passwords } from "./Passwords.ts"
import { Presences } from "./Presences.ts"
import { Rooms } from "./Rooms.ts"
import type { Session } from "./Session.ts"
import { SessionCache } from "./SessionCache.ts"
import { Users } from "./Users.ts"

/** What a finished login gives. */
export interface Credentials {
  readonly user_id: UserId
  readonly access_token: string
  readonly home_server: ServerName
  readonly device_id: string
}

export interface Device {
  readonly device_id: string
  readonly display_name?: string
  readonly last_seen_ts: number
}

/** How many sessions are held in memory. */
const maxCachedSessions = 50_000
/** How often the tokens that were used are written down, and revoked ones of other nodes forgotten. */
const usageInterval = "30 seconds"
const maxPasswordLength = 512
const maxDeviceNameLength = 200
const tokenPrefix = "gr_"
const tokenBytes = 32
const tokenPattern = /^gr_[A-Za-z0-9_-]{43}$/

const checkPassword = (password: Redacted.Redacted): Effect.Effect<void, MatrixError> => {
  const { length } = Redacted.value(password)
  return length >= 1 && length <= maxPasswordLength
    ? Effect.void
    : Effect.fail(new BadJson({ error: `password: must have 1 to ${maxPasswordLength} characters` }))
}

/** The user ID that a registration asks for: a localpart, or a whole user ID of this server. */
const requestedUserId = (requested: string, serverName: ServerName): Effect.Effect<UserId, MatrixError> => {
  const refuse = (error: string) => Effect.fail(new InvalidUsername({ error }))
  const [, localpart = requested, server = serverName] = /^@([^:]*):(.*)$/s.exec(requested) ?? []
  if (server !== serverName) return refuse(`Users of this server end in :${serverName}`)
  if (!localpartGrammar.test(localpart)) {
    return refuse("A user name consists of the letters a-z in lower case, digits, and . _ = - /")
  }
  const userId = formatUserId(localpart, serverName)
  return isUserId(userId) ? Effect.succeed(userId) : refuse(`A user ID has at most ${maxIdentifierBytes} bytes`)
}

const make = Effect.gen(function* () {
  const { enableRegistration = true, serverName } = yield* HomeServerConfig
  const store = yield* AccountStore
  const passwords = yield* Passwords
  const rooms = yield* Rooms
  const roomStore = yield* RoomStore
  const presences = yield* Presences
  const users = yield* Users
  const cache = new SessionCache(maxCachedSessions)

  // --- Tokens ---------------------------------------------------------------------------------------------------------

  const openSession = Effect.fnUntraced(function* (userId: UserId, deviceName: string | undefined) {
    const token = tokenPrefix + randomBytes(tokenBytes).toString("base64url")
    const deviceId = randomBytes(8).toString("base64url")
    const created = yield* store.createToken({
      userId,
      token: Redacted.make(token),
      deviceId,
      deviceName: deviceName?.slice(0, maxDeviceNameLength)
    })
    if (Option.isNone(created)) return yield* new Forbidden({ error: "The account was deactivated" })
    return { user_id: userId, access_token: token, home_server: serverName, device_id: deviceId }
  })

  const authenticate = Effect.fnUntraced(function* (token: string) {
    const now = yield* Clock.currentTimeMillis
    const known = cache.get(token, now)
    if (known !== undefined) return known
    const { revocations } = cache
    const found = tokenPattern.test(token) ? yield* store.findToken(Redacted.make(token)) : Option.none()
    if (Option.isNone(found)) {
      return yield* new UnknownToken({ error: "The access token is unknown, or was logged out" })
    }
    const { deviceId, expiresAt, tokenId, userId } = found.value
    const session: Session = { userId, tokenId, deviceId }
    cache.add(token, { session, expiresAt }, revocations)
    return session
  })

  const writeUsage = Effect.gen(function* () {
    const used = cache.takeUsed()
    if (used.length === 0) return
    const now = yield* Clock.currentTimeMillis
    yield* store.touch(new Map(used.map((tokenId) => [tokenId, now])))
    const ended = yield* store.ended(used)
    if (ended.length > 0) cache.remove(ended)
  })

  // Usage that could not be written is written with the next.
  yield* writeUsage.pipe(
    Effect.catchCause((cause) => Effect.logWarning("The use of access tokens could not be written down", cause)),
    Effect.delay(usageInterval),
    Effect.forever,
    Effect.forkScoped
  )

  // --- Registration and login -----------------------------------------------------------------------------------------

  /** An account under a number that nobody has as a name. */
  const allocate = (passwordHash: Redacted.Redacted | undefined): Effect.Effect<UserId> =>
    Effect.gen(function* () {
      const userId = formatUserId(yield* store.allocateLocalpart, serverName)
      return yield* Effect.as(store.create(userId, { passwordHash }), userId)
    }).pipe(Effect.catchTag("M_USER_IN_USE", () => allocate(passwordHash)))

  const register = Effect.fn("Accounts.register")(function* (options: {
    readonly localpart?: string
    readonly password?: Redacted.Redacted
    readonly deviceName?: string
  }) {
    if (!enableRegistration) return yield* new Forbidden({ error: "Registration is closed on this server" })
    if (options.password !== undefined) yield* checkPassword(options.password)
    const { localpart } = options
    const wanted = localpart === undefined ? undefined : yield* requestedUserId(localpart, serverName)
    // Asked before the costly hash; `create` decides.
    if (wanted !== undefined && Option.isSome(yield* store.find(wanted))) {
      return yield* new UserInUse({ error: `${wanted} is taken` })
    }
    const passwordHash = options.password && Redacted.make(yield* passwords.hash(options.password))
    const userId = wanted ?? (yield* allocate(passwordHash))
    if (wanted !== undefined) yield* store.create(wanted, { passwordHash })
    return yield* openSession(userId, options.deviceName)
  })

  /** True if it is the user's password. A hash of another cost than today's is renewed on the way. */
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

  const login = Effect.fn("Accounts.login")(function* (options: {
    readonly user: string
    readonly password: Redacted.Redacted
    readonly deviceName?: string
  }) {
    const userId = options.user.startsWith("@") ? options.user : `@${options.user}:${serverName}`
    const ours = isUserId(userId) && serverNameOf(userId) === serverName ? userId : undefined
    if (!(yield* verify(ours, options.password)) || ours === undefined) {
      return yield* new Forbidden({ error: "The user name or the password is wrong" })
    }
    return yield* openSession(ours, options.deviceName)
  })

  // --- The end of sessions --------------------------------------------------------------------------------------------

  const logout = Effect.fn("Accounts.logout")(function* (session: Session) {
    yield* store.revoke(session.userId, session.tokenId)
    cache.remove([session.tokenId])
  })

  const logoutAll = Effect.fn("Accounts.logoutAll")(function* (session: Session) {
    cache.remove(yield* store.revokeAll(session.userId))
  })

  const changePassword = Effect.fn("Accounts.changePassword")(function* (
    session: Session,
    oldPassword: Redacted.Redacted,
    newPassword: Redacted.Redacted
  ) {
    yield* checkPassword(newPassword)
    if (!(yield* verify(session.userId, oldPassword))) {
      return yield* new Forbidden({ error: "The old password is wrong" })
    }
    yield* store.setPasswordHash(session.userId, Redacted.make(yield* passwords.hash(newPassword)))
    cache.remove(yield* store.revokeAll(session.userId, { except: session.tokenId }))
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

  /** What is left to do once an account was deactivated, and may be done twice. */
  const clearAway = Effect.fnUntraced(function* (session: Session) {
    yield* presences.forget(session.userId)
    yield* users.forget(session.userId)
    yield* leaveRooms(session)
  })

  const unregister = Effect.fn("Accounts.unregister")(function* (session: Session) {
    cache.remove(yield* store.deactivate(session.userId))
    yield* clearAway(session)
  })

  // Accounts whose deactivation was cut short by the end of the process.
  yield* Effect.gen(function* () {
    for (const userId of yield* store.unfinishedDeactivations) yield* clearAway({ userId, tokenId: 0, deviceId: "" })
  }).pipe(
    Effect.catchCause((cause) =>
      Effect.logWarning("The rest of deactivated accounts could not be cleared away", cause)
    ),
    Effect.forkScoped
  )

  const devices = (session: Session) =>
    Effect.map(store.devices(session.userId), (rows) =>
      rows.map(
        ({ deviceId, lastUsedAt, name }): Device => ({
          device_id: deviceId,
          last_seen_ts: lastUsedAt,
          ...(name === undefined ? {} : { display_name: name })
        })
      )
    )

  return Accounts.of({ register, login, authenticate, logout, logoutAll, devices, changePassword, unregister })
})

export class Accounts extends Context.Service<
  Accounts,
  {
    /**
     * Creates an account with a password and logs it in. Without `localpart` the server allocates one. `localpart` may
     * also be a whole user ID of this server. Errors: M_USER_IN_USE, M_INVALID_USERNAME.
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
    /** The session of an access token. Served from memory after the first time. Errors: M_UNKNOWN_TOKEN. */
    readonly authenticate: (token: string) => Effect.Effect<Session, MatrixError>
    readonly logout: (session: Session) => Effect.Effect<void>
    readonly logoutAll: (session: Session) => Effect.Effect<void>
    readonly devices: (session: Session) => Effect.Effect<ReadonlyArray<Device>>
    /** Checks the old password; ends every other session. Errors: M_FORBIDDEN. */
    readonly changePassword: (
      session: Session,
      oldPassword: Redacted.Redacted,
      newPassword: Redacted.Redacted
    ) => Effect.Effect<void, MatrixError>
    /** Deactivates the account: tokens, presence and profile go, rooms are left; the user ID stays taken. */
    readonly unregister: (session: Session) => Effect.Effect<void, MatrixError>
  }
>()("greenroom/actors/Accounts") {
  static readonly layer = Layer.effect(Accounts, make)
}
