/**
 * The redaction of all that a user has sent is finished after the server was killed in the middle of it, and redacts nothing twice.
 */
import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Schedule } from "effect"
import { curl } from "../support/Curl.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { registerAdmin, secret } from "../support/RegisterAdmin.ts"

const messages = 400
/** Rounds, until a kill has met a redaction in the middle of its work. */
const most = 5

describe("KilledRedaction", () => {
  it.live(
    "what was being redacted when the server was killed is redacted once after the next start",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* GatewayProcess.temporaryDirectory
        const databaseUrl = yield* TestDatabase.url
        const environment = {
          GREENROOM_REGISTRATION_SHARED_SECRET: secret,
          GREENROOM_RATE_LIMITS_SENDS: "off",
          GREENROOM_RATE_LIMITS_REQUESTS: "off"
        }
        const options = { dataDir, databaseUrl, environment }
        let gateway = yield* GatewayProcess.start(options)
        const token = yield* registerAdmin(gateway.url)
        const asBoss = (method: string, path: string, data?: object) =>
          Effect.suspend(() => curl(gateway.url, method, path, { token, ...(data === undefined ? {} : { data }) }))

        let interrupted = false
        for (let round = 0; round < most && !interrupted; round++) {
          const { body } = yield* asBoss("POST", "/_matrix/client/v3/createRoom", {})
          const room = `/_matrix/client/v3/rooms/${encodeURIComponent(body.room_id)}`
          yield* Effect.forEach(
            Array.from({ length: messages }, (_, number) => number),
            (number) =>
              asBoss("PUT", `${room}/send/m.room.message/${round}.${number}`, { msgtype: "m.text", body: "spam" }),
            { concurrency: 16, discard: true }
          )
          const asked = yield* asBoss("POST", "/_synapse/admin/v1/user/@boss:green.test/redact", {
            rooms: [body.room_id]
          })
          assert.strictEqual(asked.status, 200, JSON.stringify(asked.body))
          const status = asBoss("GET", `/_synapse/admin/v1/user/redact_status/${asked.body.redact_id}`)
          const readAll = Effect.gen(function* () {
            const events: Array<{ readonly type: string; readonly content: object; readonly redacts?: string }> = []
            let from = ""
            for (;;) {
              const page = (yield* asBoss("GET", `${room}/messages?dir=b&limit=100${from}`)).body
              events.push(...page.chunk)
              if (page.end === undefined) return events
              from = `&from=${page.end}`
            }
          })
          const redactionsIn = (events: Effect.Success<typeof readAll>) =>
            events.flatMap(({ content, redacts, type }) =>
              type === "m.room.redaction" ? [redacts ?? (content as { readonly redacts: string }).redacts] : []
            )
          // Killed once the first are redacted.
          yield* Effect.repeat(readAll, { until: (events) => redactionsIn(events).length > 0 })
          yield* gateway.kill
          gateway = yield* GatewayProcess.start(options)
          const before = redactionsIn(yield* readAll).length
          interrupted = before > 0 && before <= messages
          yield* Effect.repeat(status, {
            until: ({ body }) => body.status === "completed" || body.status === "failed",
            schedule: Schedule.spaced("100 millis")
          })
          assert.deepStrictEqual((yield* status).body, { status: "completed", failed_redactions: {} })
          const events = yield* readAll
          const redactions = redactionsIn(events)
          // The messages, and the profile in the join.
          assert.lengthOf(redactions, messages + 1)
          assert.strictEqual(new Set(redactions).size, redactions.length)
          for (const { content, type } of events) if (type === "m.room.message") assert.deepStrictEqual(content, {})
        }
        assert.isTrue(interrupted, "no kill met a redaction")
      }).pipe(Effect.scoped),
    300_000
  )
})
