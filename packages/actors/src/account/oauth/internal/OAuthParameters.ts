/**
 * The parameters of requests to the OAuth 2.0 API.
 *
 * Source: RFC 6749, 3.1 and 3.2.
 */
import { Effect } from "effect"
import { type OAuthError, oauthError } from "../OAuthError.ts"

/** The parameters of a request, from its query or its form. */
export type Params = URLSearchParams

/** A parameter that must occur exactly once. */
export const required = (params: Params, key: string): Effect.Effect<string, OAuthError> => {
  const values = params.getAll(key)
  const [value] = values
  return value !== undefined && value !== "" && values.length === 1
    ? Effect.succeed(value)
    : Effect.fail(oauthError("invalid_request", `${key}: expected once`))
}
