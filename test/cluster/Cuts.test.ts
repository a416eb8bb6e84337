/**
 * Networks that are cut, in network namespaces, under load: a node that does not reach the database, and one that does not
 * reach the other nodes. Nothing is lost, doubled or out of order, and all is well again by itself. Needs root on Linux.
 */
import { assert, layer } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Fiber, Layer, Schedule } from "effect"
import { type Person, roomOf, type Scene } from "../support/Scene.ts"
import { at, start } from "./support/Cluster.ts"
import * as Namespaces from "./support/Namespaces.ts"
import { begin, movedShards, mustHaveNoFork, persistently, query, untilHealthy } from "./support/Workload.ts"

const makeWorld = Effect.fnUntraced(function* (count: number) {
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

class World extends Context.Service<World, Effect.Success<ReturnType<typeof makeWorld>>>()("greenroom/test/CutWorld") {
  static readonly layer = (count: number) =>
    Namespaces.absence === undefined
      ? Layer.effect(World, Effect.orDie(makeWorld(count)))
      : Layer.succeed(World, undefined as never)
}

const until = (holds: Effect.Effect<boolean>) =>
  Effect.repeat(holds, { until: (is) => is, schedule: Schedule.spaced("200 millis") }).pipe(within)

const health = (node: Scene) => Effect.map(node.ask("GET", "//health"), ({ status }) => status)

/** Waits until the node answers that others must be asked. From then on it must not answer anything else, until `finish`. */
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

const rooms = (alice: Person) => Effect.all(Array.from({ length: 12 }, () => roomOf(alice)))

const serves = (node: Scene, alice: Person, rooms: ReadonlyArray<string>) => {
  const send = (room: string) =>
    persistently(() => at(node, alice).ask("POST", `/rooms/${room}/send/m.room.message`, message))
  return Effect.forEach(rooms, send, { concurrency: 4 }).pipe(within)
}

/** Until all nodes have shards. */
const untilWhole = ({ databaseUrl, nodes }: World["Service"]) =>
  Effect.andThen(
    until(
      Effect.map(query(databaseUrl, "SELECT bool_and(healthy) AS healthy FROM cluster_runners"), (rows) =>
        Boolean(rows[0].healthy)
      )
    ),
    untilHealthy(nodes)
  )

layer(World.layer(3), { excludeTestServices: true, timeout: "2 minutes" })("a cluster whose network is cut", (it) => {
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
        const world = yield* World
        const { alice, namespaces, nodes } = world
        const made = yield* rooms(alice)
        for (const [index, node] of nodes.entries()) {
          const others = namespaces.filter((_, other) => other !== index)
          for (const { address } of others) yield* namespaces[index]!.cut(address)
          const away = yield* untilAway(node)
          for (const other of nodes.filter((other) => other !== node)) yield* serves(other, alice, made)
          yield* away.finish
          for (const { address } of others) yield* namespaces[index]!.mend(address)
          // The next one is cut off once all three count.
          yield* untilWhole(world)
        }
      }).pipe(Effect.scoped),
    300_000
  )
})

layer(World.layer(2), { excludeTestServices: true, timeout: "2 minutes" })("two nodes", (it) => {
  it.effect(
    "that do not reach each other: the same one always serves all rooms, the other one says so, and takes over if that one ends",
    (context) =>
      Effect.gen(function* () {
        if (Namespaces.absence !== undefined) return context.skip(Namespaces.absence)
        const world = yield* World
        const { alice, namespaces, nodes, underLoad } = world
        const [a, b] = [namespaces[0]!, namespaces[1]!]
        const made = yield* rooms(alice)
        const { check, load } = yield* underLoad

        const cut = Effect.gen(function* () {
          yield* a.cut(b.address)
          const isAway = (node: Scene) => Effect.map(health(node), (status) => status === 503)
          yield* until(Effect.map(Effect.all(nodes.map(isAway)), (away) => away.includes(true)))
          const index = (yield* isAway(nodes[0]!)) ? 0 : 1
          return { loser: nodes[index]!, winner: nodes[1 - index]! }
        })

        const { loser, winner } = yield* cut
        const away = yield* untilAway(loser)
        yield* serves(winner, alice, made)
        const refused = yield* at(loser, alice).ask("POST", `/rooms/${made[0]}/send/m.room.message`, message)
        assert.deepStrictEqual([refused.status, refused.headers["retry-after"]], [503, "1"])
        yield* load.more(10)
        const told = ({ gateway }: Scene, text: string) => until(Effect.sync(() => gateway.output().includes(text)))
        yield* told(winner, "mend the network between them")
        yield* told(loser, "The other nodes do not reach this one")
        assert.strictEqual(yield* health(winner), 200)
        yield* away.finish
        yield* a.mend(b.address)
        yield* untilWhole(world)
        yield* check

        const again = yield* cut
        assert.strictEqual(again.loser, loser)
        yield* winner.gateway.kill
        yield* serves(loser, alice, made)
        assert.strictEqual(yield* health(loser), 200)
      }).pipe(Effect.scoped),
    300_000
  )
})
