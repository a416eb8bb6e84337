/**
 * Messages for actors of other nodes: by a link to the node, or through Effect's cluster, which finds it. A message that no node has begun
 * to handle in time is given up, and the sender gets `NodeUnavailable`.
 */
import { monotonicMillisUnsafe } from "@greenroom/store/MonotonicClock"
import { underLease } from "@greenroom/store/WriteLease"
import { Cause, type Clock, Context, Deferred, Duration, Effect, type Exit, Option } from "effect"
import { type Entity, EntityAddress, EntityId, Envelope, Message, type ShardId, type Sharding } from "effect/cluster"
import { Headers } from "effect/http"
import type { Rpc } from "effect/rpc"
import type { Departure } from "../Departure.ts"
import { NodeUnavailable } from "../NodeUnavailable.ts"
import { AnswerWithin, handledWithin, MayRepeat, usualAnswer } from "../Repetition.ts"
import { isTraced } from "../Sampling.ts"
import type { Handled, Placement } from "./Actors.ts"
import { CurrentDelivery, type Delivery } from "./Deliveries.ts"
import type { NodeLinks } from "./NodeLinks.ts"

/** The group of all shards. */
export const group = "default"

/** How long to wait before a message is sent again. */
const retryInterval = "100 millis"

/** How long a message waits on a node that the others do not reach, in ms: their network may stay cut for long. */
const excludedWait = 1_000

/** The error of the connection to another node. */
const connectionFailures: ReadonlySet<unknown> = new Set(["SocketError", "RpcClientError", "RunnerUnavailable"])

/** Whether a message got no answer from the node that it was sent to. */
const isUnanswered = (cause: Cause.Cause<unknown>): boolean =>
  Cause.hasInterruptsOnly(cause) ||
  cause.reasons.some((reason) => Cause.isDieReason(reason) && connectionFailures.has(tagOf(reason.defect)))

/** Effect's client of the actors of one kind. */
export type RemoteClient = (id: string) => { readonly [tag: string]: (payload: unknown) => Handled }

const refusals: ReadonlySet<unknown> = new Set(["MailboxFull", "EntityNotAssignedToRunner"])
const tagOf = (error: unknown): unknown => (error as { readonly _tag?: unknown } | null)?._tag

/** Whether an actor takes no more messages. */
export const isRefused = (error: unknown): boolean => refusals.has(tagOf(error))

/** Sends a message as Effect's client of an entity does, but for its bookkeeping of requests: none is interrupted or acknowledged. */
export const makeSend =
  (entity: Entity.Any, { getShardId, getSnowflake, sendOutgoing }: Sharding.Sharding["Service"]) =>
  (id: string, tag: string, payload: unknown, delivery: Delivery): Handled =>
    Effect.flatMap(getSnowflake, (requestId) => {
      const rpc = entity.protocol.requests.get(tag)!
      const replied = Deferred.makeUnsafe<unknown, unknown>()
      const entityId = EntityId.make(id)
      const address = EntityAddress.make({ shardId: getShardId(entityId, group), entityType: entity.type, entityId })
      const message = new Message.OutgoingRequest<never>({
        envelope: Envelope.makeRequest<never>({ requestId, address, tag, payload, headers: Headers.empty } as never),
        context: Context.make(CurrentDelivery, delivery) as never,
        lastReceivedReply: Option.none(),
        rpc: rpc as never,
        annotations: rpc.annotations,
        respond: (reply) =>
          Effect.sync(() => {
            if (reply._tag === "WithExit") Deferred.doneUnsafe(replied, reply.exit as Exit.Exit<unknown, unknown>)
          })
      })
      return Effect.andThen(sendOutgoing(message as never, false), Deferred.await(replied))
    })

/** Sends messages by a link to the node where one leads to it, and else through Effect's cluster. */
export const makeForward = (
  entity: Entity.Any,
  send: ReturnType<typeof makeSend>,
  traced: Effect.Effect<RemoteClient>,
  links: NodeLinks["Service"],
  clock: Clock.Clock,
  hasShard: (shard: ShardId.ShardId) => boolean,
  isExcluded: () => boolean,
  whileStaying: Departure["Service"]["whileStaying"]
): Placement["forward"] => {
  const { type } = entity
  const unavailable = (id: string) => new NodeUnavailable(`The node that runs ${type} ${id} does not answer`)

  /** Through Effect's cluster, which finds the node. */
  const through = (id: string, tag: string, payload: unknown, shard: ShardId.ShardId, expires: number): Handled => {
    const { annotations } = entity.protocol.requests.get(tag)!
    const mayRepeat = Context.get(annotations, MayRepeat)(payload as never)
    const delivery: Delivery = { expires, isUnderWay: false }
    const once: Handled = underLease(
      Effect.withFiber((fiber) =>
        isTraced(fiber.context)
          ? Effect.flatMap(traced, (client) => client(id)[tag]!(payload))
          : send(id, tag, payload, delivery)
      )
    )
    const attempt: Handled = Effect.catchCause(once, (cause) => {
      if (!isUnanswered(cause)) return Effect.failCause(cause)
      return mayRepeat ? Effect.delay(attempt, retryInterval) : Effect.die(unavailable(id))
    })
    const sent = Effect.catchIf(
      attempt,
      (error) => tagOf(error) === "EntityNotAssignedToRunner",
      () => Effect.die(unavailable(id))
    )
    const left = () => expires - monotonicMillisUnsafe(clock)
    /**
     * Gives up a message that has expired, once no node can have it: neither this one nor another. On a node that the others do not
     * reach it expires soon.
     */
    const expired: Handled = Effect.suspend(() => {
      if (left() > 0 && !isExcluded()) return Effect.delay(expired, Math.min(left(), excludedWait))
      return delivery.isUnderWay || hasShard(shard) ? Effect.delay(expired, retryInterval) : Effect.die(unavailable(id))
    })
    return Effect.timeoutOrElse(Effect.raceFirst(sent, Effect.delay(expired, excludedWait)), {
      duration: Context.get(annotations, AnswerWithin),
      orElse: () => Effect.die(unavailable(id))
    })
  }

  return (id, tag, payload, shard) => {
    const expires = monotonicMillisUnsafe(clock) + handledWithin
    const rpc = entity.protocol.requests.get(tag) as unknown as Rpc.AnyWithProps
    const otherwise = (isUnanswered: boolean) =>
      isUnanswered && !Context.get(rpc.annotations, MayRepeat)(payload as never)
        ? Effect.die(unavailable(id))
        : through(id, tag, payload, shard, expires)
    const within = Duration.toMillis(Context.get(rpc.annotations, AnswerWithin))
    const answered = underLease(
      Effect.withFiber((fiber) => {
        const asked = isTraced(fiber.context)
          ? undefined
          : links.ask({ shard, type, id, rpc, payload, within, expiresIn: handledWithin, otherwise })
        return asked ?? through(id, tag, payload, shard, expires)
      })
    )
    return within > usualAnswer ? whileStaying(answered) : answered
  }
}
