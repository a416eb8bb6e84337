/**
 * New accounts: registration, allocated names, guests.
 *
 * Source: "Registration and login" of the draft, "Guest Access" of the client-server specification.
 */
import { formatUserId, localpartOf, type UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, GuestAccessForbidden, InvalidUsername, UserInUse } from "@greenroom/protocol/MatrixError"
import { AccountStore, type NewAccountOptions } from "@greenroom/store/AccountStore"
import { NoticeStore } from "@greenroom/store/NoticeStore"
import { Effect, Option, type Redacted } from "effect"
import { type AppService, AppServices } from "../../app-service/AppServices.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import type { LoginDevice } from "../Credentials.ts"
import { LoginConfig } from "../login/LoginConfig.ts"
import type { AccountPasswords } from "./AccountPasswords.ts"
import type { AccountSessions } from "./AccountSessions.ts"
import { requestedUserId } from "./NewAccount.ts"

interface CreationOptions extends NewAccountOptions {
  readonly isNamed?: boolean | undefined
}

/** A new account. */
export interface AccountRequest {
  /** Without it the server allocates a number. */
  readonly userId?: UserId | undefined
  readonly passwordHash?: Redacted.Redacted | undefined
  readonly awaitingApproval?: boolean | undefined
  /**
   * Whether the localpart becomes the display name. Today's clients show the display name and expect one; the draft's clients show
   * the user ID.
   */
  readonly isNamed?: boolean | undefined
}

export const makeAccountCreation = Effect.fnUntraced(function* (
  { authenticate, openSession, refuseTokens }: AccountSessions,
  { checkPassword, hashPassword }: AccountPasswords
) {
  const { enableRegistration = true, guests = false, serverName, serverNotices } = yield* HomeServerConfig
  const { registrationApproval } = yield* LoginConfig
  const notices = yield* NoticeStore
  const store = yield* AccountStore
  const appServices = yield* AppServices

  const createAs = (userId: UserId, { isNamed = false, ...options }: CreationOptions) =>
    Effect.as(store.create(userId, isNamed ? { ...options, displayName: localpartOf(userId) } : options), userId)

  /** Creates an account whose localpart is the next free number. */
  const allocate = (options: CreationOptions): Effect.Effect<UserId> =>
    Effect.gen(function* () {
      return yield* createAs(formatUserId(yield* store.allocateLocalpart, serverName), options)
    }).pipe(Effect.catchTag("M_USER_IN_USE", () => allocate(options)))

  const registerGuest = Effect.fn("Accounts.registerGuest")(function* (device: LoginDevice) {
    if (!guests) return yield* new GuestAccessForbidden({ error: "This server has no guest accounts" })
    return yield* openSession(yield* allocate({ guest: true }), device)
  })

  const guestOf = Effect.fn("Accounts.guestOf")(function* (token: string, username: string | undefined) {
    const { guest, userId } = yield* authenticate(token)
    if (guest !== true) return yield* new Forbidden({ error: "guest_access_token: not the access token of a guest" })
    if (username === undefined || (yield* requestedUserId(username, serverName)) !== userId) {
      return yield* new InvalidUsername({ error: `username: a guest keeps the name ${localpartOf(userId)}` })
    }
    return userId
  })

  /** Notifies administrators of the first waiting account. Later ones cause no notice, because strangers could flood them. */
  const notifyAdministrators = Effect.fnUntraced(function* (userId: UserId) {
    if (serverNotices === undefined || (yield* store.awaitingApproval(2)).length > 1) return
    const body = `${userId} waits for approval. List all waiting accounts with: greenroom user list --waiting`
    yield* Effect.forEach(yield* store.admins, (admin) => notices.add(admin, { msgtype: "m.text", body }))
  })

  const upgradeGuest = Effect.fn("Accounts.upgradeGuest")(function* (
    userId: UserId,
    options: Pick<NewAccountOptions, "passwordHash" | "awaitingApproval">
  ) {
    if (!(yield* store.upgradeGuest(userId, options))) {
      return yield* new Forbidden({ error: `${userId} is not a guest` })
    }
    if (options.awaitingApproval) yield* notifyAdministrators(userId)
    // The sessions of the user are those of a guest. Nodes hear of their end when the transaction is committed.
    return refuseTokens(yield* store.revokeAll(userId))
  })

  const create = Effect.fn("Accounts.create")(function* ({
    userId,
    ...account
  }: AccountRequest): Effect.fn.Return<UserId, UserInUse> {
    const created = yield* userId === undefined ? allocate(account) : createAs(userId, account)
    if (account.awaitingApproval) yield* notifyAdministrators(created)
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

  const register = Effect.fn("Accounts.register")(function* (options: {
    readonly localpart?: string
    readonly password?: Redacted.Redacted
    readonly deviceName?: string
  }) {
    if (!enableRegistration) return yield* new Forbidden({ error: "Registration is closed on this server" })
    if (options.password !== undefined) yield* checkPassword(options.password)
    const { localpart } = options
    // Checked early to avoid the expensive hash; `create` has the final check.
    const wanted = localpart === undefined ? undefined : yield* chooseUserId(localpart)
    const passwordHash = options.password && (yield* hashPassword(options.password))
    const userId = yield* create({ userId: wanted, passwordHash, awaitingApproval: registrationApproval })
    return yield* openSession(userId, options)
  })

  return { chooseUserId, create, guestOf, register, registerGuest, upgradeGuest }
})
