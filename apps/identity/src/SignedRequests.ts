/**
 * Requests that a home server signs, by the keys that it publishes: it may end the bindings of its users.
 *
 * The signed object names this server as `destination`, or as `destination_is`, as Synapse does in requests to identity servers.
 *
 * Source: "Request Authentication" of the server-server specification, and `3pid/unbind` of the identity service
 * specification.
 */
import { readKeyObject } from "@greenroom/actors/federation/ServerKeyObject"
import { parseXMatrixHeaders } from "@greenroom/protocol/federation/XMatrix"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { type JsonObject, parseJsonText } from "@greenroom/protocol/Json"
import { Forbidden } from "@greenroom/protocol/MatrixError"
import { verifyJson } from "@greenroom/room/Signing"
import { Clock, Effect, Result } from "effect"
import { HomeServers } from "./HomeServers.ts"
import { IdentityOptions } from "./IdentityOptions.ts"

export interface SignedRequest {
  readonly method: string
  /** Path and query as they were sent. */
  readonly uri: string
  /** Every Authorization header. */
  readonly authorization: ReadonlyArray<string>
  readonly content: JsonObject
}

const refused = new Forbidden({ error: "Invalid homeserver signature" })

export const makeSignedRequests = Effect.gen(function* () {
  const homeServers = yield* HomeServers
  const { publicUrl, serverName } = yield* IdentityOptions
  const ownNames = new Set<string>([serverName, new URL(publicUrl).host])

  /** The keys with which a home server signs now. */
  const keysOf = Effect.fnUntraced(function* (origin: ServerName) {
    const now = yield* Clock.currentTimeMillis
    const { status, text } = yield* Effect.mapError(homeServers.get(origin, "/_matrix/key/v2/server"), () => refused)
    const found = status === 200 ? readKeyObject(parseJsonText(text), origin, now) : Result.fail("no keys")
    if (Result.isFailure(found) || found.success.validUntil <= now) return yield* refused
    return new Map(
      found.success.keys.flatMap(({ expiredAt, keyId, publicKey }) =>
        expiredAt === undefined ? [[keyId, publicKey] as const] : []
      )
    )
  })

  /** The server that signed the request for this one. Errors: M_FORBIDDEN. */
  const originOf = Effect.fn("SignedRequests.originOf")(function* ({
    authorization,
    ...request
  }: SignedRequest): Effect.fn.Return<ServerName, Forbidden> {
    const claims = parseXMatrixHeaders(authorization)
    const origin = claims[0]?.origin
    if (origin === undefined || claims.some((claim) => claim.origin !== origin)) return yield* refused
    // A request of an older server does not name its destination outside of the signed object.
    const named = new Set(claims.flatMap(({ destination }) => destination ?? []))
    if (!named.isSubsetOf(ownNames)) return yield* refused
    const signatures = { [origin]: Object.fromEntries(claims.map(({ key, sig }) => [key, sig])) }
    const keys = yield* keysOf(origin)
    for (const name of named.size > 0 ? named : ownNames) {
      for (const destination of [{ destination: name }, { destination_is: name }]) {
        const signed = { ...request, ...destination, origin, signatures }
        if (Result.isSuccess(verifyJson(signed, origin, keys))) return origin
      }
    }
    return yield* refused
  })

  return { originOf }
})
