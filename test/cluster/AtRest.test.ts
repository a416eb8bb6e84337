/**
 * Idle nodes that have served users send no queries to the database, except those of Effect's cluster that docs/scaling.md lists. The test
 * measures time by these.
 */
import { it } from "@effect/vitest"
import * as CuttableDatabase from "@greenroom/store/testing/CuttableDatabase"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Schedule } from "effect"
import { roomOf, type Scene, sendMessage, succeeded } from "../support/Scene.ts"
import { at, start } from "./support/Cluster.ts"

/** The statements of Effect's cluster. */
const isOfEffect = (statement: string): boolean => /cluster_runners|cluster_locks|pg_locks|advisory/.test(statement)
const isHeartbeat = (statement: string): boolean => /UPDATE\s+"?cluster_runners/i.test(statement)

/** The number of heartbeats without another query. Each node has one every two seconds. */
const idleHeartbeats = 24

it.live(
  "two idle nodes send no queries of their own to the database",
  () =>
    Effect.gen(function* () {
      const database = yield* CuttableDatabase.make(yield* TestDatabase.emptyUrl)
      const { nodes } = yield* start(2, { databaseUrl: database.url })
      const [a, b] = nodes as [Scene, Scene]
      const [alice, bob] = [yield* a.register("alice"), yield* b.register("bob")]
      const room = yield* roomOf(alice, bob)
      for (const node of nodes) {
        succeeded(yield* sendMessage(at(node, alice), room, `at-${node.gateway.port}`))
        succeeded(yield* at(node, bob).ask("GET", "//_matrix/client/v3/sync?timeout=0"))
      }
      let heartbeats = 0
      const count = Effect.sync(() => {
        for (const statement of database.takeStatements()) {
          if (isHeartbeat(statement)) heartbeats++
          else if (!isOfEffect(statement)) heartbeats = 0
        }
        return heartbeats
      })
      yield* Effect.repeat(count, {
        until: (beats) => beats >= idleHeartbeats,
        schedule: Schedule.spaced("200 millis")
      })
    }).pipe(Effect.scoped),
  300_000
)
