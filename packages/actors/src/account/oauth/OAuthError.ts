/**
 * The error answers of the OAuth 2.0 API: `{"error": "invalid_grant", "error_description": "..."}`.
 *
 * Source: RFC 6749, 5.2; RFC 7591, 3.2.2; RFC 8628, 3.5.
 */
import { Data } from "effect"

/** The error codes of RFC 6749, RFC 7591 and RFC 8628. */
export type OAuthErrorCode =
  | "invalid_request"
  | "invalid_client"
  | "invalid_grant"
  | "invalid_scope"
  | "invalid_redirect_uri"
  | "invalid_client_metadata"
  | "unsupported_grant_type"
  | "unsupported_response_type"
  | "authorization_pending"
  | "slow_down"
  | "access_denied"
  | "expired_token"

/** An error of the OAuth 2.0 API. */
export class OAuthError extends Data.TaggedError("OAuthError")<{
  readonly error: OAuthErrorCode
  readonly description: string
}> {
  override get message(): string {
    return `${this.error}: ${this.description}`
  }
}

/** An `OAuthError` with its description. */
export const oauthError = (error: OAuthErrorCode, description: string) => new OAuthError({ error, description })
