/**
 * Background work while the database refuses writes, or cannot be reached, waits and finishes afterwards. It gives up only what a
 * room refuses, or what fails because of its own data.
 */
import { assert, layer } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { as, createRoom, inPath, joinRoom, messageBodies, register, sendText, type TestUser } from "../TestGateway.ts"
import { cuttableGateway, DatabaseLink } from "./CuttableGateway.ts"
import { askAdmin, registerAdmin, repeatUntil } from "./TestAdmin.ts"

/** The bodies of the messages of a room, the oldest first; undefined for those that are redacted. */
const messages = (user: TestUser, room: string) =>
  Effect.map(as(user)("GET", `/v3/rooms/${inPath(room)}/messages?dir=f&limit=100`), ({ body }) =>
    messageBodies(body.chunk)
  )

/** SQLSTATE of a full disk, which is temporary, and of invalid data, which is not. */
const [diskFull, badData] = ["53100", "22000"]

/** Makes PostgreSQL refuse the events of a room. */
const refuseEvents = Effect.fnUntraced(function* (room: string, code: string) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ room_nid: bigint }>`SELECT room_nid FROM rooms WHERE room_id = ${room}`
  const name = `refuse_${row!.room_nid}`
  yield* sql.unsafe(`CREATE SEQUENCE ${name}`)
  yield* sql.unsafe(`
    CREATE FUNCTION ${name}() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM nextval('${name}');
      RAISE 'refused by the test' USING ERRCODE = '${code}';
    END $$`)
  yield* sql.unsafe(`
    CREATE TRIGGER ${name} BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.room_nid = ${row!.room_nid})
    EXECUTE FUNCTION ${name}()`)
  return {
    /** Waits until an event was refused: a sequence is not rolled back with its transaction. */
    refused: Effect.repeat(sql<{ is_called: boolean }>`SELECT is_called FROM ${sql(name)}`, {
      until: ([state]) => state!.is_called,
      schedule: Schedule.spaced("20 millis")
    }),
    mend: sql.unsafe(`DROP TRIGGER IF EXISTS ${name} ON events`)
  }
})

const startRedaction = (admin: TestUser, user: TestUser) =>
  Effect.map(askAdmin(admin, "POST", `/v1/user/${user.id}/redact`, { rooms: [] }), ({ body, status }) => {
    assert.strictEqual(status, 200, JSON.stringify(body))
    return askAdmin(admin, "GET", `/v1/user/redact_status/${body.redact_id}`)
  })

const isFinished = ({ body }: { readonly body: { readonly [key: string]: unknown } }) =>
  body.status === "completed" || body.status === "complete" || body.status === "failed"

layer(cuttableGateway(), { excludeTestServices: true })("background work during an outage of the database", (it) => {
  it.effect("the redaction of a user waits in a room whose events cannot be stored, and continues in other rooms", () =>
    Effect.gen(function* () {
      const [boss, eve] = [yield* registerAdmin("boss1"), yield* register("eve1")]
      const [first, other] = [yield* createRoom(eve), yield* createRoom(eve)]
      for (const room of [first, other]) for (const text of ["one", "two"]) yield* sendText(eve, room, text)
      const { mend, refused } = yield* refuseEvents(first, diskFull)
      const status = yield* startRedaction(boss, eve)
      yield* refused
      yield* Effect.repeat(messages(eve, other), {
        until: (texts) => texts.every((text) => text === undefined),
        schedule: Schedule.spaced("20 millis")
      })
      assert.deepStrictEqual((yield* status).body as object, { status: "active", failed_redactions: {} })
      assert.deepStrictEqual(yield* messages(eve, first), ["one", "two"])
      const link = yield* DatabaseLink
      yield* link.cut
      yield* link.mend
      yield* Effect.retry(mend, Schedule.spaced("100 millis"))
      const { body } = yield* repeatUntil(status, isFinished)
      assert.deepStrictEqual(body as object, { status: "completed", failed_redactions: {} })
      assert.deepStrictEqual(yield* messages(eve, first), [undefined, undefined])
    })
  )

  it.effect("the redaction of a user names the events that cannot be redacted", () =>
    Effect.gen(function* () {
      const [boss, eve] = [yield* registerAdmin("boss2"), yield* register("eve2")]
      const room = yield* createRoom(eve)
      const eventId = yield* sendText(eve, room, "one")
      const { mend } = yield* refuseEvents(room, badData)
      const ended = yield* repeatUntil(yield* startRedaction(boss, eve), isFinished)
      yield* mend
      assert.strictEqual(ended.body.status, "completed")
      const failed = ended.body.failed_redactions as Record<string, string>
      assert.strictEqual(failed[eventId], "Internal error")
    })
  )

  it.effect("a delayed event waits until its room can store events; those of other rooms are sent", () =>
    Effect.gen(function* () {
      const alice = yield* register("alice3")
      const [first, other] = [yield* createRoom(alice), yield* createRoom(alice)]
      const { mend, refused } = yield* refuseEvents(first, diskFull)
      const schedule = (room: string) =>
        Effect.map(
          as(alice)("PUT", `/unstable/org.matrix.msc4140/rooms/${inPath(room)}/delayed_event/m.room.message/1`, {
            delay_ms: 1,
            content: { msgtype: "m.text", body: "later" }
          }),
          ({ body }) => as(alice)("GET", `/unstable/org.matrix.msc4140/delayed_events/${body.delay_id}`)
        )
      const status = yield* schedule(first)
      yield* refused
      const otherDelayed = yield* repeatUntil(yield* schedule(other), ({ body }) => body.finalised_ts !== undefined)
      assert.isString(otherDelayed.body.event_id)
      assert.isUndefined((yield* status).body.finalised_ts)
      yield* mend
      const ended = yield* repeatUntil(status, ({ body }) => body.finalised_ts !== undefined)
      assert.isString(ended.body.event_id, JSON.stringify(ended.body))
      assert.deepStrictEqual(yield* messages(alice, first), ["later"])

      const { mend: mendAgain } = yield* refuseEvents(other, badData)
      const invalid = yield* as(alice)(
        "PUT",
        `/unstable/org.matrix.msc4140/rooms/${inPath(other)}/delayed_event/m.room.message/2`,
        { delay_ms: 1, content: { msgtype: "m.text", body: "never" } }
      )
      const failed = yield* repeatUntil(
        as(alice)("GET", `/unstable/org.matrix.msc4140/delayed_events/${invalid.body.delay_id}`),
        ({ body }) => body.finalised_ts !== undefined
      )
      yield* mendAgain
      assert.deepStrictEqual(failed.body.error as unknown, { errcode: "M_UNKNOWN", error: "Internal error" })
    })
  )

  it.effect("the removal of a room waits until its users can leave, and moves all of them to the new room", () =>
    Effect.gen(function* () {
      const [boss, eve, bob] = [yield* registerAdmin("boss4"), yield* register("eve4"), yield* register("bob4")]
      const room = yield* createRoom(eve, { preset: "public_chat" })
      yield* joinRoom(bob, room)
      const { mend, refused } = yield* refuseEvents(room, diskFull)
      const { body } = yield* askAdmin(boss, "DELETE", `/v2/rooms/${inPath(room)}`, {
        block: true,
        purge: true,
        new_room_user_id: boss.id
      })
      const status = askAdmin(boss, "GET", `/v2/rooms/delete_status/${body.delete_id}`)
      yield* refused
      yield* repeatUntil(status, ({ body }) => body.status === "shutting_down")
      yield* mend
      const ended = yield* repeatUntil(status, isFinished)
      assert.strictEqual(ended.body.status, "complete", ended.text)
      const result = ended.body.shutdown_room as Record<string, ReadonlyArray<string>>
      assert.sameMembers([...result.kicked_users!], [eve.id, bob.id])
      assert.deepStrictEqual(result.failed_to_kick_users, [])
      for (const user of [eve, bob]) {
        const { body } = yield* as(user)("GET", "/v3/joined_rooms")
        assert.deepStrictEqual(body.joined_rooms as unknown, [result.new_room_id])
      }
    })
  )

  it.effect("a room that a user cannot leave is purged only if the removal is forced", () =>
    Effect.gen(function* () {
      const [boss, eve] = [yield* registerAdmin("boss5"), yield* register("eve5")]
      const room = yield* createRoom(eve)
      const { mend } = yield* refuseEvents(room, badData)
      const remove = Effect.fnUntraced(function* (options: object) {
        const json = { block: false, purge: true, ...options }
        const { body } = yield* askAdmin(boss, "DELETE", `/v2/rooms/${inPath(room)}`, json)
        const status = askAdmin(boss, "GET", `/v2/rooms/delete_status/${body.delete_id}`)
        return (yield* repeatUntil(status, isFinished)).body as { readonly [key: string]: unknown }
      })
      const shown = Effect.map(askAdmin(boss, "GET", `/v1/rooms/${inPath(room)}`), ({ status }) => status)
      const refused = yield* remove({})
      assert.strictEqual(refused.status, "failed")
      assert.deepInclude(refused.shutdown_room as object, { failed_to_kick_users: [eve.id] })
      assert.strictEqual(yield* shown, 200)
      assert.strictEqual((yield* remove({ force_purge: true })).status, "complete")
      assert.strictEqual(yield* shown, 404)
      yield* mend
    })
  )
})
