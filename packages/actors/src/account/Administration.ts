/**
 * Administration of accounts and registration tokens, for the admin endpoints and the command line.
 *
 * The gateways use it with `Accounts`, which knows the sessions in the memory of this process. The command line has only the
 * database (`layerOnStores`). Running nodes notice that sessions have ended, and finish the deactivation of accounts.
 */
import { randomBytes } from "node:crypto"
import { formatUserId, localpartOf, type UserId, userIdOfName } from "@greenroom/protocol/Identifiers"
import { canonicalEmail } from "@greenroom/protocol/identity/ThirdPartyId"
import {
  BadJson,
  BadRequest,
  Forbidden,
  type MatrixError,
  NotFound,
  UserInUse,
  UserSuspended
} from "@greenroom/protocol/MatrixError"
import { AccountStandingStore } from "@greenroom/store/AccountStandingStore"
import { type Account, AccountStore } from "@greenroom/store/AccountStore"
import { NoticeStore } from "@greenroom/store/NoticeStore"
import { type RegistrationToken, RegistrationTokenStore } from "@greenroom/store/RegistrationTokenStore"
import { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import type { Session } from "../runtime/Session.ts"
import type { Device } from "./Credentials.ts"
import { passwordCheck, requestedUserId } from "./internal/NewAccount.ts"
import { LoginConfig } from "./login/LoginConfig.ts"
import { Mailer } from "./login/Mailer.ts"
import { Passwords } from "./Passwords.ts"

export type { Account, RegistrationToken }

/** An account that an administrator creates. */
export interface NewUser {
  /** A localpart or a whole user ID. */
  readonly user: string
  readonly password?: Redacted.Redacted | undefined
  readonly admin?: boolean | undefined
  /** Counts as verified. */
  readonly email?: string | undefined
}

/** A registration token that an administrator creates. */
export interface NewToken {
  /** The secret; generated if absent. */
  readonly token?: Redacted.Redacted | undefined
  /** How many times it may be used (default 1), or `unlimited`. */
  readonly uses?: number | "unlimited" | undefined
  /** Milliseconds until it expires (default: never). */
  readonly validFor?: number | undefined
}

/** The new restrictions of an account. Undefined fields keep their value. */
export interface StandingChange {
  readonly locked?: boolean | undefined
  readonly suspended?: boolean | undefined
}

/**
 * Fails if a change would lock or suspend an administrator. Restrictions from before the account became one can be removed.
 * Errors: M_FORBIDDEN.
 */
export const checkStanding = (admin: boolean, change: StandingChange): Effect.Effect<void, Forbidden> =>
  admin && (change.locked === true || change.suspended === true)
    ? Effect.fail(new Forbidden({ error: "Administrators cannot be locked or suspended" }))
    : Effect.void

/** The operations that end sessions and accounts. */
export interface Endings {
  readonly setPassword: (userId: UserId, password: Redacted.Redacted) => Effect.Effect<void, MatrixError>
  readonly deactivate: (userId: UserId) => Effect.Effect<void, MatrixError>
  readonly logoutDevice: (userId: UserId, deviceId: string) => Effect.Effect<ReadonlyArray<number>, MatrixError>
  readonly devicesOf: (userId: UserId) => Effect.Effect<ReadonlyArray<Device>>
}

/** The most accounts in the list of those that wait for approval. */
const maxWaiting = 1_000

const notWaiting = (userId: UserId) => Effect.fail(new BadRequest({ error: `${userId} does not wait for approval` }))

/** The size of a page of accounts. */
const pageSize = 100

const make = Effect.fnUntraced(function* (endings: Endings) {
  const { serverName, serverNotices } = yield* HomeServerConfig
  const login = yield* LoginConfig
  const mailer = yield* Mailer
  const checkPassword = passwordCheck(login)
  const store = yield* AccountStore
  const identities = yield* UserIdentityStore
  const tokens = yield* RegistrationTokenStore
  const standings = yield* AccountStandingStore
  const notices = yield* NoticeStore
  const passwords = yield* Passwords

  const requireAdmin = Effect.fn("Administration.requireAdmin")(function* (session: Session) {
    const account = yield* store.find(session.userId)
    if (Option.isNone(account) || !account.value.admin) {
      return yield* new Forbidden({ error: "Only administrators may call this endpoint" })
    }
    const { locked, suspended } = yield* standings.find(session.userId)
    if (locked || suspended) {
      return yield* new UserSuspended({ error: "A locked or suspended administrator may not call this endpoint" })
    }
  })

  const user = Effect.fn("Administration.user")(function* (name: string) {
    const userId = userIdOfName(name, serverName)
    const account = yield* store.find(userId)
    return Option.isSome(account) ? account.value : yield* new NotFound({ error: `There is no user ${userId}` })
  })

  /** An account that was not deactivated. */
  const active = Effect.fnUntraced(function* (name: string) {
    const account = yield* user(name)
    if (account.deactivatedAt !== undefined) {
      return yield* new BadRequest({ error: `${account.userId} was deactivated` })
    }
    return account
  })

  const emailOf = (email: string | undefined) => {
    if (email === undefined) return Effect.succeed(undefined)
    const address = canonicalEmail(email)
    return address === undefined
      ? Effect.fail(new BadJson({ error: "email: must be an email address, such as alice@example.org" }))
      : Effect.succeed(address)
  }

  const createUser = Effect.fn("Administration.createUser")(function* (options: NewUser) {
    const userId = yield* requestedUserId(options.user, serverName)
    if (serverNotices !== undefined && userId === formatUserId(serverNotices.localpart, serverName)) {
      return yield* new UserInUse({ error: `${userId} sends server notices: choose another name` })
    }
    const { password } = options
    if (password !== undefined) yield* checkPassword(password)
    const address = yield* emailOf(options.email)
    if (address !== undefined && Option.isSome(yield* identities.userOfAddress({ medium: "email", address }))) {
      return yield* new BadRequest({ error: "email: belongs to another user" })
    }
    const passwordHash = password === undefined ? undefined : Redacted.make(yield* passwords.hash(password))
    yield* store.create(userId, { passwordHash, admin: options.admin, displayName: localpartOf(userId) })
    if (address !== undefined) yield* identities.bindAddress(userId, { medium: "email", address })
    return yield* user(userId)
  })

  /** Approves or rejects an account that waits, and sends the decision to its email addresses. */
  const decide = Effect.fnUntraced(function* (name: string, approved: boolean) {
    const { userId } = yield* user(name)
    const addresses = yield* identities.addressesOf(userId)
    if (!(yield* store.decide(userId, approved))) return yield* notWaiting(userId)
    if (!approved) yield* endings.deactivate(userId)
    const template = approved ? "registration-approved" : "registration-rejected"
    const emails = addresses.filter(({ medium }) => medium === "email")
    yield* Effect.forEach(emails, ({ address }) => mailer.send(address, template, { server: serverName, user: userId }))
    return userId
  })

  const createToken = Effect.fn("Administration.createToken")(function* (options: NewToken) {
    const token = options.token ?? Redacted.make(randomBytes(18).toString("base64url"))
    const tokenId = randomBytes(6).toString("hex")
    const now = yield* Clock.currentTimeMillis
    const uses = options.uses ?? 1
    const created = yield* tokens.create({
      token,
      tokenId,
      usesAllowed: uses === "unlimited" ? undefined : uses,
      expiresAt: options.validFor === undefined ? undefined : now + options.validFor
    })
    if (!created) return yield* new BadRequest({ error: "token: there is such a registration token already" })
    return { token, tokenId }
  })

  const token = Effect.fnUntraced(function* (idOrSecret: string) {
    const found = yield* tokens.find(idOrSecret)
    return found ?? (yield* new NotFound({ error: "There is no such registration token" }))
  })

  return Administration.of({
    requireAdmin,
    user,
    createUser,
    createToken,
    users: (after) =>
      Effect.map(store.list({ after, limit: pageSize + 1 }), (accounts) => ({
        accounts: accounts.slice(0, pageSize),
        next: accounts.length > pageSize ? accounts[pageSize - 1]?.userId : undefined
      })),
    setAdmin: (name, admin) => Effect.flatMap(active(name), ({ userId }) => store.setAdmin(userId, admin)),
    setStanding: Effect.fn("Administration.setStanding")(function* (name, change) {
      const { admin, userId } = yield* active(name)
      yield* checkStanding(admin, change)
      yield* standings.set(userId, change)
    }),
    sendNotice: (name, text) =>
      Effect.flatMap(active(name), ({ userId }) => notices.add(userId, { msgtype: "m.text", body: text })),
    resetPassword: (name, password) =>
      Effect.flatMap(active(name), ({ userId }) => endings.setPassword(userId, password)),
    deactivate: (name) => Effect.flatMap(user(name), ({ userId }) => endings.deactivate(userId)),
    waiting: store.awaitingApproval(maxWaiting),
    approve: (name) => decide(name, true),
    reject: (name) => decide(name, false),
    devices: (name) => Effect.flatMap(user(name), ({ userId }) => endings.devicesOf(userId)),
    removeDevice: (name, deviceId) =>
      Effect.flatMap(user(name), ({ userId }) => endings.logoutDevice(userId, deviceId)),
    tokens: tokens.list,
    token,
    updateToken: (idOrSecret, change) =>
      Effect.flatMap(token(idOrSecret), ({ tokenId }) => Effect.asVoid(tokens.update(tokenId, change))),
    removeToken: (tokenId) =>
      Effect.flatMap(tokens.remove(tokenId), (removed) =>
        removed ? Effect.void : Effect.fail(new NotFound({ error: "There is no such registration token" }))
      )
  })
})

/** The operations of `Accounts` that the command line needs, on the database alone. */
const endingsOnStores = Effect.gen(function* () {
  const login = yield* LoginConfig
  const checkPassword = passwordCheck(login)
  const store = yield* AccountStore
  const passwords = yield* Passwords
  const endings: Endings = {
    setPassword: Effect.fnUntraced(function* (userId, password) {
      yield* checkPassword(password)
      yield* store.replacePassword(userId, Redacted.make(yield* passwords.hash(password)))
    }),
    deactivate: (userId) => Effect.andThen(store.deactivate(userId), store.signalDeactivations),
    logoutDevice: Effect.fnUntraced(function* (userId, deviceId) {
      const found = (yield* store.devices(userId)).filter((device) => device.deviceId === deviceId)
      if (found.length === 0) return yield* new NotFound({ error: "There is no such device" })
      for (const { tokenId } of found) yield* store.revoke(userId, tokenId)
      return found.map(({ tokenId }) => tokenId)
    }),
    devicesOf: (userId) =>
      Effect.map(store.devices(userId), (rows) =>
        rows.map((row) => ({
          device_id: row.deviceId,
          last_seen_ts: row.lastUsedAt,
          ...(row.name === undefined ? {} : { display_name: row.name })
        }))
      )
  }
  return endings
})

/** Accounts and registration tokens for administrators. `requireAdmin` checks the caller, the other methods do not. */
export class Administration extends Context.Service<
  Administration,
  {
    /** Errors: M_FORBIDDEN for users who are not administrators, M_USER_SUSPENDED for locked or suspended ones. */
    readonly requireAdmin: (session: Session) => Effect.Effect<void, MatrixError>
    /** Accounts in the order of their user IDs; `next` is the position after this page. */
    readonly users: (
      after: UserId | undefined
    ) => Effect.Effect<{ readonly accounts: ReadonlyArray<Account>; readonly next: UserId | undefined }>
    /** `user` is a localpart or a whole user ID, here and below. Errors: M_NOT_FOUND. */
    readonly user: (user: string) => Effect.Effect<Account, MatrixError>
    /** Errors: M_USER_IN_USE, M_INVALID_USERNAME, M_BAD_JSON, M_UNKNOWN. */
    readonly createUser: (options: NewUser) => Effect.Effect<Account, MatrixError>
    /** Makes a user an administrator, or an ordinary user again. Errors: M_NOT_FOUND. */
    readonly setAdmin: (user: string, admin: boolean) => Effect.Effect<void, MatrixError>
    /** Locks, unlocks, suspends or unsuspends an account. Errors: those of `checkStanding`; M_NOT_FOUND. */
    readonly setStanding: (user: string, change: StandingChange) => Effect.Effect<void, MatrixError>
    /** A running server sends the text to the user within seconds. */
    readonly sendNotice: (user: string, text: string) => Effect.Effect<void, MatrixError>
    /** Ends every session of the user. */
    readonly resetPassword: (user: string, password: Redacted.Redacted) => Effect.Effect<void, MatrixError>
    /** Ends the account permanently, with all of its sessions. Errors: M_NOT_FOUND. */
    readonly deactivate: (user: string) => Effect.Effect<void, MatrixError>
    /** The accounts that wait for approval, the oldest first, 1,000 at most. */
    readonly waiting: Effect.Effect<ReadonlyArray<Account>>
    /** Approves a new account, and notifies its email addresses. Errors: M_UNKNOWN if it does not wait, M_NOT_FOUND. */
    readonly approve: (user: string) => Effect.Effect<UserId, MatrixError>
    /** Rejects a new account. Its user ID cannot be registered again. Errors as for `approve`. */
    readonly reject: (user: string) => Effect.Effect<UserId, MatrixError>
    /** The devices of a user. Errors: M_NOT_FOUND. */
    readonly devices: (user: string) => Effect.Effect<ReadonlyArray<Device>, MatrixError>
    /** Ends the session of a device, and returns its token IDs. */
    readonly removeDevice: (user: string, deviceId: string) => Effect.Effect<ReadonlyArray<number>, MatrixError>
    /** All registration tokens, without their secrets. */
    readonly tokens: Effect.Effect<ReadonlyArray<RegistrationToken>>
    /** Creates a registration token, and returns its secret. Errors: M_UNKNOWN if there is such a token already. */
    readonly createToken: (
      options: NewToken
    ) => Effect.Effect<{ readonly token: Redacted.Redacted; readonly tokenId: string }, MatrixError>
    /** By its ID or its secret. Errors: M_NOT_FOUND. */
    readonly token: (idOrSecret: string) => Effect.Effect<RegistrationToken, MatrixError>
    /** Undefined fields keep their value; null removes a limit. Errors: M_NOT_FOUND. */
    readonly updateToken: (
      idOrSecret: string,
      change: Parameters<RegistrationTokenStore["Service"]["update"]>[1]
    ) => Effect.Effect<void, MatrixError>
    /** Removes a registration token by its ID. Errors: M_NOT_FOUND. */
    readonly removeToken: (tokenId: string) => Effect.Effect<void, MatrixError>
  }
>()("greenroom/actors/Administration") {
  /** In a running home server, whose `Accounts` end sessions and accounts. Only a server loads them. */
  static readonly layer = <R>(endings: Effect.Effect<Endings, never, R>) =>
    Layer.effect(Administration, Effect.flatMap(endings, make)).pipe(Layer.provide(Mailer.layer))

  /** Without a running home server. A running one sends the mails, or the next one that starts. */
  static readonly layerOnStores = Layer.effect(Administration, Effect.flatMap(endingsOnStores, make)).pipe(
    Layer.provide(Mailer.layer)
  )
}
