/**
 * The removal of rooms that an administrator asked for is finished after the server was killed in the middle of it.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Database from "@greenroom/store/Database"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { curl } from "../support/Curl.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { registerAdmin, secret } from "../support/RegisterAdmin.ts"

const rooms = 16
/** Rounds, until a kill has met removals in the middle of their work. */
const most = 4

describe("KilledPurge", () => {
  it.live(
    "rooms that were being removed when the server was killed are gone after the next start",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* GatewayProcess.temporaryDirectory
        const databaseUrl = yield* TestDatabase.url
        const options = { dataDir, databaseUrl, environment: { GREENROOM_REGISTRATION_SHARED_SECRET: secret } }
        let gateway = yield* GatewayProcess.start(options)
        const token = yield* registerAdmin(gateway.url)
        const asBoss = (method: string, path: string, data?: object) =>
          Effect.suspend(() => curl(gateway.url, method, path, { token, ...(data === undefined ? {} : { data }) }))
        const unfinished = SqlClient.SqlClient.use(
          (sql) => sql<{ count: bigint }>`SELECT count(*) AS count FROM room_removals WHERE finished_at IS NULL`
        ).pipe(
          Effect.map(([row]) => Number(row?.count ?? 0)),
          Effect.provide(Database.pool({ url: databaseUrl, maxConnections: 2 }))
        )

        let interrupted = 0
        for (let round = 0; round < most && interrupted === 0; round++) {
          const created = yield* Effect.forEach(
            Array.from({ length: rooms }),
            () => asBoss("POST", "/_matrix/client/v3/createRoom", { preset: "public_chat", name: "Doomed" }),
            { concurrency: 4 }
          )
          const ids = created.map(({ body }) => encodeURIComponent(body.room_id))
          const begun = yield* Effect.forEach(
            ids,
            (id) => asBoss("DELETE", `/_synapse/admin/v2/rooms/${id}`, { purge: true, block: true }),
            { concurrency: rooms }
          )
          for (const { status } of begun) assert.strictEqual(status, 200)
          yield* gateway.kill
          interrupted += yield* unfinished
          gateway = yield* GatewayProcess.start(options)
          for (const [index, { body }] of begun.entries()) {
            const removal = yield* Effect.repeat(
              asBoss("GET", `/_synapse/admin/v2/rooms/delete_status/${body.delete_id}`),
              {
                until: ({ body }) => body.status === "complete" || body.status === "failed",
                schedule: Schedule.spaced("100 millis")
              }
            )
            assert.strictEqual(removal.body.status, "complete")
            assert.strictEqual((yield* asBoss("GET", `/_synapse/admin/v1/rooms/${ids[index]}`)).status, 404)
            const again = yield* asBoss("POST", `/_matrix/client/v3/join/${ids[index]}`, {})
            assert.strictEqual(again.status, 403)
          }
          assert.strictEqual(yield* unfinished, 0)
        }
        assert.isAbove(interrupted, 0, "no kill met a removal")
      }).pipe(Effect.scoped),
    180_000
  )
})
