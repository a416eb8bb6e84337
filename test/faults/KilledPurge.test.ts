/** A killed server finishes the room removals of an administrator after its next start. */
import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Schedule } from "effect"
import { curl } from "../support/Curl.ts"
import { databaseAccess } from "../support/DatabaseAccess.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { registerAdmin, secret } from "../support/RegisterAdmin.ts"

const rooms = 16
/** The test repeats until a kill has interrupted removals, at most this often. */
const maximumRounds = 4

describe("KilledPurge", () => {
  it.live(
    "removals that a kill interrupted are finished after the next start",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* GatewayProcess.temporaryDirectory
        const databaseUrl = yield* TestDatabase.url
        const options = { dataDir, databaseUrl, environment: { GREENROOM_REGISTRATION_SHARED_SECRET: secret } }
        let gateway = yield* GatewayProcess.start(options)
        const token = yield* registerAdmin(gateway.url)
        const asBoss = (method: string, path: string, data?: object) =>
          Effect.suspend(() => curl(gateway.url, method, path, { token, ...(data === undefined ? {} : { data }) }))
        const unfinished = Effect.map(
          databaseAccess(databaseUrl).select("SELECT 1 FROM room_removals WHERE finished_at IS NULL"),
          (rows) => rows.length
        )

        let interrupted = 0
        for (let round = 0; round < maximumRounds && interrupted === 0; round++) {
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
        assert.isAbove(interrupted, 0, "no kill interrupted a removal")
      }).pipe(Effect.scoped),
    180_000
  )

  it.live(
    "users of a removed room are moved into one new room when the server is killed before it has recorded that room",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* GatewayProcess.temporaryDirectory
        const databaseUrl = yield* TestDatabase.url
        const options = { dataDir, databaseUrl, environment: { GREENROOM_REGISTRATION_SHARED_SECRET: secret } }
        const gateway = yield* GatewayProcess.start(options)
        const token = yield* registerAdmin(gateway.url)
        const asBoss = (url: string, method: string, path: string, data?: object) =>
          Effect.suspend(() => curl(url, method, path, { token, ...(data === undefined ? {} : { data }) }))
        const roomsOfBoss = (url: string) =>
          Effect.map(
            asBoss(url, "GET", "/_matrix/client/v3/joined_rooms"),
            ({ body }) => body.joined_rooms as ReadonlyArray<string>
          )
        const database = databaseAccess(databaseUrl)
        const recording = { table: "room_removals", operation: "UPDATE" } as const

        const { body } = yield* asBoss(gateway.url, "POST", "/_matrix/client/v3/createRoom", {
          room_alias_name: "doomed"
        })
        yield* database.refuse(recording)
        const path = `/_synapse/admin/v2/rooms/${encodeURIComponent(body.room_id)}`
        const begun = yield* asBoss(gateway.url, "DELETE", path, {
          block: false,
          purge: true,
          new_room_user_id: "@boss:green.test",
          message: "Moved"
        })
        assert.strictEqual(begun.status, 200, JSON.stringify(begun.body))
        yield* Effect.repeat(roomsOfBoss(gateway.url), {
          until: (rooms) => rooms.length > 1,
          schedule: Schedule.spaced("20 millis")
        })
        yield* gateway.kill
        yield* database.accept(recording)

        const { url } = yield* GatewayProcess.start(options)
        const removal = yield* Effect.repeat(
          asBoss(url, "GET", `/_synapse/admin/v2/rooms/delete_status/${begun.body.delete_id}`),
          {
            until: ({ body }) => body.status === "complete" || body.status === "failed",
            schedule: Schedule.spaced("100 millis")
          }
        )
        assert.strictEqual(removal.body.status, "complete", JSON.stringify(removal.body))
        const joined = yield* roomsOfBoss(url)
        assert.deepStrictEqual(removal.body.shutdown_room, {
          kicked_users: ["@boss:green.test"],
          failed_to_kick_users: [],
          local_aliases: ["#doomed:green.test"],
          new_room_id: joined[0]
        })
        assert.lengthOf(joined, 1)
        const notificationRooms = yield* database.select(
          "SELECT 1 FROM rooms WHERE name = 'Content Violation Notification'"
        )
        assert.lengthOf(notificationRooms, 1)
        const messages = yield* database.select('SELECT 1 FROM events WHERE body LIKE \'%"body":"Moved"%\'')
        assert.lengthOf(messages, 1)
      }).pipe(Effect.scoped),
    120_000
  )
})
