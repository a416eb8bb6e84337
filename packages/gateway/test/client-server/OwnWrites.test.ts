import { assert, layer } from "@effect/vitest"
import { EventLog } from "@greenroom/store/EventLog"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { askToday, createRoom, gateway, inPath, register, sendText } from "../TestGateway.ts"

/** The highest transaction ID in a table. */
const lastIn = Effect.fnUntraced(function* (table: string) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ xid: string }>`SELECT max(xid::text::bigint)::text AS xid FROM ${sql.literal(table)}`
  return Number(row!.xid)
})

layer(gateway, { excludeTestServices: true })("the writes of a request", (it) => {
  it.effect("are known to the node, so that the next request waits until they can be read", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const alice = yield* register("own-writes")
      const room = yield* createRoom(alice)
      const eventId = yield* sendText(alice, room, "read")
      const { body: self } = yield* askToday("GET", "/v3/account/whoami", alice)
      const device = `${self.device_id}`
      const keys = (name: string) => ({
        user_id: alice.id,
        device_id: device,
        algorithms: ["m.olm.v1.curve25519-aes-sha2"],
        keys: { [`ed25519:${device}`]: name.padEnd(43, "A") },
        signatures: {}
      })
      const data = `/v3/user/${inPath(alice.id)}`
      const writes: ReadonlyArray<readonly [table: string, method: string, path: string, json: object]> = [
        ["account_data", "PUT", `${data}/account_data/test.own`, { is: "new" }],
        ["account_data", "PUT", `${data}/account_data/test.own`, { is: "changed" }],
        ["account_data", "PUT", `${data}/rooms/${inPath(room)}/tags/u.own`, { order: 0.5 }],
        ["receipts", "POST", `/v3/rooms/${inPath(room)}/receipt/m.read/${inPath(eventId)}`, {}],
        ["device_list_changes", "POST", "/v3/keys/upload", { device_keys: keys("first") }],
        ["key_count_changes", "POST", "/v3/keys/upload", { one_time_keys: { "signed_curve25519:a": { key: "a" } } }],
        ["to_device_messages", "PUT", "/v3/sendToDevice/test.own/1", { messages: { [alice.id]: { [device]: {} } } }]
      ]
      for (const [table, method, path, json] of writes) {
        const { status } = yield* askToday(method, path, { token: alice.token, json })
        const known = log.lastCommitted()
        assert.strictEqual(status, 200, path)
        assert.isAtLeast(known, yield* lastIn(table), path)
      }
    })
  )
})
