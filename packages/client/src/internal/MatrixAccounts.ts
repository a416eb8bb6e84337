/**
 * Accounts by today's client API: registration, login, logout.
 *
 * Source: "Login" and "Account registration" of the client-server specification.
 */
import type { Registered } from "@greenroom/protocol/client-server/RegistrationApi"
import { BadRequest } from "@greenroom/protocol/MatrixError"
import { Effect, Redacted } from "effect"
import type { MatrixTransport } from "./MatrixTransport.ts"

interface Device {
  /** A device that is known is logged in anew. */
  readonly deviceId?: string
  /** The display name of the device. */
  readonly deviceName?: string
}

/** `user` is a localpart or a whole user ID. */
export interface MatrixLogin extends Device {
  readonly user: string
  readonly password: Redacted.Redacted | string
}

/** Without `user` the server chooses the ID. */
export interface MatrixRegistration extends Device {
  readonly user?: string
  readonly password: Redacted.Redacted | string
}

const plain = (password: Redacted.Redacted | string) =>
  Redacted.isRedacted(password) ? Redacted.value(password) : password

const device = ({ deviceId, deviceName }: Device) => ({
  ...(deviceId === undefined ? {} : { device_id: deviceId }),
  ...(deviceName === undefined ? {} : { initial_device_display_name: deviceName })
})

const withToken = (registered: Registered) =>
  registered.access_token === undefined
    ? Effect.fail(new BadRequest({ error: "The server did not log the new account in" }))
    : Effect.succeed({ ...registered, access_token: registered.access_token })

export const makeMatrixAccounts = ({ api, once, repeatable }: MatrixTransport) => ({
  /**
   * Creates an account and logs it in, where the server wants nothing but a password. Errors: M_USER_IN_USE, M_INVALID_USERNAME,
   * M_FORBIDDEN if registration is closed.
   */
  register: (options: MatrixRegistration) =>
    Effect.flatMap(
      once(
        api["clientServer.registration"].register({
          query: {},
          payload: {
            auth: { type: "m.login.dummy" },
            ...(options.user === undefined ? {} : { username: options.user }),
            password: plain(options.password),
            ...device(options)
          }
        })
      ),
      withToken
    ),
  /** Errors: M_FORBIDDEN, M_USER_DEACTIVATED. A login whose answer was lost is repeated; the first token then stays unused. */
  login: (options: MatrixLogin) =>
    repeatable(
      api["clientServer.login"].login({
        payload: {
          type: "m.login.password",
          identifier: { type: "m.id.user", user: options.user },
          password: plain(options.password),
          ...device(options)
        }
      })
    ),
  /** Ends the access token of this client. */
  logout: once(api["clientServer.session"].logout({ payload: undefined })),
  /** The user and device of this access token. Errors: M_UNKNOWN_TOKEN. */
  whoami: repeatable(api["clientServer.session"].whoami({})),
  /** Versions of the specification that the server knows, and unstable features. */
  versions: repeatable(api["clientServer.versions"].versions({}))
})
