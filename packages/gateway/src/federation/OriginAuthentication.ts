/**
 * Authenticates the server that sent a request: checks the signature before the handler runs, counts the request against the rates
 * of its address and then of its origin, and records that the origin is up.
 *
 * Source: "Security" of the draft, "Request Authentication" of the server-server specification.
 */
import type { IncomingMessage } from "node:http"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Federation } from "@greenroom/actors/federation/Federation"
import { RequestAuthentication } from "@greenroom/actors/federation/RequestAuthentication"
import { ownAllowance } from "@greenroom/actors/runtime/RequestAllowance"
import { isReadOnly } from "@greenroom/protocol/api/Authentication"
import { OriginAuthentication, SignedRequest } from "@greenroom/protocol/federation/OriginAuthentication"
import { Effect, Layer } from "effect"
import { HttpServerRequest } from "effect/http"
import { RateLimit } from "../RateLimit.ts"
import { receiveBody, tooLarge } from "../RequestBody.ts"
import { noteUser, recordsUsers } from "../RequestRecords.ts"
import { addressOf } from "../TrustedProxies.ts"

/**
 * The longest body of a transaction, in bytes: 50 PDUs of 64 KiB, 100 EDUs, and room for a PDU that is too large, which must not
 * cause the refusal of the others.
 */
export const maxTransactionBytes = 8 * 1024 * 1024

/** The longest body of another request, in bytes: a PDU, whose canonical form has at most 64 KiB. */
export const maxPduBodyBytes = 512 * 1024

/**
 * The endpoints that transfer events of rooms. They accept keys of an unreachable server from a notary, so that rooms continue to
 * work. All other endpoints act in the name of users of the server, and need keys that the server itself has published.
 */
const roomEndpoints: ReadonlySet<string> = new Set([
  ...["send", "pdu", "state", "backfill", "pull"],
  ...["event", "stateIds", "eventAuth", "missingEvents"]
])

/** The body of a request. Errors: M_TOO_LARGE over the limit, in bytes. */
export const readBody = (request: HttpServerRequest.HttpServerRequest, limit: number) => {
  const incoming = NodeHttpServerRequest.toIncomingMessage(request) as IncomingMessage
  return Number(incoming.headers["content-length"] ?? 0) > limit
    ? Effect.fail(tooLarge(limit))
    : receiveBody(incoming, limit)
}

/** The parts of Node's request that the signature covers. */
const signedParts = (request: HttpServerRequest.HttpServerRequest) => {
  const incoming = NodeHttpServerRequest.toIncomingMessage(request) as IncomingMessage
  return { uri: incoming.url ?? "", authorization: incoming.headersDistinct.authorization ?? [] }
}

export const originAuthenticationLayer: Layer.Layer<
  OriginAuthentication,
  never,
  RequestAuthentication | Federation | RateLimit
> = Layer.effect(
  OriginAuthentication,
  Effect.gen(function* () {
    const { authenticate } = yield* RequestAuthentication
    const federation = yield* Federation
    const limit = yield* RateLimit
    const isRecorded = yield* recordsUsers

    return (handler, { endpoint }) => {
      const maxBytes = endpoint.identifier === "send" ? maxTransactionBytes : maxPduBodyBytes
      const rate = isReadOnly(endpoint) ? "requests" : "sends"
      return Effect.gen(function* () {
        const request = yield* HttpServerRequest.HttpServerRequest
        yield* limit.takeFrom("anonymous", addressOf(request))
        const signed = yield* authenticate({
          method: request.method,
          ...signedParts(request),
          address: addressOf(request),
          acceptsVouchedKeys: roomEndpoints.has(endpoint.identifier),
          // PUT endpoints send events, except that a third-party invite is only the template of an event.
          hasPdus: endpoint.method === "PUT" && endpoint.identifier !== "exchangeThirdPartyInvite",
          readBody: readBody(request, maxBytes)
        })
        if (isRecorded) yield* noteUser(signed.origin)
        yield* limit.take(rate, signed.origin)
        yield* federation.heardFrom(signed.origin)
        ownAllowance(yield* Effect.context(), signed.origin)
        return yield* Effect.provideService(handler, SignedRequest, signed)
      })
    }
  })
)
