/**
 * Requests that a home server signs, by the keys that it publishes: it may end the bindings of its users.
 *
 * Source: "Request Authentication" of the server-server specification, and `3pid/unbind` of the identity service
 * specification.
 */
import { isSignedBy } from "@greenroom/actors/federation/RequestSigning"
import { readKeyObject } from "@greenroom/actors/federation/ServerKeyObject"
import { parseXMatrixHeaders } from "@greenroom/protocol/federation/XMatrix"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { type JsonObject, parseJsonText } from "@greenroom/protocol/Json"
import { Forbidden } from "@greenroom/protocol/MatrixError"
import { encode } from "@greenroom/room/CanonicalJson"
import { Clock, Effect, Result } from "effect"
import { HomeServers } from "./HomeServers.ts"
import { IdentityOptions } from "./IdentityOptions.ts"

export interface SignedRequest {
  readonly method: string
  /** Path and query as they were sent. */
  readonly uri: string
  readonly authorization: string
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
    if (Result.isFailure(found)) return yield* refused
    return new Map(
      found.success.keys.flatMap(({ expiredAt, keyId, publicKey }) =>
        expiredAt === undefined ? [[keyId, publicKey] as const] : []
      )
    )
  })

  /** The server that signed the request for this one. Errors: M_FORBIDDEN. */
  const originOf = Effect.fn("SignedRequests.originOf")(function* ({
    authorization,
    content,
    method,
    uri
  }: SignedRequest): Effect.fn.Return<ServerName, Forbidden> {
    const [claim] = parseXMatrixHeaders([authorization])
    const { origin } = claim ?? {}
    const destination = claim?.destination as ServerName | undefined
    if (claim === undefined || origin === undefined || destination === undefined) return yield* refused
    if (!ownNames.has(destination)) return yield* refused
    const bytes = encode(content)
    if (Result.isFailure(bytes)) return yield* refused
    const head = { method, uri, origin, destination }
    const isSigned = yield* isSignedBy(head, Buffer.from(bytes.success, "utf8"), [claim], yield* keysOf(origin))
    return isSigned ? origin : yield* refused
  })

  return { originOf }
})
