import { assert, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Layer, type Redacted, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import * as Database from "../src/Database.ts"
import { DatabaseHold } from "../src/DatabaseHold.ts"
import { ShardFenceStore } from "../src/ShardFenceStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { LeaseLost, WriteLease } from "../src/WriteLease.ts"

/** The pool of a node, whose connections have a name of their own. */
const nodeOn = (url: Redacted.Redacted) => {
  const pool = Layer.unwrap(Effect.map(DatabaseHold, (hold) => Database.pool({ url, hold, maxConnections: 3 })))
  const services = ShardFenceStore.layer.pipe(
    Layer.provideMerge(pool),
    Layer.provide(Layer.fresh(DatabaseHold.layer(url, "shared")))
  )
  return Effect.map(Layer.build(Layer.fresh(services)), (context) => ({
    fences: Context.get(context, ShardFenceStore),
    sql: Context.get(context, SqlClient.SqlClient)
  }))
}

type Node = Effect.Success<ReturnType<typeof nodeOn>>

const world = Effect.gen(function* () {
  const url = yield* TestDatabase.url
  const [first, second] = [yield* nodeOn(url), yield* nodeOn(url)]
  yield* first.sql`CREATE TABLE written (number integer)`
  return { first, second, written: second.sql<{ number: number }>`SELECT number FROM written ORDER BY number` }
})

/** A transaction that has written a number, and goes on when it is let. */
const beginWriting = Effect.fnUntraced(function* ({ sql }: Node, number: number) {
  const [wrote, goOn] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
  const writing = yield* Effect.forkScoped(
    sql.withTransaction(
      Effect.gen(function* () {
        yield* sql`INSERT INTO written VALUES (${number})`
        yield* Deferred.succeed(wrote, undefined)
        yield* Deferred.await(goOn)
        yield* sql`INSERT INTO written VALUES (${-number})`
      })
    )
  )
  yield* Deferred.await(wrote)
  return Effect.andThen(Deferred.succeed(goOn, undefined), Fiber.await(writing))
})

it.live("the next holder of a shard ends what a lost node has under way, its locks too", () =>
  Effect.gen(function* () {
    const { first, second, written } = yield* world
    const number = (yield* first.fences.raise([1, 2])).get(1)
    const finish = yield* beginWriting(first, 1)
    assert.strictEqual((yield* second.fences.raise([1])).get(1), number! + 1)
    assert.isTrue(Exit.isFailure(yield* finish))
    assert.deepStrictEqual(yield* written, [])
  }).pipe(Effect.scoped)
)

it.live("a node that gave its shards back continues to write", () =>
  Effect.gen(function* () {
    const { first, second, written } = yield* world
    yield* first.fences.raise([1, 2])
    const finish = yield* beginWriting(first, 1)
    yield* first.fences.release([1, 2])
    yield* second.fences.raise([1, 2])
    // The second does not give back what the first one asks for.
    yield* first.fences.release([1, 2])
    assert.isTrue(Exit.isSuccess(yield* finish))
    assert.deepStrictEqual(yield* written, [{ number: -1 }, { number: 1 }])
    const finishSecond = yield* beginWriting(second, 2)
    yield* first.fences.raise([2])
    assert.isTrue(Exit.isFailure(yield* finishSecond))
  }).pipe(Effect.scoped)
)

it.live("a shard is given back once the writes under its fence have ended, which are refused from then on", () =>
  Effect.gen(function* () {
    const { first, second, written } = yield* world
    const fence = { shard: 1, number: (yield* first.fences.raise([1])).get(1)! }
    const [began, goOn] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
    const write = (number: number) => first.sql`INSERT INTO written VALUES (${number})`
    const slow = Deferred.succeed(began, undefined).pipe(Effect.andThen(Deferred.await(goOn)), Effect.andThen(write(1)))
    const writing = yield* Effect.forkScoped(first.fences.under(fence, slow))
    yield* Deferred.await(began)
    const taking = yield* Effect.forkScoped(Effect.andThen(first.fences.release([1]), second.fences.raise([1])))
    const isBlocked = second.sql`SELECT FROM pg_stat_activity
      WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%UPDATE shard_fences%'`
    const waits = Effect.repeat(isBlocked, { until: (rows) => rows.length > 0, schedule: Schedule.spaced("10 millis") })
    const state = yield* Effect.raceFirst(Effect.as(waits, "waits"), Effect.as(Fiber.await(taking), "taken"))
    assert.strictEqual(state, "waits")
    yield* Deferred.succeed(goOn, undefined)
    yield* Fiber.join(writing)
    assert.strictEqual((yield* Fiber.join(taking)).get(1), fence.number + 1)
    const refused = yield* Effect.flip(first.fences.under(fence, write(2)))
    assert.strictEqual(refused._tag, "StaleFence")
    assert.deepStrictEqual(yield* written, [{ number: 1 }])
  }).pipe(Effect.scoped)
)

it.live("work whose lease is lost gets no connection", () =>
  Effect.gen(function* () {
    const { first, written } = yield* world
    let stands = true
    const underLease = <A, E, R>(work: Effect.Effect<A, E, R>) =>
      Effect.exit(Effect.provideService(work, WriteLease, { stands: () => stands }))
    assert.isTrue(Exit.isSuccess(yield* underLease(first.sql`INSERT INTO written VALUES (1)`)))
    stands = false
    const insert = first.sql`INSERT INTO written VALUES (2)`
    for (const work of [insert, first.sql.withTransaction(insert)]) {
      const exit = yield* underLease(work)
      assert.instanceOf(Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined, LeaseLost)
    }
    assert.deepStrictEqual(yield* written, [{ number: 1 }])
  }).pipe(Effect.scoped)
)
