/** Nodes keep their shards, and the connection with the locks, when they are slow and when other nodes join. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Redacted } from "effect"
import { roomOf, type Scene, sendMessage, succeeded } from "../support/Scene.ts"
import { at, start } from "./support/Cluster.ts"
import { persistently, query } from "./support/Workload.ts"

/** The process IDs of the PostgreSQL backends that hold the locks of nodes. */
const lockHolders = (url: Redacted.Redacted) =>
  Effect.map(
    query(
      url,
      `SELECT DISTINCT pid FROM pg_locks JOIN pg_stat_activity USING (pid)
       WHERE locktype = 'advisory' AND objsubid = 2 AND application_name LIKE 'greenroom-node-%'
         AND datname = current_database()`
    ),
    (rows) => rows.map(({ pid }) => pid as number)
  )

/** For how long no node has refreshed its locks, in ms. */
const silence = (url: Redacted.Redacted) =>
  Effect.map(
    query(url, "SELECT extract(epoch FROM now() - max(last_heartbeat)) * 1000 AS silence FROM cluster_runners"),
    ([row]) => Number(row.silence)
  )

const untilSilentFor = (url: Redacted.Redacted, milliseconds: number): Effect.Effect<number> =>
  Effect.flatMap(silence(url), (found) =>
    found >= milliseconds ? Effect.succeed(found) : Effect.delay(untilSilentFor(url, milliseconds), "20 millis")
  )

const fences = (url: Redacted.Redacted) => query(url, "SELECT shard, fence FROM shard_fences ORDER BY shard")

/** Waits until each of two nodes has half of the shards. They serve before that. */
const untilShared = (url: Redacted.Redacted): Effect.Effect<void> =>
  Effect.flatMap(
    query(url, "SELECT count(*) AS shards FROM shard_fences WHERE holder IS NOT NULL GROUP BY holder"),
    (rows) =>
      rows.length === 2 && rows.every(({ shards }) => Number(shards) === 150)
        ? Effect.void
        : Effect.delay(untilShared(url), "50 millis")
  )

/** In ms. After 6 seconds without a refresh a node loses its locks. */
const tooLong = 5_400

/** Delays the refreshes of all nodes. Tries again if the delay was too long. Returns the fencing tokens from before. */
const delayRefreshes = (url: Redacted.Redacted): ReturnType<typeof fences> =>
  Effect.gen(function* () {
    yield* untilShared(url)
    const before = yield* fences(url)
    const holders = yield* lockHolders(url)
    for (const pid of holders) process.kill(pid, "SIGSTOP")
    const found = yield* Effect.ensuring(
      untilSilentFor(url, 4_800),
      Effect.sync(() => {
        for (const pid of holders) process.kill(pid, "SIGCONT")
      })
    )
    return found > tooLong ? yield* delayRefreshes(url) : before
  })

describe("slow nodes", () => {
  it.live("a node whose locks are refreshed slowly keeps its shards", () =>
    Effect.gen(function* () {
      const { databaseUrl, nodes } = yield* start(2)
      const [a, b] = nodes as [Scene, Scene]
      const alice = yield* a.register("alice")
      const rooms = yield* Effect.forEach([1, 2, 3, 4], () => roomOf(alice))
      const before = yield* delayRefreshes(databaseUrl)
      for (const room of rooms)
        for (const node of [a, b]) {
          succeeded(yield* persistently(() => sendMessage(at(node, alice), room, node.gateway.url.slice(-4))))
        }
      assert.deepStrictEqual(yield* fences(databaseUrl), before)
      for (const { gateway } of nodes) assert.notInclude(gateway.output(), "Shard lock storage is unhealthy")
    }).pipe(Effect.scoped)
  )

  it.live("a node that gives shards to a joining node keeps its connection", () =>
    Effect.gen(function* () {
      const { databaseUrl, start: join } = yield* start(1)
      const [holder] = yield* lockHolders(databaseUrl)
      yield* join()
      const holders = yield* lockHolders(databaseUrl)
      assert.lengthOf(holders, 2)
      assert.include(holders, holder)
    }).pipe(Effect.scoped)
  )
})
