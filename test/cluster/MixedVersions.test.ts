/** Nodes of two versions serve together: the new nodes migrate the database once, and the old ones continue until they are stopped. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type Person, roomOf, type Scene } from "../support/Scene.ts"
import { type Cluster, start } from "./support/Cluster.ts"
import * as NextBuild from "./support/NextBuild.ts"
import { withoutBatches } from "./support/Revisions.ts"
import { begin, mustHaveNoFork, query, untilHealthy } from "./support/Workload.ts"

const credentialsOf = ({ token, userId }: Person) => ({ user_id: userId, access_token: token })

/** Starts two later nodes beside two earlier ones under load, and stops the earlier ones. */
const upgrade = Effect.fnUntraced(function* (cluster: Cluster) {
  const { databaseUrl } = cluster
  const old = [...cluster.nodes]
  const [a, b] = old as [Scene, Scene]
  const [alice, bob] = [yield* a.register("alice"), yield* b.register("bob")]
  let entries = old
  const room = yield* roomOf(alice, bob)
  const load = yield* begin({ room, sender: alice, followers: [alice, bob], entries: () => entries })
  yield* load.more(10)

  const next = yield* Effect.all([cluster.start(), cluster.start()], { concurrency: 2 })
  entries = [...old, ...next]
  yield* load.more(20)
  // New rooms, joins and messages at all nodes, wherever the room is.
  yield* Effect.forEach(entries, (node) => Effect.andThen(roomOf(node.person(credentialsOf(alice)), bob), load.more(2)))

  entries = next
  for (const { gateway } of old) assert.strictEqual(yield* gateway.stop, 0)
  yield* untilHealthy(next)
  yield* load.more(10)
  yield* load.finish
  yield* mustHaveNoFork(databaseUrl, room)
  for (const { gateway } of [...old, ...next]) assert.notInclude(gateway.output(), "failed inside")
})

describe("Upgrade of a cluster", () => {
  it.live(
    "nodes of two versions that are one migration apart serve together",
    () =>
      Effect.gen(function* () {
        const program = yield* NextBuild.make
        const cluster = yield* start(2, { nodeOptions: (node) => (node === 2 || node === 3 ? { program } : {}) })
        yield* upgrade(cluster)
        assert.deepStrictEqual(yield* query(cluster.databaseUrl, "SELECT number FROM next_build"), [{ number: 1 }])
        assert.match(String(yield* Effect.exit(cluster.start())), /The database is at version 9999/)
      }).pipe(Effect.scoped),
    180_000
  )

  if (withoutBatches.missing !== undefined)
    console.warn(`Nodes without batches are not tested: ${withoutBatches.missing}`)

  it.live.skipIf(withoutBatches.missing !== undefined)(
    "nodes with and without batches of messages between nodes serve together",
    () =>
      Effect.gen(function* () {
        const program = yield* withoutBatches.make
        yield* upgrade(yield* start(2, { nodeOptions: (node) => (node < 2 ? { program } : {}) }))
      }).pipe(Effect.scoped),
    180_000
  )
})
