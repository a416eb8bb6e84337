/**
 * `Sharding` for one node of several: Effect's cluster decides which node holds which shard of the actors, and carries
 * messages between nodes. Messages for actors of this node's shards are direct calls, as in a server of one process.
 *
 * An actor exists once on a node, in `Actors`. The entity that Effect knows only hands over what other nodes have sent.
 * A singleton for each shard (`registerGuard`) says whether the node holds it: Effect stops it, and waits for that, before
 * another node gets the shard. Its end passivates the actors of the shard. It raises the fence of the shard first, so that
 * what a former holder still writes is refused.
 */

import { monotonicMillisUnsafe } from "@greenroom/store/MonotonicClock"
import { type Fence, ShardFenceStore } from "@greenroom/store/ShardFenceStore"
import { periodically } from "@greenroom/store/Supervision"
import { Cause, Clock, Deferred, Duration, Effect, Exit, Fiber, identity, Latch, Option, type Scope } from "effect"
import { Entity, EntityId, ShardId, Sharding, ShardingConfig } from "effect/cluster"
import type { SqlError } from "effect/sql"
import { Departure } from "../Departure.ts"
import { isOfUnavailableNode, NodeUnavailable } from "../NodeUnavailable.ts"
import { handledWithin } from "../Repetition.ts"
import type { ShardFencing } from "../ShardFences.ts"
import { ActorKinds, makeClient } from "./ActorClients.ts"
import { Actors, type Handlers, isMoved, type Placement, type Registration, type ResidentCount } from "./Actors.ts"
import { makeRaise, makeRelease, releaseTimeout } from "./FenceRequests.ts"
import { group, isRefused, makeForward, makeSend, type RemoteClient } from "./ForwardedMessages.ts"
import type { LocalShardingOptions } from "./LocalSharding.ts"
import { NodeLinks } from "./NodeLinks.ts"
import { forOtherNode, Receivers } from "./RemoteActors.ts"
import type { ShardMoves } from "./ShardMoves.ts"

/** How long to wait before the fence of a shard is raised again. */
const retryInterval = "100 millis"

/** A name for the guard of each shard, such that Effect places it there. */
const guardNames = (sharding: Sharding.Sharding["Service"], shards: number): ReadonlyMap<ShardId.ShardId, string> => {
  const names = new Map<ShardId.ShardId, string>()
  for (let i = 0; names.size < shards; i++) {
    const name = `greenroom/shard/${i}`
    const shard = sharding.getShardId(EntityId.make(name), group)
    if (!names.has(shard)) names.set(shard, name)
  }
  return names
}

interface ClusterShardingOptions extends LocalShardingOptions {
  /**
   * Whether this node has shown recently that it lives. If not, another one may have its shards: it was stopped, or cut off
   * from the database.
   */
  readonly isCurrent: () => boolean
  /** Whether the other nodes take this one for lost. */
  readonly isExcluded: () => boolean
  readonly moves: ShardMoves
}

interface ClusterShardingParts {
  readonly sharding: Sharding.Sharding["Service"]
  readonly fences: ShardFencing
  /** The shards that this node holds, with the number of the fence of each. */
  readonly held: ReadonlyMap<ShardId.ShardId, number>
}

/** On Effect's `Sharding`. Returns when this node holds shards; lives until the scope ends. */
export const make = Effect.fnUntraced(function* (options: ClusterShardingOptions) {
  const cluster = yield* Sharding.Sharding
  const clock = yield* Clock.Clock
  const config = yield* ShardingConfig.ShardingConfig
  const receivers = yield* Receivers
  const links = yield* NodeLinks
  const departure = yield* Effect.serviceOption(Departure)
  const whileStaying = Option.isSome(departure) ? departure.value.whileStaying : identity
  const here = Option.getOrThrow(config.runnerAddress)
  const residents: ResidentCount = { count: 0, limit: options.maxResidentActors }
  const kinds = new ActorKinds()
  const registered = new Set<Actors>()
  const scope = yield* Effect.scope
  const held = new Map<ShardId.ShardId, number>()
  const holdsAny = Latch.makeUnsafe(false)
  const store = yield* ShardFenceStore
  const raise = makeRaise(store)
  const release = makeRelease(store, options.isCurrent)
  /** Actors that start before the fence of their shard is raised. */
  const waiting = new Map<ShardId.ShardId, Deferred.Deferred<Fence>>()

  const listeners = new Set<() => void>()
  const changed = () => {
    for (const listener of listeners) listener()
  }

  const hold = (shard: ShardId.ShardId, number: number) => {
    held.set(shard, number)
    changed()
    const waiter = waiting.get(shard)
    waiting.delete(shard)
    if (waiter !== undefined) Deferred.doneUnsafe(waiter, Exit.succeed({ shard: shard.id, number }))
    holdsAny.openUnsafe()
  }

  const retire = (shard: ShardId.ShardId) =>
    Effect.suspend(() => {
      held.delete(shard)
      changed()
      return Effect.forEach(registered, (actors) => actors.retireShard(shard), {
        concurrency: "unbounded",
        discard: true
      })
    })

  const untilDone = (raised: Effect.Effect<number, SqlError.SqlError>): Effect.Effect<number> =>
    Effect.catch(raised, () => Effect.delay(untilDone(raised), retryInterval))

  /**
   * Holds a shard. Its end also waits for a fence that is being raised: one that is raised after the shard was given back would let the
   * next holder take this node for lost. Effect ends it by an interruption, so what it does then runs in a fiber of its own.
   */
  const guard = Effect.fnUntraced(function* (shard: ShardId.ShardId) {
    let raising: Fiber.Fiber<number, SqlError.SqlError> | undefined
    const end = Effect.gen(function* () {
      if (raising !== undefined) yield* Effect.timeoutOption(Fiber.await(raising), releaseTimeout)
      yield* options.moves.enter(shard, options.isCurrent())
      yield* retire(shard)
      yield* release(shard)
      options.moves.stopped()
    })
    yield* Effect.acquireRelease(
      Effect.sync(() => options.moves.started()),
      () => Effect.flatMap(Effect.forkDetach(end), Fiber.await)
    )
    const once = Effect.flatMap(Effect.forkDetach(raise(shard)), (fiber) => {
      raising = fiber
      return Fiber.join(fiber)
    })
    hold(shard, yield* untilDone(once))
  })

  const fences: ShardFencing = {
    of: (shard) =>
      Effect.suspend(() => {
        const number = held.get(shard)
        if (number !== undefined) return Effect.succeed({ shard: shard.id, number })
        const waiter = waiting.get(shard) ?? Deferred.makeUnsafe<Fence>()
        waiting.set(shard, waiter)
        return Deferred.await(waiter)
      }),
    current: (shard) => {
      const number = held.get(shard)
      return number === undefined ? undefined : { shard: shard.id, number }
    },
    held: () => Array.from(held, ([shard, number]) => ({ shard: shard.id, number })),
    onChange: (listener) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => listeners.add(listener)),
          () => Effect.sync(() => listeners.delete(listener))
        )
      ),
    // Another node may have had the shard while this one did not notice.
    refused: ({ number, shard: id }) => {
      const shard = ShardId.make(group, id)
      const isStill = () => held.get(shard) === number && options.isCurrent()
      const again = Effect.flatMap(untilDone(raise(shard)), (raised) =>
        isStill() ? Effect.map(retire(shard), () => hold(shard, raised)) : Effect.void
      )
      return isStill() ? Effect.asVoid(Effect.forkIn(again, scope)) : Effect.void
    }
  }
  for (const [shard, name] of guardNames(cluster, config.shardsPerGroup)) {
    yield* cluster.registerSingleton(name, guard(shard), { shardGroup: group })
  }

  const placementOf = (entity: Entity.Any): Placement => {
    let client: RemoteClient | undefined
    const remote = Effect.suspend(() =>
      client === undefined
        ? Effect.map(cluster.makeClient(entity as never), (made) => (client = made as unknown as RemoteClient))
        : Effect.succeed(client)
    )
    return {
      here,
      shardOf: (id) => cluster.getShardId(EntityId.make(id), group),
      holds: (shard) => held.has(shard) && options.isCurrent(),
      forward: makeForward(
        entity,
        makeSend(entity, cluster),
        remote,
        links,
        clock,
        cluster.hasShardId,
        options.isExcluded,
        whileStaying
      )
    }
  }

  /** Delivers messages of other nodes to the actors, by a link or through Effect's cluster. */
  const receive = (entity: Entity.Any, actors: Actors, id: string, tag: string, payload: unknown, expires: number) => {
    const refuse = Effect.suspend(() => Effect.die(new NodeUnavailable(`${entity.type} ${id} takes no messages now`)))
    return options.isCurrent()
      ? Effect.catchCause(actors.receive(id, tag, payload, expires), (cause) =>
          isOfUnavailableNode(cause) || isRefused(Cause.squash(cause)) ? refuse : Effect.failCause(forOtherNode(cause))
        )
      : refuse
  }

  /** The behaviour that Effect runs for the entity, for messages that do not go straight to the actors. */
  const receiving = (entity: Entity.Any, actors: Actors) =>
    Effect.gen(function* () {
      const { entityId: id, shardId } = yield* Entity.CurrentAddress
      yield* Effect.addFinalizer(() => (held.has(shardId) ? Effect.void : actors.retireOne(id)))
      const moved = () => Effect.die(new NodeUnavailable(`${entity.type} ${id} has moved to another node`))
      const handler = (tag: string) => (request: { readonly payload: unknown }) => {
        const expires = monotonicMillisUnsafe(clock) + handledWithin
        return Effect.catchIf(receive(entity, actors, id, tag, request.payload, expires), isMoved, moved)
      }
      return Object.fromEntries(Array.from(entity.protocol.requests.keys(), (tag) => [tag, handler(tag)]))
    })

  const registerEntity = Effect.fnUntraced(function* (
    entity: Entity.Any,
    build: Effect.Effect<Handlers>,
    registration: Registration = {}
  ) {
    const context = yield* Effect.context<Scope.Scope>()
    const { mailboxCapacity } = options
    const placement = placementOf(entity)
    const actors = new Actors({ entity, build, context, options: registration, mailboxCapacity, residents, placement })
    yield* actors.measures
    const maxIdleTime = Duration.toMillis(registration.maxIdleTime ?? options.maxIdleTime)
    registered.add(actors)
    yield* Effect.addFinalizer(() =>
      Effect.andThen(
        actors.close,
        Effect.sync(() => registered.delete(actors))
      )
    )
    yield* periodically(`Passivating idle ${entity.type} actors`, maxIdleTime / 2, actors.passivate(maxIdleTime))
    yield* cluster.registerEntity(entity as never, receiving(entity, actors) as never, {
      concurrency: "unbounded",
      mailboxCapacity: registration.mailboxCapacity ?? mailboxCapacity,
      disableFatalDefects: true,
      maxIdleTime: registration.maxIdleTime ?? options.maxIdleTime
    })
    receivers.set(entity.type, {
      rpcs: entity.protocol.requests as never,
      holds: placement.holds,
      receive: (id, tag, payload, expires) => receive(entity, actors, id, tag, payload, expires)
    })
    kinds.add(entity.type, actors)
  })

  const sharding = Sharding.Sharding.of({
    ...cluster,
    makeClient: (entity) => Effect.sync(() => makeClient(entity as never, kinds.find(entity.type)) as never),
    registerEntity: registerEntity as never,
    hasShardId: (shard) => held.has(shard) && options.isCurrent(),
    activeEntityCount: Effect.sync(() => residents.count)
  })
  // Runs before Effect gives back the shards.
  yield* Effect.addFinalizer(() => Effect.sync(() => options.moves.end()))
  yield* holdsAny.await
  return { sharding, fences, held } satisfies ClusterShardingParts
})
