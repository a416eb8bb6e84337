/** When other servers are asked again for device lists that missed an update. */
import { assert, layer } from "@effect/vitest"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { DestinationStore } from "@greenroom/store/DestinationStore"
import { RemoteDeviceListStore } from "@greenroom/store/RemoteDeviceListStore"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Clock, Context, Effect, Layer, Queue } from "effect"
import { Entity } from "effect/cluster"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { Destinations } from "../../src/federation/Destinations.ts"
import { DeviceResyncs } from "../../src/federation/DeviceResyncs.ts"
import { RemoteDevices } from "../../src/federation/RemoteDevicesProtocol.ts"
import { RemoteUnreachable } from "../../src/federation/RemoteError.ts"
import * as LocalRunner from "../../src/runtime/LocalRunner.ts"
import { Nodes } from "../../src/runtime/Nodes.ts"

const red = ServerName.make("red.test")
const blue = ServerName.make("blue.test")

const stores = Layer.mergeAll(
  DestinationStore.layer,
  RemoteDeviceListStore.layer(ServerName.make("green.test")),
  Destinations.layer.pipe(Layer.provide(DestinationStore.layer))
).pipe(Layer.provideMerge(TestDatabase.layer))

layer(stores)("DeviceResyncs", (it) => {
  /** A node, and the servers whose actors are told to ask. */
  const scene = Effect.gen(function* () {
    const asked = yield* Queue.unbounded<string>()
    const behaviour = Effect.map(Entity.CurrentAddress, ({ entityId }) =>
      RemoteDevices.of({
        Fetch: () => Effect.succeed([]),
        Resync: () => Effect.asVoid(Queue.offer(asked, entityId))
      })
    )
    const listeners = new Set<() => void>()
    const nodes = Nodes.of({
      ...Nodes.alone(),
      onChange: (listener) => Effect.sync(() => void listeners.add(listener))
    })
    const services = yield* Layer.build(
      DeviceResyncs.layer.pipe(
        Layer.provide(RemoteDevices.toLayer(behaviour)),
        Layer.provide(Layer.merge(LocalRunner.layer(), Layer.succeed(Nodes, nodes)))
      )
    )
    const { plan } = Context.get(services, DeviceResyncs)
    const planIn = (server: ServerName, seconds: number) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => plan(server, now + seconds * 1_000))
    const pass = (seconds: number) => TestClock.adjust(seconds * 1_000)
    const nodesChange = Effect.sync(() => {
      for (const listener of listeners) listener()
    })
    return { next: Queue.take(asked), plan, planIn, pass, nodesChange }
  })

  /** A list of the server that missed an update, and may be asked for after a while. */
  const missUpdate = Effect.fnUntraced(function* (server: ServerName, seconds: number) {
    const sql = yield* SqlClient.SqlClient
    const retryAt = (yield* Clock.currentTimeMillis) + seconds * 1_000
    yield* sql`INSERT INTO remote_device_lists (user_id, retry_at) VALUES (${`@mallory:${server}`}, ${retryAt})`
  })
  const forgetLists = SqlClient.SqlClient.use((sql) => sql`DELETE FROM remote_device_lists`)

  it.effect("servers are asked when their time has come, the earliest first", () =>
    Effect.gen(function* () {
      const { next, pass, planIn } = yield* scene
      yield* planIn(red, 60)
      yield* planIn(blue, 59)
      yield* pass(59)
      assert.strictEqual(yield* next, blue)
      yield* pass(1)
      assert.strictEqual(yield* next, red)
    })
  )

  it.effect("a new time replaces the old one, and a server without stale lists is not asked", () =>
    Effect.gen(function* () {
      const { next, pass, plan, planIn } = yield* scene
      yield* planIn(blue, 5)
      yield* planIn(red, 60)
      yield* plan(blue, undefined)
      yield* planIn(red, 10)
      yield* pass(10)
      assert.strictEqual(yield* next, red)
      yield* planIn(blue, 5)
      yield* pass(55)
      assert.strictEqual(yield* next, blue)
      yield* planIn(blue, 1)
      yield* pass(1)
      assert.strictEqual(yield* next, blue)
    })
  )

  it.effect("a server that cannot be reached is asked when its back-off is over", () =>
    Effect.gen(function* () {
      const { next, pass, plan, planIn } = yield* scene
      const destinations = yield* Destinations
      yield* destinations.failed(new RemoteUnreachable({ destination: red, reason: "away" }))
      const { retryAt } = (yield* destinations.list)[0]!
      const now = yield* Clock.currentTimeMillis
      const wait = (retryAt - now) / 1_000
      yield* planIn(red, 0)
      yield* plan(blue, retryAt - 1)
      yield* pass(wait - 0.001)
      assert.strictEqual(yield* next, blue)
      yield* pass(0.001)
      assert.strictEqual(yield* next, red)
    })
  )

  it.effect("device lists that an earlier process or a lost node left out of date are requested", () =>
    Effect.gen(function* () {
      yield* missUpdate(red, 30)
      const { next, nodesChange, pass } = yield* scene
      yield* pass(30)
      assert.strictEqual(yield* next, red)
      yield* forgetLists
      yield* missUpdate(blue, 30)
      yield* nodesChange
      yield* pass(30)
      assert.strictEqual(yield* next, blue)
      yield* forgetLists
    })
  )

  it.effect("a list that was asked for while the clock was days ahead is asked for at once", () =>
    Effect.gen(function* () {
      yield* missUpdate(red, 5 * 86_400)
      const { next } = yield* scene
      assert.strictEqual(yield* next, red)
      const due = yield* RemoteDeviceListStore.use((store) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => store.due(red, now, 10))
      )
      assert.deepStrictEqual<ReadonlyArray<string>>(due, [`@mallory:${red}`])
      yield* forgetLists
    })
  )
})
