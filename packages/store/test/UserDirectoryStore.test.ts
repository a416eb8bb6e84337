import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { UserDirectoryStore } from "../src/UserDirectoryStore.ts"

layer(UserDirectoryStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)))("UserDirectoryStore", (it) => {
  it.effect("all members of queued rooms get entries, in rooms of any size and in rooms that are queued twice", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { indexNext } = yield* UserDirectoryStore
      yield* sql`
        INSERT INTO rooms (room_id, version, created_at, current_chain, shows_members)
        SELECT '!' || number || ':green.test', 'test', 0, 1, number % 2 = 0 FROM generate_series(1, 60) AS number`
      yield* sql`
        INSERT INTO memberships (room_nid, user_id, membership, sender, event_nid)
        SELECT room_nid, name, 'join', name, row_number() OVER () FROM (
          SELECT room_nid, '@' || room_nid || '-' || number || ':other.test' AS name
          FROM rooms CROSS JOIN LATERAL generate_series(1, (ARRAY[13, 500, 0, 1200, 1])[room_nid % 5 + 1]) AS number
        ) AS member`
      yield* sql`
        INSERT INTO events (nid, room_nid, event_id, type, sender, depth, body)
        SELECT event_nid, room_nid, '$' || event_nid, 'm.room.member', user_id, 1, '{"content":{"displayname":"Somebody"}}'
        FROM memberships`
      yield* sql`
        INSERT INTO user_directory_room_queue (room_nid)
        SELECT room_nid FROM rooms CROSS JOIN generate_series(1, 2) UNION ALL SELECT 0`
      yield* Effect.repeat(indexNext, { until: (isDone) => isDone })
      const [missing] = yield* sql<{ members: number; missing: number }>`
        SELECT count(*)::integer AS members, count(*) FILTER (WHERE NOT EXISTS (
          SELECT FROM user_directory entry
          WHERE entry.user_id = memberships.user_id AND displayname = 'Somebody'
            AND shown = shows_members AND entry.room_nid = CASE WHEN shows_members THEN 0 ELSE memberships.room_nid END
        ))::integer AS missing
        FROM memberships JOIN rooms USING (room_nid)`
      assert.deepStrictEqual(missing, { members: 20_568, missing: 0 })
      assert.deepStrictEqual(yield* sql`SELECT FROM user_directory_room_queue`, [])
    })
  )
})
