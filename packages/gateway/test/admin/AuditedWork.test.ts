/** Work of administrators that fails after their request was answered: the audit log says so, in a row that names the first one. */
import * as http from "node:http"
import { assert, layer } from "@effect/vitest"
import { AuditLog } from "@greenroom/actors/admin/AuditLog"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { NoticeStore } from "@greenroom/store/NoticeStore"
import { Effect, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { Gateway } from "../../src/Gateway.ts"
import { ask, createRoom, gatewayWith, inPath, register, sendText } from "../TestGateway.ts"
import { askAdmin, registerAdmin, repeatUntil } from "./TestAdmin.ts"

/** The rows of an action and of its failures, the oldest first. */
const rowsOf = (action: string) =>
  AuditLog.use((audit) =>
    Effect.map(audit.list({ limit: 100 }), (rows) =>
      rows.filter((row) => row.action === action || row.action === `${action}.failed`).toReversed()
    )
  )

/** Waits for the row of a failure, and checks that it is the only one and names the row of the action. */
const failureOf = Effect.fnUntraced(function* (action: string) {
  yield* Effect.repeat(rowsOf(action), {
    until: (rows) => rows.length > 1,
    schedule: Schedule.spaced("50 millis")
  })
  const [first, failed, ...others] = yield* rowsOf(action)
  assert.deepStrictEqual(others, [])
  assert.deepInclude(failed, { action: `${action}.failed`, actor: first!.actor, target: first!.target })
  assert.deepInclude(failed!.details, { row: first!.seq })
  return failed!.reason
})

/** Reads the first bytes of an export, and closes the connection. */
const readHead = (url: string, token: string) =>
  Effect.callback<void>((resume) => {
    const options = { headers: { authorization: `Bearer ${token}` } }
    http.get(`${url}/_greenroom/client/v1/export`, options, (response) => {
      response.once("data", () => {
        response.destroy()
        resume(Effect.void)
      })
    })
  })

layer(gatewayWith({}, { serverNotices: { localpart: "server", name: "Server" } }), { excludeTestServices: true })(
  "the audit log",
  (it) => {
    it.effect("has a row for a removal that fails after it was accepted", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const [admin, user] = [yield* registerAdmin("boss"), yield* register("ann")]
        const room = yield* createRoom(user)
        yield* sendText(user, room, "one")
        const last = yield* sendText(user, room, "two")
        yield* sql.unsafe(`
          CREATE FUNCTION refuse_delete() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN RAISE 'broken' USING ERRCODE = '23514'; END $$`)
        yield* sql`CREATE TRIGGER refuse BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION refuse_delete()`
        const purge = { purge_up_to_event_id: last, delete_local_events: true }
        const begun = yield* askAdmin(admin, "POST", `/v1/purge_history/${inPath(room)}`, purge)
        assert.strictEqual(begun.status, 200)
        yield* repeatUntil(
          askAdmin(admin, "GET", `/v1/purge_history_status/${begun.body.purge_id as string}`),
          ({ body }) => body.status === "failed"
        )
        assert.strictEqual(yield* failureOf("room.purge_history"), "Internal error")
        yield* sql`DROP TRIGGER refuse ON events`
        const again = yield* askAdmin(admin, "POST", `/v1/purge_history/${inPath(room)}`, purge)
        yield* repeatUntil(
          askAdmin(admin, "GET", `/v1/purge_history_status/${again.body.purge_id as string}`),
          ({ body }) => body.status === "complete"
        )
        assert.lengthOf(yield* rowsOf("room.purge_history"), 3)
      })
    )

    it.effect("has a row for an export that its reader did not get to the end", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { url } = yield* Gateway
        const user = yield* register("bea")
        yield* sql`
          INSERT INTO account_data (user_id, room_id, type, content)
          SELECT ${user.id}, '', 'test.' || n, '{"text":"' || repeat('x', 60000) || '"}' FROM generate_series(1, 500) AS n`
        yield* readHead(url, user.token)
        assert.strictEqual(yield* failureOf("export.own"), "Interrupted")
        const whole = yield* ask("GET", "//_greenroom/client/v1/export", { token: user.token })
        assert.include(whole.text.trimEnd().split("\n").at(-1), '"end"')
        assert.lengthOf(yield* rowsOf("export.own"), 3)
      })
    )

    it.effect("has a row for a notice that cannot be sent", () =>
      Effect.gen(function* () {
        const { add } = yield* NoticeStore
        const entry = { actor: "command line", action: "user.notice", target: "@nobody:green.test" }
        const adding = add("@nobody:green.test" as UserId, { msgtype: "m.text", body: "hello" })
        yield* AuditLog.use((audit) => audit.run(entry, adding))
        assert.match((yield* failureOf("user.notice"))!, /There is no user @nobody:green\.test/)
        const { problems } = yield* AuditLog.use((audit) => audit.verify())
        assert.deepStrictEqual(problems, [])
      })
    )
  }
)
