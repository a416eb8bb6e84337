/**
 * Messages to actors of the same process, 64 at a time: to an actor that only answers, run as all of ours are, without traces, and
 * to one that is a mailbox and a fiber and nothing else.
 */
import * as LocalRunner from "@greenroom/actors/runtime/LocalRunner"
import { Deferred, Effect, Queue, References, Schema } from "effect"
import { Entity } from "effect/cluster"
import { Rpc } from "effect/rpc"
import { serveLoad } from "../LoadProcess.ts"
import { median } from "../Percentiles.ts"

export interface LocalActorsInput {
  readonly messages: number
}

/** Messages a second. */
export interface LocalActors {
  readonly actors: number
  readonly mailboxes: number
}

const askers = 64
const rounds = 5

const Echo = Entity.make("Echo", [Rpc.make("Say", { payload: { text: Schema.String }, success: Schema.String })])
const echo = Echo.toLayer({ Say: ({ payload }) => Effect.succeed(payload.text) }, { concurrency: "unbounded" })

interface Letter {
  readonly text: string
  readonly answer: Deferred.Deferred<string>
}

/** An actor in its smallest form. */
const makeMailbox = Effect.gen(function* () {
  const letters = yield* Queue.unbounded<Letter>()
  yield* Queue.take(letters).pipe(
    Effect.flatMap(({ answer, text }) => Deferred.succeed(answer, text)),
    Effect.forever,
    Effect.forkScoped
  )
  return (text: string) => {
    const answer = Deferred.makeUnsafe<string>()
    Queue.offerUnsafe(letters, { text, answer })
    return Deferred.await(answer)
  }
})

/** How many messages a second are answered, each asker with an actor of its own. */
const rate = <E>(ask: (asker: number) => Effect.Effect<string, E>, messages: number) =>
  Effect.gen(function* () {
    const each = Math.ceil(messages / askers)
    const begin = performance.now()
    yield* Effect.forEach(
      Array.from({ length: askers }),
      (_, asker) => Effect.repeat(ask(asker), { times: each - 1 }),
      { concurrency: "unbounded", discard: true }
    )
    return (each * askers) / ((performance.now() - begin) / 1_000)
  })

const measure = ({ messages }: LocalActorsInput) =>
  Effect.gen(function* () {
    const actor = yield* Echo.client
    const mailboxes = yield* Effect.all(Array.from({ length: askers }, () => makeMailbox))
    const actors: Array<number> = []
    const bare: Array<number> = []
    for (let round = 0; round < rounds; round++) {
      actors.push(yield* rate((asker) => actor(`echo${asker}`).Say({ text: "hello" }), messages))
      bare.push(yield* rate((asker) => mailboxes[asker]!("hello"), messages))
    }
    return { actors: median(actors.slice(1)), mailboxes: median(bare.slice(1)) }
  }).pipe(
    Effect.provide(echo),
    Effect.provide(LocalRunner.layer()),
    Effect.scoped,
    Effect.provideService(References.TracerEnabled, false)
  )

serveLoad((input: LocalActorsInput): Promise<LocalActors> => Effect.runPromise(measure(input)))
