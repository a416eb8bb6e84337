/**
 * Three nodes behind nginx, and another home server, under a mixed load of sends, polls, `/sync`, sliding sync, sockets, joins, presence,
 * to-device messages, one-time keys and federation, while nodes are killed, paused, cut off and replaced and PostgreSQL is killed at random.
 * The histories of all clients are compared at the end.
 *
 * `npm run test:cluster -- --minutes 10 --seed 7` runs it for longer. Within `npm test` it has two faults.
 */
import { assert, describe, it } from "@effect/vitest"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { EmbeddedPostgres } from "@greenroom/store/EmbeddedPostgres"
import { Clock, Effect, Exit, Fiber, Scope } from "effect"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { type Person, roomOf, type Scene, sceneOf, succeeded } from "../support/Scene.ts"
import { randomNumbers } from "../support/Seed.ts"
import { at, freePorts } from "./support/Cluster.ts"
import { beginDevices } from "./support/Devices.ts"
import { type Fault, type FaultyNode, faultsOf } from "./support/Faults.ts"
import { type History, violations } from "./support/History.ts"
import * as LoadBalancer from "./support/LoadBalancer.ts"
import * as Namespaces from "./support/Namespaces.ts"
import * as Spread from "./support/Spread.ts"
import { begin, mustHaveDeliveredOnce, mustHaveNoFork, persistently, untilHealthy } from "./support/Workload.ts"

/** The duration of the run; 0: two faults. */
const minutes = Number(process.env.GREENROOM_TEST_MINUTES ?? 0)
const seed = Number(process.env.GREENROOM_TEST_SEED ?? 1)
const isLong = minutes > 0

const print = (text: string) => Effect.sync(() => isLong && process.stdout.write(`${text}\n`))

interface Node extends FaultyNode {
  readonly scene: () => Scene
  readonly outputs: () => string
}

const makeNodes = Effect.fnUntraced(function* (databaseUrl: EmbeddedPostgres["Service"]["url"], redPort: number) {
  const hasNetworks = isLong && Namespaces.absence === undefined
  const networks = hasNetworks ? yield* Namespaces.make(3) : []
  const url = hasNetworks ? yield* Namespaces.overNetwork(databaseUrl) : databaseUrl
  const redHost = hasNetworks ? Namespaces.hostAddress : "127.0.0.1"
  const ports = yield* freePorts(9)

  const make = Effect.fnUntraced(function* (index: number) {
    const network = networks[index]
    const host = network?.address ?? "127.0.0.1"
    const [port = 0, clusterPort = 0, federationPort = 0] = ports.slice(3 * index)
    const dataDir = yield* GatewayProcess.temporaryDirectory
    const written: Array<() => string> = []
    let scope: Scope.Closeable | undefined
    let scene: Scene | undefined
    const start = Effect.gen(function* () {
      scope = yield* Scope.make()
      const gateway = yield* Scope.provide(
        GatewayProcess.start({
          dataDir,
          databaseUrl: url,
          port,
          ...(network === undefined ? {} : { runBy: network.runBy }),
          environment: {
            GREENROOM_CLUSTER: "true",
            GREENROOM_HOST: host,
            GREENROOM_CLUSTER_HOST: host,
            GREENROOM_CLUSTER_PORT: `${clusterPort}`,
            GREENROOM_FEDERATION_PORT: `${federationPort}`,
            GREENROOM_FEDERATION_VERIFY: "false",
            GREENROOM_FEDERATION_SERVERS: `red.test=${redHost}:${redPort}`
          }
        }),
        scope
      )
      written.push(gateway.output)
      scene = sceneOf(gateway)
    })
    yield* Effect.addFinalizer(() => (scope === undefined ? Effect.void : Scope.close(scope, Exit.void)))
    const gateway = Effect.sync(() => scene!.gateway)
    const node: Node = {
      start,
      network,
      scene: () => scene!,
      outputs: () => written.map((output) => output()).join(""),
      kill: Effect.flatMap(gateway, ({ kill }) => kill),
      stop: Effect.flatMap(gateway, ({ stop }) => stop),
      pause: Effect.flatMap(gateway, ({ pause }) => pause),
      resume: Effect.flatMap(gateway, ({ resume }) => resume)
    }
    yield* start
    return { node, address: `${host}:${port}`, federation: { host, port: federationPort } }
  })
  return yield* Effect.forEach([0, 1, 2], make, { concurrency: "unbounded" })
})

const setUp = Effect.gen(function* () {
  const settings = { fsync: "off", max_connections: "120" }
  const dataDir = yield* GatewayProcess.temporaryDirectory
  const postgres = yield* EmbeddedPostgres.make({ dataDir, settings })
  const redPostgres = yield* EmbeddedPostgres.make({ dataDir: yield* GatewayProcess.temporaryDirectory, settings })
  const [redPort = 0, frontPort = 0] = yield* freePorts(2)
  const made = yield* makeNodes(postgres.url, redPort)
  const nodes = made.map(({ node }) => node)
  const federationPort = yield* Spread.start(made.map(({ federation }) => federation))
  const red = sceneOf(
    yield* GatewayProcess.start({
      serverName: ServerName.make("red.test"),
      dataDir: yield* GatewayProcess.temporaryDirectory,
      databaseUrl: redPostgres.url,
      environment: {
        // Nodes in network namespaces reach it by the bridge.
        GREENROOM_HOST: "0.0.0.0",
        GREENROOM_FEDERATION_VERIFY: "false",
        GREENROOM_FEDERATION_PORT: `${redPort}`,
        GREENROOM_FEDERATION_SERVERS: `green.test=127.0.0.1:${federationPort}`
      }
    })
  )
  const url = yield* LoadBalancer.start(
    frontPort,
    made.map(({ address }) => address)
  )
  const front = sceneOf({ ...nodes[0]!.scene().gateway, url })
  return { front, nodes, postgres, postgresDir: `${dataDir}/postgres`, red, redUrl: redPostgres.url }
})

const joined = (person: Person, room: string) =>
  persistently(() => person.ask("POST", `/rooms/${encodeURIComponent(room)}/join`, {}))

/** Joins and leaves a room and sets presence until it is interrupted. Fails on answers that a repetition does not change. */
const comeAndGo = (person: Person, room: string) =>
  Effect.gen(function* () {
    for (let i = 0; ; i++) {
      succeeded(yield* joined(person, room))
      const status = `/presence/${encodeURIComponent(person.userId)}/status`
      const presence = i % 2 === 0 ? "online" : "unavailable"
      succeeded(yield* persistently(() => person.ask("PUT", status, { presence })))
      const left = yield* persistently(() => person.ask("POST", `/rooms/${encodeURIComponent(room)}/leave`, {}))
      // 403: an earlier attempt had an effect.
      assert.include([200, 403], left.status, left.text)
      yield* Effect.sleep("500 millis")
    }
  })

/** Asserts that faults planted in a correct history are found. */
const mustFindPlanted = (history: History) => {
  const [follower = [], ...others] = history.followers
  const planted = [follower.slice(1), [...follower, follower[0]!], [follower[1]!, follower[0]!, ...follower.slice(2)]]
  for (const received of planted) assert.isNotEmpty(violations({ ...history, followers: [received, ...others] }))
  assert.isNotEmpty(violations({ ...history, acknowledged: new Map([...history.acknowledged, ["never sent", "$x"]]) }))
}

/** Runs faults one after the other. */
const run = Effect.fnUntraced(function* (
  faults: ReadonlyArray<Fault>,
  nodes: ReadonlyArray<Node>,
  more: Effect.Effect<unknown>
) {
  const random = randomNumbers(seed)
  const begun = yield* Clock.currentTimeMillis
  const goesOn = Effect.map(Clock.currentTimeMillis, (now) => now - begun < minutes * 60_000)
  for (let i = 0; isLong ? yield* goesOn : i < 2; i++) {
    const fault = isLong ? faults[Math.floor(random() * faults.length)]! : faults[i]!
    const since = yield* Clock.currentTimeMillis
    yield* print(`${Math.round((since - begun) / 1_000)} s: ${fault.name}`)
    yield* fault.run
    const over = yield* Clock.currentTimeMillis
    yield* untilHealthy(nodes.map(({ scene }) => scene()))
    yield* more
    yield* print(`  lasted ${over - since} ms, all went on after ${(yield* Clock.currentTimeMillis) - over} ms`)
    if (isLong) yield* Effect.sleep(1_000 * (5 + random() * 10))
  }
})

describe("Mixed load", () => {
  it.live(
    "no message is lost, doubled or reordered, whatever happens to the nodes and the database",
    () =>
      Effect.gen(function* () {
        const { front, nodes, postgres, postgresDir, red, redUrl } = yield* setUp
        const names = ["alice", "bob", "carol", "dan"] as const
        const [alice, bob, carol, dan] = (yield* Effect.forEach(names, front.register)) as [
          Person,
          Person,
          Person,
          Person
        ]
        const login = { type: "m.login.password", user: dan.userId, password: "secret of dan" }
        const dansPhone = front.person(succeeded(yield* dan.ask("POST", "//_matrix/client/v3/login", login)).body)
        const rose = yield* red.register("rose")
        const shared = yield* roomOf(alice, bob, carol)
        succeeded(yield* alice.ask("POST", `/rooms/${encodeURIComponent(shared)}/invite`, { user_id: rose.userId }))
        succeeded(yield* joined(rose, shared))
        const own = yield* roomOf(bob, alice)
        const hall = succeeded(yield* carol.ask("POST", "/createRoom", { visibility: "public" })).body.room_id

        const entries = () => [front, ...nodes.map(({ scene }) => scene())]
        const pause = isLong ? "100 millis" : "40 millis"
        const loads = [
          yield* begin({
            room: shared,
            sender: alice,
            followers: [alice, bob],
            syncing: [carol],
            sliding: [bob],
            onSockets: [bob, carol],
            elsewhere: [rose],
            entries: () => [front],
            pause
          }),
          yield* begin({
            room: own,
            sender: bob,
            followers: [alice],
            onSockets: [alice],
            syncing: [bob],
            sliding: [alice],
            entries,
            pause
          })
        ]
        const finishDevices = yield* beginDevices({
          sender: alice,
          receiver: dan,
          sliding: dansPhone,
          entries,
          pause: "250 millis"
        })
        const going = yield* Effect.forkScoped(comeAndGo(at(front, dan), hall))
        const more = Effect.forEach(loads, (load) => load.more(5), { concurrency: "unbounded" })
        yield* more
        const faults = faultsOf({ nodes, postgresDir, longest: isLong ? 60 : 3, random: randomNumbers(seed + 1) })
        yield* run(faults, nodes, more)

        assert.isUndefined(going.pollUnsafe(), "Joins and presence failed")
        yield* Fiber.interrupt(going)
        const devices = yield* finishDevices
        const histories = yield* Effect.forEach(loads, ({ finish }) => finish)
        for (const history of histories) mustFindPlanted(history)
        yield* mustHaveNoFork(postgres.url, shared)
        yield* mustHaveNoFork(postgres.url, own)
        yield* mustHaveDeliveredOnce(redUrl)
        for (const { outputs } of nodes) assert.notInclude(outputs(), "Internal error while answering a request")
        const messages = histories.reduce((sum, { room }) => sum + room.length, 0)
        const followers = histories.reduce((sum, history) => sum + history.followers.length, 0)
        yield* print(
          `${messages} messages, ${followers} followers, ${devices.messages} messages to a device, ${devices.keys} keys`
        )
      }).pipe(Effect.scoped),
    minutes * 60_000 + 240_000
  )
})
