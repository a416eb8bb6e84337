import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Exit, Fiber, Latch } from "effect"
import { SqlClient } from "effect/sql"
import {
  expectEvents,
  freeRead,
  giveBytes,
  givingBack,
  LargeReads,
  makeLargeReads,
  ownAllowance,
  readMany,
  readWhole,
  readWithin,
  type SizedRow,
  smallRead,
  takeBytes,
  whileWaiting,
  withAllowance
} from "../src/LargeReads.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const MiB = 1024 * 1024

const limited = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.provideService(
    effect,
    LargeReads,
    makeLargeReads({
      tiers: [
        { above: smallRead, requests: 2 },
        { above: 8 * MiB, requests: 1 }
      ],
      most: 20 * MiB
    })
  )

/** The same for small requests. */
const fewSmall = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.provideService(
    effect,
    LargeReads,
    makeLargeReads({
      tiers: [
        { above: freeRead, requests: 1 },
        { above: smallRead, requests: 1 }
      ],
      most: 20 * MiB
    })
  )

/** A request that reads, and then goes on until the latch is opened. */
const request = (bytes: ReadonlyArray<number>, end: Latch.Latch, log: Array<string>, name: string, owner = "") =>
  Effect.andThen(
    Effect.map(Effect.context(), (context) => ownAllowance(context, owner)),
    Effect.forEach(bytes, takeBytes)
  ).pipe(
    Effect.andThen(Effect.sync(() => log.push(name))),
    Effect.andThen(end.await),
    withAllowance,
    Effect.forkChild({ startImmediately: true })
  )

describe("LargeReads", () => {
  it.effect("few requests read much at a time, and any number little", () =>
    limited(
      Effect.gen(function* () {
        const log: Array<string> = []
        const end = yield* Latch.make(false)
        const ends = [yield* Latch.make(false), end, end]
        const fibers = []
        for (const [index, latch] of ends.entries()) {
          fibers.push(yield* request([2 * MiB, 3 * MiB], latch, log, `large ${index}`))
        }
        yield* Fiber.join(yield* request([smallRead - 10, 10], yield* Latch.make(true), log, "small"))
        assert.deepStrictEqual(log, ["large 0", "large 1", "small"])
        yield* ends[0]!.open
        yield* Fiber.join(fibers[0]!)
        yield* Effect.yieldNow
        assert.deepStrictEqual(log, ["large 0", "large 1", "small", "large 2"])
        yield* end.open
        yield* Effect.forEach(fibers, Fiber.join)
      })
    )
  )

  it.effect("only one request makes large reads at a time, and the sum of its reads is bounded", () =>
    limited(
      Effect.gen(function* () {
        const log: Array<string> = []
        const end = yield* Latch.make(false)
        const first = yield* request([5 * MiB, 5 * MiB], end, log, "first")
        const second = yield* request([15 * MiB], end, log, "second")
        yield* Effect.yieldNow
        assert.deepStrictEqual(log, ["first"])
        yield* end.open
        yield* Fiber.join(first)
        yield* Fiber.join(second)
        assert.deepStrictEqual(log, ["first", "second"])
        const refused = yield* Effect.exit(withAllowance(Effect.forEach([15 * MiB, 6 * MiB], takeBytes)))
        assert.isTrue(Exit.isFailure(refused) && JSON.stringify(refused.cause).includes("M_TOO_LARGE"))
        yield* withAllowance(takeBytes(15 * MiB))
      })
    )
  )

  it.effect("small reads of a request are added up", () =>
    fewSmall(
      Effect.gen(function* () {
        const log: Array<string> = []
        const end = yield* Latch.make(false)
        const first = yield* request([freeRead - 10, 20], end, log, "first")
        const second = yield* request([freeRead - 10, 20], end, log, "second")
        yield* Fiber.join(yield* request([freeRead], yield* Latch.make(true), log, "free"))
        assert.deepStrictEqual(log, ["first", "free"])
        yield* end.open
        yield* Fiber.join(first)
        yield* Fiber.join(second)
        assert.deepStrictEqual(log, ["first", "free", "second"])
      })
    )
  )

  it.live("a read that waits for its permit has nothing in memory", () =>
    fewSmall(
      Effect.gen(function* () {
        const end = yield* Latch.make(false)
        const first = yield* request([2 * freeRead], end, [], "first")
        const read: Array<WeakRef<object>> = []
        const query = Effect.map(Effect.sleep(0), () => {
          const row = { text: "x".repeat(2 * freeRead) }
          read.push(new WeakRef(row))
          return [row]
        })
        const bytesOf = (rows: ReadonlyArray<{ text: string }>) => rows.reduce((sum, { text }) => sum + text.length, 0)
        const waiting = yield* Effect.forkChild(
          withAllowance(readWithin({ query: () => query, bytesOf, isCut: () => false })),
          { startImmediately: true }
        )
        yield* Effect.sleep(20)
        setFlagsFromString("--expose-gc")
        runInNewContext("gc")()
        assert.deepStrictEqual(
          read.map((row) => row.deref()),
          [undefined]
        )
        yield* end.open
        yield* Fiber.join(first)
        assert.strictEqual(bytesOf(yield* Fiber.join(waiting)), 2 * freeRead)
      })
    )
  )

  it.effect("of a read with many bytes only a part comes before the permit, and nothing where it has too many", () =>
    limited(
      Effect.gen(function* () {
        const end = yield* Latch.make(false)
        const others = [yield* request([2 * MiB], end, [], "one"), yield* request([2 * MiB], end, [], "two")]
        const queries: Array<number> = []
        const read = (bytes: number) =>
          readWithin({
            query: (maxBytes) =>
              Effect.sync(() => {
                queries.push(maxBytes)
                return [{ bytes, isCut: bytes > maxBytes }]
              }),
            bytesOf: ([row]) => row!.bytes,
            isCut: ({ isCut }) => isCut
          }).pipe(withAllowance, Effect.forkChild({ startImmediately: true }))
        const waiting = yield* read(6 * MiB)
        assert.deepStrictEqual(queries, [4 * MiB])
        yield* end.open
        yield* Effect.forEach(others, Fiber.join)
        assert.deepStrictEqual(yield* Fiber.join(waiting), [{ bytes: 6 * MiB, isCut: false }])
        queries.length = 0
        const refused = yield* Fiber.await(yield* read(30 * MiB))
        assert.isTrue(Exit.isFailure(refused) && JSON.stringify(refused.cause).includes("M_TOO_LARGE"))
        assert.deepStrictEqual(queries, [4 * MiB])
      })
    )
  )

  it.effect("bytes that were given back do not count", () =>
    fewSmall(
      Effect.gen(function* () {
        const log: Array<string> = []
        const end = yield* Latch.make(false)
        const first = yield* Effect.forkChild(
          withAllowance(Effect.andThen(Effect.andThen(givingBack(takeBytes(2 * MiB)), takeBytes(10)), end.await)),
          { startImmediately: true }
        )
        yield* Fiber.join(yield* request([2 * MiB], yield* Latch.make(true), log, "second"))
        yield* end.open
        yield* Fiber.join(first)
        yield* withAllowance(
          Effect.forEach(Array.from({ length: 100 }), () => Effect.andThen(takeBytes(MiB), giveBytes(MiB)))
        )
      })
    )
  )

  it.effect(
    "a small request that waits for another server has no permit meanwhile, and a large one keeps its permits",
    () =>
      fewSmall(
        Effect.gen(function* () {
          const log: Array<string> = []
          const waiting = (bytes: number, answered: Latch.Latch, end: Latch.Latch) =>
            Effect.forkChild(
              withAllowance(
                Effect.all(
                  [takeBytes(bytes), whileWaiting(answered.await), Effect.sync(() => log.push("continues")), end.await],
                  { discard: true }
                )
              ),
              { startImmediately: true }
            )
          const [answered, end] = [yield* Latch.make(false), yield* Latch.make(false)]
          const small = yield* waiting(smallRead, answered, end)
          const between = yield* Latch.make(false)
          const other = yield* request([smallRead], between, log, "other")
          yield* Effect.yieldNow
          assert.deepStrictEqual(log, ["other"])
          yield* answered.open
          yield* Effect.yieldNow
          assert.deepStrictEqual(log, ["other"])
          yield* between.open
          yield* Fiber.join(other)
          const third = yield* request([smallRead], end, log, "third")
          yield* Effect.yieldNow
          assert.deepStrictEqual(log, ["other", "continues"])
          yield* end.open
          yield* Effect.forEach([small, third], Fiber.join)
          const large = yield* waiting(smallRead + 1, answered, end)
          yield* Fiber.join(large)
          const never = yield* Latch.make(false)
          const holding = yield* waiting(smallRead + 1, never, end)
          const last = yield* request([smallRead], end, log, "last")
          yield* Effect.yieldNow
          assert.notInclude(log, "last")
          yield* never.open
          yield* Effect.forEach([holding, last], Fiber.join)
        })
      )
  )

  it.effect("a request that is expected to read much waits before it reads, and what it expects is not counted", () =>
    limited(
      Effect.gen(function* () {
        const log: Array<string> = []
        const end = yield* Latch.make(false)
        const holders = [yield* request([2 * MiB], end, log, "a"), yield* request([2 * MiB], end, log, "b")]
        const expecting = yield* Effect.forkChild(
          withAllowance(
            Effect.andThen(
              expectEvents(1_000),
              Effect.sync(() => void log.push("expecting"))
            )
          ),
          { startImmediately: true }
        )
        yield* Fiber.join(
          yield* Effect.forkChild(
            withAllowance(
              Effect.andThen(
                expectEvents(16),
                Effect.sync(() => void log.push("few"))
              )
            )
          )
        )
        assert.deepStrictEqual(log, ["a", "b", "few"])
        yield* end.open
        yield* Effect.forEach([...holders, expecting], Fiber.join)
        yield* withAllowance(Effect.andThen(expectEvents(1_000), takeBytes(20 * MiB)))
      })
    )
  )

  it.effect("users whose requests wait are served in turn", () =>
    limited(
      Effect.gen(function* () {
        const log: Array<string> = []
        const ends = yield* Effect.forEach([1, 2, 3, 4, 5], () => Latch.make(false))
        const owners = ["alice", "alice", "alice", "alice", "bob"]
        const fibers = yield* Effect.forEach(owners, (owner, index) =>
          request([2 * MiB], ends[index]!, log, `${owner} ${index}`, owner)
        )
        yield* ends[0]!.open
        yield* ends[1]!.open
        yield* Fiber.join(fibers[0]!)
        yield* Fiber.join(fibers[1]!)
        yield* Effect.yieldNow
        assert.sameMembers(log.slice(2), ["alice 2", "bob 4"])
        for (const end of ends) yield* end.open
        yield* Effect.forEach(fibers, Fiber.join)
      })
    )
  )

  it.effect("a user whose first request waits is served before others get a second turn", () =>
    limited(
      Effect.gen(function* () {
        const log: Array<string> = []
        const owners = ["alice", "bob", "carol", "dave", "alice", "bob", "carol", "dave", "erin"]
        const ends = yield* Effect.forEach(owners, () => Latch.make(false))
        const fibers = yield* Effect.forEach(owners, (owner, index) =>
          request([2 * MiB], ends[index]!, log, owner, owner)
        )
        for (const [index, fiber] of fibers.slice(0, 4).entries()) {
          yield* ends[index]!.open
          yield* Fiber.join(fiber)
          yield* Effect.yieldNow
        }
        assert.deepStrictEqual(log, ["alice", "bob", "carol", "dave", "erin", "alice"])
        for (const end of ends) yield* end.open
        yield* Effect.forEach(fibers, Fiber.join)
        assert.deepStrictEqual(log.slice(6), ["bob", "carol", "dave"])
      })
    )
  )

  it.effect("a request that ends while it waits leaves its place to the next", () =>
    limited(
      Effect.gen(function* () {
        const log: Array<string> = []
        const end = yield* Latch.make(false)
        const large = [yield* request([2 * MiB], end, log, "a"), yield* request([2 * MiB], end, log, "b")]
        const impatient = yield* request([2 * MiB], end, log, "impatient")
        yield* Fiber.interrupt(impatient)
        yield* end.open
        yield* Effect.forEach(large, Fiber.join)
        for (const name of ["c", "d", "e"]) yield* Fiber.join(yield* request([2 * MiB], end, log, name))
        assert.deepStrictEqual(log, ["a", "b", "c", "d", "e"])
      })
    )
  )
})

layer(TestDatabase.layer, { excludeTestServices: true })("rows that requests read before they may read much", (it) => {
  it.effect("are bounded in number, with bodies and without", () =>
    limited(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        let most = 0
        const counting = <Row, E>(query: Effect.Effect<ReadonlyArray<Row>, E>) =>
          Effect.tap(query, ({ length }) =>
            Effect.sync(() => {
              most = Math.max(most, length)
            })
          )
        const end = yield* Latch.make(false)
        const log: Array<string> = []
        const holders = [yield* request([2 * MiB], end, log, "first"), yield* request([2 * MiB], end, log, "second")]
        const whole = readWhole(sql, (limit) =>
          counting(
            Effect.orDie(
              sql<SizedRow>`SELECT nid, 'x' AS body, nid AS bytes FROM generate_series(1::bigint, 10000) AS nid ${limit}`
            )
          )
        )
        const many = readMany(sql, (limit) =>
          counting(Effect.orDie(sql`SELECT nid FROM generate_series(1, 10000) AS nid ${limit}`))
        )
        const reading = yield* Effect.forkChild(
          Effect.all([withAllowance(whole), withAllowance(many)], { concurrency: "unbounded" })
        )
        assert.strictEqual((yield* withAllowance(readMany(sql, () => Effect.succeed([1])))).length, 1)
        yield* Effect.sleep("200 millis")
        assert.strictEqual(most, 4096)
        yield* end.open
        yield* Effect.forEach(holders, Fiber.join)
        assert.deepStrictEqual(
          (yield* Fiber.join(reading)).map(({ length }) => length),
          [10_000, 10_000]
        )
      })
    )
  )
})
