/**
 * Registration by today's client API: user-interactive authentication with the operator's flows, then the account, then
 * a login on it.
 *
 * Source: "Account registration" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Forbidden, type MatrixError, MissingParam } from "@greenroom/protocol/MatrixError"
import { RegistrationTokenStore } from "@greenroom/store/RegistrationTokenStore"
import { hashOfSecret } from "@greenroom/store/Secrets"
import { Context, Effect, Layer, Redacted } from "effect"
import { Accounts } from "./Accounts.ts"
import { awaitingApproval, type Credentials, type LoginDevice } from "./Credentials.ts"
import { type BegunRegistration, type InteractionRequired, InteractiveAuth } from "./InteractiveAuth.ts"
import { type AuthData, registering } from "./InteractiveRequest.ts"
import { makeAccountCreation } from "./login/LoginCompletion.ts"
import { LoginConfig } from "./login/LoginConfig.ts"

/** A registration request of today's client API. */
export interface RegistrationRequest extends LoginDevice {
  /** A localpart, or a whole user ID of this server; without it the server allocates one. */
  readonly username: string | undefined
  readonly password: Redacted.Redacted | undefined
  /** The access token of a guest whose account becomes a regular one; `username` is the name of the guest. */
  readonly guestToken?: string | undefined
  /** Makes the account without logging in. */
  readonly inhibitLogin: boolean
  readonly auth: AuthData | undefined
  /** The account that the session of `auth` has created: the request is a repeat. */
  readonly registered?: UserId | undefined
  /** The parameters that the session keeps for requests that leave them out. */
  readonly keep?: JsonObject
  /** The network address of the client. */
  readonly address: string
}

/** A new account, and the login on it unless that was inhibited. */
export type Registered = Credentials | { readonly user_id: UserId }

const closed = new Forbidden({ error: "Registration is closed on this server" })

const make = Effect.gen(function* () {
  const accounts = yield* Accounts
  const interactive = yield* InteractiveAuth
  const { createAccount } = yield* makeAccountCreation
  const tokens = yield* RegistrationTokenStore
  const { registrationFlows: flows } = interactive
  const { registrationApproval } = yield* LoginConfig

  const register = Effect.fn("Registration.register")(function* (
    request: RegistrationRequest
  ): Effect.fn.Return<Registered, MatrixError | InteractionRequired> {
    if (flows.length === 0) return yield* closed
    const { address, auth, keep, password, registered, username } = request
    if (registered !== undefined) return yield* loggedIn(registered, request)
    const guest = request.guestToken === undefined ? undefined : yield* accounts.guestOf(request.guestToken, username)
    const isNamed = username !== undefined && guest === undefined
    const wanted = isNamed ? yield* accounts.chooseUserId(username) : undefined
    const { finishAs, results } = yield* interactive.authorise({
      operation: registering,
      session: undefined,
      auth,
      address,
      flows,
      ...(keep === undefined ? {} : { keep })
    })
    if (password === undefined) return yield* new MissingParam({ error: "password: missing key" })
    const passwordHash = Redacted.value(yield* accounts.hashPassword(password))
    const userId = yield* createAccount(
      { ...results, wanted, guest, passwordHash },
      { isNamed: true, within: (account) => Effect.tap(account, ({ userId }) => finishAs(userId)) }
    )
    return yield* loggedIn(userId, request)
  })

  const loggedIn = Effect.fnUntraced(function* (
    userId: UserId,
    request: RegistrationRequest
  ): Effect.fn.Return<Registered, MatrixError> {
    if (!request.inhibitLogin) return yield* accounts.openSession(userId, request)
    return registrationApproval ? yield* awaitingApproval : { user_id: userId }
  })

  const nothingBegun = Effect.succeed<BegunRegistration>({ parameters: {}, registered: undefined })

  return Registration.of({
    register,
    begun: (auth) => (typeof auth?.session === "string" ? interactive.begunRegistration(auth.session) : nothingBegun),
    isTokenValid: (token) => tokens.isValid(hashOfSecret(token)),
    isAvailable: (username) =>
      flows.length === 0 ? Effect.fail(closed) : Effect.asVoid(accounts.chooseUserId(username))
  })
})

/** Registration by today's client API. */
export class Registration extends Context.Service<
  Registration,
  {
    /** Errors: InteractionRequired, M_FORBIDDEN, M_USER_IN_USE, M_INVALID_USERNAME, M_MISSING_PARAM, M_WEAK_PASSWORD; MSC3866_USER_AWAITING_APPROVAL once the account is made. */
    readonly register: (request: RegistrationRequest) => Effect.Effect<Registered, MatrixError | InteractionRequired>
    /** The registration that an earlier request of the session of `auth` began. */
    readonly begun: (auth: AuthData | undefined) => Effect.Effect<BegunRegistration>
    /** Succeeds if the user name can be registered now. Errors: M_USER_IN_USE, M_INVALID_USERNAME, M_FORBIDDEN. */
    readonly isAvailable: (username: string) => Effect.Effect<void, MatrixError>
    /** Whether a registration token can be used now. */
    readonly isTokenValid: (token: Redacted.Redacted) => Effect.Effect<boolean>
  }
>()("greenroom/actors/Registration") {
  static readonly layer = Layer.effect(Registration, make)
}
