/**
 * Accounts of application services: a service registers users in its namespaces without a password, and logs in as them.
 *
 * Source: "Server admin style permissions" of the application service API.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Exclusive, Forbidden, type MatrixError, MissingParam, UnknownToken } from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { Context, Effect, Layer, Option, Redacted } from "effect"
import { AppServiceBackOff } from "../app-service/AppServiceBackOff.ts"
import { AppServices } from "../app-service/AppServices.ts"
import { Accounts } from "./Accounts.ts"
import type { Credentials, LoginDevice } from "./Credentials.ts"

/** The login type of application services. */
export const appServiceLogin = "m.login.application_service"

const make = Effect.gen(function* () {
  const services = yield* AppServices
  const backOff = yield* AppServiceBackOff
  const accounts = yield* Accounts
  const store = yield* AccountStore

  const serviceOf = Effect.fnUntraced(function* (token: Redacted.Redacted) {
    const service = services.withToken(Redacted.value(token))
    if (service === undefined) {
      return yield* new UnknownToken({ error: "The access token does not belong to an application service" })
    }
    yield* backOff.heardFrom(service.id)
    return service
  })

  const register = Effect.fn("AppServiceAccounts.register")(function* (
    token: Redacted.Redacted,
    username: string | undefined,
    device: LoginDevice | undefined
  ): Effect.fn.Return<Credentials | { readonly user_id: UserId }, MatrixError> {
    const service = yield* serviceOf(token)
    if (username === undefined) return yield* new MissingParam({ error: "username: missing key" })
    const wanted = yield* accounts.chooseUserId(username, service)
    const userId = yield* accounts.create({ userId: wanted, isNamed: true })
    return device === undefined ? { user_id: userId } : yield* accounts.openSession(userId, device)
  })

  const login = Effect.fn("AppServiceAccounts.login")(function* (
    token: Redacted.Redacted,
    user: string | undefined,
    device: LoginDevice
  ) {
    const service = yield* serviceOf(token)
    const userId = user === undefined ? service.sender : accounts.toUserId(user)
    if (userId === undefined || !service.hasUser(userId)) {
      return yield* new Exclusive({ error: `${user} is outside the namespaces of the application service` })
    }
    if (Option.isNone(yield* store.find(userId))) {
      return yield* new Forbidden({ error: `${userId} is not registered: register the user first` })
    }
    return yield* accounts.openSession(userId, device)
  })

  return AppServiceAccounts.of({ register, login })
})

/** Registration and login of application services, without passwords. */
export class AppServiceAccounts extends Context.Service<
  AppServiceAccounts,
  {
    /** If `device` is set, the user is also logged in. Errors: M_UNKNOWN_TOKEN, M_EXCLUSIVE, M_USER_IN_USE, M_INVALID_USERNAME. */
    readonly register: (
      token: Redacted.Redacted,
      username: string | undefined,
      device: LoginDevice | undefined
    ) => Effect.Effect<Credentials | { readonly user_id: UserId }, MatrixError>
    /**
     * Logs in as the named user, or as the user of the service itself. Errors: M_UNKNOWN_TOKEN, M_EXCLUSIVE; M_FORBIDDEN if there is no
     * such user.
     */
    readonly login: (
      token: Redacted.Redacted,
      user: string | undefined,
      device: LoginDevice
    ) => Effect.Effect<Credentials, MatrixError>
  }
>()("greenroom/actors/AppServiceAccounts") {
  static readonly layer = Layer.effect(AppServiceAccounts, make)
}
