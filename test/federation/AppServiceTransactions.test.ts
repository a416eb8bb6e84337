/**
 * Transactions of application services about rooms that other servers take part in.
 *
 * Source: "Pushing events" of the application service API.
 */
import { assert, describe, it } from "@effect/vitest"
import { Rooms } from "@greenroom/actors/room/Rooms"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Effect } from "effect"
import { BridgeServer, type SentEvent } from "../../packages/gateway/test/app-service/BridgeServer.ts"
import { homeServers, message, type TestServer } from "./support/HomeServers.ts"
import { HostileServer } from "./support/HostileServer.ts"

const puppet = "@_irc_ada:blue.test" as UserId

/** Options of a server with an application service, which has its users of the names `_irc_…`. */
const optionsWith = (url: string) => ({
  appServices: [
    {
      id: "irc",
      url,
      as_token: "as",
      hs_token: "hs",
      sender_localpart: "ircbot",
      namespaces: { users: [{ exclusive: false, regex: "@_irc_.*" }] }
    }
  ]
})

/** The events of transactions until one that passes, which is the last. */
const eventsUntil = Effect.fnUntraced(function* (passes: (event: SentEvent) => boolean) {
  const { nextTransaction } = yield* BridgeServer
  const found: Array<SentEvent> = []
  while (!found.some(passes)) found.push(...(yield* nextTransaction).events)
  return found
})

const hasBody =
  (body: string) =>
  ({ content }: SentEvent) =>
    content.body === body

describe("Transactions of application services", () => {
  it.live("go on in a room where a kick of its user came late, and the membership is another", () =>
    Effect.gen(function* () {
      const { url } = yield* BridgeServer
      const evil = new HostileServer("evil.test", "today")
      const port = yield* freePort
      yield* evil.listen(port)
      const [blue] = yield* homeServers(["blue.test"], {
        options: { "blue.test": optionsWith(url) },
        others: { "evil.test": port }
      })
      const server = blue as TestServer
      const address = { serverName: server.serverName, federationPort: server.settings.port }
      const [alice, ada] = [yield* server.person("alice"), yield* server.person("_irc_ada")]
      const inRooms = <A, E>(use: (rooms: Rooms["Service"]) => Effect.Effect<A, E>) =>
        Effect.orDie(server.run(Rooms.use(use)))
      const { room_id } = yield* inRooms((rooms) => rooms.create(alice, { room_version: "11", visibility: "public" }))
      yield* inRooms((rooms) => rooms.join(ada, room_id))
      const levels = yield* inRooms((rooms) => rooms.getState(alice, room_id, "m.room.power_levels", ""))
      const users = { [alice.userId]: 100, "@mallory:evil.test": 90 }
      yield* inRooms((rooms) => rooms.setState(alice, room_id, "m.room.power_levels", "", { ...levels, users }))
      const room = yield* evil.join(address, room_id, "@mallory:evil.test")
      // A join by which Ada renames herself, at the same time as the kick: in a public room state resolution applies it last.
      const membership = { membership: "join", displayname: "Ada" }
      yield* inRooms((rooms) => rooms.setState(ada, room_id, "m.room.member", puppet, membership))
      const kick = evil.event(room, {
        sender: "@mallory:evil.test",
        type: "m.room.member",
        state_key: puppet,
        content: { membership: "leave" }
      })
      assert.deepStrictEqual(yield* evil.tell(address, kick), [undefined])
      const inForce = yield* inRooms((rooms) => rooms.getState(alice, room_id, "m.room.member", puppet))
      assert.strictEqual(inForce.membership, "join")
      yield* inRooms((rooms) => rooms.send(alice, room_id, "m.room.message", message("after the kick")))
      yield* inRooms((rooms) => rooms.send(ada, room_id, "m.room.message", message("of Ada")))
      const sent = yield* eventsUntil(hasBody("of Ada"))
      assert.isTrue(sent.some(({ event_id }) => event_id === kick.event_id))
      assert.isTrue(sent.some(hasBody("after the kick")))
    }).pipe(Effect.scoped, Effect.provide(BridgeServer.layer))
  )

  it.live("have the stripped state with which another server invites its user", () =>
    Effect.gen(function* () {
      const { url } = yield* BridgeServer
      const options = { "blue.test": optionsWith(url) }
      const [red, blue] = (yield* homeServers(["red.test", "blue.test"], { options })) as [TestServer, TestServer]
      const alice = yield* red.person("alice")
      yield* blue.person("_irc_ada")
      yield* red.run(
        Effect.gen(function* () {
          const rooms = yield* Rooms
          const { room_id } = yield* rooms.create(alice, { room_version: "11", visibility: "private" })
          yield* rooms.setState(alice, room_id, "m.room.name", "", { name: "Tea" })
          yield* rooms.setMembership(alice, room_id, "invite", puppet)
        })
      )
      const [invite] = yield* eventsUntil(({ state_key }) => state_key === puppet)
      const shown = new Map(invite?.unsigned?.invite_room_state?.map(({ content, type }) => [type, content]))
      assert.deepStrictEqual(shown.get("m.room.name"), { name: "Tea" })
    }).pipe(Effect.scoped, Effect.provide(BridgeServer.layer))
  )
})
