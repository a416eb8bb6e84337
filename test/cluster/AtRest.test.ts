/**
 * Nodes that have served people ask the database for nothing while nothing happens. Effect's own cluster does, as docs/scaling.md lists:
 * its queries are how this test counts time.
 */
import { it } from "@effect/vitest"
import * as CuttableDatabase from "@greenroom/store/testing/CuttableDatabase"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Schedule } from "effect"
import { roomOf, type Scene, succeeded } from "../support/Scene.ts"
import { at, start } from "./support/Cluster.ts"

/** The statements of Effect's cluster. */
const isOfEffect = (statement: string): boolean => /cluster_runners|cluster_locks|pg_locks|advisory/.test(statement)
const isHeartbeat = (statement: string): boolean => /UPDATE\s+"?cluster_runners/i.test(statement)

/** How many heartbeats make a rest: each node has one every two seconds. */
const rest = 24

it.live(
  "two nodes at rest ask the database for nothing of their own",
  () =>
    Effect.gen(function* () {
      const way = yield* CuttableDatabase.make(yield* TestDatabase.emptyUrl)
      const { nodes } = yield* start(2, { databaseUrl: way.url })
      const [a, b] = nodes as [Scene, Scene]
      const [alice, bob] = [yield* a.register("alice"), yield* b.register("bob")]
      const room = yield* roomOf(alice, bob)
      const message = { msgtype: "m.text", body: "hello" }
      for (const node of nodes) {
        const path = `/rooms/${encodeURIComponent(room)}/send/m.room.message/at-${node.gateway.port}`
        succeeded(yield* at(node, alice).ask("PUT", path, message))
        succeeded(yield* at(node, bob).ask("GET", "//_matrix/client/v3/sync?timeout=0"))
      }
      let heartbeats = 0
      const look = Effect.sync(() => {
        for (const statement of way.takeStatements()) {
          if (isHeartbeat(statement)) heartbeats++
          else if (!isOfEffect(statement)) heartbeats = 0
        }
        return heartbeats
      })
      yield* Effect.repeat(look, { until: (count) => count >= rest, schedule: Schedule.spaced("200 millis") })
    }).pipe(Effect.scoped),
  300_000
)
