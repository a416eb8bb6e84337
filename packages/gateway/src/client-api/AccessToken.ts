/**
 * Access tokens: where a request has its own, and whose it is.
 *
 * Source: "Registration and login" of the specification.
 */
import type { Accounts } from "@greenroom/actors/account/Accounts"
import type { Session } from "@greenroom/actors/runtime/Session"
import { type MatrixError, MissingToken } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import type { RateLimit } from "../RateLimit.ts"

const bearer = /^bearer +([^ ]+) *$/i

/** The access token of a request: the query parameter, else the header. */
export const readToken = (
  parameter: string | ReadonlyArray<string> | null | undefined,
  authorization: string | undefined
): string | undefined => {
  const inQuery = typeof parameter === "object" ? parameter?.[0] : parameter
  if (inQuery) return inQuery
  return authorization === undefined ? undefined : bearer.exec(authorization)?.[1]
}

export const missing = new MissingToken({ error: "No access_token was given" })

/** Finds the session of a token. What has none counts against the rate of the address. */
export const makeAuthenticate =
  (accounts: Accounts["Service"], limit: RateLimit["Service"]) =>
  (token: string | undefined, address: string): Effect.Effect<Session, MatrixError> => {
    const refused = (error: MatrixError) => Effect.andThen(limit.takeFrom("anonymous", address), Effect.fail(error))
    return token === undefined ? refused(missing) : Effect.catch(accounts.authenticate(token, address), refused)
  }
