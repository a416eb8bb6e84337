/** A node is killed while it removes rooms: another node finishes the removals, and moves each user once. */
import { assert, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { curl } from "../support/Curl.ts"
import { databaseAccess } from "../support/DatabaseAccess.ts"
import { registerAdmin, secret } from "../support/RegisterAdmin.ts"
import { roomOf, type Scene, succeeded } from "../support/Scene.ts"
import { start } from "./support/Cluster.ts"

const members = 8
const rooms = 3

it.live(
  "room removals of a killed node are finished by another node, and users are moved to one new room each",
  () =>
    Effect.gen(function* () {
      const cluster = yield* start(2, { environment: { GREENROOM_REGISTRATION_SHARED_SECRET: secret } })
      const [a, b] = cluster.nodes as [Scene, Scene]
      const database = databaseAccess(cluster.databaseUrl)
      const token = yield* registerAdmin(b.gateway.url)
      const owner = yield* b.register("owner")
      const people = yield* Effect.forEach(
        Array.from({ length: members }, (_, number) => number),
        (number) => b.register(`user${number}`)
      )
      const ids = yield* Effect.forEach(Array.from({ length: rooms }), () => roomOf(owner, ...people))
      const everybody = [owner, ...people].map(({ userId }) => userId)

      // No user leaves a room before the node is killed.
      const leaves = { table: "events", condition: "NEW.body::jsonb #>> '{content,membership}' = 'leave'" }
      yield* database.refuse(leaves)
      const deletions = yield* Effect.forEach(ids, (id) =>
        Effect.map(
          curl(a.gateway.url, "DELETE", `/_synapse/admin/v2/rooms/${encodeURIComponent(id)}`, {
            token,
            data: { block: true, purge: true, new_room_user_id: "@boss:green.test" }
          }),
          ({ body }) => body.delete_id as string
        )
      )
      yield* Effect.repeat(
        database.select("SELECT 1 FROM room_removals WHERE result::jsonb ->> 'new_room_id' IS NOT NULL"),
        { until: ({ length }) => length === rooms, schedule: Schedule.spaced("50 millis") }
      )
      yield* a.gateway.kill
      yield* database.accept(leaves)

      const replacements: Array<string> = []
      for (const id of deletions) {
        const { body } = yield* Effect.repeat(
          curl(b.gateway.url, "GET", `/_synapse/admin/v2/rooms/delete_status/${id}`, { token }),
          {
            until: ({ body }) => body.status === "complete" || body.status === "failed",
            schedule: Schedule.spaced("100 millis")
          }
        )
        assert.strictEqual(body.status, "complete", JSON.stringify(body))
        assert.sameMembers(body.shutdown_room.kicked_users, everybody)
        assert.isEmpty(body.shutdown_room.failed_to_kick_users)
        replacements.push(body.shutdown_room.new_room_id)
      }
      assert.strictEqual(new Set(replacements).size, rooms)
      for (const person of people) {
        const { body } = succeeded(yield* person.ask("GET", "//_matrix/client/v3/joined_rooms"))
        assert.sameMembers(body.joined_rooms, replacements)
      }
      const joins = yield* database.select(`
        SELECT 1 FROM events WHERE body::jsonb #>> '{content,membership}' = 'join'
          AND body::jsonb ->> 'room_id' = ANY ('{${replacements.map((id) => `"${id}"`).join()}}')`)
      // With the administrator, who created the rooms.
      assert.lengthOf(joins, rooms * (everybody.length + 1))
    }).pipe(Effect.scoped),
  120_000
)
