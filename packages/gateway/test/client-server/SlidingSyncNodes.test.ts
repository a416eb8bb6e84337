/** Sliding sync of a client that asks another node of the cluster each time. */
import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { EventLog } from "@greenroom/store/EventLog"
import { SlidingConnectionStore } from "@greenroom/store/SlidingConnectionStore"
import { Effect, Fiber, Latch, Option } from "effect"
import { SqlClient } from "effect/sql"
import { askToday, createRoom, gateway, joinRoom, register, sendText } from "../TestGateway.ts"
import { bodies, list, sync } from "./SlidingSyncClient.ts"

layer(gateway, { excludeTestServices: true })("a position of another node", (it) => {
  it.effect("leaves no room out that this node has not read of yet", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const sql = yield* SqlClient.SqlClient
      const store = yield* SlidingConnectionStore
      const [alice, bob] = [yield* register("ahead-alice"), yield* register("ahead-bob")]
      const { body: self } = yield* askToday("GET", "/v3/account/whoami", bob)
      const known = yield* createRoom(alice)
      yield* joinRoom(bob, known)
      const { pos } = yield* sync(bob, list([[0, 9]]))

      // This node reads one more slice of the log, and then no others.
      const isHeld = Latch.makeUnsafe(false)
      const goesOn = Latch.makeUnsafe(false)
      yield* log.follow(() => Effect.andThen(isHeld.open, goesOn.await))
      yield* sendText(alice, known, "the last one for a while")
      yield* isHeld.await
      const room = yield* createRoom(alice)
      yield* joinRoom(bob, room)

      // Another node has read the join, and answered with the room.
      const [, connection, version] = /^c([0-9]+)\.([0-9]+)_/.exec(pos)!.map(Number)
      const key = { userId: bob.id as UserId, deviceId: `${self.device_id}`, name: "rooms" }
      const from = Option.getOrThrow(yield* store.read(key, connection!, version!))
      const [row] = yield* sql<{ xid: string; nid: bigint; room_nid: bigint }>`
        SELECT xid::text AS xid, nid, room_nid FROM membership_changes WHERE user_id = ${bob.id}
        ORDER BY membership_changes.xid DESC, nid DESC LIMIT 1`
      const shown = new Map([[Number(row!.room_nid), { config: 0, upTo: undefined }]])
      const written = Option.getOrThrow(yield* store.write(from, from.configs, shown))
      const token = yield* log.tokenOf({ xid: Number(row!.xid), nid: Number(row!.nid) })
      const given = `c${connection}.${written.version}_${token}`

      const asked = yield* Effect.forkChild(sync(bob, list([[0, 9]]), given, 20_000), { startImmediately: true })
      yield* Effect.raceFirst(Effect.asVoid(Fiber.await(asked)), Effect.sleep("300 millis"))
      yield* goesOn.open
      yield* sendText(alice, room, "news")
      const { lists, rooms } = yield* Fiber.join(asked)
      assert.deepStrictEqual(Object.keys(rooms), [room])
      assert.strictEqual(rooms[room]?.membership, "join")
      assert.notStrictEqual(rooms[room]?.initial, true)
      assert.deepStrictEqual(bodies(rooms[room]), ["news"])
      assert.strictEqual(lists.all?.count, 2)
    }).pipe(Effect.scoped, Effect.provide(SlidingConnectionStore.layer))
  )
})
