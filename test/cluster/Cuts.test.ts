/**
 * Networks that are cut, in network namespaces, under load: a node that does not reach the database, and one that does not
 * reach the other nodes. Nothing is lost, doubled or out of order, and all is well again by itself. Needs root on Linux.
 */
import { assert, layer } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Layer, Schedule } from "effect"
import { roomOf, type Scene } from "../support/Scene.ts"
import { at, start } from "./support/Cluster.ts"
import * as Namespaces from "./support/Namespaces.ts"
import { begin, movedShards, mustHaveNoFork, persistently, query, untilHealthy } from "./support/Workload.ts"

const makeWorld = Effect.gen(function* () {
  const databaseUrl = yield* TestDatabase.emptyUrl
  const namespaces = yield* Namespaces.make(3)
  const { nodes } = yield* start(3, {
    databaseUrl: yield* Namespaces.overNetwork(databaseUrl),
    nodeOptions: (node) => {
      const { address, runBy } = namespaces[node]!
      return { runBy, environment: { GREENROOM_HOST: address, GREENROOM_CLUSTER_HOST: address } }
    }
  })
  const [a, b] = nodes as [Scene, Scene]
  const [alice, bob] = [yield* a.register("alice"), yield* b.register("bob")]
  const underLoad = Effect.gen(function* () {
    const room = yield* roomOf(alice, bob)
    const load = yield* begin({ room, sender: alice, followers: [alice, bob], entries: () => nodes })
    yield* load.more(10)
    const check = Effect.gen(function* () {
      yield* untilHealthy(nodes)
      yield* load.more(10)
      yield* load.finish
      yield* mustHaveNoFork(databaseUrl, room)
      for (const { gateway } of nodes) assert.notInclude(gateway.output(), "Internal error while answering a request")
    })
    return { check, load }
  })
  return { alice, databaseUrl, namespaces, nodes, underLoad }
})

const message = { msgtype: "m.text", body: "Hello" }

const within = Effect.timeoutOrElse({ duration: "45 seconds", orElse: () => Effect.die("Not done within 45 s") })

class World extends Context.Service<World, Effect.Success<typeof makeWorld>>()("greenroom/test/CutWorld") {
  static readonly layer = Layer.effect(World, Effect.orDie(makeWorld))
}

const cutWorld = Namespaces.absence === undefined ? World.layer : Layer.succeed(World, undefined as never)

layer(cutWorld, { excludeTestServices: true, timeout: "2 minutes" })("a cluster whose network is cut", (it) => {
  it.effect(
    "a node that does not reach the database writes nothing old, and finds its place again",
    (context) =>
      Effect.gen(function* () {
        if (Namespaces.absence !== undefined) return context.skip(Namespaces.absence)
        const { databaseUrl, namespaces, underLoad } = yield* World
        const { check, load } = yield* underLoad
        const moved = yield* movedShards(databaseUrl)
        yield* namespaces[0]!.cut(Namespaces.databaseAddress)
        yield* moved
        yield* load.more(10)
        yield* namespaces[0]!.mend(Namespaces.databaseAddress)
        yield* check
      }).pipe(Effect.scoped),
    120_000
  )

  it.effect(
    "nodes that do not reach each other make no forks, and go on together",
    (context) =>
      Effect.gen(function* () {
        if (Namespaces.absence !== undefined) return context.skip(Namespaces.absence)
        const { namespaces, underLoad } = yield* World
        const { check, load } = yield* underLoad
        const [first, ...others] = [namespaces[0]!, ...namespaces.slice(1)]
        for (const other of others) yield* first.cut(other.address)
        yield* load.more(10)
        for (const other of others) yield* first.mend(other.address)
        yield* check
      }).pipe(Effect.scoped),
    120_000
  )

  it.effect(
    "whichever node does not reach the others, they go on without it",
    (context) =>
      Effect.gen(function* () {
        if (Namespaces.absence !== undefined) return context.skip(Namespaces.absence)
        const { alice, databaseUrl, namespaces, nodes } = yield* World
        const rooms = yield* Effect.all(Array.from({ length: 12 }, () => roomOf(alice)))
        for (const [index, node] of nodes.entries()) {
          const others = namespaces.filter((_, other) => other !== index)
          for (const { address } of others) yield* namespaces[index]!.cut(address)
          const isAway = Effect.map(node.ask("GET", "//health"), ({ status }) => status === 503)
          yield* Effect.repeat(isAway, { until: (away) => away, schedule: Schedule.spaced("200 millis") }).pipe(within)
          for (const other of nodes.filter((other) => other !== node)) {
            const send = (room: string) =>
              persistently(() => at(other, alice).ask("POST", `/rooms/${room}/send/m.room.message`, message))
            yield* Effect.forEach(rooms, send, { concurrency: 4 }).pipe(within)
          }
          for (const { address } of others) yield* namespaces[index]!.mend(address)
          // Of two nodes the one that pings takes all shards: the next one is cut off once all three count.
          const isBack = Effect.map(
            query(databaseUrl, "SELECT bool_and(healthy) AS healthy FROM cluster_runners"),
            (rows) => Boolean(rows[0].healthy)
          )
          yield* Effect.repeat(isBack, { until: (back) => back, schedule: Schedule.spaced("200 millis") }).pipe(within)
          yield* untilHealthy(nodes)
        }
      }).pipe(Effect.scoped),
    300_000
  )
})
