/**
 * The home server with its gateway, as a program: `greenroom serve`, or `main.ts`.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Administration } from "@greenroom/actors/account/Administration"
import type { HomeServerOptions } from "@greenroom/actors/HomeServer"
import * as HomeServer from "@greenroom/actors/HomeServer"
import type { PolicyOptions } from "@greenroom/actors/policy/PolicyConfig"
import { FederationListener } from "@greenroom/gateway/federation/FederationListener"
import { tlsCredentials } from "@greenroom/gateway/federation/TlsCredentials"
import { Gateway } from "@greenroom/gateway/Gateway"
import * as HeapSize from "@greenroom/gateway/HeapSize"
import type { ListenError } from "@greenroom/gateway/ListenError"
import { logging } from "@greenroom/gateway/Logging"
import { checkListen } from "@greenroom/gateway/NodeServer"
import { RequestRecords } from "@greenroom/gateway/RequestRecords"
import { cutShort, runProgram, startDeadline } from "@greenroom/gateway/RunProgram"
import { checkDataDir } from "@greenroom/gateway/SettingSources"
import type { AppServiceRegistration } from "@greenroom/protocol/app-service/AppServiceRegistration"
import { mendJsonParse } from "@greenroom/protocol/JsonParse"
import * as Database from "@greenroom/store/Database"
import { DatabaseHold } from "@greenroom/store/DatabaseHold"
import { Cause, Context, Effect, FileSystem, Layer, Option } from "effect"
import { readAppServices } from "./AppServiceFiles.ts"
import * as CommandLine from "./CommandLine.ts"
import { readConfig, type Sources } from "./ConfigSources.ts"
import { toFederationOptions } from "./FederationSettings.ts"
import type { GatewayConfig } from "./GatewayConfig.ts"
import { toLimits } from "./LimitSettings.ts"
import { toLoginOptions } from "./LoginSettings.ts"
import { toMediaOptions } from "./MediaSettings.ts"
import { readPolicy, toPolicyServers } from "./PolicySettings.ts"
import {
  ClusterListenError,
  ClusterNeedsDatabase,
  describeFailure,
  FederationListenError,
  MetricsListenError,
  NoticesUserTaken
} from "./StartFailure.ts"
import { toSupport } from "./SupportSettings.ts"

/** The content of the files that the configuration names. */
interface Files {
  readonly authorities: ReadonlyArray<string>
  readonly appServices: ReadonlyArray<AppServiceRegistration>
  readonly policy: PolicyOptions
}

const toHomeServer = (config: GatewayConfig, { appServices, authorities, policy }: Files): HomeServerOptions => ({
  serverName: config.serverName,
  dataDir: config.dataDir,
  ...(config.federationAddress === undefined || !config.federationEnabled
    ? {}
    : { federationAddress: config.federationAddress }),
  enableRegistration: config.enableRegistration,
  guests: config.allowGuests,
  ...(config.serverNoticesLocalpart === undefined
    ? {}
    : { serverNotices: { localpart: config.serverNoticesLocalpart, name: config.serverNoticesName } }),
  rtcTransports: config.rtcLivekitUrls.map((url) => ({ type: "livekit", livekit_service_url: url })),
  defaultRoomVersion: config.defaultRoomVersion,
  ...(config.registrationSharedSecret === undefined
    ? {}
    : { registrationSharedSecret: config.registrationSharedSecret }),
  login: toLoginOptions(config),
  limits: toLimits(config),
  support: toSupport(config),
  media: toMediaOptions(config),
  identityServers: config.identityServers.filter((server) => server !== "*"),
  anyIdentityServer: config.identityServers.includes("*"),
  appServices,
  policy,
  policyServers: toPolicyServers(config),
  federation: toFederationOptions(config, authorities),
  unlimitedUsers: config.unlimitedUsers,
  ...(config.databaseUrl === undefined ? {} : { databaseUrl: config.databaseUrl }),
  ...(config.turnSharedSecret === undefined
    ? {}
    : { turn: { uris: config.turnUris, sharedSecret: config.turnSharedSecret, ttl: config.turnTtl } })
})

const toGateway = (config: GatewayConfig) =>
  Gateway.layer({
    host: config.host,
    port: config.port,
    trustedProxies: config.trustedProxies,
    publicUrl: config.publicUrl,
    rates: {
      registrations: config.registrationRate,
      logins: config.loginRate,
      sends: config.sendRate,
      requests: config.requestRate,
      anonymous: config.anonymousRate
    }
  })

const toFederation = (config: GatewayConfig) =>
  FederationListener.layer({
    host: config.host,
    port: config.federationPort,
    tlsCert: config.tlsCert,
    tlsKey: config.tlsKey
  }).pipe(Layer.catchTag("ListenError", (listen) => Layer.effect(FederationListener, federationFails(listen))))

const federationFails = (listen: ListenError) => Effect.fail(new FederationListenError({ listen }))

const toNode = (config: GatewayConfig, homeServer: HomeServerOptions) =>
  HomeServer.clusterLayer(homeServer, {
    host: config.clusterHost,
    port: config.clusterPort,
    listenHost: config.clusterListenHost ?? config.clusterHost
  })

/** Checks for faults of listeners before the database is started. */
const checkListeners = Effect.fnUntraced(function* (config: GatewayConfig) {
  yield* checkListen(config)
  if (config.federationEnabled) {
    yield* Effect.catch(checkListen({ host: config.host, port: config.federationPort }), federationFails)
  }
  if (config.cluster) {
    if (config.databaseUrl === undefined) return yield* new ClusterNeedsDatabase()
    const node = { host: config.clusterListenHost ?? config.clusterHost, port: config.clusterPort }
    yield* Effect.catch(checkListen(node), (listen) => Effect.fail(new ClusterListenError({ listen })))
  }
  if (config.metricsPort !== undefined) {
    const metrics = { host: config.metricsHost, port: config.metricsPort }
    yield* Effect.catch(checkListen(metrics), (listen) => Effect.fail(new MetricsListenError({ listen })))
  }
  if (config.tlsCert !== undefined) yield* tlsCredentials(config)
})

/** Traces for a collector, if one is configured. */
const toTracing = ({ tracingEndpoint, tracingRatio }: GatewayConfig) =>
  tracingEndpoint === undefined
    ? Layer.empty
    : Layer.unwrap(
        Effect.map(
          Effect.promise(() => import("@greenroom/gateway/Tracing")),
          (Tracing) =>
            Tracing.layer({
              endpoint: tracingEndpoint,
              ratio: tracingRatio,
              serviceName: CommandLine.name,
              serviceVersion: CommandLine.version
            })
        )
      )

/** The metrics listener, if it is configured. */
const toMetrics = ({ metricsHost, metricsPort }: GatewayConfig) =>
  metricsPort === undefined
    ? Layer.empty
    : Layer.unwrap(
        Effect.gen(function* () {
          const [DatabaseMeasures, MetricsListener] = yield* Effect.promise(() =>
            Promise.all([import("@greenroom/store/DatabaseMeasures"), import("@greenroom/gateway/MetricsListener")])
          )
          const refresh = yield* DatabaseMeasures.make
          return MetricsListener.layer({ host: metricsHost, port: metricsPort, refresh }).pipe(
            Layer.catchTag("ListenError", (listen) =>
              Layer.effectDiscard(Effect.fail(new MetricsListenError({ listen })))
            )
          )
        })
      )

/** Checks that nobody uses the account of server notices: it has no password, no login and no admin flag. */
const checkNoticesUser = ({ serverNoticesLocalpart: localpart }: GatewayConfig) =>
  localpart === undefined
    ? Layer.empty
    : Layer.effectDiscard(
        Effect.gen(function* () {
          const { devices, user } = yield* Administration
          const found = yield* Effect.option(user(localpart))
          if (Option.isNone(found)) return
          const { admin, passwordHash, userId } = found.value
          const logins = yield* Effect.orDie(devices(userId))
          if (!admin && passwordHash === undefined && logins.length === 0) return
          return yield* new NoticesUserTaken({
            message: `${userId} is the account of a user: choose another name`
          })
        })
      )

/** Logs that both listeners are open and, because it is released before all other layers, that the server shuts down. */
const announce = ({ serverName }: GatewayConfig) =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const { url } = yield* Gateway
      const federation = yield* Effect.serviceOption(FederationListener)
      yield* Effect.log(`The home server ${serverName} listens on ${url} (its API is described at ${url}/docs)`)
      yield* Effect.log(
        Option.match(federation, {
          onNone: () => "Federation is off (federation.enabled)",
          onSome: (listener) => `Other home servers reach it on ${listener.url}`
        })
      )
      yield* Effect.addFinalizer(() => Effect.log(`The home server ${serverName} is shutting down`))
    })
  )

/**
 * Ends the shutdown of this process where PostgreSQL does not answer: each step of it would wait. Its memory holds nothing that was
 * acknowledged, so a stop that was asked for is a success.
 */
const unlessSilent = ({ silent }: DatabaseHold["Service"], cause: Cause.Cause<unknown>) =>
  Effect.forkDetach(
    Effect.map(silent, () =>
      cutShort(
        CommandLine.name,
        "PostgreSQL does not answer: ended without its part of the shutdown. Requests under way were not answered, presence and typing of this process end later. Nothing that was acknowledged is lost",
        Cause.hasInterruptsOnly(cause) ? 0 : 1
      )
    )
  )

/** Runs until the program gets a signal to stop or loses its database, then shuts down in the opposite order. */
const run = Effect.fnUntraced(function* (sources: Sources) {
  const config = yield* readConfig(sources)
  yield* checkDataDir(config.dataDir)
  const files = yield* FileSystem.FileSystem
  const authorities = yield* Effect.forEach(config.federationAuthorities, (file) => files.readFileString(file))
  const appServices = yield* readAppServices(config.appServiceFiles)
  const policy = yield* readPolicy(config)
  const homeServer = toHomeServer(config, { authorities, appServices, policy })
  yield* Database.checkFree(homeServer, config.cluster ? "shared" : "alone")
  yield* checkListeners(config)
  const server = announce(config).pipe(
    Layer.provide([toGateway(config), config.federationEnabled ? toFederation(config) : Layer.empty]),
    Layer.merge(toMetrics(config)),
    Layer.provideMerge(checkNoticesUser(config)),
    Layer.provideMerge(config.cluster ? toNode(config, homeServer) : HomeServer.layer(homeServer)),
    Layer.provide(RequestRecords.layer({ metrics: config.metricsPort !== undefined, accessLog: config.accessLog })),
    Layer.provide(toTracing(config))
  )
  const untilLost = (hold: DatabaseHold["Service"]) => Effect.onError(hold.lost, (cause) => unlessSilent(hold, cause))
  yield* Effect.flatMap(Layer.build(server), (services) => untilLost(Context.get(services, DatabaseHold))).pipe(
    Effect.onError(() => Effect.sync(() => startDeadline(CommandLine.name))),
    Effect.scoped,
    Effect.provide([logging(config.logLevel, config.logFormat), HeapSize.layer])
  )
})

/** Runs the home server as this process, with the options that the operator wrote. */
export const serve = (options: ReadonlyArray<string>): void => {
  mendJsonParse()
  runProgram(
    CommandLine.name,
    CommandLine.runCommandLine(options, process.env, run).pipe(Effect.provide([CommandLine.layer, NodeServices.layer])),
    describeFailure
  )
}
