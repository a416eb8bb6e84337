/**
 * Nodes under load that are cut off from the database or from the other nodes, in network namespaces. No message is lost, doubled or out of
 * order, and the cluster recovers by itself. Needs root on Linux.
 */
import { assert, layer } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Fiber, Layer, Schedule } from "effect"
import { type Person, roomOf, type Scene } from "../support/Scene.ts"
import { at, start } from "./support/Cluster.ts"
import * as Namespaces from "./support/Namespaces.ts"
import { begin, movedShards, mustHaveNoFork, persistently, query, untilHealthy } from "./support/Workload.ts"

const makeCluster = Effect.fnUntraced(function* (count: number) {
  const databaseUrl = yield* TestDatabase.emptyUrl
  const namespaces = yield* Namespaces.make(count)
  const { nodes } = yield* start(count, {
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

class CutCluster extends Context.Service<CutCluster, Effect.Success<ReturnType<typeof makeCluster>>>()(
  "greenroom/test/CutCluster"
) {
  static readonly layer = (count: number) =>
    Namespaces.absence === undefined
      ? Layer.effect(CutCluster, Effect.orDie(makeCluster(count)))
      : Layer.succeed(CutCluster, undefined as never)
}

const until = (holds: Effect.Effect<boolean>) =>
  Effect.repeat(holds, { until: (is) => is, schedule: Schedule.spaced("200 millis") }).pipe(within)

const health = (node: Scene) => Effect.map(node.ask("GET", "//health"), ({ status }) => status)

/** Waits until `/health` of the node answers 503. `finish` asserts that it has answered nothing else since. */
const untilAway = Effect.fnUntraced(function* (node: Scene) {
  yield* until(Effect.map(health(node), (status) => status === 503))
  const later = new Set<number>()
  const watching = yield* Effect.forkScoped(
    Effect.forever(Effect.andThen(health(node), (status) => Effect.as(Effect.sleep("50 millis"), later.add(status))))
  )
  return {
    finish: Effect.map(Fiber.interrupt(watching), () => assert.deepStrictEqual([...later], [503]))
  }
})

const makeRooms = (alice: Person) => Effect.all(Array.from({ length: 12 }, () => roomOf(alice)))

/** Asserts that the node serves all of the rooms. */
const assertServes = (node: Scene, alice: Person, rooms: ReadonlyArray<string>) => {
  const send = (room: string) =>
    persistently(() => at(node, alice).ask("POST", `/rooms/${room}/send/m.room.message`, message))
  return Effect.forEach(rooms, send, { concurrency: 4 }).pipe(within)
}

/** Waits until all nodes are in the cluster and healthy. */
const untilWhole = ({ databaseUrl, nodes }: CutCluster["Service"]) =>
  Effect.andThen(
    until(
      Effect.map(query(databaseUrl, "SELECT bool_and(healthy) AS healthy FROM cluster_runners"), (rows) =>
        Boolean(rows[0].healthy)
      )
    ),
    untilHealthy(nodes)
  )

layer(CutCluster.layer(3), { excludeTestServices: true, timeout: "2 minutes" })(
  "a cluster whose network is cut",
  (it) => {
    it.effect(
      "a node that is cut off from the database writes nothing stale, and rejoins the cluster",
      (context) =>
        Effect.gen(function* () {
          if (Namespaces.absence !== undefined) return context.skip(Namespaces.absence)
          const { databaseUrl, namespaces, underLoad } = yield* CutCluster
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
      "nodes that are cut off from each other make no forks, and work together afterwards",
      (context) =>
        Effect.gen(function* () {
          if (Namespaces.absence !== undefined) return context.skip(Namespaces.absence)
          const { namespaces, underLoad } = yield* CutCluster
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
      "the other nodes serve all rooms while a node is cut off from them, whichever it is",
      (context) =>
        Effect.gen(function* () {
          if (Namespaces.absence !== undefined) return context.skip(Namespaces.absence)
          const cluster = yield* CutCluster
          const { alice, namespaces, nodes } = cluster
          const rooms = yield* makeRooms(alice)
          for (const [index, node] of nodes.entries()) {
            const others = namespaces.filter((_, other) => other !== index)
            for (const { address } of others) yield* namespaces[index]!.cut(address)
            const away = yield* untilAway(node)
            for (const other of nodes.filter((other) => other !== node)) yield* assertServes(other, alice, rooms)
            yield* away.finish
            for (const { address } of others) yield* namespaces[index]!.mend(address)
            // The next node is cut off once all three are in the cluster.
            yield* untilWhole(cluster)
          }
        }).pipe(Effect.scoped),
      300_000
    )
  }
)

layer(CutCluster.layer(2), { excludeTestServices: true, timeout: "2 minutes" })("a cluster of two nodes", (it) => {
  it.effect(
    "the same one of two nodes that are cut off from each other serves all rooms, and the other takes over when it ends",
    (context) =>
      Effect.gen(function* () {
        if (Namespaces.absence !== undefined) return context.skip(Namespaces.absence)
        const cluster = yield* CutCluster
        const { alice, namespaces, nodes, underLoad } = cluster
        const [a, b] = [namespaces[0]!, namespaces[1]!]
        const rooms = yield* makeRooms(alice)
        const { check, load } = yield* underLoad

        const cut = Effect.gen(function* () {
          yield* a.cut(b.address)
          const isUnavailable = (node: Scene) => Effect.map(health(node), (status) => status === 503)
          yield* until(Effect.map(Effect.all(nodes.map(isUnavailable)), (away) => away.includes(true)))
          const index = (yield* isUnavailable(nodes[0]!)) ? 0 : 1
          return { loser: nodes[index]!, winner: nodes[1 - index]! }
        })

        const { loser, winner } = yield* cut
        const away = yield* untilAway(loser)
        yield* assertServes(winner, alice, rooms)
        const refused = yield* at(loser, alice).ask("POST", `/rooms/${rooms[0]}/send/m.room.message`, message)
        assert.deepStrictEqual([refused.status, refused.headers["retry-after"]], [503, "1"])
        yield* load.more(10)
        const untilLogged = ({ gateway }: Scene, text: string) =>
          until(Effect.sync(() => gateway.output().includes(text)))
        yield* untilLogged(winner, "mend the network between them")
        yield* untilLogged(loser, "The other nodes do not reach this one")
        assert.strictEqual(yield* health(winner), 200)
        yield* away.finish
        yield* a.mend(b.address)
        yield* untilWhole(cluster)
        yield* check

        const again = yield* cut
        assert.strictEqual(again.loser, loser)
        yield* winner.gateway.kill
        yield* assertServes(loser, alice, rooms)
        assert.strictEqual(yield* health(loser), 200)
      }).pipe(Effect.scoped),
    300_000
  )
})
