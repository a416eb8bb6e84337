/**
 * The caller of an endpoint. An access token travels as the query parameter `access_token` or as `Authorization: Bearer`; the
 * gateway's implementation of `Authentication` turns it into the `CurrentSession` of the handler.
 *
 * The middleware reads the token itself, instead of by HttpApi's security schemes, because it does so for every
 * message that is sent. `ClientApi` documents the two schemes.
 *
 * Source: "Registration and login" of the draft, "Using access tokens" of the client-server specification.
 */
import { Context, Effect, Redacted } from "effect"
import { HttpServerRequest } from "effect/http"
import { HttpApiMiddleware } from "effect/http-api"
import type { UserId } from "../Identifiers.ts"
import { MissingToken } from "../MatrixError.ts"
import { wireErrors } from "./WireError.ts"

/** A login: the user, and the access token and device by which they are here. */
export interface ClientSession {
  readonly userId: UserId
  /** Scopes transaction IDs. */
  readonly tokenId: number
  /** Scopes presence. */
  readonly deviceId: string
  /** The client of the OAuth 2.0 API that logged in. */
  readonly clientId?: string
  /** Whether the user is a guest. Absent for everybody else. */
  readonly guest?: boolean
}

/** The session of the request. */
export class CurrentSession extends Context.Service<CurrentSession, ClientSession>()(
  "greenroom/protocol/CurrentSession"
) {}

/** The session of a request that needs no login: undefined if no access token was given. */
export class CurrentViewer extends Context.Service<CurrentViewer, ClientSession | undefined>()(
  "greenroom/protocol/CurrentViewer"
) {}

/** Lets a request through with a valid access token only. Errors: M_MISSING_TOKEN, M_UNKNOWN_TOKEN. */
export class Authentication extends HttpApiMiddleware.Service<Authentication, { provides: CurrentSession }>()(
  "greenroom/protocol/Authentication",
  { error: wireErrors, requiredForClient: true }
) {}

/**
 * Lets a request about this server through without an access token, but not with one that is not valid. Errors:
 * M_UNKNOWN_TOKEN; M_MISSING_TOKEN if another server would have to be asked.
 */
export class OptionalAuthentication extends HttpApiMiddleware.Service<
  OptionalAuthentication,
  { provides: CurrentViewer }
>()("greenroom/protocol/OptionalAuthentication", { error: wireErrors, requiredForClient: true }) {}

/** Annotates the endpoints whose requests may wait for something to happen. */
export const LongPoll = Context.Reference<boolean>("greenroom/protocol/LongPoll", { defaultValue: () => false })

/** Annotates the endpoints whose bodies are files, which may take long to travel. */
export const Transfer = Context.Reference<boolean>("greenroom/protocol/Transfer", { defaultValue: () => false })

/** Annotates the endpoints that only read, although their method is not GET. */
export const ReadOnly = Context.Reference<boolean>("greenroom/protocol/ReadOnly", { defaultValue: () => false })

/** Whether the requests of an endpoint only read. Others may change something. */
export const isReadOnly = ({
  annotations,
  method
}: {
  readonly annotations: Context.Context<never>
  readonly method: string
}): boolean => method === "GET" || Context.get(annotations, ReadOnly)

const bearer = /^bearer +([^ ]+) *$/i

/** The access token of a request, wherever it stands; the query parameter first. Errors: M_MISSING_TOKEN. */
export const accessToken: Effect.Effect<
  Redacted.Redacted,
  MissingToken,
  HttpServerRequest.HttpServerRequest | HttpServerRequest.ParsedSearchParams
> = Effect.gen(function* () {
  const parameter = (yield* HttpServerRequest.ParsedSearchParams).access_token
  const inQuery = typeof parameter === "object" ? parameter[0] : parameter
  const request = yield* HttpServerRequest.HttpServerRequest
  const token = inQuery || bearer.exec(request.headers.authorization ?? "")?.[1]
  return token ? Redacted.make(token) : yield* new MissingToken({ error: "No access_token was given" })
})
