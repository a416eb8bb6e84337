/** Several nodes of one home server: a process each, on one database, connected over loopback. */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { freePorts } from "@greenroom/store/testing/FreePort"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, type Redacted, type Scope } from "effect"
import * as GatewayProcess from "../../support/GatewayProcess.ts"
import { type Person, type Scene, sceneOf } from "../../support/Scene.ts"

export interface ClusterOptions {
  readonly serverName?: ServerName
  /** Default: a new database. */
  readonly databaseUrl?: Redacted.Redacted
  /** Other settings, as environment variables. */
  readonly environment?: GatewayProcess.GatewayOptions["environment"]
  /** The ports of the client APIs. Default: any free ones. */
  readonly ports?: ReadonlyArray<number>
  /** Settings of single nodes, by their numbers from 0. */
  readonly nodeOptions?: (node: number) => Partial<GatewayProcess.GatewayOptions>
}

export interface Cluster {
  readonly databaseUrl: Redacted.Redacted
  readonly nodes: ReadonlyArray<Scene>
  /** The ports on which nodes listen for each other, in the order of their starts. */
  readonly clusterPorts: () => ReadonlyArray<number>
  /** Starts another node. `port`: of its client API. Default: any free one. */
  readonly start: (port?: number) => Effect.Effect<Scene, never, Scope.Scope>
}

export { freePorts }

/** Starts nodes concurrently. They stop with the scope. */
export const start = Effect.fnUntraced(function* (count: number, options: ClusterOptions = {}) {
  const databaseUrl = options.databaseUrl ?? (yield* Effect.orDie(TestDatabase.emptyUrl))
  /** A node that is started again keeps its cluster port. */
  const clusterPorts = new Map<number, number>()
  const listening: Array<number> = []
  let started = 0
  const startNode = Effect.fnUntraced(function* (port = 0) {
    const special = options.nodeOptions?.(started++) ?? {}
    const clusterPort = clusterPorts.get(port) ?? (yield* freePorts(1))[0]!
    if (port !== 0) clusterPorts.set(port, clusterPort)
    listening.push(clusterPort)
    const gateway = yield* GatewayProcess.start({
      dataDir: yield* GatewayProcess.temporaryDirectory,
      databaseUrl,
      port,
      ...(options.serverName === undefined ? {} : { serverName: options.serverName }),
      ...special,
      environment: {
        GREENROOM_CLUSTER: "true",
        GREENROOM_CLUSTER_PORT: `${clusterPort}`,
        ...options.environment,
        ...special.environment
      }
    })
    return sceneOf(gateway)
  })
  const nodes = yield* Effect.all(
    Array.from({ length: count }, (_, i) => startNode(options.ports?.[i])),
    { concurrency: "unbounded" }
  )
  return { databaseUrl, nodes, clusterPorts: () => listening, start: startNode } satisfies Cluster
})

/** The same user at another node. */
export const at = (node: Scene, { token, userId }: Person): Person =>
  node.person({ user_id: userId, access_token: token })
