/** Messages to a node that answers pings, and nothing else: it is cut off from the database. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Option, Schema } from "effect"
import {
  EntityAddress,
  EntityId,
  EntityType,
  Envelope,
  Message,
  RunnerAddress,
  Runners,
  ShardId,
  Snowflake
} from "effect/cluster"
import { Headers } from "effect/http"
import { Rpc, RpcClient, RpcSerialization } from "effect/rpc"
import { TestClock } from "effect/testing"
import { CurrentDelivery, type Delivery, makeSend } from "../../src/runtime/internal/Deliveries.ts"
import { isOfUnavailableNode } from "../../src/runtime/NodeUnavailable.ts"

const Say = Rpc.make("Say", { payload: { text: Schema.String }, success: Schema.String })
const address = RunnerAddress.make("127.0.0.1", 1)

const interrupted = { _tag: "Failure", cause: [{ _tag: "Interrupt", fiberId: undefined }] } as const

/** Sends to a node that gives no answers. */
const scene = Effect.gen(function* () {
  const { codecFor } = yield* RpcSerialization.RpcSerialization
  const arrived = Deferred.makeUnsafe<string>()
  const protocol = RpcClient.Protocol.make((respond) =>
    Effect.succeed({
      send: (client, request) => {
        if (request._tag === "Request") {
          return Effect.asVoid(Deferred.succeed(arrived, JSON.stringify(request.payload)))
        }
        // The end of the test interrupts the request.
        return request._tag === "Interrupt"
          ? respond(client, { _tag: "Exit", requestId: request.requestId, exit: interrupted })
          : Effect.void
      },
      supportsAck: false,
      supportsTransferables: false,
      codecFor
    })
  )
  const closed = Deferred.makeUnsafe<void>()
  const connection = Effect.acquireRelease(protocol, () => Deferred.succeed(closed, undefined))
  const { lost, send } = yield* makeSend(() => Effect.die("not in a batch")).pipe(
    Effect.provideService(Runners.RpcClientProtocol, { codecFor, make: () => connection } as never)
  )
  const answered = Deferred.makeUnsafe<Exit.Exit<unknown, unknown>>()
  const snowflakes = yield* Snowflake.Generator
  const message = (delivery: Delivery) =>
    new Message.OutgoingRequest<never>({
      envelope: Envelope.makeRequest<never>({
        requestId: snowflakes.nextUnsafe(),
        address: EntityAddress.make({
          shardId: ShardId.make("default", 1),
          entityType: EntityType.make("Echo"),
          entityId: EntityId.make("one")
        }),
        tag: "Say",
        payload: { text: "hello" },
        headers: Headers.empty
      } as never),
      context: Context.make(CurrentDelivery, delivery) as never,
      lastReceivedReply: Option.none(),
      rpc: Say as never,
      annotations: Context.empty(),
      respond: (reply) =>
        Effect.sync(() => {
          if (reply._tag === "WithExit") Deferred.doneUnsafe(answered, Exit.succeed(reply.exit))
        })
    })
  return {
    answered,
    arrived,
    closed,
    lost,
    send: (delivery: Delivery) => send({ address, message: message(delivery) })
  }
}).pipe(Effect.provide(Layer.merge(RpcSerialization.layerNdjson, Snowflake.layerGenerator)))

describe("messages between nodes in batches", () => {
  it.effect("requests that a lost node has not answered fail at once, and its connection is closed", () =>
    Effect.gen(function* () {
      const { arrived, closed, lost, send } = yield* scene
      const delivery: Delivery = { expires: 9_000, isUnderWay: false }
      const sent = yield* Effect.forkChild(send(delivery), { startImmediately: true })
      const batch = JSON.parse(yield* Deferred.await(arrived)) as { readonly messages: string }
      assert.strictEqual((JSON.parse(batch.messages) as [ReadonlyArray<unknown>])[0][7], 9_000)
      assert.isTrue(delivery.isUnderWay)
      yield* lost(address)
      yield* Deferred.await(closed)
      const error = yield* Effect.flip(Fiber.join(sent))
      assert.strictEqual(error._tag, "RunnerUnavailable")
      assert.isFalse(delivery.isUnderWay)
    })
  )

  it.effect("a message that has expired is not sent any more", () =>
    Effect.gen(function* () {
      const { answered, arrived, send } = yield* scene
      yield* TestClock.adjust(9_000)
      yield* send({ expires: 9_000, isUnderWay: false })
      const exit = yield* Deferred.await(answered)
      assert.isTrue(Exit.isFailure(exit) && isOfUnavailableNode(exit.cause))
      assert.isFalse(yield* Deferred.isDone(arrived))
    })
  )
})
