/**
 * The actors of one kind in this process: a message is a call of the handler, in the fiber of the caller and the context of
 * the actor, without encoding or queues.
 *
 * Actors start on their first message and passivate when idle or after a defect. Messages that arrive during passivation
 * wait for the new instance. Messages reach an actor in the order in which they were sent.
 *
 * When the caller is interrupted, handlers of messages annotated with `ClusterSchema.Uninterruptible` run to their end once
 * they have begun, and the caller waits for that. All others are interrupted.
 *
 * In a cluster (`Placement`), messages for actors of other nodes are forwarded.
 */

import { CurrentAllowance } from "@greenroom/store/LargeReads"
import { gauge } from "@greenroom/store/Measures"
import { monotonicMillisUnsafe } from "@greenroom/store/MonotonicClock"
import {
  Cause,
  Clock,
  Context,
  Data,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Option,
  References,
  Schedule,
  Scope,
  Semaphore,
  Tracer
} from "effect"
import {
  ClusterError,
  ClusterSchema,
  Entity,
  EntityAddress,
  EntityId,
  type RunnerAddress,
  type ShardId,
  type Sharding
} from "effect/cluster"
import { Headers } from "effect/http"
import { Rpc } from "effect/rpc"
import { ActorLeaving } from "../Departure.ts"
import { NodeUnavailable } from "../NodeUnavailable.ts"
import { WithinAllowance } from "../RequestAllowance.ts"
import { isTraced } from "../Sampling.ts"

/** How long running handlers may take before an actor is passivated anyway. */
const terminationTimeout = "5 seconds"
/** When to retry building a behaviour that failed. */
const defaultRetryPolicy = Schedule.min([Schedule.exponential(500, 1.5), Schedule.spaced("10 seconds")])

export type Handlers = { readonly [tag: string]: (request: LocalRequest) => unknown }
export type Registration = Parameters<Sharding.Sharding["Service"]["registerEntity"]>[2] & {}
export type Handled = Effect.Effect<unknown, unknown>

/** The actors that this process runs. */
export interface Placement {
  /** The address of this process. */
  readonly here: RunnerAddress.RunnerAddress
  readonly shardOf: (id: string) => ShardId.ShardId
  /** Whether this process runs the actors of the shard. */
  readonly holds: (shard: ShardId.ShardId) => boolean
  /** Sends a message to the process that runs the actor. */
  readonly forward: (id: string, tag: string, payload: unknown, shard: ShardId.ShardId) => Handled
}

/** The request that a handler gets: the keys of `Entity.Request` that are used within one process. */
class LocalRequest {
  readonly _tag = "Request"
  readonly address: EntityAddress.EntityAddress
  readonly tag: string
  readonly payload: unknown
  readonly headers = Headers.empty
  readonly lastSentChunk = Option.none()

  constructor(address: EntityAddress.EntityAddress, tag: string, payload: unknown) {
    this.address = address
    this.tag = tag
    this.payload = payload
  }
}

/** The answer to a message that another process has forwarded, where the actor has moved before it was handled. */
export class Moved extends Data.TaggedError("Moved") {}

export const isMoved = (error: unknown): error is Moved => error instanceof Moved

export const hasMoved = (exit: Exit.Exit<unknown, unknown>): boolean =>
  Exit.isFailure(exit) && isMoved(Cause.squash(exit.cause))

/** An actor in memory. */
class Actor {
  readonly address: EntityAddress.EntityAddress
  readonly scope = Scope.makeUnsafe()
  context: Context.Context<never> = Context.empty()
  handlers: Handlers | undefined
  /** Done when the behaviour is built; undefined if the actor has left memory before. */
  readonly made = Deferred.makeUnsafe<Handlers | undefined>()
  /** Limits how many handlers run at once; undefined without a limit. */
  readonly limited: (<A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>) | undefined
  /** Set while the actor passivates: done when it has left memory. */
  left: Deferred.Deferred<void> | undefined
  /** Done when no handler is running any more, if a caller waits for that. */
  quiet: Deferred.Deferred<void> | undefined
  /** Done when the actor passivates, for handlers that must end then. */
  leaving: Deferred.Deferred<void> | undefined
  underWay = 0
  lastAsked: number

  constructor(address: EntityAddress.EntityAddress, concurrency: number | "unbounded", now: number) {
    this.address = address
    this.lastAsked = now
    this.limited = concurrency === "unbounded" ? undefined : Semaphore.makeUnsafe(concurrency).withPermits(1)
  }
}

/** The number of actors of all kinds in memory. */
export interface ResidentCount {
  count: number
  readonly limit: number
}

/** All actors of one kind. */
export class Actors {
  private readonly entity: Entity.Any
  private readonly build: Effect.Effect<Handlers>
  private readonly context: Context.Context<never>
  private readonly options: Registration
  private readonly capacity: number
  private readonly residents: ResidentCount
  private readonly placement: Placement
  private readonly clock: Clock.Clock
  /** The messages whose handlers are not interrupted with their caller. */
  private readonly runsToEnd: ReadonlySet<string>
  /** The messages whose handlers are interrupted when the actor passivates. */
  private readonly endsWithActor: ReadonlySet<string>
  /** The messages whose handlers read within the allowance of their caller. */
  private readonly withinAllowance: ReadonlySet<string>
  private readonly resident = new Map<string, Actor>()
  private closed = false

  constructor(options: {
    readonly entity: Entity.Any
    readonly build: Effect.Effect<Handlers>
    readonly context: Context.Context<never>
    readonly options: Registration
    readonly mailboxCapacity: number
    readonly residents: ResidentCount
    readonly placement: Placement
  }) {
    this.entity = options.entity
    this.build = options.build
    const messagesThat = (has: (annotations: Context.Context<never>) => boolean) =>
      new Set(
        Array.from(options.entity.protocol.requests.values())
          .filter(({ annotations }) => has(annotations))
          .map(({ _tag }) => _tag)
      )
    this.runsToEnd = messagesThat(ClusterSchema.isUninterruptibleForServer)
    this.endsWithActor = messagesThat((annotations) => Context.get(annotations, ClusterSchema.InterruptOnTermination))
    this.withinAllowance = messagesThat((annotations) => Context.get(annotations, WithinAllowance))
    this.context = options.context
    this.options = options.options
    const { mailboxCapacity = options.mailboxCapacity } = options.options
    this.capacity = mailboxCapacity === "unbounded" ? Number.POSITIVE_INFINITY : mailboxCapacity
    this.residents = options.residents
    this.placement = options.placement
    this.clock = Context.get(options.context, Clock.Clock)
  }

  /** Asks an actor, and starts it if it is not in memory. */
  ask(id: string, tag: string, payload: unknown): Handled {
    return this.deliver(id, tag, payload)
  }

  /**
   * The same for a message that another process has forwarded: it goes no further. It is not handled after `expires`, by the monotonic
   * clock in ms: its sender may have given it up.
   */
  receive(id: string, tag: string, payload: unknown, expires: number): Handled {
    return this.deliver(id, tag, payload, expires)
  }

  /** `expires` is that of a message that was forwarded. */
  private deliver(id: string, tag: string, payload: unknown, expires?: number): Handled {
    let actor: Actor | undefined
    const asked = Effect.suspend(() => {
      const { placement } = this
      if (expires === undefined) {
        const shard = placement.shardOf(id)
        if (!placement.holds(shard)) return placement.forward(id, tag, payload, shard)
      }
      const address = () => this.addressOf(id)
      if (this.closed) return Effect.fail(new ClusterError.EntityNotAssignedToRunner({ address: address() }))
      const found = this.resident.get(id) ?? this.start(id)
      if (found === undefined) return Effect.fail(new ClusterError.MailboxFull({ address: address() }))
      if (found.left !== undefined)
        return Effect.andThen(Deferred.await(found.left), this.again(id, tag, payload, expires))
      if (found.underWay >= this.capacity) return Effect.fail(new ClusterError.MailboxFull({ address: address() }))
      actor = found
      found.underWay++
      if (found.handlers !== undefined) return this.handle(found, found.handlers, tag, payload, expires)
      return Effect.flatMap(Deferred.await(found.made), (handlers) => {
        if (handlers !== undefined) return this.handle(found, handlers, tag, payload, expires)
        found.underWay--
        actor = undefined
        return this.again(id, tag, payload, expires)
      })
    })
    return Effect.onExit(asked, (exit) => (actor === undefined ? Effect.void : this.answered(actor, exit)))
  }

  /** Delivers a message to the next instance of an actor that has left. */
  private again(id: string, tag: string, payload: unknown, expires: number | undefined): Handled {
    return Effect.suspend(() =>
      expires === undefined || this.placement.holds(this.placement.shardOf(id))
        ? this.deliver(id, tag, payload, expires)
        : Effect.fail(new Moved())
    )
  }

  /** Sends a message without waiting for the answer. */
  tell(id: string, tag: string, payload: unknown): Effect.Effect<void> {
    return Effect.suspend(() => {
      const asked = Effect.catchCause(this.ask(id, tag, payload), (cause) =>
        Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.logDebug(`${this.entity.type} ${tag} failed`, cause)
      )
      Fiber.runIn(Effect.runForkWith(this.context)(asked), Context.getUnsafe(this.context, Scope.Scope))
      return Effect.void
    })
  }

  /** Passivates actors that have had no message for some time. */
  passivate(maxIdleTime: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      const now = monotonicMillisUnsafe(this.clock)
      const idle: Array<Actor> = []
      for (const actor of this.resident.values()) {
        if (actor.underWay === 0 && actor.left === undefined && now - actor.lastAsked >= maxIdleTime) idle.push(actor)
      }
      return Effect.forEach(idle, (actor) => this.retire(actor), { concurrency: 64, discard: true })
    })
  }

  /** Passivates the actors of a shard. */
  retireShard(shard: ShardId.ShardId): Effect.Effect<void> {
    return Effect.suspend(() => {
      const actors = Array.from(this.resident.values()).filter(({ address }) => address.shardId === shard)
      return Effect.forEach(actors, (actor) => this.retire(actor), { concurrency: "unbounded", discard: true })
    })
  }

  /** Passivates an actor. */
  retireOne(id: string): Effect.Effect<void> {
    const actor = this.resident.get(id)
    return actor === undefined ? Effect.void : this.retire(actor)
  }

  /** Refuses further messages, and passivates all actors. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.closed = true
    return Effect.forEach(this.resident.values(), (actor) => this.retire(actor), {
      concurrency: "unbounded",
      discard: true
    })
  })

  /** The metrics of the actors of this kind. */
  get measures(): Effect.Effect<void, never, Scope.Scope> {
    const actor = { actor: this.entity.type }
    const depths = () => Array.from(this.resident.values(), ({ underWay }) => underWay)
    return Effect.all(
      [
        gauge("greenroom_actors", "Actors in memory", () => this.resident.size, actor),
        gauge(
          "greenroom_actor_messages",
          "Messages that actors are handling or have in their mailboxes",
          () => depths().reduce((sum, depth) => sum + depth, 0),
          actor
        ),
        gauge(
          "greenroom_actor_mailbox_deepest",
          "The same of the actor that has most",
          () => depths().reduce((most, depth) => Math.max(most, depth), 0),
          actor
        )
      ],
      { discard: true }
    )
  }

  private addressOf(id: string): EntityAddress.EntityAddress {
    return new EntityAddress.EntityAddress({
      shardId: this.placement.shardOf(id),
      entityType: this.entity.type,
      entityId: EntityId.make(id)
    })
  }

  private start(id: string): Actor | undefined {
    if (this.residents.count >= this.residents.limit) return undefined
    this.residents.count++
    const { concurrency = 1, defectRetryPolicy = defaultRetryPolicy } = this.options
    const actor = new Actor(this.addressOf(id), concurrency, monotonicMillisUnsafe(this.clock))
    this.resident.set(id, actor)
    actor.context = this.context.pipe(
      Context.add(Entity.CurrentAddress, actor.address),
      Context.add(Entity.CurrentRunnerAddress, this.placement.here),
      Context.add(Scope.Scope, actor.scope),
      Context.add(ActorLeaving, untilLeaving(actor)),
      Context.add(References.CurrentLogAnnotations, {})
    )
    const made = this.build.pipe(
      Effect.sandbox,
      Effect.tapError((cause) =>
        Effect.logError(`The behaviour of ${this.entity.type} ${id} could not be built, trying again`, cause)
      ),
      Effect.retry(defectRetryPolicy),
      Effect.flatMap((handlers) => {
        if (actor.left !== undefined) return Effect.succeed(false)
        actor.handlers = handlers
        return Deferred.succeed(actor.made, handlers)
      })
    )
    Fiber.runIn(Effect.runForkWith(actor.context)(made as Effect.Effect<boolean>), actor.scope)
    return actor
  }

  /** Runs the handler in the context of the actor, with the trace and the tracer of the caller where it is traced. */
  private handle(
    actor: Actor,
    handlers: Handlers,
    tag: string,
    payload: unknown,
    expires: number | undefined
  ): Handled {
    const result = handlers[tag]!(new LocalRequest(actor.address, tag, payload))
    const handled = (Rpc.isWrapper(result as object) ? (result as Rpc.Wrapper<Handled>).value : result) as Handled
    const whole = this.runsToEnd.has(tag)
      ? Effect.uninterruptible(handled)
      : this.endsWithActor.has(tag)
        ? untilPassivation(actor, handled)
        : handled
    const inTurn = actor.limited === undefined ? whole : actor.limited(whole)
    const limited = expires === undefined ? inTurn : this.unlessExpired(expires, actor.address, inTurn)
    return Effect.withFiber(({ context }) => {
      const allowed = this.withinAllowance.has(tag)
        ? Effect.provideService(limited, CurrentAllowance, Context.get(context, CurrentAllowance))
        : limited
      return isTraced(context) ? this.traced(actor, tag, allowed) : Effect.updateContext(allowed, () => actor.context)
    })
  }

  private unlessExpired(expires: number, { entityId }: EntityAddress.EntityAddress, handled: Handled): Handled {
    return Effect.suspend(() =>
      monotonicMillisUnsafe(this.clock) < expires
        ? handled
        : Effect.die(new NodeUnavailable(`${this.entity.type} ${entityId} had no time for the message`))
    )
  }

  private traced(actor: Actor, tag: string, handled: Handled): Handled {
    const { entityId } = actor.address
    const spanned = Effect.withSpan(handled, `${this.entity.type}.${tag}`, { attributes: { "actor.id": entityId } })
    return Effect.updateContext(spanned, (asker: Context.Context<never>) => {
      const context = actor.context.pipe(
        Context.add(References.TracerEnabled, true),
        Context.add(Tracer.Tracer, Context.get(asker, Tracer.Tracer))
      )
      const span = Context.getOption(asker, Tracer.ParentSpan)
      return Option.isNone(span) ? context : Context.add(context, Tracer.ParentSpan, span.value)
    })
  }

  private answered(actor: Actor, exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> {
    actor.underWay--
    actor.lastAsked = monotonicMillisUnsafe(this.clock)
    if (actor.underWay === 0 && actor.quiet !== undefined) Deferred.doneUnsafe(actor.quiet, Exit.void)
    if (this.options.disableFatalDefects || Exit.isSuccess(exit) || !Cause.hasDies(exit.cause)) return Effect.void
    const reload = Effect.andThen(
      Effect.logError(`${this.entity.type} ${actor.address.entityId} had a defect and is restarted`, exit.cause),
      this.retire(actor)
    )
    return Effect.sync(() => {
      Fiber.runIn(Effect.runForkWith(this.context)(reload), Context.getUnsafe(this.context, Scope.Scope))
    })
  }

  /**
   * Passivates the actor: it takes no further messages, finishes running handlers, or interrupts those that end with it, and
   * leaves memory. Messages that wait for its behaviour go to the next instance.
   */
  private retire(actor: Actor): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (actor.left !== undefined) return Deferred.await(actor.left)
      const left = Deferred.makeUnsafe<void>()
      actor.left = left
      if (actor.leaving !== undefined) Deferred.doneUnsafe(actor.leaving, Exit.void)
      const leave = Effect.map(Scope.close(actor.scope, Exit.void), () => {
        this.resident.delete(actor.address.entityId)
        this.residents.count--
        Deferred.doneUnsafe(left, Exit.void)
        Deferred.doneUnsafe(actor.made, Exit.succeed(undefined))
      })
      if (actor.underWay === 0 || actor.handlers === undefined) return Effect.uninterruptible(leave)
      actor.quiet = Deferred.makeUnsafe<void>()
      return Effect.uninterruptible(
        Effect.andThen(Effect.timeoutOption(Deferred.await(actor.quiet), terminationTimeout), leave)
      )
    })
  }
}

/** Waits until the actor passivates. */
const untilLeaving = (actor: Actor): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (actor.left !== undefined) return Effect.void
    actor.leaving ??= Deferred.makeUnsafe<void>()
    return Deferred.await(actor.leaving)
  })

/** Interrupts a handler when its actor passivates. */
const untilPassivation = (actor: Actor, handled: Handled): Handled =>
  Effect.raceFirst(handled, Effect.andThen(untilLeaving(actor), Effect.interrupt))
