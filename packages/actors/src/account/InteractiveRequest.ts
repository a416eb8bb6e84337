/**
 * Requests that need user-interactive authentication: an operation, the flows that authorise it, and the results of their stages.
 *
 * Source: "User-Interactive Authentication API" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { Session } from "../runtime/Session.ts"

/** Stages of a flow in the order in which they are to be passed. */
export type InteractiveFlow = ReadonlyArray<string>

/** The `auth` object of a request. */
export type AuthData = JsonObject

/** The results of the completed stages. */
export interface StageResults {
  /** The SHA-256 of the registration token, as base64. */
  readonly registrationToken?: string
  readonly email?: string
  readonly phoneNumber?: string
  /** The account that has the address, if any. */
  readonly owner?: UserId
}

/** A request under user-interactive authentication. */
export interface InteractiveRequest {
  /** The operation to authorise, such as `POST /delete_devices`. */
  readonly operation: string
  /** The session of the request's access token. Undefined for a registration. */
  readonly session: Session | undefined
  readonly auth: AuthData | undefined
  /** The network address of the client. */
  readonly address: string
  readonly flows: ReadonlyArray<InteractiveFlow>
  /** Parameters that clients need for the stages, by stage type. */
  readonly params?: JsonObject
  /** The parameters of the operation, which the session keeps for requests that leave them out. */
  readonly keep?: JsonObject
}

/** The operations of a registration and of a new password. Without a session, the user of a new password proves an address. */
export const registering = "POST /register"
/** The operation of setting a new password without a login. */
export const resettingPassword = "POST /account/password"
