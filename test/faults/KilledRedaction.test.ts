/** A killed server finishes the redaction of all events of a user after its next start, and redacts no event twice. */
import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Schedule } from "effect"
import { curl } from "../support/Curl.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { registerAdmin, secret } from "../support/RegisterAdmin.ts"

const messages = 400
/** The test repeats until a kill has interrupted a redaction, at most this often. */
const maximumRounds = 5

describe("KilledRedaction", () => {
  it.live(
    "a redaction that a kill interrupted is finished after the next start, with one redaction of each event",
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
        for (let round = 0; round < maximumRounds && !interrupted; round++) {
          const { body } = yield* asBoss("POST", "/_matrix/client/v3/createRoom", {})
          const room = `/_matrix/client/v3/rooms/${encodeURIComponent(body.room_id)}`
          yield* Effect.forEach(
            Array.from({ length: messages }, (_, number) => number),
            (number) =>
              asBoss("PUT", `${room}/send/m.room.message/${round}.${number}`, { msgtype: "m.text", body: "spam" }),
            { concurrency: 16, discard: true }
          )
          const started = yield* asBoss("POST", "/_synapse/admin/v1/user/@boss:green.test/redact", {
            rooms: [body.room_id]
          })
          assert.strictEqual(started.status, 200, JSON.stringify(started.body))
          const status = asBoss("GET", `/_synapse/admin/v1/user/redact_status/${started.body.redact_id}`)
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
          // The server is killed as soon as events have been redacted.
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
        assert.isTrue(interrupted, "no kill interrupted a redaction")
      }).pipe(Effect.scoped),
    300_000
  )
})
