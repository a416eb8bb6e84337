/** Requests of clients, pages and devices to `OAuthServer`, and its answers. */
import type { ClientMetadata } from "./ClientMetadata.ts"

/** A client with the ID of its registration. */
export interface OAuthClient extends ClientMetadata {
  readonly client_id: string
}

/** How a page refers to its authorisation: by its secret, or by the code that the user types. */
export type Reference = { readonly id: string } | { readonly userCode: string }

/** The request that a user is asked to approve. */
export interface Question {
  readonly client: OAuthClient
  readonly deviceId: string
  /** The origin to which the browser goes afterwards; undefined for a device that shows a code. */
  readonly redirectUri: string | undefined
  readonly create: boolean
}

/** An authorisation request that is refused. */
export interface RefusedRequest {
  readonly description: string
  /** The URI of the client with the error. */
  readonly back: string
}

/** The outcome of an authorisation request: the page asks the user, or shows the reason of the refusal. */
export type Begun = { readonly id: string } | { readonly refused: RefusedRequest }

/** The answer of the token endpoint. */
export interface TokenAnswer {
  readonly access_token: string
  readonly token_type: "Bearer"
  /** Seconds. */
  readonly expires_in: number
  readonly refresh_token: string
  readonly scope: string
  /** For clients of OpenID Connect, which asked for the scope `openid`. */
  readonly id_token?: string
}

/** The key that verifies ID tokens (RFC 7517). */
export interface IdTokenJwk {
  readonly kty: string
  readonly n: string
  readonly e: string
  readonly alg: "RS256"
  readonly use: "sig"
  readonly kid: string
}

/** The public keys that verify ID tokens, as a JWK set. */
export interface IdTokenKeys {
  readonly keys: ReadonlyArray<IdTokenJwk>
}

/** The answer of the device authorisation endpoint. */
export interface DeviceAnswer {
  readonly device_code: string
  readonly user_code: string
  /** Seconds. */
  readonly expires_in: number
  readonly interval: number
}
