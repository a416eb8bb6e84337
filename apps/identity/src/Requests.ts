/**
 * Rate limits per network address: all requests, messages, attempts at tokens, looked-up addresses. IPv6 clients are counted by /64.
 * Home servers that look up all of their users can be exempt (`trusted_clients`). Counts are in the memory of this
 * node; messages per recipient are counted by `SentMessages`.
 */
import { makeLimiter } from "@greenroom/gateway/RateLimit"
import { toNetwork } from "@greenroom/gateway/TrustedProxies"
import type { LimitExceeded } from "@greenroom/protocol/MatrixError"
import { Context, Effect, Layer, Option, Result } from "effect"
import type { HttpServerRequest } from "effect/http"
import { IpNetwork, NetAddress } from "effect/net"
import type { RequestKind, RequestRates } from "./RequestRates.ts"

interface RequestsOptions {
  readonly rates: RequestRates
  /** Addresses and networks that are not limited. */
  readonly trustedClients: ReadonlyArray<string>
}

const parse = (request: HttpServerRequest.HttpServerRequest): NetAddress.IpAddress | undefined =>
  Option.getOrUndefined(
    Option.flatMap(request.remoteAddress, (text) =>
      Result.getSuccess(NetAddress.ipFromString(text.replace(/^::ffff:/, "")))
    )
  )

const keyOf = (address: NetAddress.IpAddress | undefined): string => {
  if (address === undefined) return "unknown"
  return NetAddress.isIpv4Address(address)
    ? NetAddress.formatIp(address)
    : IpNetwork.format(IpNetwork.fromAddressUnsafe(address, 64))
}

const make = Effect.fnUntraced(function* ({ rates, trustedClients }: RequestsOptions) {
  const take = yield* makeLimiter(rates)
  const trusted = trustedClients.map(toNetwork)
  return Requests.of({
    take: (kind, request, count) => {
      const address = parse(request)
      const exempt = address !== undefined && trusted.some((network) => IpNetwork.contains(network, address))
      return exempt ? Effect.void : take(kind, keyOf(address), count)
    }
  })
})

export class Requests extends Context.Service<
  Requests,
  {
    /** Counts a request of this kind, or several at once. Errors: M_LIMIT_EXCEEDED. */
    readonly take: (
      kind: RequestKind,
      request: HttpServerRequest.HttpServerRequest,
      count?: number
    ) => Effect.Effect<void, LimitExceeded>
  }
>()("greenroom/identity/Requests") {
  static readonly layer = (options: RequestsOptions): Layer.Layer<Requests> => Layer.effect(Requests, make(options))
}
