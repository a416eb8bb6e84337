/**
 * Accounts: registration, login, logout.
 *
 * Source: "Registration and login" of the draft.
 */
import type { Credentials, LoginAnswer } from "@greenroom/protocol/api/LoginFlow"
import { BadRequest } from "@greenroom/protocol/MatrixError"
import { Effect, Redacted } from "effect"
import type { Transport } from "./Transport.ts"

/** Credentials to register or log in with a password. `user` is a localpart or a whole user ID. */
export interface PasswordLogin {
  readonly user: string
  readonly password: Redacted.Redacted | string
  /** The display name of the device. */
  readonly deviceName?: string
}

const stageOf = ({ deviceName, password, user }: Partial<PasswordLogin>) => ({
  type: "m.login.password",
  ...(user === undefined ? {} : { user }),
  ...(password === undefined ? {} : { password: Redacted.isRedacted(password) ? Redacted.value(password) : password }),
  ...(deviceName === undefined ? {} : { device_name: deviceName })
})

const finished = (answer: LoginAnswer): Effect.Effect<Credentials, BadRequest> =>
  "access_token" in answer
    ? Effect.succeed(answer)
    : Effect.fail(new BadRequest({ error: "The server wants more than a password to log in" }))

export const makeAccountRequests = ({ api, once, repeatable }: Transport) => ({
  /** Creates an account and logs it in. Without `user` the server chooses the ID. Errors: M_USER_IN_USE. */
  register: (options: Omit<PasswordLogin, "user"> & { readonly user?: string }) =>
    Effect.flatMap(once(api.registration.register({ payload: stageOf(options) })), finished),
  /** Errors: M_FORBIDDEN. A login whose answer was lost is repeated; the first token then stays unused. */
  login: (options: PasswordLogin) =>
    Effect.flatMap(repeatable(api.login.login({ payload: stageOf(options) })), finished),
  /** Ends the access token of this client. */
  logout: once(api.login.logout({ payload: undefined })),
  /** Deactivates the account; its user ID cannot be registered again. */
  unregister: once(api.registration.unregister({ payload: undefined })),
  /** The health of the server. */
  health: repeatable(api.system.health({}))
})
