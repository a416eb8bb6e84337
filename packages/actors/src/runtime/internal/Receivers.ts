/**
 * Messages of other nodes, straight to the actors. Effect's own way of receiving has a mailbox and a second protocol for each entity,
 * which costs more than what the actor does.
 *
 * Messages for actors that this node does not run now, and traced messages, go Effect's way, which also reports a moved actor.
 */
import { monotonicMillisUnsafe } from "@greenroom/store/MonotonicClock"
import { Clock, Context, Effect, Exit, Layer, Schema } from "effect"
import { type Envelope, Reply, RunnerServer, Runners, ShardId, Snowflake } from "effect/cluster"
import { RpcServer } from "effect/rpc"
import { handledWithin } from "../Repetition.ts"
import { hasMoved } from "./Actors.ts"
import * as Deliveries from "./Deliveries.ts"
import { Receivers } from "./RemoteActors.ts"

/** The receiver of a message on this node. */
const receiverOf = (receivers: Receivers["Service"], { address, sampled, tag }: Envelope.PartialRequest) => {
  const receiver = receivers.get(address.entityType)
  const rpc = receiver?.rpcs.get(tag)
  const isHere = receiver?.holds(ShardId.make(address.shardId.group, address.shardId.id)) === true
  return isHere && rpc !== undefined && sampled !== true ? { receiver, rpc } : undefined
}

const receive = Runners.Rpcs.toLayerHandler(
  "Effect",
  Effect.gen(function* () {
    const otherwise = yield* Runners.Rpcs.accessHandler("Effect")
    const receivers = yield* Receivers
    const snowflakes = yield* Snowflake.Generator
    const clock = yield* Clock.Clock
    const { codecFor } = yield* RpcServer.Protocol

    return (message, options) => {
      const { request } = message
      const found = message.persisted ? undefined : receiverOf(receivers, request)
      if (found === undefined) return otherwise(message, options)
      const { receiver, rpc } = found
      const handled = Effect.flatMap(
        Effect.orDie(Schema.decodeEffect(codecFor(rpc.payloadSchema))(request.payload)) as Effect.Effect<unknown>,
        (payload) =>
          receiver.receive(request.address.entityId, request.tag, payload, monotonicMillisUnsafe(clock) + handledWithin)
      )
      return Effect.flatMap(Effect.exit(handled), (exit) => {
        if (hasMoved(exit)) return otherwise(message, options)
        // Effect answers a lost caller the same way.
        return Exit.hasInterrupts(exit)
          ? Effect.interrupt
          : Reply.serializeOrDefect(
              new Reply.ReplyWithContext({
                reply: new Reply.WithExit({
                  requestId: request.requestId,
                  id: snowflakes.nextUnsafe(),
                  exit: exit as never
                }),
                context: Context.empty() as never,
                rpc: rpc as never
              }),
              codecFor
            )
      })
    }
  })
)

/** The caller is lost. The handler of the message still runs to its end: all long messages may be repeated. */
const control = Runners.Rpcs.toLayerHandler(
  "Envelope",
  Effect.gen(function* () {
    const otherwise = yield* Runners.Rpcs.accessHandler("Envelope")
    const receivers = yield* Receivers
    return (message, options) =>
      receivers.has(message.envelope.address.entityType) ? Effect.void : otherwise(message, options)
  })
)

/** Receives what other nodes send. */
export const layer = RpcServer.layer(Runners.Rpcs.merge(Deliveries.group), {
  spanPrefix: "RunnerServer",
  disableTracing: true,
  disableFatalDefects: true
}).pipe(
  Layer.provide(Layer.mergeAll(receive, control, Deliveries.handlers)),
  Layer.provide(RunnerServer.layerHandlers),
  Layer.provide(Snowflake.layerGenerator)
)
