/**
 * Authenticates requests of the federation API: the signature of a home server is checked before the body is interpreted. In
 * this order, each with its answer:
 *
 * 1. no well-formed X-Matrix header, another destination than us, or us as origin: 401; an origin that is not a server name: 400
 * 2. an origin with which this server does not talk (`FederationConfig`), or that is banned: 403; none of its current keys
 *    is one of those named, or it cannot be asked for its keys: 401
 * 3. the body over its limit: 413 (from `readBody`)
 * 4. the signature is right for the bytes of the body: go on; a body that is not JSON is a 400 then
 * 5. else the body is read, because it may have been signed in another form than it travels: not JSON is a 400, a wrong
 *    signature a 401
 *
 * Source: "Security" of the draft, "Request Authentication" of the server-server specification.
 */

import { parse as parseExact } from "@greenroom/protocol/ExactJson"
import type { AuthenticatedRequest } from "@greenroom/protocol/federation/OriginAuthentication"
import { Unauthorized } from "@greenroom/protocol/federation/OriginAuthentication"
import { hasMalformedOrigin, parseXMatrixHeaders, type XMatrix } from "@greenroom/protocol/federation/XMatrix"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json } from "@greenroom/protocol/Json"
import { BadJson, BadRequest, Forbidden, type MatrixError, NotJson, TooLarge } from "@greenroom/protocol/MatrixError"
import type { VerifyKeys } from "@greenroom/room/Signing"
import { Context, Effect, Layer, Option } from "effect"
import { addressKey } from "../runtime/AddressKey.ts"
import { Bans } from "../runtime/Bans.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { FederationConfig, talksWith } from "./FederationConfig.ts"
import { RemoteKeys } from "./RemoteKeys.ts"
import { isSignedBy } from "./RequestSigning.ts"
import { encodeCanonicalJson, parseJson } from "./SlicedJson.ts"

/** The parts of a request that its signature covers. */
export interface IncomingRequest {
  readonly method: string
  /** Path and query as they were sent. */
  readonly uri: string
  /** Every Authorization header. */
  readonly authorization: ReadonlyArray<string>
  /** From where it came: requests of one address wait together for the keys of servers that never answered. */
  readonly address?: string
  /**
   * Whether keys are accepted for which another server vouches: for requests that only report on rooms, whose PDUs are signed
   * themselves (default false).
   */
  readonly acceptsVouchedKeys?: boolean
  /** Whether the body has PDUs, whose numbers are read by `ExactJson` (default false). */
  readonly hasPdus?: boolean
  /** The body; empty if there is none. Fails if it is too large. */
  readonly readBody: Effect.Effect<Uint8Array, MatrixError>
}

/** The refusal of a request before its body is read. */
export type AuthenticationError = Unauthorized | MatrixError

const unauthorized = (error: string): Unauthorized => new Unauthorized({ error })

/** The signatures that could make the request one for us: all of one origin. */
const claimsOf = (
  headers: ReadonlyArray<string>,
  ourName: ServerName
): Effect.Effect<readonly [XMatrix, ...Array<XMatrix>], Unauthorized | BadRequest> => {
  const [first, ...rest] = parseXMatrixHeaders(headers)
  if (headers.length === 0) return Effect.fail(unauthorized("The request is not signed: no Authorization header"))
  if (first === undefined && headers.some(hasMalformedOrigin)) {
    return Effect.fail(new BadRequest({ error: "The origin of the request is not a server name" }))
  }
  if (first === undefined) return Effect.fail(unauthorized("The Authorization header is not an X-Matrix signature"))
  if (rest.some((xMatrix) => xMatrix.origin !== first.origin)) {
    return Effect.fail(unauthorized("The request is signed by several servers"))
  }
  if ([first, ...rest].some((xMatrix) => xMatrix.destination !== undefined && xMatrix.destination !== ourName)) {
    return Effect.fail(unauthorized(`The request is for another server, this one is ${ourName}`))
  }
  if (first.origin === ourName) return Effect.fail(unauthorized(`The origin is this server itself`))
  return Effect.succeed([first, ...rest])
}

const parsed = (body: Uint8Array, { hasPdus = false }: IncomingRequest): Effect.Effect<Json, NotJson | TooLarge> =>
  Effect.mapError(parseJson(body, hasPdus ? parseExact : undefined), ({ isTooLong, reason }) =>
    isTooLong ? new TooLarge({ error: reason }) : new NotJson({ error: `The body is not JSON: ${reason}` })
  )

const make = Effect.gen(function* () {
  const { serverName: ourName } = yield* HomeServerConfig
  const remoteKeys = yield* RemoteKeys
  // A listener that is not a whole home server has no bans.
  const bans = Option.getOrUndefined(yield* Effect.serviceOption(Bans))
  const config = yield* FederationConfig

  const keysOf = Effect.fnUntraced(function* (
    origin: ServerName,
    claims: ReadonlyArray<XMatrix>,
    { acceptsVouchedKeys = false, address }: IncomingRequest
  ) {
    const need = { keyIds: new Set(claims.map((claim) => claim.key)) }
    const owner = address === undefined ? undefined : addressKey(address)
    const ring = yield* remoteKeys.find(origin, [need], acceptsVouchedKeys, owner)
    const keys = ring.choose(need)
    if (keys.size > 0) return keys
    return yield* unauthorized(
      ring.problem === undefined
        ? `${origin} has no such key, or it has expired`
        : `The keys of ${origin} cannot be had: the server does not answer for them`
    )
  })

  /** The body, where the signature is over its canonical form and not over its bytes. */
  const checkRead = Effect.fnUntraced(function* (
    request: IncomingRequest,
    body: Uint8Array,
    claims: readonly [XMatrix, ...Array<XMatrix>],
    keys: VerifyKeys
  ) {
    const content = body.length === 0 ? undefined : yield* parsed(body, request)
    if (content !== undefined && !isJsonObject(content)) {
      return yield* new BadJson({ error: "The body is not a JSON object" })
    }
    const wrong = () => unauthorized(`The signature is not that of ${claims[0].origin} over this request`)
    if (content === undefined) return yield* wrong()
    const bytes = yield* Effect.mapError(encodeCanonicalJson(content), wrong)
    const head = { method: request.method, uri: request.uri, origin: claims[0].origin, destination: ourName }
    if (!(yield* isSignedBy(head, bytes, claims, keys))) return yield* wrong()
    return content
  })

  const authenticate = Effect.fn("RequestAuthentication.authenticate")(function* (request: IncomingRequest) {
    const claims = yield* claimsOf(request.authorization, ourName)
    const { origin } = claims[0]
    if (!talksWith(config, origin)) {
      return yield* new Forbidden({ error: `This server does not federate with ${origin}` })
    }
    if (bans !== undefined) yield* bans.check("server", origin)
    const keys = yield* keysOf(origin, claims, request)
    const body = yield* request.readBody
    const head = { method: request.method, uri: request.uri, origin, destination: ourName }
    const isAsItStands = yield* isSignedBy(head, body.length === 0 ? undefined : body, claims, keys)
    if (!isAsItStands) return { origin, content: yield* checkRead(request, body, claims, keys) }
    return { origin, content: body.length === 0 ? undefined : yield* parsed(body, request) }
  })

  return RequestAuthentication.of({ authenticate })
})

/** Authenticates requests of other home servers by their signature. */
export class RequestAuthentication extends Context.Service<
  RequestAuthentication,
  {
    /** The origin and the body of a request. Errors: M_UNAUTHORIZED, M_NOT_JSON, M_BAD_JSON, M_TOO_LARGE, and those of the request. */
    readonly authenticate: (request: IncomingRequest) => Effect.Effect<AuthenticatedRequest, AuthenticationError>
  }
>()("greenroom/actors/RequestAuthentication") {
  static readonly layer: Layer.Layer<RequestAuthentication, never, RemoteKeys | HomeServerConfig | FederationConfig> =
    Layer.effect(RequestAuthentication, make)
}
