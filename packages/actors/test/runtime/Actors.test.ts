/** Messages to actors that leave: passivation, and moves to other nodes. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Schema } from "effect"
import { Entity, RunnerAddress, ShardId } from "effect/cluster"
import { Rpc } from "effect/rpc"
import { TestClock } from "effect/testing"
import { Actors, type Handlers, hasMoved } from "../../src/runtime/internal/Actors.ts"
import { isOfUnavailableNode } from "../../src/runtime/NodeUnavailable.ts"

const Say = Rpc.make("Say", { payload: { text: Schema.String }, success: Schema.String })
const entity = Entity.make("Echo", [Say]) as unknown as Entity.Any
const shard = ShardId.make("default", 1)

/** A node with one kind of actors. `build` makes a behaviour; other nodes answer with "elsewhere". */
const scene = Effect.fnUntraced(function* (build: Effect.Effect<Handlers>) {
  const context = yield* Effect.scope.pipe(Effect.andThen(Effect.context<never>()))
  const node = { holds: true }
  const actors = new Actors({
    entity,
    build,
    context,
    options: { concurrency: "unbounded" },
    mailboxCapacity: 100,
    residents: { count: 0, limit: 100 },
    placement: {
      here: RunnerAddress.make("127.0.0.1", 1),
      shardOf: () => shard,
      holds: () => node.holds,
      forward: () => Effect.succeed("elsewhere")
    }
  })
  return { actors, node }
})

const behaviour = (handle: Effect.Effect<string>, handled: Array<string> = []): Handlers => ({
  Say: (request: { readonly payload: unknown }) =>
    Effect.suspend(() => {
      handled.push((request.payload as { readonly text: string }).text)
      return handle
    })
})

const fork = <A, E>(effect: Effect.Effect<A, E>) => Effect.forkChild(effect, { startImmediately: true })
const never = Number.POSITIVE_INFINITY

describe("messages to actors that leave", () => {
  it.effect(
    "a message of another node that waits for a passivation is not handled once the node has lost the shard",
    () =>
      Effect.gen(function* () {
        const slow = Deferred.makeUnsafe<string>()
        const handled: Array<string> = []
        const { actors, node } = yield* scene(Effect.succeed(behaviour(Deferred.await(slow), handled)))
        const first = yield* fork(actors.receive("one", "Say", { text: "first" }, never))
        yield* Effect.yieldNow
        node.holds = false
        const retired = yield* fork(actors.retireShard(shard))
        const second = yield* fork(actors.receive("one", "Say", { text: "second" }, never))
        yield* Deferred.succeed(slow, "done")
        assert.strictEqual(yield* Fiber.join(first), "done")
        yield* Fiber.join(retired)
        assert.isTrue(hasMoved(yield* Fiber.await(second)))
        assert.deepStrictEqual(handled, ["first"])
      })
  )

  it.effect("messages that wait for a behaviour that is never built go to the node that has the actor now", () =>
    Effect.gen(function* () {
      const { actors, node } = yield* scene(Effect.never)
      const own = yield* fork(actors.ask("one", "Say", { text: "own" }))
      const other = yield* fork(actors.receive("one", "Say", { text: "of another node" }, never))
      yield* Effect.yieldNow
      node.holds = false
      yield* actors.retireShard(shard)
      assert.strictEqual(yield* Fiber.join(own), "elsewhere")
      assert.isTrue(hasMoved(yield* Fiber.await(other)))
    })
  )

  it.effect("a message of another node is not handled after it has expired", () =>
    Effect.gen(function* () {
      const built = Deferred.makeUnsafe<Handlers>()
      const handled: Array<string> = []
      const { actors } = yield* scene(Deferred.await(built))
      const late = yield* fork(actors.receive("one", "Say", { text: "late" }, 9_000))
      const inTime = yield* fork(actors.receive("one", "Say", { text: "in time" }, 9_001))
      yield* TestClock.adjust(9_000)
      yield* Deferred.succeed(built, behaviour(Effect.succeed("done"), handled))
      const exit = yield* Fiber.await(late)
      assert.isTrue(Exit.isFailure(exit) && isOfUnavailableNode(exit.cause))
      assert.strictEqual(yield* Fiber.join(inTime), "done")
      assert.deepStrictEqual(handled, ["in time"])
    })
  )
})
