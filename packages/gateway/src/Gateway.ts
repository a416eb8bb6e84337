/**
 * The gateway: the client API by HTTP and WebSocket on one port, as calls of the home server's services.
 *
 * When its scope closes, `/health` turns 503, long polls are answered, sockets are closed with 1001, and requests in flight end,
 * at the latest after `gracePeriod`.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { Leases } from "@greenroom/actors/runtime/Leases"
import { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
import { makeSampled, SamplingRatio } from "@greenroom/actors/runtime/Sampling"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { WireErrors } from "@greenroom/protocol/api/WireError"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { ByteSize, Clock, Context, Effect, FileSystem, Layer, Logger, Path, References, Scope, Tracer } from "effect"
import { Etag, HttpIncomingMessage, HttpPlatform, HttpRouter, HttpServerRequest } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import * as ChangesRunToEnd from "./ChangesRunToEnd.ts"
import { shareConnections } from "./ConnectionShares.ts"
import { accountHandlers } from "./client-api/AccountHandlers.ts"
import { adminHandlers } from "./client-api/AdminHandlers.ts"
import { authenticationLayer } from "./client-api/Authentication.ts"
import { contactsHandlers } from "./client-api/ContactsHandlers.ts"
import { contentHandlers } from "./client-api/ContentHandlers.ts"
import { destinationsHandlers } from "./client-api/DestinationsHandlers.ts"
import { directoryHandlers } from "./client-api/DirectoryHandlers.ts"
import {
  EndpointServices,
  type HomeServerServices,
  type ServicesOfEndpoints,
  withServices
} from "./client-api/EndpointServices.ts"
import { eventsHandlers } from "./client-api/EventsHandlers.ts"
import { loginHandlers } from "./client-api/LoginHandlers.ts"
import { loginPagesHandlers } from "./client-api/LoginPagesHandlers.ts"
import { membershipHandlers } from "./client-api/MembershipHandlers.ts"
import { presenceHandlers } from "./client-api/PresenceHandlers.ts"
import { profileHandlers } from "./client-api/ProfileHandlers.ts"
import { registrationHandlers } from "./client-api/RegistrationHandlers.ts"
import { roomsHandlers } from "./client-api/RoomsHandlers.ts"
import { stateHandlers } from "./client-api/StateHandlers.ts"
import { systemHandlers } from "./client-api/SystemHandlers.ts"
import { voipHandlers } from "./client-api/VoipHandlers.ts"
import { clientErrorsLayer } from "./client-server/ClientErrorsLayer.ts"
import * as ContactsHandlers from "./client-server/ContactsHandlers.ts"
import { createRoomHandlers } from "./client-server/CreateRoomHandlers.ts"
import { dehydratedDeviceHandlers } from "./client-server/DehydratedDeviceHandlers.ts"
import { delayedEventsHandlers } from "./client-server/DelayedEventsHandlers.ts"
import { deprecatedSyncHandlers } from "./client-server/DeprecatedSyncHandlers.ts"
import { deviceHandlers } from "./client-server/DeviceHandlers.ts"
import * as DirectoryHandlers from "./client-server/DirectoryHandlers.ts"
import { encryptionHandlers } from "./client-server/EncryptionHandlers.ts"
import { finderHandlers } from "./client-server/FinderHandlers.ts"
import { keyBackupHandlers } from "./client-server/KeyBackupHandlers.ts"
import * as LoginHandlers from "./client-server/LoginHandlers.ts"
import { LongPolls } from "./client-server/LongPolls.ts"
import * as MediaHandlers from "./client-server/MediaHandlers.ts"
import { moderationHandlers } from "./client-server/ModerationHandlers.ts"
import * as ProfileHandlers from "./client-server/ProfileHandlers.ts"
import { pushersHandlers, unsubscribeHandlers } from "./client-server/PushersHandlers.ts"
import { relationsHandlers } from "./client-server/RelationsHandlers.ts"
import { rendezvousHandlers } from "./client-server/RendezvousHandlers.ts"
import { roomListHandlers } from "./client-server/RoomListHandlers.ts"
import * as RoomsHandlers from "./client-server/RoomsHandlers.ts"
import { searchHandlers } from "./client-server/SearchHandlers.ts"
import { openIdHandlers, servicesHandlers } from "./client-server/ServicesHandlers.ts"
import { sessionHandlers } from "./client-server/SessionHandlers.ts"
import { sharedSecretHandlers } from "./client-server/SharedSecretHandlers.ts"
import { slidingSyncHandlers } from "./client-server/SlidingSyncHandlers.ts"
import { ssoHandlers, ssoPagesHandlers } from "./client-server/SsoHandlers.ts"
import { syncHandlers } from "./client-server/SyncHandlers.ts"
import * as ThirdPartyIdHandlers from "./client-server/ThirdPartyIdHandlers.ts"
import * as UserDataHandlers from "./client-server/UserDataHandlers.ts"
import { versionsHandlers, wellKnownHandlers } from "./client-server/VersionsHandlers.ts"
import { knownPaths, routerConfig } from "./KnownPaths.ts"
import type { ListenError } from "./ListenError.ts"
import { goingDown, matrixHttp } from "./MatrixHttp.ts"
import { maxBodyBytes } from "./MatrixRequest.ts"
import { answerRequests, limitBodyTime, listen, makeInFlight, makeNodeServer } from "./NodeServer.ts"
import { oauthEndpoints } from "./oauth/OAuthEndpoints.ts"
import { oauthPages } from "./oauth/OAuthPages.ts"
import { docsPage } from "./pages/DocsPage.ts"
import { favicon, faviconPath } from "./pages/Favicon.ts"
import { homePage } from "./pages/HomePage.ts"
import { defaultRates, type Rates } from "./Rate.ts"
import { RateLimit } from "./RateLimit.ts"
import { pathOf } from "./RequestPath.ts"
import { namingRoutes, RequestRecords, recording } from "./RequestRecords.ts"
import { RequestSlots } from "./RequestSlots.ts"
import { Shutdown } from "./Shutdown.ts"
import { Sockets } from "./socket/Sockets.ts"
import { type TrustedProxies, trustProxies } from "./TrustedProxies.ts"
import { countBody, maxUnreadBytes, UnreadAnswers } from "./UnreadAnswers.ts"

/** Address, limits and proxies of the client listener. */
export interface GatewayOptions {
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  readonly rates?: Rates
  /** Addresses and networks of reverse proxies whose X-Forwarded-For header is believed. */
  readonly trustedProxies?: ReadonlyArray<string>
  /** The most bytes of answers that all clients together may have left unread. */
  readonly maxUnreadBytes?: number
  /** The URL of this server for people, such as `https://example.org`. Default: the address that it listens on. */
  readonly publicUrl?: string | undefined
}

/** How long requests in flight may take to end when the gateway shuts down. */
const gracePeriod = "5 seconds"

const homePath = "/"
const openapiPath = "/openapi.json"
const docsPath = "/docs"
const clientServerOpenapiPath = "/openapi/client-server.json"
const clientServerDocsPath = "/docs/client-server"

/** The listener of the client APIs, `/docs`, `/health` and the pages for users and administrators. */
export class Gateway extends Context.Service<
  Gateway,
  {
    readonly host: string
    /** The port that is listened on. */
    readonly port: number
    /** `http://host:port`, without a slash at the end. */
    readonly url: string
  }
>()("greenroom/gateway/Gateway") {
  static readonly layer = (options: GatewayOptions): Layer.Layer<Gateway, ListenError, HomeServerServices> =>
    Layer.effect(Gateway, serve(options)).pipe(
      Layer.provide([Sockets.layer(trustProxies(options.trustedProxies ?? [])), LongPolls.layer]),
      Layer.provide([
        Shutdown.layer,
        RateLimit.layer(options.rates ?? defaultRates),
        RequestSlots.layer,
        UnreadAnswers.layer(options.maxUnreadBytes ?? maxUnreadBytes)
      ]),
      Layer.provide(NodeHttpServer.layerHttpServices)
    )
}

const handlers = Layer.mergeAll(
  registrationHandlers,
  loginHandlers,
  loginPagesHandlers,
  accountHandlers,
  adminHandlers,
  destinationsHandlers,
  eventsHandlers,
  roomsHandlers,
  stateHandlers,
  membershipHandlers,
  directoryHandlers,
  presenceHandlers,
  profileHandlers,
  contactsHandlers,
  voipHandlers,
  contentHandlers,
  systemHandlers
)

/** The handlers of today's client API. */
const clientServerHandlers = Layer.mergeAll(
  versionsHandlers,
  wellKnownHandlers,
  LoginHandlers.loginHandlers,
  LoginHandlers.registrationHandlers,
  sessionHandlers,
  deviceHandlers,
  RoomsHandlers.roomsHandlers,
  DirectoryHandlers.directoryHandlers,
  ProfileHandlers.profileHandlers,
  ProfileHandlers.presenceHandlers,
  servicesHandlers,
  openIdHandlers,
  syncHandlers,
  slidingSyncHandlers,
  deprecatedSyncHandlers,
  delayedEventsHandlers,
  dehydratedDeviceHandlers,
  rendezvousHandlers,
  ContactsHandlers.contactsHandlers,
  sharedSecretHandlers,
  moderationHandlers,
  ssoHandlers,
  ssoPagesHandlers,
  ThirdPartyIdHandlers.addressValidationHandlers,
  ThirdPartyIdHandlers.addressPagesHandlers,
  ThirdPartyIdHandlers.passwordHandlers,
  ThirdPartyIdHandlers.thirdPartyIdHandlers,
  createRoomHandlers,
  finderHandlers,
  roomListHandlers,
  relationsHandlers,
  UserDataHandlers.accountDataHandlers,
  UserDataHandlers.pushRulesHandlers,
  pushersHandlers,
  unsubscribeHandlers,
  searchHandlers,
  encryptionHandlers,
  keyBackupHandlers,
  UserDataHandlers.receiptsHandlers,
  MediaHandlers.uploadHandlers,
  MediaHandlers.mediaHandlers,
  MediaHandlers.oldMediaHandlers
)

/** The page at `/`. */
const homeRoute = HttpRouter.use((router) =>
  withServices(function* () {
    const { serverName } = yield* HomeServerConfig
    const response = homePage({
      serverName,
      kind: "Matrix home server",
      text: `Accounts here look like @name:${serverName}. Give your Matrix client the address of this page as its home server.`,
      links: [
        { path: clientServerDocsPath, title: "The client-server API" },
        { path: docsPath, title: "The client API of 2014, and the WebSocket" },
        { path: "/docs/admin", title: "The APIs for administrators" },
        { path: "/health", title: "Server health" }
      ]
    })
    yield* router.add("GET", homePath, Effect.succeed(response))
  })
)

const routes = Layer.mergeAll(
  homeRoute,
  favicon,
  oauthEndpoints,
  oauthPages,
  HttpApiBuilder.layer(ClientApi, { openapiPath }),
  docsPage(ClientApi, docsPath),
  HttpApiBuilder.layer(ClientServerApi, { openapiPath: clientServerOpenapiPath }),
  docsPage(ClientServerApi, clientServerDocsPath)
).pipe(
  Layer.provide([handlers, clientServerHandlers]),
  Layer.provide([authenticationLayer, WireErrors.layer, clientErrorsLayer]),
  Layer.provide(ChangesRunToEnd.layer),
  Layer.provide(namingRoutes)
)

/** The services that a request needs before it reaches an endpoint: time, logs and traces. */
const requestContext = [Clock.Clock, Logger.CurrentLoggers, References.MinimumLogLevel, Tracer.Tracer] as const

/**
 * Every request carries a context, which is copied several times while it is handled. So requests and endpoints get only the
 * services that they need, instead of all services of the process.
 */
const forRequests: (context: Context.Context<never>) => Context.Context<never> = Context.pick(
  ...requestContext,
  References.TracerEnabled,
  HttpIncomingMessage.MaxBodySize
)
type ForEndpoints =
  | EndpointServices
  | Etag.Generator
  | FileSystem.FileSystem
  | HttpPlatform.HttpPlatform
  | Path.Path
  | Scope.Scope
// `TracerEnabled` is left out: it differs from request to request, and the context of the endpoint would override it.
const forEndpoints: (context: Context.Context<ForEndpoints>) => Context.Context<ForEndpoints> = Context.pick(
  ...requestContext,
  Leases,
  RequestRecords,
  SamplingRatio,
  EndpointServices,
  Etag.Generator,
  FileSystem.FileSystem,
  HttpPlatform.HttpPlatform,
  Path.Path,
  Scope.Scope,
  HttpRouter.RouterConfig
)

/** The endpoints that `admin/AdminApp.ts` serves. Registration with a shared secret is an endpoint of the gateway itself. */
const isForAdmins = (url: string): boolean =>
  (url.startsWith("/_synapse/admin/") && !url.startsWith("/_synapse/admin/v1/register")) ||
  url.startsWith("/_greenroom/admin") ||
  url.startsWith("/docs/admin") ||
  url.startsWith("/_greenroom/client/v1/export")

/** The endpoints of administrators, which are loaded by the first request. */
const makeAdminApp = Effect.gen(function* () {
  const services = yield* Effect.context<
    ServicesOfEndpoints | Etag.Generator | FileSystem.FileSystem | HttpPlatform.HttpPlatform | Path.Path | Scope.Scope
  >()
  const load = yield* Effect.cached(
    Effect.promise(() => import("./admin/AdminApp.ts")).pipe(
      Effect.flatMap(({ known, routes }) =>
        Effect.map(HttpRouter.toHttpEffect(routes), (app) => matrixHttp(app, known))
      ),
      Effect.updateContext(forEndpoints),
      Effect.provideService(EndpointServices, services),
      Effect.provideService(HttpRouter.RouterConfig, routerConfig),
      Effect.provideContext(services)
    )
  )
  return Effect.flatten(load)
})

/** All routes of the HTTP server. */
const makeHttpApp = Effect.fnUntraced(function* (trustedProxies: TrustedProxies) {
  const shutdown = yield* Shutdown
  const unread = yield* UnreadAnswers
  const endpoints = yield* HttpRouter.toHttpEffect(routes).pipe(
    Effect.updateContext(forEndpoints),
    Effect.provideService(EndpointServices, yield* Effect.context<ServicesOfEndpoints>()),
    Effect.provideService(HttpRouter.RouterConfig, routerConfig)
  )
  const adminApp = yield* makeAdminApp
  const app = matrixHttp(
    endpoints,
    knownPaths(
      [ClientApi as never, ClientServerApi as never],
      [homePath, faviconPath, openapiPath, docsPath, clientServerOpenapiPath, clientServerDocsPath]
    )
  )
  const sampled = yield* makeSampled
  const unlessGoingDown = HttpServerRequest.HttpServerRequest.use((request) =>
    shutdown.isRequested() && pathOf(request.url) !== "/health"
      ? Effect.succeed(goingDown)
      : Effect.map(sampled(request.method, { kind: "server" }, isForAdmins(request.url) ? adminApp : app), (answer) =>
          countBody(unread, request, answer)
        )
  )
  return trustedProxies.middleware(unlessGoingDown)
})

const serve = Effect.fnUntraced(function* (options: GatewayOptions) {
  const shutdown = yield* Shutdown
  const sockets = yield* Sockets
  const publicUrl = yield* PublicUrl
  const server = makeNodeServer()
  const inFlight = makeInFlight()
  const requests = yield* Scope.fork(yield* Effect.scope, "parallel")
  const trustedProxies = trustProxies(options.trustedProxies ?? [])
  shareConnections(server, trustedProxies.isTrusted)
  const app = yield* makeHttpApp(trustedProxies)
  const handle = yield* NodeHttpServer.makeHandler(app, { scope: requests }).pipe(
    Effect.updateContext(forRequests),
    Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.fromInputUnsafe(maxBodyBytes))
  )
  const { isBack } = yield* Leases
  const onRequest = yield* recording("client")
  answerRequests(server, inFlight, handle, { onRequest, onIncomplete: limitBodyTime, isBack })
  server.on("upgrade", sockets.upgrade)
  const { address, family, port } = yield* listen(server, options)
  yield* Effect.addFinalizer(() =>
    shutdown.request.pipe(
      Effect.andThen(Effect.all([sockets.closeAll, inFlight.drained], { concurrency: "unbounded" })),
      Effect.timeoutOption(gracePeriod)
    )
  )
  const host = family === "IPv6" ? `[${address}]` : address
  const url = `http://${host}:${port}`
  publicUrl.set(options.publicUrl ?? url)
  return Gateway.of({ host: options.host, port, url })
})
