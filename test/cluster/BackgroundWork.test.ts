/**
 * A node is killed during background work: redactions of a user, delayed events and server notices. Another node finishes the work, and
 * repeats nothing.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Redacted, Schedule } from "effect"
import { greenroom } from "../../apps/gateway/test/support/Commands.ts"
import { curl } from "../support/Curl.ts"
import { databaseAccess } from "../support/DatabaseAccess.ts"
import { serverName } from "../support/GatewayProcess.ts"
import { registerAdmin, secret } from "../support/RegisterAdmin.ts"
import { roomOf, type Scene, succeeded } from "../support/Scene.ts"
import { start } from "./support/Cluster.ts"

const spam = 5
const inPath = encodeURIComponent

/** Conditions on the JSON of events, by the work that sends them. */
const kinds = {
  redaction: "NEW.body::jsonb ->> 'type' = 'm.room.redaction'",
  delayed: "NEW.body::jsonb #>> '{content,body}' = 'later'",
  notice: "NEW.body::jsonb #>> '{content,body}' = 'down tonight'"
}

it.live(
  "background work of a killed node is finished by another node, once",
  () =>
    Effect.gen(function* () {
      const environment = {
        GREENROOM_REGISTRATION_SHARED_SECRET: secret,
        GREENROOM_SERVER_NOTICES_LOCALPART: "server"
      }
      const cluster = yield* start(2, { environment })
      const [a, b] = cluster.nodes as [Scene, Scene]
      const database = databaseAccess(cluster.databaseUrl)
      const refusals = Object.entries(kinds).map(([kind, condition]) => ({
        name: `refused_${kind}`,
        table: "events",
        condition
      }))
      const countOf = (condition: string) =>
        Effect.map(
          database.select<{ readonly count: bigint }>(
            `SELECT count(*) AS count FROM events WHERE ${condition.replaceAll("NEW.", "")}`
          ),
          ([row]) => Number(row?.count)
        )
      const token = yield* registerAdmin(b.gateway.url)
      const asBoss = (node: Scene, method: string, path: string, data?: object) =>
        Effect.map(curl(node.gateway.url, method, path, { token, ...(data === undefined ? {} : { data }) }), succeeded)
      const [eve, bob] = [yield* b.register("eve"), yield* b.register("bob")]
      const room = yield* roomOf(eve, bob)
      for (let number = 0; number < spam; number++) {
        const path = `//_matrix/client/v3/rooms/${inPath(room)}/send/m.room.message/${number}`
        succeeded(yield* eve.ask("PUT", path, { msgtype: "m.text", body: "spam" }))
      }

      for (const refusal of refusals) yield* database.refuse(refusal)
      const asked = yield* asBoss(a, "POST", `/_synapse/admin/v1/user/${inPath(eve.userId)}/redact`, { rooms: [] })
      const settings = ["--database-url", Redacted.value(cluster.databaseUrl), "--server-name", serverName]
      const noticed = yield* greenroom(["user", "notice", "bob", "down tonight", ...settings], { environment })
      assert.strictEqual(noticed.code, 0, noticed.error)
      const delayed = succeeded(
        yield* bob.ask(
          "PUT",
          `//_matrix/client/unstable/org.matrix.msc4140/rooms/${inPath(room)}/delayed_event/m.room.message/1`,
          { delay_ms: 1, content: { msgtype: "m.text", body: "later" } }
        )
      )
      for (const refusal of refusals) yield* database.untilRefused(refusal)
      yield* a.gateway.kill
      for (const refusal of refusals) yield* database.accept(refusal)

      const status = yield* Effect.repeat(
        asBoss(b, "GET", `/_synapse/admin/v1/user/redact_status/${asked.body.redact_id}`),
        { until: ({ body }) => body.status !== "active", schedule: Schedule.spaced("100 millis") }
      )
      assert.deepStrictEqual(status.body, { status: "completed", failed_redactions: {} })
      // The messages, and the profile in the join.
      assert.strictEqual(yield* countOf(kinds.redaction), spam + 1)
      const sent = yield* Effect.repeat(
        bob.ask("GET", `//_matrix/client/unstable/org.matrix.msc4140/delayed_events/${delayed.body.delay_id}`),
        { until: ({ body }) => body.finalised_ts !== undefined, schedule: Schedule.spaced("100 millis") }
      )
      assert.isString(sent.body.event_id, JSON.stringify(sent.body))
      assert.strictEqual(yield* countOf(kinds.delayed), 1)
      yield* Effect.repeat(countOf(kinds.notice), {
        until: (count) => count > 0,
        schedule: Schedule.spaced("100 millis")
      })
      const waiting = database.select("SELECT 1 FROM waiting_notices")
      yield* Effect.repeat(waiting, { until: (rows) => rows.length === 0, schedule: Schedule.spaced("100 millis") })
      assert.strictEqual(yield* countOf(kinds.notice), 1)
    }).pipe(Effect.scoped),
  120_000
)
