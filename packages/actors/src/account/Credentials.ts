/**
 * Logins as clients receive them: tokens, and the devices that hold them.
 *
 * Source: "Registration and login" of the draft, "Account registration" and "Login" of the client-server specification.
 */
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, UserAwaitingApproval } from "@greenroom/protocol/MatrixError"
import type { Redacted } from "effect"

/** The result of a login. */
export interface Credentials {
  readonly user_id: UserId
  readonly access_token: string
  readonly home_server: ServerName
  readonly device_id: string
  readonly refresh_token?: string
  /** How long the access token is valid, in ms; absent for one that does not expire. */
  readonly expires_in_ms?: number
}

/** The result of a refresh. */
export type RefreshedTokens = Required<Pick<Credentials, "access_token" | "refresh_token" | "device_id">> &
  Pick<Credentials, "expires_in_ms">

/** Options of a login. */
export interface LoginDevice {
  /** The device; if it exists, its earlier tokens end. Default: a new device. */
  readonly deviceId?: string | undefined
  /** Ignored if the device exists. */
  readonly deviceName?: string | undefined
  /** Whether the client renews its access token with a refresh token. */
  readonly refresh?: boolean | undefined
  /** The client of the OAuth 2.0 API that logs in. */
  readonly clientId?: string | undefined
  /** The network address of the client, if known. */
  readonly address?: string | undefined
  /** The hash by which the password was verified: no login with a password that was replaced meanwhile. */
  readonly passwordHash?: Redacted.Redacted | undefined
}

/** A user whose password was verified, and the hash that it was verified by. */
export interface VerifiedUser {
  readonly userId: UserId
  readonly passwordHash: Redacted.Redacted
}

/** A device of a user. */
export interface Device {
  readonly device_id: string
  readonly display_name?: string
  readonly last_seen_ts: number
  /** The address from which the device was used last. */
  readonly last_seen_ip?: string
}

/** The error of a login with a wrong name, address or password. It does not reveal which. */
export const wrongCredentials = new Forbidden({ error: "The user name or the password is wrong" })

/** The answer to a registration that awaits an administrator's approval, and to logins until then. */
export const awaitingApproval = new UserAwaitingApproval({
  error: "An administrator has to approve this account first",
  approval_notice_medium: "org.matrix.msc3866.none"
})
