/**
 * Login by today's client API: by password or by a login token, in one request.
 *
 * Source: "Login" of the client-server specification.
 */
import type { JsonObject } from "@greenroom/protocol/Json"
import { BadRequest, Forbidden, type MatrixError, MissingParam } from "@greenroom/protocol/MatrixError"
import { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Context, Effect, Layer, Redacted } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { Accounts } from "./Accounts.ts"
import { appServiceLogin } from "./AppServiceAccounts.ts"
import type { Credentials, LoginDevice, VerifiedUser } from "./Credentials.ts"
import { LoginConfig } from "./login/LoginConfig.ts"
import { loginFlowsOf } from "./login/LoginOptions.ts"
import { LoginThrottle } from "./login/LoginThrottle.ts"
import { SsoLogins } from "./login/SsoLogins.ts"
import { PasswordCheck } from "./PasswordCheck.ts"
import { userOfIdentifier } from "./UserIdentifier.ts"

/** A login request of today's client API. */
export interface LoginRequest extends LoginDevice {
  /** `type`, and the keys of the type: `identifier` and `password`, or `token`. */
  readonly body: JsonObject
  /** The network address of the client. */
  readonly address: string
}

/** A login type as clients read it. */
export type LoginType = JsonObject & { readonly type: string }

/**
 * The login on the page of this server. It is marked as the one to prefer for clients that know of the OAuth 2.0 API without speaking it
 * (`oauth_aware_preferred`): they get what the page offers, and lead their users to the page of the account. Clients of 2022 to 2025 know
 * the second name.
 */
const pageLogin: LoginType = {
  type: "m.login.sso",
  oauth_aware_preferred: true,
  "org.matrix.msc3824.delegated_oidc_compatibility": true
}

const make = Effect.gen(function* () {
  const { appServices = [] } = yield* HomeServerConfig
  const login = yield* LoginConfig
  const accounts = yield* Accounts
  const identities = yield* UserIdentityStore
  const passwords = yield* PasswordCheck
  const throttle = yield* LoginThrottle
  const sso = yield* SsoLogins
  const byPassword =
    login.oauth !== "on" && loginFlowsOf(login).some((flow) => flow.length === 1 && flow[0] === "m.login.password")

  const withPassword = Effect.fnUntraced(function* ({ address, body }: LoginRequest) {
    if (!byPassword) return yield* new Forbidden({ error: "This server does not accept a password alone" })
    if (typeof body.password !== "string") return yield* new MissingParam({ error: "password: missing key" })
    const user = yield* userOfIdentifier(body, identities)
    if (user === undefined) return yield* new MissingParam({ error: "identifier: missing key" })
    return yield* passwords.check(user, Redacted.make(body.password), address)
  })

  const withToken = Effect.fnUntraced(function* ({ address, body }: LoginRequest) {
    if (typeof body.token !== "string") return yield* new MissingParam({ error: "token: missing key" })
    return yield* throttle.attempt(`login token ${address}`, address, accounts.takeLoginToken(body.token))
  })

  const identify = (
    request: LoginRequest
  ): Effect.Effect<Pick<VerifiedUser, "userId"> & Pick<LoginDevice, "passwordHash">, MatrixError> => {
    switch (request.body.type) {
      case "m.login.password":
        return withPassword(request)
      case "m.login.token":
        return withToken(request)
      default:
        return Effect.fail(
          new BadRequest({ error: `type: ${JSON.stringify(request.body.type)} is not among the login types` })
        )
    }
  }

  return Login.of({
    types: [
      ...(byPassword ? [{ type: "m.login.password" }] : []),
      ...(sso.providers.length === 0 ? [] : [{ type: "m.login.sso", identity_providers: sso.providers }]),
      ...(sso.byPage ? [pageLogin] : []),
      ...(appServices.length === 0 ? [] : [{ type: appServiceLogin }]),
      { type: "m.login.token", get_login_token: true }
    ],
    login: Effect.fn("Login.login")((request: LoginRequest) =>
      Effect.flatMap(identify(request), ({ passwordHash, userId }) =>
        accounts.openSession(userId, { ...request, passwordHash })
      )
    )
  })
})

/** Login by today's client API. */
export class Login extends Context.Service<
  Login,
  {
    /** The login types that `GET /login` lists. */
    readonly types: ReadonlyArray<LoginType>
    /** Errors: M_FORBIDDEN, M_MISSING_PARAM, M_USER_DEACTIVATED, M_LIMIT_EXCEEDED, M_UNKNOWN for an unknown type. */
    readonly login: (request: LoginRequest) => Effect.Effect<Credentials, MatrixError>
  }
>()("greenroom/actors/Login") {
  static readonly layer = Layer.effect(Login, make).pipe(Layer.provide(PasswordCheck.layer))
}
