/**
 * Accounts: registration, login, tokens. A token is a secret of 32 random bytes; only its hash is stored.
 *
 * Source: "Registration and login" of the specification.
 */
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Context, type Effect, type Redacted } from "effect"
import type { Session } from "./Session.ts"

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
>()("greenroom/actors/Accounts") {}
