/**
 * Access tokens: reads the token of a request, and finds its session.
 *
 * Source: "Registration and login" of the draft, "Using access tokens" of the client-server specification.
 */
import { Accounts } from "@greenroom/actors/account/Accounts"
import { AppServiceSessions, type Assertion } from "@greenroom/actors/app-service/AppServiceSessions"
import { AppServices } from "@greenroom/actors/app-service/AppServices"
import type { Session } from "@greenroom/actors/runtime/Session"
import { type MatrixError, MissingToken } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { RateLimit } from "../RateLimit.ts"

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

type Parameter = string | ReadonlyArray<string> | null | undefined

const single = (parameter: Parameter): string | undefined =>
  (typeof parameter === "object" ? parameter?.[0] : parameter) || undefined

/** The user as whom an application service acts, by the query parameters of its request. */
const assertionIn = (parameter: (name: string) => Parameter): Assertion => ({
  userId: single(parameter("user_id")),
  deviceId: single(parameter("device_id")) ?? single(parameter("org.matrix.msc3202.device_id")),
  ts: single(parameter("ts"))
})

/**
 * Finds the session of a token. For the token of an application service it is that of the user in the query parameters.
 * A token without a session counts against the rate of the address.
 */
export const makeAuthenticate = Effect.gen(function* () {
  const accounts = yield* Accounts
  const limit = yield* RateLimit
  const services = yield* AppServices
  const sessions = yield* AppServiceSessions

  return (
    token: string | undefined,
    address: string,
    parameter: (name: string) => Parameter
  ): Effect.Effect<Session, MatrixError> => {
    const refused = (error: MatrixError) => Effect.andThen(limit.takeFrom("anonymous", address), Effect.fail(error))
    if (token === undefined) return refused(missing)
    const service = services.withToken(token)
    return service === undefined
      ? Effect.catch(accounts.authenticate(token, address), refused)
      : sessions.sessionOf(service, assertionIn(parameter))
  }
})
