/**
 * An upgrade of a room whose server was killed in the middle of it is finished when it is asked for again, by another login too.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Database from "@greenroom/store/Database"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Fiber, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { curl } from "../support/Curl.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"

const client = "/_matrix/client/v3"
const password = "correct horse"

describe("KilledUpgrade", () => {
  it.live(
    "one new room is made, and the old one is closed",
    () =>
      Effect.gen(function* () {
        const options = { dataDir: yield* GatewayProcess.temporaryDirectory, databaseUrl: yield* TestDatabase.url }
        const onDatabase = (statement: string) =>
          SqlClient.SqlClient.use((sql) => sql.unsafe<{ readonly is_called?: boolean }>(statement)).pipe(
            Effect.provide(Database.pool({ url: options.databaseUrl, maxConnections: 1 }))
          )
        /** PostgreSQL fails to store events of the type, and counts them in a sequence, which is not rolled back. */
        const refuse = (type: string) =>
          Effect.forEach(
            [
              "CREATE SEQUENCE refusals",
              `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN
                 PERFORM nextval('refusals');
                 RAISE 'refused by the test' USING ERRCODE = '53100';
               END $$`,
              `CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW
               WHEN (NEW.body::jsonb ->> 'type' = '${type}') EXECUTE FUNCTION refuse()`
            ],
            onDatabase
          )
        const refused = Effect.repeat(onDatabase("SELECT is_called FROM refusals"), {
          until: ([row]) => row?.is_called === true,
          schedule: Schedule.spaced("20 millis")
        })
        const accept = Effect.forEach(
          ["DROP TRIGGER refuse ON events", "DROP FUNCTION refuse", "DROP SEQUENCE refusals"],
          onDatabase
        )

        let gateway = yield* GatewayProcess.start(options)
        const registered = yield* curl(gateway.url, "POST", `${client}/register`, {
          data: { username: "alice", password, auth: { type: "m.login.dummy" } }
        })
        let token = registered.body.access_token
        const asAlice = (method: string, path: string, data?: object) =>
          Effect.suspend(() => curl(gateway.url, method, `${client}${path}`, { token, ...(data && { data }) }))
        const old = (yield* asAlice("POST", "/createRoom", { room_version: "11" })).body.room_id
        const room = `/rooms/${encodeURIComponent(old)}`
        yield* asAlice("PUT", `/user/@alice:green.test${room}/tags/m.favourite`, {})
        const upgrade = asAlice("POST", `${room}/upgrade`, { new_version: "12" })

        const interruptAt = Effect.fnUntraced(function* (type: string) {
          yield* refuse(type)
          const asking = yield* Effect.forkChild(Effect.exit(upgrade))
          yield* refused
          yield* gateway.kill
          yield* Fiber.join(asking)
          yield* accept
          gateway = yield* GatewayProcess.start(options)
        })

        // The new room is there, and the old one does not lead to it.
        yield* interruptAt("m.room.tombstone")
        const login = yield* curl(gateway.url, "POST", `${client}/login`, {
          data: { type: "m.login.password", identifier: { type: "m.id.user", user: "alice" }, password }
        })
        token = login.body.access_token
        // The tombstone is there, and the old room is still open.
        yield* interruptAt("m.room.power_levels")

        const { body, status } = yield* upgrade
        assert.strictEqual(status, 200, JSON.stringify(body))
        const replacement = body.replacement_room
        const joined = (yield* asAlice("GET", "/joined_rooms")).body.joined_rooms
        assert.sameMembers(joined, [old, replacement])
        const tombstone = yield* asAlice("GET", `${room}/state/m.room.tombstone`)
        assert.strictEqual(tombstone.body.replacement_room, replacement)
        const levels = yield* asAlice("GET", `${room}/state/m.room.power_levels`)
        assert.strictEqual(levels.body.events_default, 50)
        const tags = yield* asAlice("GET", `/user/@alice:green.test/rooms/${encodeURIComponent(replacement)}/tags`)
        assert.deepStrictEqual(tags.body, { tags: { "m.favourite": {} } })
        const events = yield* onDatabase(`SELECT 1 FROM events WHERE body::jsonb ->> 'type' = 'm.room.tombstone'`)
        assert.lengthOf(events, 1)
      }).pipe(Effect.scoped),
    120_000
  )
})
