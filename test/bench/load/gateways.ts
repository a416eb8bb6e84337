/**
 * Several gateways of one home server in this process, each on a port of its own, that differ by a setting alone. They share the
 * code that the compiler made, the heap and the database, so that what one of them needs more is the cost of its setting.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as HomeServer from "@greenroom/actors/HomeServer"
import { Gateway } from "@greenroom/gateway/Gateway"
import * as HeapSize from "@greenroom/gateway/HeapSize"
import { logging } from "@greenroom/gateway/Logging"
import * as MetricsListener from "@greenroom/gateway/MetricsListener"
import { unlimited } from "@greenroom/gateway/Rate"
import { RequestRecords } from "@greenroom/gateway/RequestRecords"
import * as Tracing from "@greenroom/gateway/Tracing"
import { ServerName } from "@greenroom/protocol/Identifiers"
import * as DatabaseMeasures from "@greenroom/store/DatabaseMeasures"
import { Context, Effect, Exit, Layer, Scope } from "effect"
import { serveLoad } from "../LoadProcess.ts"

/** What a gateway has that the others may not have. */
export interface GatewaySetting {
  readonly metrics?: boolean
  readonly tracing?: { readonly endpoint: string; readonly ratio: number }
}

interface Start {
  readonly dataDir: string
  readonly metricsPort: number
  readonly settings: ReadonlyArray<GatewaySetting>
}

/** Starts gateways, collects garbage (with `--expose-gc`), or ends the gateways. */
export type GatewaysInput = Start | { readonly collect: true } | { readonly end: true }

const settingLayer = ({ metrics = false, tracing }: GatewaySetting): Layer.Layer<never> =>
  Layer.merge(
    RequestRecords.layer({ metrics, accessLog: false }),
    tracing === undefined
      ? Layer.empty
      : Tracing.layer({ ...tracing, serviceName: "greenroom", serviceVersion: "0.0.0" })
  )

const startGateway = (setting: GatewaySetting) =>
  Effect.map(
    Layer.build(
      Layer.fresh(Gateway.layer({ host: "127.0.0.1", port: 0, rates: unlimited })).pipe(
        Layer.provide(settingLayer(setting))
      )
    ),
    (services) => Context.get(services, Gateway).url
  )

const start = ({ dataDir, metricsPort, settings }: Start) =>
  Effect.gen(function* () {
    const homeServer = yield* Layer.build(
      HomeServer.layer({ serverName: ServerName.make("bench.test"), dataDir }).pipe(Layer.provideMerge(HeapSize.layer))
    )
    return yield* Effect.gen(function* () {
      const refresh = yield* DatabaseMeasures.make
      yield* Layer.build(MetricsListener.layer({ host: "127.0.0.1", port: metricsPort, refresh }))
      return yield* Effect.forEach(settings, startGateway)
    }).pipe(Effect.provide(homeServer))
  }).pipe(Effect.provide([logging("error", "text"), NodeServices.layer]))

const scope = Scope.makeUnsafe()

/** The addresses of the gateways that were started. */
serveLoad(async (input: GatewaysInput): Promise<ReadonlyArray<string>> => {
  if ("settings" in input) return await Effect.runPromise(Effect.provideService(start(input), Scope.Scope, scope))
  if ("collect" in input) globalThis.gc!()
  else await Effect.runPromise(Scope.close(scope, Exit.void))
  return []
})
