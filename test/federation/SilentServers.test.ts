/**
 * History of a room in which servers do not answer: it is fetched from one that does.
 *
 * Source: "Backfilling and retrieving missing events" of the server-server specification.
 */
import { assert, layer, vi } from "@effect/vitest"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Context, Effect, Fiber, Layer } from "effect"
import { HostileServer, imaginedHash } from "./support/HostileServer.ts"
import {
  change,
  expectOk,
  getState,
  type HomeServer,
  isMember,
  network,
  readBack,
  reads,
  say,
  sees,
  setState
} from "./support/Network.ts"
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

  /** Users of red and blue in a room with a user of a silent server. */
  const scene = Effect.fnUntraced(function* (number: number) {
    const { servers, silent } = yield* World
    const [[red, blue], [able]] = [servers as [HomeServer, HomeServer], silent as [HostileServer, HostileServer]]
    const [alice, bob] = [yield* red.register(`alice${number}`), yield* blue.register(`bob${number}`)]
    const roomId = yield* createRoom(alice, "11")
    yield* expectOk(joinThrough(bob, roomId, red))
    const user = `@user${number}:${able.serverName}`
    const room = yield* able.join(red, roomId, user)
    yield* sees(bob, (event) => event.room_id === roomId && isMember(user, "join")(event))
    const isAsked = (path: string) =>
      Effect.repeat(Effect.sleep("20 millis"), { until: () => able.asked.some((asked) => asked.startsWith(path)) })
    return { red, blue, able, alice, bob, roomId, room, user, isAsked }
  })

  it.effect("events are placed while a server does not give what precedes a join", () =>
    Effect.gen(function* () {
      const { able, alice, blue, bob, isAsked, red, room, roomId, user } = yield* scene(2)
      // Blue has nobody who could let Carol in, so that she joins through another server.
      const carol = yield* blue.register("carol")
      const club = yield* createRoom(alice, "11")
      yield* expectOk(joinThrough(carol, club, red))
      const levels = (yield* getState(alice, roomId, "m.room.power_levels")).body
      yield* expectOk(setState(alice, roomId, "m.room.power_levels", { ...levels, invite: 50 }))
      const rule = { join_rule: "restricted", allow: [{ type: "m.room_membership", room_id: club }] }
      yield* expectOk(setState(alice, roomId, "m.room.join_rules", rule))
      yield* sees(bob, ({ content, room_id }) => room_id === roomId && content.join_rule === "restricted")
      const content = { membership: "join", join_authorised_via_users_server: user }
      const template = able.event(
        room,
        { type: "m.room.member", sender: carol.userId, state_key: carol.userId, content },
        { prevEvents: [imaginedHash()] }
      )
      able.respond = ({ path }) => {
        if (path.startsWith("/v1/make_join/")) {
          return { status: 200, body: { room_version: "11", event: room.version!.toTemplate(template) } }
        }
        return path.startsWith("/v2/send_join/") ? { status: 200, body: { state: [], auth_chain: [] } } : "never"
      }
      const joining = yield* Effect.forkChild(joinThrough(carol, roomId, able))
      yield* isAsked("/v1/get_missing_events/")
      yield* say(alice, roomId, "meanwhile")
      yield* reads(bob, roomId, "meanwhile")
      assert.isUndefined(joining.pollUnsafe())
      yield* Fiber.interrupt(joining)
      able.hangUp()
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
