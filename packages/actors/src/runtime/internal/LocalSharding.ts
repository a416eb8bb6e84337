/**
 * `Sharding` for a server of one process: all actors run here (`Actors`). Services see the same interface as in a cluster.
 */

import { periodically } from "@greenroom/store/Supervision"
import type { Scope } from "effect"
import { Duration, Effect, Stream } from "effect"
import { type Entity, RunnerAddress, ShardId, Sharding, Snowflake } from "effect/cluster"
import { ActorKinds, makeClient } from "./ActorClients.ts"
import { Actors, type Handlers, type Placement, type Registration, type ResidentCount } from "./Actors.ts"

export interface LocalShardingOptions {
  /** How long an actor without messages stays in memory, unless it says otherwise itself. */
  readonly maxIdleTime: Duration.Input
  /** How many actors may be in memory at once; further ones are refused. */
  readonly maxResidentActors: number
  /** How many messages may be under way to one actor; further ones are refused. */
  readonly mailboxCapacity: number
}

const onlyInCluster = Effect.die("Messages are stored and forwarded in a cluster alone; this runner is one process")

const shard = ShardId.make("default", 1)

const placement: Placement = {
  here: RunnerAddress.make("localhost", 0),
  shardOf: () => shard,
  holds: () => true,
  forward: () => onlyInCluster
}

/** Lives until the scope ends. */
export const make = Effect.fnUntraced(function* (options: LocalShardingOptions) {
  const snowflakes = yield* Snowflake.makeGenerator
  const residents: ResidentCount = { count: 0, limit: options.maxResidentActors }
  const kinds = new ActorKinds()
  let isShutdown = false
  yield* Effect.addFinalizer(() => Effect.sync(() => (isShutdown = true)))

  const registerEntity = Effect.fnUntraced(function* (
    entity: Entity.Any,
    build: Effect.Effect<Handlers>,
    registration: Registration = {}
  ) {
    const context = yield* Effect.context<Scope.Scope>()
    const { mailboxCapacity } = options
    const actors = new Actors({ entity, build, context, options: registration, mailboxCapacity, residents, placement })
    yield* actors.measures
    const maxIdleTime = Duration.toMillis(registration.maxIdleTime ?? options.maxIdleTime)
    yield* Effect.addFinalizer(() => actors.close)
    yield* periodically(`Passivating idle ${entity.type} actors`, maxIdleTime / 2, actors.passivate(maxIdleTime))
    kinds.add(entity.type, actors)
  })

  return Sharding.Sharding.of({
    makeClient: (entity) => Effect.sync(() => makeClient(entity as never, kinds.find(entity.type)) as never),
    registerEntity: registerEntity as never,
    getShardId: () => shard,
    hasShardId: () => true,
    getSnowflake: Effect.sync(() => snowflakes.nextUnsafe()),
    isShutdown: Effect.sync(() => isShutdown),
    activeEntityCount: Effect.sync(() => residents.count),
    getRegistrationEvents: Stream.empty,
    registerSingleton: (_name, run) => Effect.asVoid(Effect.forkScoped(run as Effect.Effect<void>)),
    send: () => onlyInCluster,
    sendOutgoing: () => onlyInCluster,
    notify: () => onlyInCluster,
    reset: () => onlyInCluster,
    pollStorage: Effect.void
  })
})
