import { setImmediate } from "node:timers/promises"
import { assert, layer } from "@effect/vitest"
import { type EventId, RoomId } from "@greenroom/protocol/Identifiers"
import { LargeReads, makeLargeReads, withAllowance } from "@greenroom/store/LargeReads"
import { beginning, theEnd } from "@greenroom/store/StreamToken"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Fiber, Layer } from "effect"
import { SqlClient } from "effect/sql"
import * as HomeServer from "../../../src/HomeServer.ts"
import { makeGapFilling, pagingBack } from "../../../src/room/internal/GapFilling.ts"
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
      const limited = <A, E, R>(read: Effect.Effect<A, E, R>) =>
        withAllowance(read).pipe(Effect.provideService(LargeReads, few))
      const other = RoomId.make((yield* rooms.create(bob, {})).room_id)
      yield* say(bob, other)

      /** Begins to read a room with a gap before its last event. Returns when another server was asked. */
      const reading = Effect.fnUntraced(function* <A, E>(read: (room: RoomId, event: EventId) => Effect.Effect<A, E>) {
        const { room_id } = yield* remoteMembers("11")
        const joined = { history_visibility: "joined" }
        const before = yield* rooms.setState(alice, room_id, "m.room.history_visibility", "", joined)
        const { event_id } = yield* say(alice, room_id)
        yield* sql`
          INSERT INTO timeline_gaps (room_nid, xid, nid)
          SELECT room_nid, xid, nid FROM events WHERE event_id = ${event_id}`
        const fiber = yield* Effect.forkChild(limited(read(room_id, before.event_id)))
        const path = `/backfill/${encodeURIComponent(room_id)}`
        while (!requests.some((request) => request.path.includes(path))) yield* Effect.promise(() => setImmediate())
        return fiber
      })

      const page = yield* reading((room) => reader.messages(alice, room, { dir: "b", limit: 2 }))
      const ofBob = limited(reader.messages(bob, other, { dir: "b", limit: 1 }))
      assert.lengthOf((yield* ofBob).chunk, 1)
      // What is before the event stays in memory while the page after it waits.
      const context = yield* reading((room, event) => reader.context(alice, room, event, { limit: 10 }))
      assert.lengthOf((yield* ofBob).chunk, 1)
      assert.isUndefined(page.pollUnsafe())
      assert.isUndefined(context.pollUnsafe())
      yield* close
      assert.lengthOf((yield* Fiber.join(page)).chunk, 2)
      assert.lengthOf((yield* Fiber.join(context)).events_after, 1)
    })
  )

  it.effect("a page at the beginning of a room is read once", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { room_id } = yield* (yield* Rooms).create(guest("alice"), {})
      const [row] = yield* sql<{ room_nid: bigint }>`SELECT room_nid FROM rooms WHERE room_id = ${room_id}`
      let reads = 0
      const read = Effect.sync(() => {
        reads++
        return { page: [], count: 1, bytes: 0, end: undefined, mayHaveGaps: true }
      })
      const range = { roomNid: Number(row!.room_nid), after: beginning, upTo: theEnd }
      const filled = yield* makeGapFilling
      yield* filled({ roomId: RoomId.make(room_id), range, direction: "b", isOpen: true, read, limits: pagingBack })
      assert.strictEqual(reads, 1)
    })
  )
})
