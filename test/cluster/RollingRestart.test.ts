/**
 * Three nodes behind nginx are restarted one after the other, and one is killed, while clients send and follow. Clients repeat requests
 * that were answered 503 or not at all. No message is lost, doubled or out of order. The longest pauses are printed.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { roomOf, type Scene, sceneOf } from "../support/Scene.ts"
import { type Cluster, freePorts, start } from "./support/Cluster.ts"
import * as LoadBalancer from "./support/LoadBalancer.ts"
import { begin } from "./support/Workload.ts"

const setUp = Effect.gen(function* () {
  const ports = yield* freePorts(4)
  const scopes = new Map<number, Scope.Closeable>()
  const cluster: Cluster = yield* start(0)
  /** A node in a scope of its own. */
  const startNode = Effect.fnUntraced(function* (port: number) {
    const scope = yield* Scope.make()
    scopes.set(port, scope)
    return yield* Scope.provide(cluster.start(port), scope)
  })
  yield* Effect.addFinalizer(() => Effect.forEach(scopes.values(), (scope) => Scope.close(scope, Exit.void)))
  const nodePorts = ports.slice(1)
  const nodes = new Map<number, Scene>()
  const startAt = (port: number) => Effect.map(startNode(port), (node) => nodes.set(port, node))
  yield* Effect.forEach(nodePorts, startAt, { concurrency: "unbounded" })
  const url = yield* LoadBalancer.start(ports[0]!, nodePorts)
  const front = sceneOf({ ...nodes.get(nodePorts[0]!)!.gateway, url })
  return { front, nodePorts, nodes, startAt }
})

const print = (line: string) => Effect.sync(() => process.stdout.write(`${line}\n`))

it.live(
  "no message is lost, doubled or reordered by a rolling restart and a kill",
  () =>
    Effect.gen(function* () {
      const { front, nodePorts, nodes, startAt } = yield* setUp
      const alice = yield* front.register("alice")
      const bob = yield* front.register("bob")
      const room = yield* roomOf(alice, bob)
      const load = yield* begin({ room, sender: alice, followers: [alice, bob, bob], entries: () => [front] })
      yield* load.more(10)
      load.takeLongestPause()
      for (const port of nodePorts) {
        assert.strictEqual(yield* nodes.get(port)!.gateway.stop, 0)
        yield* startAt(port)
      }
      yield* load.more(10)
      yield* print(`longest pause of a rolling restart: ${Math.round(load.takeLongestPause())} ms`)
      const [first = 0] = nodePorts
      yield* nodes.get(first)!.gateway.kill
      yield* startAt(first)
      yield* load.more(10)
      yield* print(`longest pause after a kill: ${Math.round(load.takeLongestPause())} ms`)
      yield* load.finish
    }).pipe(Effect.scoped),
  240_000
)
