/**
 * History of a room in which servers do not answer: it is fetched from one that does.
 *
 * Source: "Backfilling and retrieving missing events" of the server-server specification.
 */
import { assert, layer, vi } from "@effect/vitest"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Context, Effect, Layer } from "effect"
import { HostileServer } from "./support/HostileServer.ts"
import { change, expectOk, type HomeServer, isMember, network, readBack, say, sees } from "./support/Network.ts"
import { createRoom, joinThrough } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 180_000 })

const names = ["able.test", "baker.test"]

const world = Effect.gen(function* () {
  const others: Record<string, number> = {}
  const silent: Array<HostileServer> = []
  for (const name of names) {
    const server = new HostileServer(name, "today")
    others[name] = yield* freePort
    yield* server.listen(others[name])
    silent.push(server)
  }
  return { ...(yield* network(["red.test", "blue.test"], { others })), silent }
})

class World extends Context.Service<World, Effect.Success<typeof world>>()("greenroom/test/SilentServers") {
  static readonly layer = Layer.effect(World, world)
}

layer(World.layer, { excludeTestServices: true, timeout: "3 minutes" })("Silent servers", (it) => {
  it.effect("history is read while other servers of the room do not answer", () =>
    Effect.gen(function* () {
      const { servers, silent } = yield* World
      const [red, blue] = servers as [HomeServer, HomeServer]
      const alice = yield* red.register("alice")
      const bob = yield* blue.register("bob")
      const roomId = yield* createRoom(alice, "11")
      const message = yield* say(alice, roomId, "before all others")
      for (const [index, server] of silent.entries()) {
        const user = `@silent${index}:${server.serverName}`
        yield* server.join(red, roomId, user)
        yield* sees(alice, (event) => event.room_id === roomId && isMember(user, "join")(event))
        server.respond = () => "never"
      }
      // Red's member is the last of all, so that blue asks red last.
      const andrew = yield* red.register("andrew")
      yield* expectOk(joinThrough(andrew, roomId, red))
      yield* expectOk(change(alice, roomId, "leave"))
      yield* expectOk(joinThrough(bob, roomId, red))
      const read = yield* readBack(bob, roomId)
      assert.include(
        read.map(({ event_id }) => event_id),
        message
      )
      // They were asked before red.
      assert.isNotEmpty(silent.flatMap(({ asked }) => asked.filter((path) => path.includes("/backfill/"))))
      for (const server of silent) server.hangUp()
    })
  )

  it.effect("a server that waits for answers to its transactions stops without an error in its log", () =>
    Effect.gen(function* () {
      const { servers, silent } = yield* World
      const [red] = servers as [HomeServer]
      const [able, baker] = silent as [HostileServer, HostileServer]
      const anna = yield* red.register("anna")
      const roomId = yield* createRoom(anna, "11")
      yield* able.join(red, roomId, "@able:able.test")
      able.answersTransactions = false
      const sent = yield* say(anna, roomId, "unanswered")
      yield* able.receives(({ event_id }) => event_id === sent)
      // A request of a client under way lets the server wait until it gives up those to other servers.
      baker.respond = () => "never"
      const asked = baker.asked.length
      yield* Effect.forkChild(joinThrough(anna, "!room:baker.test", baker))
      yield* Effect.repeat(Effect.sleep("20 millis"), { until: () => baker.asked.length > asked })
      const { gateway } = red.scene
      yield* red.stop
      assert.notInclude(gateway.output(), "level=ERROR")
      yield* red.start
    })
  )
})
