/**
 * Accounts: registration, login, tokens, passwords, deactivation.
 *
 * Source: "Registration and login" of the draft, "Account registration" and "Login" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { MatrixError, UserInUse } from "@greenroom/protocol/MatrixError"
import type { LoginGrantor, NewAccountOptions } from "@greenroom/store/AccountStore"
import { Context, Effect, Layer, Option, type Redacted } from "effect"
import type { AppService } from "../app-service/AppServices.ts"
import type { Session } from "../runtime/Session.ts"
import {
  type Credentials,
  type Device,
  type LoginDevice,
  type RefreshedTokens,
  type VerifiedUser,
  wrongCredentials
} from "./Credentials.ts"
import { type AccountRequest, makeAccountCreation } from "./internal/AccountCreation.ts"
import { makeAccountPasswords, type PasswordChange } from "./internal/AccountPasswords.ts"
import { makeAccountSessions } from "./internal/AccountSessions.ts"
import { makeDeactivations } from "./internal/Deactivations.ts"

const make = Effect.gen(function* () {
  const sessions = yield* makeAccountSessions
  const passwords = yield* makeAccountPasswords(sessions)
  const creation = yield* makeAccountCreation(sessions, passwords)
  const deactivations = yield* makeDeactivations(sessions)

  const login = Effect.fn("Accounts.login")(function* (options: {
    readonly user: string
    readonly password: Redacted.Redacted
    readonly deviceName?: string
  }) {
    const verified = yield* passwords.verifyPassword(options.user, options.password)
    if (Option.isNone(verified)) return yield* wrongCredentials
    const { passwordHash, userId } = verified.value
    return yield* sessions.openSession(userId, { ...options, passwordHash })
  })

  return Accounts.of({ login, ...sessions, ...passwords, ...creation, ...deactivations })
})

/** Accounts and their sessions: registration, login, access tokens, passwords, devices, deactivation. */
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
     * The session of an access token that was used from a network address. Served from memory after the first time.
     * Errors: M_UNKNOWN_TOKEN, with `soft_logout` for one that has expired.
     */
    readonly authenticate: (token: string, address?: string | undefined) => Effect.Effect<Session, MatrixError>
    /** Ends this session. */
    readonly logout: (session: Session) => Effect.Effect<void>
    /** Ends all sessions of the user. */
    readonly logoutAll: (session: Session) => Effect.Effect<void>
    /** Ends every session of the user but this one, and returns the token IDs of the ended ones. */
    readonly logoutOthers: (session: Session) => Effect.Effect<ReadonlyArray<number>>
    /** Ends the session of one device, and returns its token IDs. Errors: M_NOT_FOUND. */
    readonly logoutDevice: (userId: UserId, deviceId: string) => Effect.Effect<ReadonlyArray<number>, MatrixError>
    /** Ends the sessions of those of the devices that exist, and returns their token IDs. */
    readonly logoutDevices: (userId: UserId, deviceIds: Iterable<string>) => Effect.Effect<ReadonlyArray<number>>
    /** The devices of the user, each with its last use. */
    readonly devices: (session: Session) => Effect.Effect<ReadonlyArray<Device>>
    /** The devices of any user, for administrators. */
    readonly devicesOf: (userId: UserId) => Effect.Effect<ReadonlyArray<Device>>
    /**
     * Checks the old password, ends every other session, and returns the token IDs of the ended ones. Errors: M_FORBIDDEN, M_BAD_JSON,
     * M_LIMIT_EXCEEDED.
     */
    readonly changePassword: (
      session: Session,
      change: PasswordChange
    ) => Effect.Effect<ReadonlyArray<number>, MatrixError>
    /**
     * Sets the password of a user who has proved their identity, and ends all other sessions if wanted. Returns the token IDs of the
     * ended sessions. Errors: M_BAD_JSON.
     */
    readonly replacePassword: (
      session: Session,
      password: Redacted.Redacted,
      options: { readonly logoutOthers: boolean }
    ) => Effect.Effect<ReadonlyArray<number>, MatrixError>
    /**
     * Deactivates the account: deletes tokens, keys, account data, presence and profile, and leaves its rooms. The user
     * ID cannot be registered again. With `erase` its files are deleted too, and its events are shown without content to users who were not
     * in the room.
     */
    readonly unregister: (session: Session, erase?: boolean) => Effect.Effect<void, MatrixError>
    /** `unregister` by an operator. */
    readonly deactivate: (userId: UserId, erase?: boolean) => Effect.Effect<void, MatrixError>
    /**
     * Does what is left of the deactivation of an account, for a request whose session has ended while it was handled. Does nothing for
     * an active account.
     */
    readonly finishDeactivation: (userId: UserId) => Effect.Effect<void>
    /** Sets a password in the name of an operator, and ends every session. Errors: M_BAD_JSON. */
    readonly setPassword: (userId: UserId, password: Redacted.Redacted) => Effect.Effect<void, MatrixError>

    // The parts of logins and registrations of several stages (`LoginFlows`).

    /**
     * The user ID for a user ID or a localpart of this server, whether the user exists or not. Capitals become small letters.
     */
    readonly toUserId: (user: string) => UserId | undefined
    /** The user ID that a registration requests. Errors: M_USER_IN_USE, M_INVALID_USERNAME. */
    readonly chooseUserId: (requested: string, caller?: AppService) => Effect.Effect<UserId, MatrixError>
    /** Errors: M_BAD_JSON for a password that is too short or too long. */
    readonly hashPassword: (password: Redacted.Redacted) => Effect.Effect<Redacted.Redacted, MatrixError>
    /** The user, if the password is right. Takes the same time whether the user exists or not. */
    readonly verifyPassword: (user: string, password: Redacted.Redacted) => Effect.Effect<Option.Option<VerifiedUser>>
    /** Creates an account. Errors: M_USER_IN_USE. */
    readonly create: (request: AccountRequest) => Effect.Effect<UserId, UserInUse>
    /** Creates an account of a guest, and logs in on it. Errors: M_GUEST_ACCESS_FORBIDDEN if guests are off. */
    readonly registerGuest: (device: LoginDevice) => Effect.Effect<Credentials, MatrixError>
    /**
     * The guest of an access token, for an account under `username`, which must be the name of the guest. Errors:
     * M_UNKNOWN_TOKEN, M_FORBIDDEN, M_INVALID_USERNAME.
     */
    readonly guestOf: (token: string, username: string | undefined) => Effect.Effect<UserId, MatrixError>
    /**
     * Turns the account of a guest into a regular one; ends its sessions. Made in a transaction of the caller. The result is run when
     * that is committed, and waits until every node refuses these sessions. Errors: M_FORBIDDEN.
     */
    readonly upgradeGuest: (
      userId: UserId,
      options: Pick<NewAccountOptions, "passwordHash" | "awaitingApproval">
    ) => Effect.Effect<Effect.Effect<void>, MatrixError>
    /** Logs in a user who has proved their identity. Errors: M_USER_DEACTIVATED, M_USER_LOCKED. */
    readonly openSession: (userId: UserId, device?: LoginDevice) => Effect.Effect<Credentials, MatrixError>
    /**
     * The next tokens of a login. The present ones stay valid until one of the next is used. In the OAuth 2.0 API, reuse of a refresh
     * token after that ends the login. Errors: M_UNKNOWN_TOKEN.
     */
    readonly refresh: (refreshToken: string, clientId?: string) => Effect.Effect<RefreshedTokens, MatrixError>
    /** Ends the login of an access token or a refresh token, and returns its token ID, if there was one. */
    readonly revokeSecret: (secret: string) => Effect.Effect<ReadonlyArray<number>>
    /**
     * A token by which another client of the user logs in, once, within two minutes. Errors: M_UNKNOWN_TOKEN if the session or the
     * password that grants it is not valid any more.
     */
    readonly createLoginToken: (
      userId: UserId,
      grantedBy?: LoginGrantor
    ) => Effect.Effect<{ readonly login_token: string; readonly expires_in_ms: number }, MatrixError>
    /** Consumes a login token and returns its user, and the password that must not have changed at the login. Errors: M_FORBIDDEN. */
    readonly takeLoginToken: (
      token: string
    ) => Effect.Effect<Pick<LoginDevice, "passwordHash"> & Pick<VerifiedUser, "userId">, MatrixError>
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
