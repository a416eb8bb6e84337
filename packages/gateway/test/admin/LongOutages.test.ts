/**
 * The disk of the database fills up during background work of every kind, then the database does not answer for a while. All
 * work is finished afterwards, and nothing is done twice.
 */
import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { NoticeStore } from "@greenroom/store/NoticeStore"
import { Effect, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { as, createRoom, inPath, joinRoom, register, sendText } from "../TestGateway.ts"
import { cuttableGateway, DatabaseLink } from "./CuttableGateway.ts"
import { askAdmin, registerAdmin, repeatUntil } from "./TestAdmin.ts"

const numbers = Array.from({ length: 8 }, (_, number) => number)
const messages = 40

/** How many events PostgreSQL still takes, and how many it refuses before the outage. */
const accepted = 30
const refused = 30

/** Makes PostgreSQL refuse events after some more, and every removal of state. */
const fillUp = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE SEQUENCE inserts`
  yield* sql.unsafe(`
    CREATE FUNCTION refuse_inserts() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF nextval('inserts') > ${accepted} THEN RAISE 'no space' USING ERRCODE = '53100'; END IF;
      RETURN NEW;
    END $$`)
  yield* sql.unsafe(`
    CREATE FUNCTION refuse_deletes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      RAISE 'no space' USING ERRCODE = '53100';
    END $$`)
  yield* sql`CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse_inserts()`
  yield* sql`CREATE TRIGGER refuse BEFORE DELETE ON state_deltas FOR EACH ROW EXECUTE FUNCTION refuse_deletes()`
})

const freeSpace = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  for (const table of ["events", "state_deltas"]) yield* sql`DROP TRIGGER IF EXISTS refuse ON ${sql(table)}`
})

/** The bodies of all messages in the database that begin with `word`, in order. */
const textsOf = (word: string) =>
  SqlClient.SqlClient.use((sql) =>
    Effect.map(
      sql<{ text: string }>`
        SELECT body::jsonb #>> '{content,body}' AS text FROM events
        WHERE body::jsonb #>> '{content,body}' LIKE ${`${word}%`} ORDER BY text`,
      (rows) => rows.map(({ text }) => text)
    )
  )

layer(cuttableGateway({ serverNotices: { localpart: "server", name: "Server" } }), {
  excludeTestServices: true
})("an outage during background work", (it) => {
  it.effect(
    "delays redactions, room removals, delayed events and server notices, and loses none of them",
    () =>
      Effect.gen(function* () {
        const link = yield* DatabaseLink
        const sql = yield* SqlClient.SqlClient
        const [boss, eve] = [yield* registerAdmin("boss"), yield* register("eve")]
        const users = yield* Effect.forEach(numbers, (number) => register(`user${number}`))
        const [spamRoom, delayedRoom, closedRoom] = [
          yield* createRoom(eve),
          yield* createRoom(eve),
          yield* createRoom(eve)
        ]
        const purgedRoom = yield* createRoom(boss)
        for (let number = 0; number < messages; number++) yield* sendText(eve, spamRoom, `spam ${number}`)
        for (const user of users) yield* joinRoom(user, closedRoom)
        yield* fillUp

        const redaction = yield* askAdmin(boss, "POST", `/v1/user/${eve.id}/redact`, { rooms: [spamRoom] })
        const removeRoom = (room: string, more: object) =>
          Effect.map(
            askAdmin(boss, "DELETE", `/v2/rooms/${inPath(room)}`, { block: true, purge: true, ...more }),
            ({ body }) => askAdmin(boss, "GET", `/v2/rooms/delete_status/${body.delete_id}`)
          )
        const moveStatus = yield* removeRoom(closedRoom, { new_room_user_id: boss.id, message: "moved" })
        const removalStatus = yield* removeRoom(purgedRoom, {})
        for (const number of numbers) {
          const path = `/unstable/org.matrix.msc4140/rooms/${inPath(delayedRoom)}/delayed_event/m.room.message/${number}`
          const { status } = yield* as(eve)("PUT", path, {
            delay_ms: 1,
            content: { msgtype: "m.text", body: `later ${number}` }
          })
          assert.strictEqual(status, 200)
        }
        yield* NoticeStore.use(({ add }) =>
          Effect.forEach(users, ({ id }, number) => add(id as UserId, { msgtype: "m.text", body: `notice ${number}` }))
        )

        yield* Effect.repeat(sql<{ last_value: bigint }>`SELECT last_value FROM inserts`, {
          until: ([row]) => Number(row!.last_value) > accepted + refused,
          schedule: Schedule.spaced("50 millis")
        })
        yield* link.silence
        yield* Effect.repeat(Effect.sync(link.held), {
          until: (held) => held >= 3,
          schedule: Schedule.spaced("50 millis")
        })
        yield* link.mend
        yield* Effect.retry(freeSpace, Schedule.spaced("200 millis"))

        const isFinished = (status: unknown) => ["complete", "completed", "failed"].includes(status as string)
        const redacted = yield* repeatUntil(
          askAdmin(boss, "GET", `/v1/user/redact_status/${redaction.body.redact_id}`),
          ({ body }) => isFinished(body.status)
        )
        assert.deepStrictEqual(redacted.body as object, { status: "completed", failed_redactions: {} })
        const redactions = yield* sql<{ redacts: string }>`
        SELECT body::jsonb ->> 'redacts' AS redacts FROM events WHERE body::jsonb ->> 'type' = 'm.room.redaction'`
        // One redaction for each message, and one for the join, which has a profile.
        assert.lengthOf(redactions, messages + 1)
        assert.strictEqual(new Set(redactions.map(({ redacts }) => redacts)).size, messages + 1)

        const shutDown = yield* repeatUntil(moveStatus, ({ body }) => isFinished(body.status))
        const { failed_to_kick_users, kicked_users, new_room_id } = shutDown.body.shutdown_room as {
          readonly [list: string]: ReadonlyArray<string>
        }
        assert.strictEqual(shutDown.body.status, "complete", shutDown.text)
        assert.sameMembers([...kicked_users!], [eve.id, ...users.map(({ id }) => id)])
        assert.isEmpty(failed_to_kick_users)
        for (const user of users) {
          assert.deepStrictEqual((yield* as(user)("GET", "/v3/joined_rooms")).body.joined_rooms as unknown, [
            new_room_id
          ])
        }
        assert.deepStrictEqual(yield* textsOf("moved"), ["moved"])

        assert.strictEqual(
          (yield* repeatUntil(removalStatus, ({ body }) => isFinished(body.status))).body.status,
          "complete"
        )
        assert.isEmpty(yield* sql`SELECT 1 FROM rooms WHERE room_id IN (${closedRoom}, ${purgedRoom})`)

        yield* Effect.repeat(sql`SELECT 1 FROM delayed_events WHERE finalised_at IS NULL`, {
          until: (rows) => rows.length === 0,
          schedule: Schedule.spaced("50 millis")
        })
        assert.deepStrictEqual(
          yield* textsOf("later"),
          numbers.map((number) => `later ${number}`)
        )

        yield* Effect.repeat(
          NoticeStore.use(({ waiting }) => waiting(1)),
          { until: (waiting) => waiting.length === 0, schedule: Schedule.spaced("50 millis") }
        )
        assert.deepStrictEqual(
          yield* textsOf("notice"),
          numbers.map((number) => `notice ${number}`)
        )
        const noticeRooms = yield* sql`
        SELECT 1 FROM memberships WHERE user_id = '@server:green.test' AND membership = 'join'`
        assert.lengthOf(noticeRooms, users.length)
      }),
    { timeout: 120_000 }
  )
})
