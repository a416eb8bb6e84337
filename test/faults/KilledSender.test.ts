/** A server that is killed before a transaction is answered sends the same transaction again after its start. */
import { assert, describe, it } from "@effect/vitest"
import { Rooms } from "@greenroom/actors/room/Rooms"
import type { RoomAlias } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import { homeServers, isMessage, message, readsIn, type TestServer } from "../federation/support/HomeServers.ts"
import { nextWithPdus, rawPeer } from "../federation/support/RawPeer.ts"
import { curl } from "../support/Curl.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"

const prefix = "/matrix/client/api/v1"

/** Starts the server as a process of its own, with the same settings and data. */
const startProcess = ({ serverName, settings }: TestServer) =>
  GatewayProcess.start({
    serverName,
    dataDir: settings.dataDir,
    databaseUrl: settings.databaseUrl,
    environment: {
      GREENROOM_FEDERATION_PORT: String(settings.port),
      GREENROOM_FEDERATION_VERIFY: "false",
      GREENROOM_FEDERATION_SERVERS: Object.entries(settings.addresses)
        .map(([name, address]) => `${name}=${address}`)
        .join(",")
    }
  })

describe("A killed sender", () => {
  it.live("a killed sender sends the same transaction again, and its events are received once", () =>
    Effect.gen(function* () {
      const [red, blue] = yield* homeServers(["red.test", "blue.test"])
      assert(red !== undefined && blue !== undefined)
      yield* red.stop
      const first = yield* startProcess(red)
      const { body: alice } = yield* curl(first.url, "POST", `${prefix}/register`, {
        data: { type: "m.login.password", user: "alice", password: "correct horse" }
      })
      const token: string = alice.access_token
      const { body: room } = yield* curl(first.url, "POST", `${prefix}/createRoom`, {
        token,
        data: { visibility: "public", room_alias_name: "lobby" }
      })
      const say = (url: string, text: string) =>
        curl(url, "POST", `${prefix}/rooms/${room.room_id}/send/m.room.message`, { token, data: message(text) })
      const bob = yield* blue.person("bob")
      yield* blue.run(Effect.flatMap(Rooms, (rooms) => rooms.join(bob, room.room_alias as RoomAlias)))
      yield* say(first.url, "before")
      yield* blue.sees(bob, isMessage("before"))

      yield* blue.stop
      yield* Effect.scoped(
        Effect.gen(function* () {
          const received = yield* rawPeer(blue.serverName, blue.settings.port, blue.settings.dataDir)
          yield* say(first.url, "in the air")
          const unanswered = yield* nextWithPdus(received)
          yield* first.kill
          yield* startProcess(red)
          const again = yield* nextWithPdus(received)
          assert.strictEqual(again.transactionId, unanswered.transactionId)
          assert.deepStrictEqual(again.body.pdus, unanswered.body.pdus)
          assert.deepStrictEqual(again.body.prev_ids, unanswered.body.prev_ids)
          unanswered.hangUp()
          again.hangUp()
        })
      )
      const third = yield* startProcess(red)
      yield* blue.start
      yield* say(third.url, "after")
      yield* blue.sees(bob, isMessage("after"))
      assert.deepStrictEqual(yield* readsIn(blue, bob, room.room_id), ["before", "in the air", "after"])
    })
  )
})
