/** The guarantees for actors, on the runner of one process and on the machinery of a cluster alike. */
import { assert, describe, it } from "@effect/vitest"
import { LargeReads, makeLargeReads, smallRead, takeBytes, withAllowance } from "@greenroom/store/LargeReads"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Schema, Scope } from "effect"
import { ClusterSchema, Entity, type Sharding } from "effect/cluster"
import { Rpc } from "effect/rpc"
import { TestClock } from "effect/testing"
import * as LocalRunner from "../../src/runtime/LocalRunner.ts"
import { WithinAllowance } from "../../src/runtime/RequestAllowance.ts"

const Note = Rpc.make("Note", { payload: { text: Schema.String }, success: Schema.Array(Schema.String) })
const Wait = Rpc.make("Wait", { success: Schema.Void })
const Break = Rpc.make("Break", { success: Schema.Void })
const Change = Rpc.make("Change", { success: Schema.Void }).annotate(ClusterSchema.Uninterruptible, true)
const Notebook = Entity.make("Notebook", [Note, Wait, Break, Change])

/** An actor that keeps notes in memory, and logs its start and its end. */
const makeNotebook = (concurrency: number | "unbounded", disableFatalDefects = false) => {
  const log: Array<string> = []
  const waiting = Deferred.makeUnsafe<void>()
  const go = Deferred.makeUnsafe<void>()
  const layer = Notebook.toLayer(
    Effect.gen(function* () {
      const { entityId } = yield* Entity.CurrentAddress
      yield* Effect.acquireRelease(
        Effect.sync(() => log.push(`${entityId} made`)),
        () => Effect.sync(() => log.push(`${entityId} gone`))
      )
      yield* Effect.yieldNow
      const notes: Array<string> = []
      return Notebook.of({
        Note: ({ payload }) =>
          Effect.sync(() => {
            notes.push(payload.text)
            return [...notes]
          }),
        Wait: () => Effect.andThen(Deferred.succeed(waiting, undefined), Deferred.await(go)),
        Break: () => Effect.die("broken"),
        Change: () =>
          Effect.gen(function* () {
            notes.push("half")
            yield* Deferred.succeed(waiting, undefined)
            yield* Deferred.await(go)
            notes.push("whole")
          })
      })
    }),
    { concurrency, disableFatalDefects, maxIdleTime: "10 seconds", mailboxCapacity: 100 }
  )
  return { layer, log, waiting, go }
}

const onBoth = (
  name: string,
  test: (
    layer: (notebook: Layer.Layer<never, never, Sharding.Sharding>) => Layer.Layer<Sharding.Sharding>
  ) => Effect.Effect<unknown, unknown>
) => {
  for (const [where, runner] of [
    ["in one process", LocalRunner.layer()],
    ["in a cluster", LocalRunner.layerEncoding()]
  ] as const) {
    it.effect(`${name}, ${where}`, () => test((notebook) => Layer.provideMerge(notebook, runner)))
  }
}

describe("LocalRunner", () => {
  it.effect("only messages annotated with the allowance of their request are limited by it", () => {
    const Take = Rpc.make("Take", { payload: { bytes: Schema.Number } })
    const Reader = Entity.make("Reader", [
      Take,
      Rpc.make("TakeWithin", { payload: { bytes: Schema.Number } }).annotate(WithinAllowance, true)
    ])
    const take = ({ payload }: { readonly payload: { readonly bytes: number } }) => takeBytes(payload.bytes)
    const layer = Reader.toLayer(Reader.of({ Take: take, TakeWithin: take }))
    const limits = { tiers: [], most: 3 * smallRead }
    return Effect.gen(function* () {
      const reader = (yield* Reader.client)("a")
      const bytes = 4 * smallRead
      yield* withAllowance(reader.Take({ bytes }))
      yield* reader.TakeWithin({ bytes })
      const refused = yield* Effect.exit(withAllowance(reader.TakeWithin({ bytes })))
      assert.isTrue(Exit.isFailure(refused))
    }).pipe(
      Effect.provideService(LargeReads, makeLargeReads(limits)),
      Effect.provide(Layer.provideMerge(layer, LocalRunner.layer()))
    )
  })

  onBoth(
    "messages are handled in the order in which they were sent, also those that wait for the start of the actor",
    (runner) => {
      const { layer, log } = makeNotebook("unbounded")
      return Effect.gen(function* () {
        const notebook = (yield* Notebook.client)("a")
        const texts = ["one", "two", "three", "four"]
        const answers = yield* Effect.forEach(texts, (text) => notebook.Note({ text }), { concurrency: "unbounded" })
        assert.deepStrictEqual(answers.at(-1), texts)
        assert.deepStrictEqual(log, ["a made"])
      }).pipe(Effect.provide(runner(layer)))
    }
  )

  onBoth("an actor passivates when idle, and starts again with the next message", (runner) => {
    const { layer, log } = makeNotebook(1)
    return Effect.gen(function* () {
      const notebook = (yield* Notebook.client)("a")
      yield* notebook.Note({ text: "one" })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(log, ["a made", "a gone"])
      assert.deepStrictEqual(yield* notebook.Note({ text: "two" }), ["two"])
      assert.deepStrictEqual(log, ["a made", "a gone", "a made"])
    }).pipe(Effect.provide(runner(layer)))
  })

  onBoth("an actor that gets messages is not idle", (runner) => {
    const { layer, log } = makeNotebook(1)
    return Effect.gen(function* () {
      const notebook = (yield* Notebook.client)("a")
      for (let second = 0; second < 60; second += 4) {
        yield* notebook.Note({ text: "again" })
        yield* TestClock.adjust("4 seconds")
      }
      assert.deepStrictEqual(log, ["a made"])
    }).pipe(Effect.provide(runner(layer)))
  })

  onBoth("an actor of concurrency 1 handles one message at a time", (runner) => {
    const { go, layer, waiting } = makeNotebook(1)
    return Effect.gen(function* () {
      const notebook = (yield* Notebook.client)("a")
      const first = yield* Effect.forkChild(notebook.Wait())
      yield* Deferred.await(waiting)
      const second = yield* Effect.forkChild(notebook.Note({ text: "one" }), { startImmediately: true })
      yield* Effect.yieldNow
      assert.isUndefined(second.pollUnsafe())
      yield* Deferred.succeed(go, undefined)
      yield* Fiber.join(first)
      assert.deepStrictEqual(yield* Fiber.join(second), ["one"])
    }).pipe(Effect.provide(runner(layer)))
  })

  onBoth("an uninterruptible message is handled to its end when its caller is interrupted", (runner) => {
    const { go, layer, waiting } = makeNotebook(1)
    return Effect.gen(function* () {
      const notebook = (yield* Notebook.client)("a")
      const caller = yield* Effect.forkChild(notebook.Change())
      yield* Deferred.await(waiting)
      caller.interruptUnsafe()
      yield* Effect.yieldNow
      const next = yield* Effect.forkChild(notebook.Note({ text: "next" }))
      yield* Effect.yieldNow
      yield* Deferred.succeed(go, undefined)
      assert.deepStrictEqual(yield* Fiber.join(next), ["half", "whole", "next"])
      yield* Fiber.await(caller)
    }).pipe(Effect.provide(runner(layer)))
  })

  onBoth("any other message is interrupted with its caller", (runner) => {
    const { layer, waiting } = makeNotebook(1)
    return Effect.gen(function* () {
      const notebook = (yield* Notebook.client)("a")
      const caller = yield* Effect.forkChild(notebook.Wait())
      yield* Deferred.await(waiting)
      yield* Fiber.interrupt(caller)
      assert.deepStrictEqual(yield* notebook.Note({ text: "next" }), ["next"])
    }).pipe(Effect.provide(runner(layer)))
  })

  onBoth("more messages than the mailbox holds are refused", (runner) => {
    const { go, layer, waiting } = makeNotebook("unbounded")
    return Effect.gen(function* () {
      const notebook = (yield* Notebook.client)("a")
      const waits = yield* Effect.forEach(Array.from({ length: 100 }), () => Effect.forkChild(notebook.Wait()))
      yield* Deferred.await(waiting)
      yield* Effect.yieldNow
      const refused = yield* Effect.flip(notebook.Note({ text: "one too many" }))
      assert.strictEqual(refused._tag, "MailboxFull")
      yield* Deferred.succeed(go, undefined)
      for (const wait of waits) yield* Fiber.join(wait)
    }).pipe(Effect.provide(runner(layer)))
  })

  it.effect("a defect is returned to the caller, and the actor restarts", () => {
    const { layer, log } = makeNotebook(1)
    return Effect.gen(function* () {
      const notebook = (yield* Notebook.client)("a")
      yield* notebook.Note({ text: "one" })
      const exit = yield* Effect.exit(notebook.Break())
      assert.isTrue(Exit.isFailure(exit) && Cause.squash(exit.cause) === "broken")
      assert.deepStrictEqual(yield* notebook.Note({ text: "two" }), ["two"])
      assert.deepStrictEqual(log, ["a made", "a gone", "a made"])
    }).pipe(Effect.provide(Layer.provideMerge(layer, LocalRunner.layer())))
  })

  onBoth("an actor whose defects are not fatal keeps its state", (runner) => {
    const { layer, log } = makeNotebook(1, true)
    return Effect.gen(function* () {
      const notebook = (yield* Notebook.client)("a")
      yield* notebook.Note({ text: "one" })
      assert.isTrue(Exit.isFailure(yield* Effect.exit(notebook.Break())))
      assert.deepStrictEqual(yield* notebook.Note({ text: "two" }), ["one", "two"])
      assert.deepStrictEqual(log, ["a made"])
    }).pipe(Effect.provide(runner(layer)))
  })

  it.effect("an actor whose start fails is started again until it succeeds", () => {
    let attempts = 0
    const layer = Notebook.toLayer(
      Effect.gen(function* () {
        attempts++
        if (attempts < 3) return yield* Effect.die("not yet")
        return Notebook.of({
          Note: ({ payload }) => Effect.succeed([payload.text]),
          Wait: () => Effect.void,
          Break: () => Effect.void,
          Change: () => Effect.void
        })
      })
    )
    return Effect.gen(function* () {
      const asked = yield* Effect.forkChild((yield* Notebook.client)("a").Note({ text: "one" }))
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* Fiber.join(asked), ["one"])
      assert.strictEqual(attempts, 3)
    }).pipe(Effect.provide(Layer.provideMerge(layer, LocalRunner.layer())))
  })

  it.effect("no more than maxResidentActors are in memory: a further one can start when another has passivated", () => {
    const { layer } = makeNotebook(1)
    return Effect.gen(function* () {
      const notebook = yield* Notebook.client
      yield* notebook("a").Note({ text: "one" })
      yield* notebook("b").Note({ text: "one" })
      assert.strictEqual((yield* Effect.flip(notebook("c").Note({ text: "one" })))._tag, "MailboxFull")
      yield* TestClock.adjust("1 minute")
      yield* notebook("c").Note({ text: "one" })
    }).pipe(Effect.provide(Layer.provideMerge(layer, LocalRunner.layer({ maxResidentActors: 2 }))))
  })

  it.effect("a runner that stops waits for the messages in progress, and its actors end", () => {
    const { go, layer, log, waiting } = makeNotebook("unbounded")
    return Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Scope.provide(Layer.build(Layer.provideMerge(layer, LocalRunner.layer())), scope)
      const notebook = (yield* Effect.provide(Notebook.client, context))("a")
      const asked = yield* Effect.forkChild(notebook.Wait())
      yield* Deferred.await(waiting)
      const stopping = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      assert.isUndefined(stopping.pollUnsafe())
      assert.deepStrictEqual(log, ["a made"])
      yield* Deferred.succeed(go, undefined)
      yield* Fiber.join(asked)
      yield* Fiber.join(stopping)
      assert.deepStrictEqual(log, ["a made", "a gone"])
    })
  })

  it.effect("a runner that stops interrupts messages that say so, and does not wait for them", () => {
    const Drain = Rpc.make("Drain").annotate(ClusterSchema.InterruptOnTermination, true)
    const Sender = Entity.make("Sender", [Drain])
    const begun = Deferred.makeUnsafe<void>()
    const layer = Sender.toLayer(
      Sender.of({ Drain: () => Effect.andThen(Deferred.succeed(begun, undefined), Effect.never) })
    )
    return Effect.gen(function* () {
      const asked = yield* Effect.scoped(
        Effect.gen(function* () {
          const context = yield* Layer.build(Layer.provideMerge(layer, LocalRunner.layer()))
          const asked = yield* Effect.forkDetach((yield* Effect.provide(Sender.client, context))("a").Drain())
          yield* Deferred.await(begun)
          return asked
        })
      )
      const exit = yield* Fiber.await(asked)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
    })
  })
})
