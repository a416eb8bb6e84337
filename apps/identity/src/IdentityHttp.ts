/**
 * The identity API over HTTP on one port. When its scope closes, requests in flight may finish, for at most `gracePeriod`; those that
 * wait for a home server are given up after a second.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Departure } from "@greenroom/actors/runtime/Departure"
import * as ChangesRunToEnd from "@greenroom/gateway/ChangesRunToEnd"
import { shareConnections } from "@greenroom/gateway/ConnectionShares"
import { knownPaths, routerConfig } from "@greenroom/gateway/KnownPaths"
import type { ListenError } from "@greenroom/gateway/ListenError"
import { errorResponse, matrixHttp } from "@greenroom/gateway/MatrixHttp"
import { maxBodyBytes } from "@greenroom/gateway/MatrixRequest"
import { answerRequests, limitBodyTime, listen, makeInFlight, makeNodeServer } from "@greenroom/gateway/NodeServer"
import { docsPage } from "@greenroom/gateway/pages/DocsPage"
import { favicon, faviconPath } from "@greenroom/gateway/pages/Favicon"
import { homePage } from "@greenroom/gateway/pages/HomePage"
import { toNetwork, trustProxies } from "@greenroom/gateway/TrustedProxies"
import { WireErrors } from "@greenroom/protocol/api/WireError"
import { canonicalIdentityUrl, IdentityApi } from "@greenroom/protocol/identity/IdentityApi"
import { ByteSize, Context, Effect, Layer, Scope } from "effect"
import { HttpIncomingMessage, HttpMiddleware, HttpRouter, HttpServerRequest } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { invitationHandlers } from "./http/InvitationHandlers.ts"
import { keysHandlers } from "./http/KeysHandlers.ts"
import { lookupHandlers } from "./http/LookupHandlers.ts"
import { replicationHandlers } from "./http/ReplicationHandlers.ts"
import { systemHandlers } from "./http/SystemHandlers.ts"
import { thirdPartyIdHandlers } from "./http/ThirdPartyIdHandlers.ts"
import { validationHandlers } from "./http/ValidationHandlers.ts"
import { makeVersionTwo } from "./http/VersionTwo.ts"
import { IdentityOptions } from "./IdentityOptions.ts"
import { Requests } from "./Requests.ts"

export interface IdentityHttpOptions {
  readonly host: string
  /** The port to listen on; 0 takes any free one. */
  readonly port: number
  /** Addresses and networks of reverse proxies whose X-Forwarded-For header is trusted. */
  readonly trustedProxies: ReadonlyArray<string>
}

/** How long requests in flight may take when the server shuts down. */
const gracePeriod = "5 seconds"

const homePath = "/"
const openapiPath = "/openapi.json"
const docsPath = "/docs"

const handlers = Layer.mergeAll(
  validationHandlers,
  thirdPartyIdHandlers,
  lookupHandlers,
  invitationHandlers,
  keysHandlers,
  replicationHandlers,
  systemHandlers
)

/** The page at `/`. */
const homeRoute = HttpRouter.use((router) =>
  IdentityOptions.use(({ serverName }) =>
    router.add(
      "GET",
      homePath,
      Effect.succeed(
        homePage({
          serverName,
          kind: "Matrix identity server",
          text: "It knows which email addresses and phone numbers belong to which Matrix users.",
          links: [
            { path: docsPath, title: "The identity service API" },
            { path: "/health", title: "Server health" }
          ]
        })
      )
    )
  )
)

const routes = Layer.mergeAll(
  homeRoute,
  favicon,
  HttpApiBuilder.layer(IdentityApi, { openapiPath }),
  docsPage(IdentityApi, docsPath)
).pipe(Layer.provide(handlers), Layer.provide(WireErrors.layer), Layer.provide(ChangesRunToEnd.layer))

/** All HTTP endpoints: every request is counted, and both prefixes lead to the same endpoints. */
const makeHttpApp = Effect.fnUntraced(function* (trustedProxies: ReadonlyArray<string>) {
  const requests = yield* Requests
  const endpoints = yield* HttpRouter.toHttpEffect(routes).pipe(
    Effect.provideService(HttpRouter.RouterConfig, routerConfig)
  )
  const versionTwo = yield* makeVersionTwo
  const app = matrixHttp(
    versionTwo(endpoints),
    knownPaths([IdentityApi as never], [homePath, faviconPath, openapiPath, docsPath])
  )
  const counted = HttpServerRequest.HttpServerRequest.use((request) =>
    requests.take("requests", request).pipe(
      Effect.matchEffect({
        onFailure: (error) => Effect.succeed(errorResponse(error)),
        onSuccess: () =>
          Effect.provideService(
            app,
            HttpServerRequest.HttpServerRequest,
            request.modify({ url: canonicalIdentityUrl(request.url) })
          )
      })
    )
  )
  return trustedProxies.length === 0
    ? counted
    : HttpMiddleware.xForwardedHeaders({ trustedProxies: trustedProxies.map(toNetwork) })(counted)
})

const serve = Effect.fnUntraced(function* (options: IdentityHttpOptions) {
  const server = makeNodeServer()
  shareConnections(server, trustProxies(options.trustedProxies).isTrusted)
  const inFlight = makeInFlight()
  const departure = yield* Departure
  const requests = yield* Scope.fork(yield* Effect.scope, "parallel")
  const app = yield* makeHttpApp(options.trustedProxies)
  const handle = yield* NodeHttpServer.makeHandler(app, { scope: requests }).pipe(
    Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.fromInputUnsafe(maxBodyBytes))
  )
  answerRequests(server, inFlight, handle, { onIncomplete: limitBodyTime })
  const { address, family, port } = yield* listen(server, options)
  yield* Effect.addFinalizer(() => Effect.timeoutOption(inFlight.drained, gracePeriod))
  yield* Effect.addFinalizer(() => departure.begin)
  const host = family === "IPv6" ? `[${address}]` : address
  return IdentityHttp.of({ port, url: `http://${host}:${port}` })
})

export class IdentityHttp extends Context.Service<
  IdentityHttp,
  {
    /** The port that is listened on. */
    readonly port: number
    /** `http://host:port`, without a slash at the end. */
    readonly url: string
  }
>()("greenroom/identity/IdentityHttp") {
  static readonly layer = (options: IdentityHttpOptions) =>
    Layer.effect(IdentityHttp, serve(options)).pipe(Layer.provide(NodeHttpServer.layerHttpServices))
}

export type { ListenError }
