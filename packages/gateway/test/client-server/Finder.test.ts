import { assert, layer } from "@effect/vitest"
import { ReportStore } from "@greenroom/store/ReportStore"
import { Clock, Effect } from "effect"
import { SqlClient } from "effect/sql"
import {
  as,
  createRoom,
  gateway,
  inPath,
  joinRoom,
  putState,
  register,
  sendText,
  type TestUser
} from "../TestGateway.ts"

layer(gateway, { excludeTestServices: true })("the user directory, and forgetting, timestamps and reports", (it) => {
  const search = (user: TestUser, search_term: string) =>
    Effect.map(
      as(user)("POST", "/v3/user_directory/search", { search_term }),
      ({ body }) => body.results as ReadonlyArray<{ readonly user_id: string; readonly display_name?: string }>
    )
  const found = (user: TestUser, search_term: string) =>
    Effect.map(search(user, search_term), (results) => results.map(({ user_id }) => user_id))

  it.effect("the user directory has users who share a room or are in a public room, and no others", () =>
    Effect.gen(function* () {
      const alice = yield* register("find-alice")
      const bob = yield* register("find-bob")
      const carol = yield* register("find-carol")
      yield* register("find-hermit")
      const room = yield* createRoom(alice, { visibility: "private", invite: [bob.id] })
      yield* joinRoom(bob, room)
      yield* createRoom(carol)
      yield* as(bob)("PUT", `/v3/profile/${inPath(bob.id)}/displayname`, { displayname: "Robert 100% \u{1f980}" })
      assert.sameMembers(yield* found(alice, "find-"), [bob.id, carol.id])
      assert.sameMembers(yield* found(carol, "find-"), [carol.id])
      assert.deepStrictEqual(yield* found(alice, "robert"), [bob.id])
      assert.deepStrictEqual(yield* found(alice, "BERT 1"), [bob.id])
      assert.deepStrictEqual(yield* found(alice, "100%"), [bob.id])
      assert.deepStrictEqual(yield* found(alice, "\u{1f980}"), [bob.id])
      assert.deepStrictEqual(yield* found(alice, "ert bob"), [bob.id])
      assert.deepStrictEqual(yield* found(alice, bob.id), [bob.id])
      assert.deepStrictEqual(yield* found(carol, "find-bob"), [])
      for (const term of ["%", "'", "\\", "' & 'x':*", "=", "@:"]) {
        assert.deepStrictEqual(yield* found(alice, term), [], JSON.stringify(term))
      }
      for (const search_term of ["\0", "\ud800", "x".repeat(10_000)]) {
        const refused = yield* as(alice)("POST", "/v3/user_directory/search", { search_term })
        assert.strictEqual(refused.status, 400)
      }
      const mutual = yield* as(alice)("GET", `/v1/mutual_rooms?user_id=${inPath(bob.id)}`)
      assert.deepStrictEqual(mutual.body, { joined: [room], count: 1 } as never)
      const wrong = yield* as(alice)("GET", `/v1/mutual_rooms?user_id=${inPath(bob.id)}&from=t1_2`)
      assert.strictEqual(wrong.body.errcode, "M_INVALID_PARAM")
    })
  )

  it.effect("the user directory has the members of a room for everybody while all may join or read it", () =>
    Effect.gen(function* () {
      const stranger = yield* register("open-stranger")
      const owner = yield* register("open-owner")
      const guest = yield* register("open-guest")
      const room = yield* createRoom(owner, { visibility: "private", invite: [guest.id] })
      yield* joinRoom(guest, room)
      const members = [guest.id, owner.id]
      assert.deepStrictEqual(yield* found(stranger, "open"), [])
      yield* putState(owner, room, "m.room.join_rules", { join_rule: "public" })
      assert.sameMembers(yield* found(stranger, "open"), members)
      yield* putState(owner, room, "m.room.history_visibility", { history_visibility: "world_readable" })
      yield* putState(owner, room, "m.room.join_rules", { join_rule: "invite" })
      assert.sameMembers(yield* found(stranger, "open"), members)
      yield* putState(owner, room, "m.room.history_visibility", { history_visibility: "shared" })
      assert.deepStrictEqual(yield* found(stranger, "open"), [])
      assert.deepStrictEqual(yield* found(guest, "open"), [owner.id])
      const listed = yield* as(owner)("PUT", `/v3/directory/list/room/${inPath(room)}`, { visibility: "public" })
      assert.strictEqual(listed.status, 200)
      assert.deepStrictEqual(yield* found(stranger, "open"), [])
    })
  )

  it.effect("the user directory loses users who left or were banned, and replaces changed names", () =>
    Effect.gen(function* () {
      const stranger = yield* register("gone-stranger")
      const owner = yield* register("gone-owner")
      const leaver = yield* register("gone-leaver")
      const banned = yield* register("gone-banned")
      const open = yield* createRoom(owner)
      const closed = yield* createRoom(owner, { visibility: "private", invite: [leaver.id, banned.id] })
      for (const user of [leaver, banned]) {
        yield* joinRoom(user, open)
        yield* joinRoom(user, closed)
      }
      assert.sameMembers(yield* found(stranger, "gone"), [owner.id, leaver.id, banned.id])
      yield* as(leaver)("POST", `/v3/rooms/${inPath(open)}/leave`, {})
      yield* as(owner)("POST", `/v3/rooms/${inPath(open)}/ban`, { user_id: banned.id })
      assert.deepStrictEqual(yield* found(stranger, "gone"), [owner.id])
      assert.sameMembers(yield* found(owner, "gone"), [owner.id, leaver.id, banned.id])
      yield* as(leaver)("POST", `/v3/rooms/${inPath(closed)}/leave`, {})
      yield* as(owner)("POST", `/v3/rooms/${inPath(closed)}/ban`, { user_id: banned.id })
      assert.deepStrictEqual(yield* found(owner, "gone"), [owner.id])
      const rename = (displayname: string) =>
        as(owner)("PUT", `/v3/profile/${inPath(owner.id)}/displayname`, { displayname })
      yield* rename("Zebedee")
      assert.deepStrictEqual(yield* found(stranger, "zebed"), [owner.id])
      yield* rename("Florence")
      assert.deepStrictEqual(yield* found(stranger, "zebed"), [])
      assert.deepStrictEqual(yield* search(stranger, "flor"), [{ user_id: owner.id, display_name: "Florence" }])
    })
  )

  it.effect("the user directory is filled from queued rooms, as their state allows", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const stranger = yield* register("old-stranger")
      const owner = yield* register("old-owner")
      const hidden = yield* register("old-hidden")
      yield* createRoom(owner, { visibility: "public" })
      yield* createRoom(hidden, { visibility: "private" })
      yield* found(stranger, "old")
      yield* sql`DELETE FROM user_directory`
      yield* sql`UPDATE rooms SET shows_members = NULL`
      assert.deepStrictEqual(yield* found(stranger, "old"), [])
      yield* sql`INSERT INTO user_directory_room_queue (room_nid) SELECT room_nid FROM rooms`
      assert.deepStrictEqual(yield* found(stranger, "old"), [owner.id])
    })
  )

  it.effect("a forgotten room is hidden from the user until it is joined again", () =>
    Effect.gen(function* () {
      const alice = yield* register("forget-alice")
      const bob = yield* register("forget-bob")
      const room = yield* createRoom(alice)
      const forget = as(bob)("POST", `/v3/rooms/${inPath(room)}/forget`, {})
      assert.strictEqual((yield* forget).body.errcode, "M_NOT_FOUND")
      yield* joinRoom(bob, room)
      assert.strictEqual((yield* forget).body.errcode, "M_UNKNOWN")
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      const messages = as(bob)("GET", `/v3/rooms/${inPath(room)}/messages?dir=b`)
      const filter = inPath(JSON.stringify({ room: { include_leave: true } }))
      const leftRooms = Effect.map(as(bob)("GET", `/v3/sync?filter=${filter}`), ({ body }) =>
        Object.keys((body.rooms as { readonly leave?: object } | undefined)?.leave ?? {})
      )
      assert.strictEqual((yield* messages).status, 200)
      assert.deepStrictEqual(yield* leftRooms, [room])
      assert.strictEqual((yield* forget).status, 200)
      assert.strictEqual((yield* messages).body.errcode, "M_FORBIDDEN")
      assert.deepStrictEqual(yield* leftRooms, [])
      yield* joinRoom(bob, room)
      assert.strictEqual((yield* messages).status, 200)
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      assert.strictEqual((yield* messages).status, 200, "left again, and not forgotten since")
    })
  )

  it.effect("timestamp_to_event has the nearest event in both directions", () =>
    Effect.gen(function* () {
      const alice = yield* register("moment-alice")
      const room = yield* createRoom(alice)
      const read = (id: string) =>
        Effect.map(as(alice)("GET", `/v3/rooms/${inPath(room)}/event/${inPath(id)}`), ({ body }) =>
          Number(body.origin_server_ts)
        )
      const at = (ts: number, dir: string) =>
        Effect.map(
          as(alice)("GET", `/v1/rooms/${inPath(room)}/timestamp_to_event?ts=${ts}&dir=${dir}`),
          ({ body }) => body
        )
      const first = yield* sendText(alice, room, "first")
      const firstTime = yield* read(first)
      yield* Effect.repeat(Clock.currentTimeMillis, { until: (now) => now > firstTime })
      const second = yield* sendText(alice, room, "second")
      const secondTime = yield* read(second)
      assert.strictEqual((yield* at(secondTime + 1_000, "b")).event_id, second)
      assert.strictEqual((yield* at(firstTime + 1, "f")).event_id, second)
      assert.strictEqual((yield* at(secondTime - 1, "b")).event_id, first)
      assert.strictEqual((yield* at(secondTime + 1_000, "f")).errcode, "M_NOT_FOUND")
      const created = yield* at(0, "f")
      assert.isString(created.event_id)
    })
  )

  it.effect("users report events that they may see, rooms and users", () =>
    Effect.gen(function* () {
      const alice = yield* register("report-alice")
      const eve = yield* register("report-eve")
      const room = yield* createRoom(alice, { visibility: "private" })
      const event = yield* sendText(alice, room, "spam")
      const path = `/v3/rooms/${inPath(room)}/report/${inPath(event)}`
      assert.strictEqual((yield* as(eve)("POST", path, { reason: "x" })).body.errcode, "M_NOT_FOUND")
      assert.strictEqual((yield* as(alice)("POST", path, { reason: "spam", score: -100 })).status, 200)
      assert.strictEqual((yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/report`, {})).status, 200)
      assert.strictEqual(
        (yield* as(alice)("POST", `/v3/users/${inPath(eve.id)}/report`, { reason: "Eve" })).status,
        200
      )
      const unknown = yield* as(alice)("POST", `/v3/rooms/${inPath("!unknown:green.test")}/report`, { reason: "x" })
      assert.strictEqual(unknown.status, 200, "the answer does not tell whether there is a room")
      const long = yield* as(alice)("POST", path, { reason: "x".repeat(3_000) })
      assert.strictEqual(long.body.errcode, "M_INVALID_PARAM")
      const reports = yield* ReportStore.use((store) => store.list(10))
      assert.deepStrictEqual(
        reports.map(({ eventId, userId }) => eventId ?? userId),
        [eve.id, undefined, event]
      )
      yield* putState(alice, room, "m.room.history_visibility", { history_visibility: "world_readable" })
      const open = yield* sendText(alice, room, "for the world")
      const preview = `/v3/rooms/${inPath(room)}/report/${inPath(open)}`
      assert.strictEqual((yield* as(eve)("POST", preview, { reason: "x" })).body.errcode, "M_NOT_FOUND")
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      assert.strictEqual((yield* as(alice)("POST", path, { reason: "late" })).body.errcode, "M_NOT_FOUND")
    })
  )

  it.effect("a user makes 200 reports a day", () =>
    Effect.gen(function* () {
      const alice = yield* register("many-reports")
      const sql = yield* SqlClient.SqlClient
      yield* sql`
        INSERT INTO reports (reporter, reason, created_at)
        SELECT ${alice.id}, '""', ${yield* Clock.currentTimeMillis} FROM generate_series(1, 199)`
      const report = as(alice)("POST", `/v3/users/${inPath(alice.id)}/report`, { reason: "x" })
      assert.strictEqual((yield* report).status, 200)
      assert.strictEqual((yield* report).body.errcode, "M_LIMIT_EXCEEDED")
    })
  )
})
