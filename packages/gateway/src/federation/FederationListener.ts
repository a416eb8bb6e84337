/**
 * The federation listener: the federation API and the keys of this server over HTTPS, as calls of `Federation`.
 *
 * When its scope closes it accepts no further connections, and requests in flight end, at the latest after `gracePeriod`. A
 * renewed certificate of the operator is loaded within an hour, without a restart.
 *
 * Source: "Federation" of the draft.
 */

import { createServer, type Server } from "node:https"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import type { Federation } from "@greenroom/actors/federation/Federation"
import type { KeyNotary } from "@greenroom/actors/federation/KeyNotary"
import type { PolicyServer } from "@greenroom/actors/federation/PolicyServer"
import type { RequestAuthentication } from "@greenroom/actors/federation/RequestAuthentication"
import type { ServerServer } from "@greenroom/actors/federation/ServerServer"
import type { ThirdPartyInvites } from "@greenroom/actors/identity/ThirdPartyInvites"
import type { Media } from "@greenroom/actors/media/Media"
import type { Thumbnails } from "@greenroom/actors/media/Thumbnails"
import { Departure } from "@greenroom/actors/runtime/Departure"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { Nodes } from "@greenroom/actors/runtime/Nodes"
import { makeSampled } from "@greenroom/actors/runtime/Sampling"
import type { CrossSigning } from "@greenroom/actors/user/encryption/CrossSigning"
import type { DeviceKeys } from "@greenroom/actors/user/encryption/DeviceKeys"
import { WireErrors } from "@greenroom/protocol/api/WireError"
import { FederationApi } from "@greenroom/protocol/federation/FederationApi"
import { ServerServerApi } from "@greenroom/protocol/server-server/ServerServerApi"
import { periodically } from "@greenroom/store/Supervision"
import { Clock, Context, Effect, Layer, Option, References, Scope } from "effect"
import { HttpRouter, HttpServerRequest } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import * as ChangesRunToEnd from "../ChangesRunToEnd.ts"
import { shareConnections } from "../ConnectionShares.ts"
import { knownPaths, routerConfig } from "../KnownPaths.ts"
import type { ListenError } from "../ListenError.ts"
import { answerClientError, answerRequests, listen, makeInFlight } from "../NodeServer.ts"
import { type Rates, unlimited } from "../Rate.ts"
import { RateLimit } from "../RateLimit.ts"
import { namingRoutes, recording } from "../RequestRecords.ts"
import { encryptionFederationHandlers } from "../server-server/EncryptionFederationHandlers.ts"
import { mediaFederationHandlers } from "../server-server/MediaFederationHandlers.ts"
import { policyFederationHandlers } from "../server-server/PolicyFederationHandlers.ts"
import { openServerHandlers, serverServerHandlers } from "../server-server/ServerServerHandlers.ts"
import { countBody, maxUnreadBytes, UnreadAnswers } from "../UnreadAnswers.ts"
import { federationHandlers } from "./FederationHandlers.ts"
import { federationHttp } from "./FederationHttp.ts"
import { identityHandlers } from "./IdentityHandlers.ts"
import { keyHandlers } from "./KeyHandlers.ts"
import { originAuthenticationLayer } from "./OriginAuthentication.ts"
import { type TlsCredentials, tlsCredentials, validityWarning } from "./TlsCredentials.ts"
import type { TlsError } from "./TlsError.ts"

/** The rates of requests of other servers. */
export type FederationRates = Pick<Rates, "anonymous" | "requests" | "sends">

/** Address, certificate and rates of the listener for other home servers. */
export interface FederationListenerOptions {
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  /** The certificate and its key, files as PEM. Without them a self-signed pair is made and kept in the data directory. */
  readonly tlsCert?: string | undefined
  readonly tlsKey?: string | undefined
  readonly rates?: FederationRates
  /** How many bytes of answers may wait for other servers to read them (default `maxUnreadBytes`). */
  readonly maxUnreadBytes?: number
}

/** `anonymous`: per address, before the signature is checked. `requests` and `sends`: reads and others, per origin. */
const defaultFederationRates: FederationRates = {
  anonymous: { limit: 2_000, window: 1_000 },
  requests: { limit: 500, window: 1_000 },
  sends: { limit: 500, window: 1_000 }
}

/** How long requests in flight may take to end when the listener goes down. */
const gracePeriod = "5 seconds"

/** How often to look for a renewed certificate. */
const renewalInterval = "1 hour"

/** Limits in time, in ms, and size; see `NodeServer`. Slower handshakes and headers end the connection. */
const serverLimits = {
  handshakeTimeout: 10_000,
  headersTimeout: 20_000,
  requestTimeout: 60_000,
  keepAliveTimeout: 75_000,
  maxHeaderSize: 16 * 1024,
  requireHostHeader: false,
  connectionsCheckingInterval: 5_000
}

/** The most connections at a time. */
const maxConnections = 4_096

const makeTlsServer = (credentials: TlsCredentials): Server => {
  const server = createServer({ ...credentials, ...serverLimits, ALPNProtocols: ["http/1.1"] })
  server.maxConnections = maxConnections
  shareConnections(server)
  server.on("clientError", answerClientError)
  server.on("tlsClientError", (_error, socket) => socket.destroy())
  return server
}

const routes = Layer.merge(HttpApiBuilder.layer(FederationApi), HttpApiBuilder.layer(ServerServerApi)).pipe(
  Layer.provide([
    federationHandlers,
    identityHandlers,
    keyHandlers,
    serverServerHandlers,
    openServerHandlers,
    mediaFederationHandlers,
    encryptionFederationHandlers,
    policyFederationHandlers
  ]),
  Layer.provide([originAuthenticationLayer, WireErrors.layer]),
  Layer.provide(ChangesRunToEnd.layer),
  Layer.provide(namingRoutes)
)

/** Removes the tracing switch from the context in which endpoints were made, so that the request decides whether they are traced. */
const tracedAsRequested = <A, E, R>(endpoints: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.updateContext(
    endpoints,
    (context: Context.Context<R>) =>
      Context.omit(References.TracerEnabled)(context as Context.Context<never>) as Context.Context<R>
  )

const serve = Effect.fnUntraced(function* (options: FederationListenerOptions) {
  const { dataDir, serverName } = yield* HomeServerConfig
  const tls = { serverName, dataDir, tlsCert: options.tlsCert, tlsKey: options.tlsKey }
  const credentials = Effect.tap(tlsCredentials(tls), (read) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const warning = validityWarning(tls, read, now)
      return warning === undefined ? Effect.void : Effect.logWarning(warning)
    })
  )
  const server = makeTlsServer(yield* credentials)
  const inFlight = makeInFlight()
  const requests = yield* Scope.fork(yield* Effect.scope, "parallel")
  const endpoints = yield* HttpRouter.toHttpEffect(routes).pipe(
    Effect.provideService(HttpRouter.RouterConfig, routerConfig),
    tracedAsRequested
  )
  const sampled = yield* makeSampled
  const app = federationHttp(endpoints, knownPaths([FederationApi as never, ServerServerApi as never], []))
  const unread = yield* UnreadAnswers
  const handle = yield* NodeHttpServer.makeHandler(
    HttpServerRequest.HttpServerRequest.use((request) =>
      Effect.map(sampled(request.method, { kind: "server" }, app), (answer) => countBody(unread, request, answer))
    ),
    { scope: requests }
  )
  answerRequests(server, inFlight, handle, { onRequest: yield* recording("federation") })
  const { address, family, port } = yield* listen(server, options)
  const { begin } = yield* Departure
  yield* Effect.addFinalizer(() =>
    Effect.andThen(
      begin,
      Effect.suspend(() => {
        server.close()
        return Effect.timeoutOption(inFlight.drained, gracePeriod)
      })
    )
  )
  yield* renewing(server, credentials)
  const host = family === "IPv6" ? `[${address}]` : address
  return FederationListener.of({ port, url: `https://${host}:${port}` })
})

const renewing = (server: Server, credentials: Effect.Effect<TlsCredentials, TlsError>) =>
  periodically(
    "Renewing the TLS certificate",
    renewalInterval,
    Effect.map(credentials, (renewed) => server.setSecureContext(renewed))
  )

/** The HTTPS listener of the server-server APIs. */
export class FederationListener extends Context.Service<
  FederationListener,
  {
    /** The port that is listened on. */
    readonly port: number
    /** `https://host:port`, without a slash at the end. */
    readonly url: string
  }
>()("greenroom/gateway/FederationListener") {
  static readonly layer = (
    options: FederationListenerOptions
  ): Layer.Layer<
    FederationListener,
    ListenError | TlsError,
    | Federation
    | ServerServer
    | RequestAuthentication
    | KeyNotary
    | ThirdPartyInvites
    | PolicyServer
    | Media
    | Thumbnails
    | CrossSigning
    | DeviceKeys
    | Departure
    | HomeServerConfig
  > =>
    Layer.effect(FederationListener, serve(options)).pipe(
      Layer.provide(
        Layer.unwrap(
          Effect.map(Effect.serviceOption(Nodes), (nodes) =>
            RateLimit.layerOfProcess(
              { ...unlimited, ...(options.rates ?? defaultFederationRates) },
              Option.getOrUndefined(nodes)?.count
            )
          )
        )
      ),
      Layer.provide([NodeHttpServer.layerHttpServices, UnreadAnswers.layer(options.maxUnreadBytes ?? maxUnreadBytes)])
    )
}
