/**
 * The `auth` of a request that needs user-interactive authentication, and the answer that asks for it.
 *
 * Source: "User-Interactive Authentication API" of the client-server specification.
 */
import { Schema } from "effect"
import { AnyPayload } from "../api/Body.ts"

/** `{"type": "m.login.password", "session": "...", ...}`: a stage, or the session alone. */
export const AuthData = AnyPayload.annotate({ identifier: "AuthenticationData" })

/** `auth` of a request that may come without it first. */
export const OptionalAuth = Schema.optionalKey(AuthData)

/** Added to the text of an endpoint. */
export const interactive =
  "Needs user-interactive authentication: without `auth`, or with a flow that is not complete, the answer is 401 with " +
  "`session`, `flows`, `params` and `completed`."
