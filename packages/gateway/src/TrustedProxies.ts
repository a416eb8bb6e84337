/**
 * The address of a client, which its rates are counted by: that of its connection, or the one that a trusted reverse proxy
 * names in `X-Forwarded-For`. One rule for HTTP requests and for WebSocket handshakes.
 */
import type { IncomingMessage } from "node:http"
import { plainAddress } from "@greenroom/actors/runtime/AddressKey"
import { Effect, Option, Result } from "effect"
import { HttpMiddleware, HttpServerRequest, type HttpServerResponse } from "effect/http"
import { IpNetwork, NetAddress } from "effect/net"

type HttpApp<E, R> = Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>

export interface TrustedProxies {
  /** Gives the requests of an HTTP application the address of the client. */
  readonly middleware: <E, R>(app: HttpApp<E, R>) => HttpApp<E, R | HttpServerRequest.HttpServerRequest>
  /** The address of the client that sent a request which no HTTP application sees. */
  readonly addressOf: (request: IncomingMessage) => Effect.Effect<string>
  /** Whether an address is that of a trusted proxy. */
  readonly isTrusted: (address: string) => boolean
}

const unknown = "unknown"

/** The address of the client of a request that has passed the middleware. */
export const addressOf = (request: HttpServerRequest.HttpServerRequest): string =>
  Option.getOrElse(request.remoteAddress, () => unknown)

/** A network, or the network of a single address. */
export const toNetwork = (text: string): IpNetwork.IpNetwork =>
  IpNetwork.fromStringUnsafe(text.includes("/") ? text : `${text}/${text.includes(":") ? 128 : 32}`)

const trustNone: TrustedProxies = {
  middleware: (app) => app,
  addressOf: ({ socket }) => Effect.sync(() => socket.remoteAddress ?? unknown),
  isTrusted: () => false
}

/** `proxies` are addresses and networks, such as `127.0.0.1` or `10.0.0.0/8`. */
export const trustProxies = (proxies: ReadonlyArray<string>): TrustedProxies => {
  if (proxies.length === 0) return trustNone
  const networks = proxies.map(toNetwork)
  const isTrusted = (address: string): boolean => {
    const parsed = NetAddress.ipFromString(plainAddress(address))
    return Result.isSuccess(parsed) && networks.some((network) => IpNetwork.contains(network, parsed.success))
  }
  // The middleware passes on whatever the application returns.
  const middleware = HttpMiddleware.xForwardedHeaders({
    trustedProxies: networks
  }) as <A, E, R>(app: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R | HttpServerRequest.HttpServerRequest>
  const address = middleware(HttpServerRequest.HttpServerRequest.useSync(addressOf))
  const toRequest = ({ headers, socket }: IncomingMessage) =>
    HttpServerRequest.fromWeb(
      new Request("http://upgrade", {
        headers: { "x-forwarded-for": [headers["x-forwarded-for"] ?? []].flat().join() }
      })
    ).modify({ remoteAddress: Option.fromNullishOr(socket.remoteAddress) })
  return {
    middleware,
    isTrusted,
    addressOf: (request) =>
      Effect.suspend(() => Effect.provideService(address, HttpServerRequest.HttpServerRequest, toRequest(request)))
  }
}
