import { assert, layer } from "@effect/vitest"
import type { RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { RoomServerStore } from "../src/RoomServerStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const lobby = "!lobby:green.test" as RoomId
const attic = "!attic:green.test" as RoomId
const nowhere = "!nowhere:green.test" as RoomId
const green = "green.test" as ServerName
const red = "red.test:8449" as ServerName
const blue = "[::1]:8450" as ServerName

const roomWith = Effect.fnUntraced(function* (roomId: RoomId, members: ReadonlyArray<readonly [string, string]>) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`INSERT INTO rooms (room_id, version, created_at) VALUES (${roomId}, 'test', 0)`
  for (const [userId, membership] of members) {
    yield* sql`
      INSERT INTO memberships (room_nid, user_id, membership, sender, event_nid)
      SELECT room_nid, ${userId}, ${membership}, ${userId}, 0 FROM rooms WHERE room_id = ${roomId}`
  }
})

layer(RoomServerStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)))("RoomServerStore", (it) => {
  it.effect("a server is in a room while a user of it is joined", () =>
    Effect.gen(function* () {
      const store = yield* RoomServerStore
      yield* roomWith(lobby, [
        ["@alice:green.test", "join"],
        ["@bob:green.test", "join"],
        ["@carol:red.test:8449", "join"],
        ["@dave:[::1]:8450", "leave"]
      ])
      yield* roomWith(attic, [["@dave:[::1]:8450", "join"]])
      const servers = yield* store.serversOf([lobby, attic, nowhere])
      assert.deepStrictEqual([...servers.get(lobby)!].sort(), [green, red])
      assert.deepStrictEqual(servers.get(attic), [blue])
      assert.deepStrictEqual(servers.get(nowhere), [])
      const users = ["@alice:green.test", "@dave:[::1]:8450"] as Array<UserId>
      assert.deepStrictEqual([...(yield* store.sharing(red, users))], ["@alice:green.test"])
      assert.deepStrictEqual([...(yield* store.sharing(blue, users))], ["@dave:[::1]:8450"])
      assert.deepStrictEqual([...(yield* store.sharing(green, []))], [])
    })
  )
})
