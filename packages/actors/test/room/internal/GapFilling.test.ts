import { setImmediate } from "node:timers/promises"
import { assert, layer } from "@effect/vitest"
import { RoomId } from "@greenroom/protocol/Identifiers"
import { LargeReads, makeLargeReads, withAllowance } from "@greenroom/store/LargeReads"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Fiber, Layer } from "effect"
import { SqlClient } from "effect/sql"
import * as HomeServer from "../../../src/HomeServer.ts"
import { RoomReader } from "../../../src/room/RoomReader.ts"
import { Rooms } from "../../../src/room/Rooms.ts"
import { tlsServer } from "../../federation/support/TlsServer.ts"
import { guest, serverName } from "../../TestHomeServer.ts"
import { remoteMembers } from "../RemoteMembers.ts"

/** Another server, which answers nothing. */
class SilentServer extends Context.Service<SilentServer, Effect.Success<ReturnType<typeof tlsServer>>>()(
  "greenroom/test/SilentServer"
) {
  static readonly layer = Layer.effect(
    SilentServer,
    tlsServer(() => undefined)
  )
}

const homeServer = Layer.unwrap(
  SilentServer.useSync(({ port }) => {
    const address = `127.0.0.1:${port}`
    const staticServers = { "red.test": address, "blue.test": address }
    const federation = { staticServers, verifyCertificates: false }
    return HomeServer.layerOnDatabase({ serverName, dataDir: "unused: the database is given", federation })
  })
).pipe(Layer.provideMerge(Layer.merge(SilentServer.layer, TestDatabase.layer)))

/** One request may have more than 100 bytes, as the states have by which the visibility of a page is judged, and one a page. */
const few = makeLargeReads({
  tiers: [
    { above: 100, requests: 1 },
    { above: 10_000, requests: 1 }
  ],
  most: 1024 * 1024
})

layer(homeServer, { excludeTestServices: true })("pages with gaps", (it) => {
  it.effect("a reader who waits for another server lets others read, and gets the page", () =>
    Effect.gen(function* () {
      const reader = yield* RoomReader
      const rooms = yield* Rooms
      const sql = yield* SqlClient.SqlClient
      const { close, requests } = yield* SilentServer
      const [alice, bob] = [guest("alice"), guest("bob")]
      const say = (session: typeof alice, room: RoomId) =>
        rooms.send(session, room, "m.room.message", { msgtype: "m.text", body: "x".repeat(20_000) })
      const read = (session: typeof alice, room: RoomId, limit: number) =>
        withAllowance(reader.messages(session, room, { dir: "b", limit })).pipe(Effect.provideService(LargeReads, few))
      const { room_id } = yield* remoteMembers("11")
      yield* rooms.setState(alice, room_id, "m.room.history_visibility", "", { history_visibility: "joined" })
      const { event_id } = yield* say(alice, room_id)
      yield* sql`
        INSERT INTO timeline_gaps (room_nid, xid, nid)
        SELECT room_nid, xid, nid FROM events WHERE event_id = ${event_id}`
      const other = (yield* rooms.create(bob, {})).room_id
      yield* say(bob, other)
      const waiting = yield* Effect.forkChild(read(alice, room_id, 2))
      while (!requests.some(({ path }) => path.includes("/backfill/"))) yield* Effect.promise(() => setImmediate())
      assert.lengthOf((yield* read(bob, RoomId.make(other), 1)).chunk, 1)
      assert.isUndefined(waiting.pollUnsafe())
      yield* close
      assert.lengthOf((yield* Fiber.join(waiting)).chunk, 2)
    })
  )
})
