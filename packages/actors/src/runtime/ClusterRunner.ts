/**
 * `Sharding` for one node of several on the same database. Nodes find each other by the table `cluster_runners`, and hold
 * shards by advisory locks of PostgreSQL (`SqlRunnerStorage`). See docs/scaling.md.
 */
import { monotonicMillisUnsafe } from "@greenroom/store/MonotonicClock"
import type { ServerSettings } from "@greenroom/store/ServerSettings"
import { ShardFenceStore } from "@greenroom/store/ShardFenceStore"
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
import { keyOf } from "./internal/nodeKey.ts"
import * as ShardLocks from "./internal/ShardLocks.ts"
import { ShardMoves } from "./internal/ShardMoves.ts"
import * as LeaseHolding from "./Leases.ts"
import { defaults, type LocalRunnerOptions } from "./LocalRunner.ts"
import { addressOfNode, Nodes, randomName } from "./Nodes.ts"
import { ShardFences } from "./ShardFences.ts"

/** The addresses of a node, and the bounds of its actors. */
export interface ClusterRunnerOptions extends LocalRunnerOptions {
  /** The address at which other nodes reach this one. */
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

/** The time, after it came back, in which a node reads requests that were sent to it while it was stopped, in ms. */
const catchUp = 10_000

/** Among how many shards the actors are divided: the same on all nodes. Fences are kept by their numbers. */
const shards = 300

const configOf = ({ host, listenHost = host, port }: ClusterRunnerOptions, options: LocalShardingOptions) =>
  ShardingConfig.layer({
    runnerAddress: Option.some(RunnerAddress.make(host, port)),
    runnerListenAddress: Option.some(RunnerAddress.make(listenHost, port)),
    shardsPerGroup: shards,
    shardLockExpiration: lockExpiration,
    shardLockRefreshInterval: lockExpiration / 3,
    // A node that leaves stops the rooms of its shards until the others have seen it, and taken them.
    refreshAssignmentsInterval: "400 millis",
    runnerHealthCheckInterval: "1 second",
    // The retry interval of shard locks after PostgreSQL did not answer. No messages are stored, so nothing is polled.
    entityMessagePollInterval: "1 second",
    entityTerminationTimeout: "5 seconds",
    entityMaxIdleTime: options.maxIdleTime,
    entityMailboxCapacity: options.mailboxCapacity,
    // Ours is the limit: Effect refuses messages at its own.
    maxResidentEntities: 10 * options.maxResidentActors,
    simulateRemoteSerialization: false
  })

/** The latest answer of the runner storage. */
class Sightings {
  private readonly here: string
  private readonly listeners = new Set<() => void>()
  /** The addresses of the nodes that serve. */
  private alive: ReadonlySet<string>
  /** Whether the others take this node for lost. */
  isExcluded = false
  /** When this node has last shown that it lives, by the monotonic clock. */
  private refreshedAt = Number.NEGATIVE_INFINITY
  /** Since when it has shown that without an interval in which others could take its shards. */
  private presentSince = Number.POSITIVE_INFINITY

  constructor(here: string) {
    this.here = here
    this.alive = new Set([here])
  }

  see(runners: ReadonlyArray<readonly [address: string, healthy: boolean]>): void {
    const alive = new Set([this.here, ...runners.flatMap(([address, healthy]) => (healthy ? [address] : []))])
    this.isExcluded = runners.some(([address, healthy]) => address === this.here && !healthy)
    const changed = alive.symmetricDifference(this.alive).size > 0
    this.alive = alive
    if (changed) for (const listener of this.listeners) listener()
  }

  /** The first shards were acquired: their locks count as refreshed. */
  acquired(at: number): void {
    if (this.refreshedAt === Number.NEGATIVE_INFINITY) this.refreshed(at)
  }

  refreshed(at: number): void {
    if (!this.isCurrent(at)) this.presentSince = at
    this.refreshedAt = at
  }

  /** Whether no other node can have taken shards of this one between the two times. */
  wasPresent(from: number, until: number): boolean {
    return from >= this.presentSince && this.isCurrent(until)
  }

  /** Whether it began to be present a moment ago. */
  isBack(now: number): boolean {
    return now - this.presentSince < catchUp
  }

  isCurrent(now: number): boolean {
    return now - this.refreshedAt < lockExpiration
  }

  nodes(isReady: () => boolean, addresses: Nodes["Service"]["addresses"]): Nodes["Service"] {
    const name = `${this.here}/${randomName()}`
    return {
      name,
      isCluster: true,
      addresses,
      count: () => this.alive.size,
      isReady,
      isAlive: (other) => {
        const address = addressOfNode(other)
        return address === this.here ? other === name : this.alive.has(address)
      },
      onChange: (listener) =>
        Effect.asVoid(
          Effect.acquireRelease(
            Effect.sync(() => this.listeners.add(listener)),
            () => Effect.sync(() => this.listeners.delete(listener))
          )
        )
    }
  }
}

/** Effect's storage, which also shows the other nodes, and when this one has refreshed its locks. */
const watched = (seen: Sightings) =>
  Layer.effect(
    RunnerStorage.RunnerStorage,
    Effect.gen(function* () {
      const storage = yield* RunnerStorage.RunnerStorage
      const clock = yield* Clock.Clock
      return RunnerStorage.RunnerStorage.of({
        ...storage,
        getRunners: Effect.tap(storage.getRunners, (runners) => {
          const wasExcluded = seen.isExcluded
          seen.see(runners.map(([{ address }, healthy]) => [keyOf(address), healthy]))
          if (seen.isExcluded === wasExcluded) return Effect.void
          return seen.isExcluded
            ? Effect.logWarning(
                "The other nodes do not reach this one, or it was stopped: its rooms are theirs until they do. Check the network between nodes if this lasts"
              )
            : Effect.logInfo("The other nodes reach this one again")
        }),
        acquire: (address, shards) =>
          Effect.suspend(() => {
            const begun = monotonicMillisUnsafe(clock)
            return Effect.tap(storage.acquire(address, shards), (acquired) =>
              Effect.sync(() => acquired.length > 0 && seen.acquired(begun))
            )
          }),
        refresh: (address, shards) =>
          Effect.suspend(() => {
            const begun = monotonicMillisUnsafe(clock)
            return Effect.tap(storage.refresh(address, shards), () => Effect.sync(() => seen.refreshed(begun)))
          })
      })
    })
  ).pipe(Layer.provide(SqlRunnerStorage.layerStorage({})))

/** Operations of locks may take as long as the hold of the shards lasts, less the interval of refreshes. */
const deadlineFactor = 2

const lockStorage = (seen: Sightings, moves: ShardMoves) =>
  Layer.unwrap(
    Effect.map(Clock.Clock, (clock) =>
      ShardLocks.layer({ isCurrent: () => seen.isCurrent(monotonicMillisUnsafe(clock)), moves, deadlineFactor })
    )
  ).pipe(Layer.provide(watched(seen)))

/** One node of a cluster. Needs the database that all nodes share, and its secrets. */
export const layer = (
  options: ClusterRunnerOptions
): Layer.Layer<Sharding.Sharding | Nodes, SocketServerError, SqlClient.SqlClient | ServerSettings> => {
  const limits = { ...defaults, ...options }
  const seen = new Sightings(keyOf(options))
  const moves = new ShardMoves()
  return Layer.effectContext(
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      const isCurrent = () => seen.isCurrent(monotonicMillisUnsafe(clock))
      const isExcluded = () => seen.isExcluded
      const { fences, held, sharding } = yield* ClusterSharding.make({ ...limits, isCurrent, isExcluded, moves })
      const { getRunners } = yield* RunnerStorage.RunnerStorage
      const addresses = Effect.map(getRunners, (runners) => runners.map(([{ address }]) => keyOf(address)))
      const nodes = seen.nodes(() => held.size > 0 && isCurrent(), addresses)
      const leases = LeaseHolding.make(
        () => {
          const begun = monotonicMillisUnsafe(clock)
          return () => seen.wasPresent(begun, monotonicMillisUnsafe(clock))
        },
        () => seen.isBack(monotonicMillisUnsafe(clock))
      )
      return Context.make(Sharding.Sharding, sharding).pipe(
        Context.add(Nodes, nodes),
        Context.add(ShardFences, fences),
        Context.add(LeaseHolding.Leases, leases)
      )
    })
  ).pipe(
    Layer.provide([nodeConnections.layer, ShardFenceStore.layer]),
    Layer.provide([MessageStorage.layerNoop, lockStorage(seen, moves)]),
    Layer.provide(configOf(options, limits))
  )
}
