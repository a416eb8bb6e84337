/**
 * `Sharding` for one node of several on the same database. Nodes find each other by the table `cluster_runners`, and hold
 * shards by advisory locks of PostgreSQL (`SqlRunnerStorage`). See docs/scaling.md.
 */
import { monotonicMillisUnsafe } from "@greenroom/store/MonotonicClock"
import { Clock, Context, Effect, Layer, Option } from "effect"
import {
  MessageStorage,
  RunnerAddress,
  RunnerStorage,
  Sharding,
  ShardingConfig,
  SqlRunnerStorage
} from "effect/cluster"
import type { SocketServerError } from "effect/socket/SocketServer"
import type { SqlClient } from "effect/sql"
import * as ClusterSharding from "./internal/ClusterSharding.ts"
import type { LocalShardingOptions } from "./internal/LocalSharding.ts"
import * as nodeConnections from "./internal/nodeConnections.ts"
import { defaults, type LocalRunnerOptions } from "./LocalRunner.ts"
import { Nodes } from "./Nodes.ts"

export interface ClusterRunnerOptions extends LocalRunnerOptions {
  /** Where other nodes reach this one. */
  readonly host: string
  readonly port: number
  /** The address to listen on, if it is another (default `host`). */
  readonly listenHost?: string
}

/**
 * After how long without a sign of life, in ms, a node loses its shards. Nodes give one every third of it, so that is also
 * how often they ask PostgreSQL.
 */
const lockExpiration = 6_000

const configOf = ({ host, listenHost = host, port }: ClusterRunnerOptions, options: LocalShardingOptions) =>
  ShardingConfig.layer({
    runnerAddress: Option.some(RunnerAddress.make(host, port)),
    runnerListenAddress: Option.some(RunnerAddress.make(listenHost, port)),
    shardLockExpiration: lockExpiration,
    shardLockRefreshInterval: lockExpiration / 3,
    refreshAssignmentsInterval: "1 second",
    runnerHealthCheckInterval: "1 second",
    entityTerminationTimeout: "5 seconds",
    entityMaxIdleTime: options.maxIdleTime,
    entityMailboxCapacity: options.mailboxCapacity,
    // Ours is the limit: Effect refuses messages at its own.
    maxResidentEntities: 10 * options.maxResidentActors,
    simulateRemoteSerialization: false
  })

/** What the runner storage has last said. */
interface Sightings {
  /** How many nodes serve. */
  nodes: number
  /** When this node has last shown that it lives, by the monotonic clock. */
  refreshedAt: number
}

const watched = (seen: Sightings) =>
  Layer.effect(
    RunnerStorage.RunnerStorage,
    Effect.gen(function* () {
      const storage = yield* RunnerStorage.RunnerStorage
      const clock = yield* Clock.Clock
      return RunnerStorage.RunnerStorage.of({
        ...storage,
        getRunners: Effect.tap(storage.getRunners, (runners) =>
          Effect.sync(() => (seen.nodes = Math.max(1, runners.filter(([, healthy]) => healthy).length)))
        ),
        refresh: (address, shards) =>
          Effect.suspend(() => {
            const begun = monotonicMillisUnsafe(clock)
            return Effect.tap(storage.refresh(address, shards), () => Effect.sync(() => (seen.refreshedAt = begun)))
          })
      })
    })
  ).pipe(Layer.provide(SqlRunnerStorage.layerStorage({})))

/** One node of a cluster. Needs the database that all nodes share. */
export const layer = (
  options: ClusterRunnerOptions
): Layer.Layer<Sharding.Sharding | Nodes, SocketServerError, SqlClient.SqlClient> => {
  const limits = { ...defaults, ...options }
  const seen: Sightings = { nodes: 1, refreshedAt: Number.NEGATIVE_INFINITY }
  return Layer.effectContext(
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      const isCurrent = () => monotonicMillisUnsafe(clock) - seen.refreshedAt < lockExpiration
      const { held, sharding } = yield* ClusterSharding.make({ ...limits, isCurrent })
      const nodes = Nodes.of({ count: () => seen.nodes, isReady: () => held.size > 0 && isCurrent() })
      return Context.make(Sharding.Sharding, sharding).pipe(Context.add(Nodes, nodes))
    })
  ).pipe(
    Layer.provide(nodeConnections.layer),
    Layer.provide([MessageStorage.layerNoop, watched(seen)]),
    Layer.provide(configOf(options, limits))
  )
}
