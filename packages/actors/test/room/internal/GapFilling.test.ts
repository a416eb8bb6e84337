import { createServer, type Socket } from "node:net"
import { assert, layer } from "@effect/vitest"
import { RoomId } from "@greenroom/protocol/Identifiers"
import { LargeReads, makeLargeReads, withAllowance } from "@greenroom/store/LargeReads"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Deferred, Effect, Fiber, Layer } from "effect"
import { SqlClient } from "effect/sql"
import * as HomeServer from "../../../src/HomeServer.ts"
import { RoomReader } from "../../../src/room/RoomReader.ts"
import { Rooms } from "../../../src/room/Rooms.ts"
import { guest, serverName } from "../../TestHomeServer.ts"
import { remoteMembers } from "../RemoteMembers.ts"

/** A server that takes connections and says nothing. */
class SilentServer extends Context.Service<
  SilentServer,
  { readonly address: string; readonly asked: Effect.Effect<void> }
>()("greenroom/test/SilentServer") {
  static readonly layer = Layer.effect(
    SilentServer,
    Effect.gen(function* () {
      const asked = yield* Deferred.make<void>()
      const sockets = new Set<Socket>()
      const server = createServer((socket) => {
        sockets.add(socket.on("error", () => {}))
        Deferred.doneUnsafe(asked, Effect.void)
      })
      yield* Effect.acquireRelease(
        Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
        () =>
          Effect.sync(() => {
            for (const socket of sockets) socket.destroy()
            server.close()
          })
      )
      const { port } = server.address() as { readonly port: number }
      return { address: `127.0.0.1:${port}`, asked: Deferred.await(asked) }
    })
  )
}

const homeServer = Layer.unwrap(
  SilentServer.use(({ address }) =>
    Effect.succeed(
      HomeServer.layerOnDatabase({
        serverName,
        dataDir: "unused: the database is given",
        federation: { staticServers: { "red.test": address, "blue.test": address } }
      })
    )
  )
).pipe(Layer.provideMerge(Layer.merge(SilentServer.layer, TestDatabase.layer)))

/** One request may have more than a kilobyte. */
const few = makeLargeReads({ tiers: [{ above: 1_024, requests: 1 }], most: 1024 * 1024 })

layer(homeServer, { excludeTestServices: true })("pages with gaps", (it) => {
  it.effect("a reader who waits for another server lets others read, and gets the page", () =>
    Effect.gen(function* () {
      const reader = yield* RoomReader
      const rooms = yield* Rooms
      const sql = yield* SqlClient.SqlClient
      const { asked } = yield* SilentServer
      const [alice, bob] = [guest("alice"), guest("bob")]
      const say = (session: typeof alice, room: RoomId) =>
        rooms.send(session, room, "m.room.message", { msgtype: "m.text", body: "x".repeat(2_000) })
      const read = (session: typeof alice, room: RoomId, limit: number) =>
        withAllowance(reader.messages(session, room, { dir: "b", limit })).pipe(Effect.provideService(LargeReads, few))
      const { room_id } = yield* remoteMembers("11")
      const { event_id } = yield* say(alice, room_id)
      yield* sql`
        INSERT INTO timeline_gaps (room_nid, xid, nid)
        SELECT room_nid, xid, nid FROM events WHERE event_id = ${event_id}`
      const other = (yield* rooms.create(bob, {})).room_id
      yield* say(bob, other)
      const waiting = yield* Effect.forkChild(read(alice, room_id, 1))
      yield* asked
      assert.lengthOf((yield* read(bob, RoomId.make(other), 1)).chunk, 1)
      assert.isUndefined(waiting.pollUnsafe())
      yield* Fiber.interrupt(waiting)
    })
  )
})
