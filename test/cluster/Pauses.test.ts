/**
 * A node that is paused until others have its shards, and a crash of PostgreSQL, under a load with another home server: no message is lost,
 * doubled or out of order, and the cluster recovers by itself.
 */
import * as fs from "node:fs/promises"
import { assert, layer } from "@effect/vitest"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { EmbeddedPostgres } from "@greenroom/store/EmbeddedPostgres"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Layer } from "effect"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { roomOf, type Scene, sceneOf, succeeded } from "../support/Scene.ts"
import { freePorts, start } from "./support/Cluster.ts"
import { begin, movedShards, mustHaveDeliveredOnce, mustHaveNoFork, untilHealthy } from "./support/Workload.ts"

/** Three nodes of green.test on a PostgreSQL of their own, and the home server red.test. */
const makeCluster = Effect.gen(function* () {
  const dataDir = yield* GatewayProcess.temporaryDirectory
  const postgres = yield* EmbeddedPostgres.make({ dataDir, settings: { fsync: "off", max_connections: "100" } })
  const [redPort = 0] = yield* freePorts(1)
  const tls = { GREENROOM_FEDERATION_VERIFY: "false" }
  const { nodes } = yield* start(3, {
    databaseUrl: postgres.url,
    environment: { ...tls, GREENROOM_FEDERATION_SERVERS: `red.test=127.0.0.1:${redPort}` }
  })
  const [a, b] = nodes as [Scene, Scene]
  const federationPort = /https:\/\/127\.0\.0\.1:(\d+)/.exec(b.gateway.output())?.[1]
  const redUrl = yield* TestDatabase.emptyUrl
  const red = sceneOf(
    yield* GatewayProcess.start({
      serverName: ServerName.make("red.test"),
      dataDir: yield* GatewayProcess.temporaryDirectory,
      databaseUrl: redUrl,
      environment: {
        ...tls,
        GREENROOM_FEDERATION_PORT: `${redPort}`,
        GREENROOM_FEDERATION_SERVERS: `green.test=127.0.0.1:${federationPort}`
      }
    })
  )
  const [alice, bob, rose] = [yield* a.register("alice"), yield* b.register("bob"), yield* red.register("rose")]

  /** Starts a load in a new room. `check` stops it and asserts that all is correct. */
  const underLoad = Effect.gen(function* () {
    const room = yield* roomOf(alice, bob)
    succeeded(yield* alice.ask("POST", `/rooms/${encodeURIComponent(room)}/invite`, { user_id: rose.userId }))
    succeeded(yield* rose.ask("POST", `/rooms/${encodeURIComponent(room)}/join`, {}))
    const load = yield* begin({ room, sender: alice, followers: [alice, bob], entries: () => nodes, elsewhere: [rose] })
    yield* load.more(10)
    const check = Effect.gen(function* () {
      yield* untilHealthy(nodes)
      yield* load.more(10)
      yield* load.finish
      yield* mustHaveNoFork(postgres.url, room)
      yield* mustHaveDeliveredOnce(redUrl)
      for (const { gateway } of nodes) assert.notInclude(gateway.output(), "Internal error while answering a request")
    })
    return { check, load }
  })
  return { dataDir, nodes, postgresUrl: postgres.url, underLoad }
})

class LoadedCluster extends Context.Service<LoadedCluster, Effect.Success<typeof makeCluster>>()(
  "greenroom/test/LoadedCluster"
) {
  static readonly layer = Layer.effect(LoadedCluster, Effect.orDie(makeCluster))
}

const postmaster = (dataDir: string) =>
  Effect.promise(async () => Number.parseInt(await fs.readFile(`${dataDir}/postgres/postmaster.pid`, "utf8"), 10))

layer(LoadedCluster.layer, { excludeTestServices: true, timeout: "2 minutes" })("a cluster under load", (it) => {
  it.effect(
    "a node that is paused until others have its shards writes nothing stale, and rejoins the cluster",
    () =>
      Effect.gen(function* () {
        const { nodes, postgresUrl, underLoad } = yield* LoadedCluster
        const { check, load } = yield* underLoad
        const moved = yield* movedShards(postgresUrl)
        const { pause, resume } = nodes[0]!.gateway
        yield* pause
        yield* moved
        yield* load.more(10)
        yield* resume
        yield* check
      }).pipe(Effect.scoped),
    120_000
  )

  it.effect(
    "no message is lost, doubled or reordered when PostgreSQL is killed",
    () =>
      Effect.gen(function* () {
        const { dataDir, underLoad } = yield* LoadedCluster
        const { check } = yield* underLoad
        process.kill(yield* postmaster(dataDir), "SIGKILL")
        yield* check
      }).pipe(Effect.scoped),
    120_000
  )
})
