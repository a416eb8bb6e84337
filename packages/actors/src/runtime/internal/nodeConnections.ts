/**
 * How nodes reach each other: Effect's cluster over sockets, with three differences.
 *
 * - Effect sends a message again without limit where the node was lost before it answered. Messages that may not be handled
 *   twice (`MayRepeat`) fail instead.
 * - A node that does not answer a ping counts as lost after `pingTimeout`, twice; with Effect it may take a minute.
 * - Messages are JSON: nodes of two versions understand each other where one of them knows a field more.
 */
import * as NodeClusterSocket from "@effect/platform-node/NodeClusterSocket"
import { Context, Effect, Exit, Layer } from "effect"
import {
  type MessageStorage,
  Reply,
  RunnerHealth,
  RunnerServer,
  type RunnerStorage,
  Runners,
  Sharding,
  type ShardingConfig,
  Snowflake
} from "effect/cluster"
import { RpcSerialization, RpcServer } from "effect/rpc"
import type { SocketServerError } from "effect/socket/SocketServer"
import { NodeUnavailable } from "../NodeUnavailable.ts"
import { MayRepeat } from "../Repetition.ts"

/** How long a node may take to answer a ping. */
const pingTimeout = "2 seconds"

/** The largest message, in bytes: the state of a large room. */
const maxMessageBytes = 256 * 1024 * 1024

type Send = Runners.Runners["Service"]["send"]

/** Answers messages that may not be sent again with a defect. */
const withoutDoubling =
  (send: Send, snowflakes: Snowflake.Generator["Service"]): Send =>
  ({ address, message }) =>
    Effect.catchTag(send({ address, message }), "RunnerUnavailable", (error) => {
      if (message._tag !== "OutgoingRequest") return Effect.fail(error)
      const { payload, requestId } = message.envelope
      if (Context.get(message.annotations, MayRepeat)(payload as never)) return Effect.fail(error)
      const lost = new NodeUnavailable(`The node at ${address.host}:${address.port} was lost before it answered`)
      return message.respond(new Reply.WithExit({ id: snowflakes.nextUnsafe(), requestId, exit: Exit.die(lost) }))
    })

const runners = Layer.effect(
  Runners.Runners,
  Effect.gen(function* () {
    const rpc = yield* Runners.makeRpc
    const snowflakes = yield* Snowflake.Generator
    return Runners.Runners.of({ ...rpc, send: withoutDoubling(rpc.send, snowflakes) })
  })
).pipe(Layer.provide(Snowflake.layerGenerator))

const health = Layer.effect(
  RunnerHealth.RunnerHealth,
  Effect.map(Runners.Runners, (all) => {
    const ping: RunnerHealth.RunnerHealth["Service"]["isAlive"] = (address) =>
      all.ping(address).pipe(Effect.timeout(pingTimeout), Effect.retry({ times: 1 }), Effect.isSuccess)
    return RunnerHealth.RunnerHealth.of({ isAlive: ping })
  })
)

/** Effect's `Sharding`, over sockets to other nodes. */
export const layer: Layer.Layer<
  Sharding.Sharding,
  SocketServerError,
  ShardingConfig.ShardingConfig | MessageStorage.MessageStorage | RunnerStorage.RunnerStorage
> = RunnerServer.layer.pipe(
  Layer.provideMerge(Sharding.layer),
  Layer.provide(health),
  Layer.provide(runners),
  Layer.provide(RpcServer.layerProtocolSocketServer),
  Layer.provide([NodeClusterSocket.layerSocketServer, NodeClusterSocket.layerClientProtocol]),
  Layer.provide(RpcSerialization.layerNdjsonWith({ maxBufferSize: maxMessageBytes }))
)
