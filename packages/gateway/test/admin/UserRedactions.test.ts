import { assert, layer } from "@effect/vitest"
import { AuditStore } from "@greenroom/store/AuditStore"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import {
  as,
  createRoom,
  gateway,
  inPath,
  joinRoom,
  messageBodies,
  register,
  sendText,
  type TestUser
} from "../TestGateway.ts"
import { askAdmin, registerAdmin, repeatUntil } from "./TestAdmin.ts"

/** The bodies of the messages that are not redacted, and the redactions with their senders and reasons. */
const read = Effect.fnUntraced(function* (user: TestUser, room: string) {
  const { body } = yield* as(user)("GET", `/v3/rooms/${inPath(room)}/messages?dir=f&limit=100`)
  return {
    texts: messageBodies(body.chunk).filter((text) => text !== undefined),
    redactions: body.chunk.flatMap(({ content, sender, type }) =>
      type === "m.room.redaction" ? [`${sender} ${content.reason}`] : []
    )
  }
})

const redact = Effect.fnUntraced(function* (admin: TestUser, user: string, json: object) {
  const { body, status } = yield* askAdmin(admin, "POST", `/v1/user/${user}/redact`, json)
  assert.strictEqual(status, 200, JSON.stringify(body))
  const ended = yield* repeatUntil(
    askAdmin(admin, "GET", `/v1/user/redact_status/${body.redact_id}`),
    ({ body }) => body.status === "completed" || body.status === "failed"
  )
  return ended.body as unknown as { readonly status: string; readonly failed_redactions: Record<string, string> }
})

layer(gateway, { excludeTestServices: true })("the redaction of a user's events", (it) => {
  it.effect("redacts each message of the user in all rooms once, in the name of the user", () =>
    Effect.gen(function* () {
      const [boss, eve, bob] = [yield* registerAdmin("boss1"), yield* register("eve1"), yield* register("bob1")]
      const rooms = [
        yield* createRoom(eve, { preset: "public_chat" }),
        yield* createRoom(bob, { preset: "public_chat" })
      ]
      for (const room of rooms) {
        yield* joinRoom(eve, room)
        yield* joinRoom(bob, room)
        yield* sendText(bob, room, "kept")
        for (let number = 0; number < 20; number++) yield* sendText(eve, room, `spam${number}`)
      }
      const options = { rooms: [], reason: "spam" }
      assert.deepStrictEqual(yield* redact(boss, eve.id, options), { status: "completed", failed_redactions: {} })
      const after = yield* Effect.forEach(rooms, (room) => read(bob, room))
      for (const { redactions, texts } of after) {
        assert.deepStrictEqual(texts, ["kept"])
        // One redaction for each message, and one for the join, which has a profile.
        assert.lengthOf(redactions, 21)
        assert.deepStrictEqual([...new Set(redactions)], [`${eve.id} spam`])
      }
      assert.deepStrictEqual(yield* redact(boss, eve.id, options), { status: "completed", failed_redactions: {} })
      assert.deepStrictEqual(yield* Effect.forEach(rooms, (room) => read(bob, room)), after)
      const [entry] = yield* AuditStore.use(({ list }) => list({ limit: 1, target: eve.id }))
      assert.deepInclude(entry, { actor: boss.id, action: "user.redact", reason: "spam" })
    })
  )

  it.effect("names an event whose stored form cannot be read, and redacts the others", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const [boss, eve] = [yield* registerAdmin("boss-damaged"), yield* register("eve-damaged")]
      const room = yield* createRoom(eve)
      yield* sendText(eve, room, "before")
      const damaged = yield* sendText(eve, room, "damaged")
      yield* sendText(eve, room, "after")
      const [stored] = yield* sql<{ body: string }>`SELECT body FROM events WHERE event_id = ${damaged}`
      yield* sql`UPDATE events SET body = left(body, 20) WHERE event_id = ${damaged}`
      assert.deepStrictEqual(yield* redact(boss, eve.id, { rooms: [room] }), {
        status: "completed",
        failed_redactions: { [damaged]: "Internal error" }
      })
      yield* sql`UPDATE events SET body = ${stored!.body} WHERE event_id = ${damaged}`
      assert.deepStrictEqual((yield* read(eve, room)).texts, ["damaged"])
    })
  )

  it.effect("is limited to rooms, to the newest events and to a time span by its parameters", () =>
    Effect.gen(function* () {
      const [boss, eve] = [yield* registerAdmin("boss2"), yield* register("eve2")]
      const [room, other] = [yield* createRoom(eve), yield* createRoom(eve)]
      yield* sendText(eve, other, "elsewhere")
      const ids = [
        yield* sendText(eve, room, "one"),
        yield* sendText(eve, room, "two"),
        yield* sendText(eve, room, "three")
      ]
      yield* redact(boss, eve.id, { rooms: [room], limit: 1 })
      assert.deepStrictEqual((yield* read(eve, room)).texts, ["one", "two"])
      const { body } = yield* as(eve)("GET", `/v3/rooms/${inPath(room)}/event/${inPath(ids[0]!)}`)
      const time = body.origin_server_ts as number
      yield* redact(boss, eve.id, { rooms: [room], before_ts: time - 1 })
      assert.deepStrictEqual((yield* read(eve, room)).texts, ["one", "two"])
      yield* redact(boss, eve.id, { rooms: [room], after_ts: time + 3_600_000 })
      assert.deepStrictEqual((yield* read(eve, room)).texts, ["one", "two"])
      yield* redact(boss, eve.id, { rooms: [room], before_ts: time, after_ts: time })
      assert.notInclude((yield* read(eve, room)).texts, "one")
      assert.deepStrictEqual((yield* read(eve, other)).texts, ["elsewhere"])
    })
  )

  it.effect(
    "reports events that a user who left cannot redact, and redacts them in the name of a room administrator",
    () =>
      Effect.gen(function* () {
        const [boss, eve] = [yield* registerAdmin("boss3"), yield* register("eve3")]
        const room = yield* createRoom(boss, { preset: "public_chat" })
        yield* joinRoom(eve, room)
        const id = yield* sendText(eve, room, "gone")
        yield* as(eve)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
        const { failed_redactions } = yield* redact(boss, eve.id, { rooms: [] })
        assert.strictEqual(failed_redactions[id], "The sender must be in the room")
        const [failed] = yield* AuditStore.use(({ list }) => list({ limit: 1, target: eve.id }))
        assert.deepInclude(failed, { actor: boss.id, action: "user.redact.failed" })
        assert.match(failed!.reason!, /^2 events could not be redacted, the first one because: The sender must be/)
        assert.deepStrictEqual((yield* read(boss, room)).texts, ["gone"])
        const asAdmin = yield* redact(boss, eve.id, { rooms: [], use_admin: true })
        assert.deepStrictEqual(asAdmin, { status: "completed", failed_redactions: {} })
        assert.deepStrictEqual((yield* read(boss, room)).texts, [])
        const remote = yield* redact(boss, "@mallory:elsewhere.test", { rooms: [room] })
        assert.deepStrictEqual(remote, { status: "completed", failed_redactions: {} })
      })
  )

  it.effect("refuses unknown users, rooms and redactions, and requests without rooms", () =>
    Effect.gen(function* () {
      const [boss, eve] = [yield* registerAdmin("boss4"), yield* register("eve4")]
      const room = yield* createRoom(eve)
      yield* sendText(eve, room, "stays")
      const refusals = [
        [yield* askAdmin(boss, "POST", "/v1/user/@nobody:green.test/redact", { rooms: [] }), 404, "M_NOT_FOUND"],
        [
          yield* askAdmin(boss, "POST", `/v1/user/${eve.id}/redact`, { rooms: [room, "!none:green.test"] }),
          404,
          "M_NOT_FOUND"
        ],
        [yield* askAdmin(boss, "POST", `/v1/user/${eve.id}/redact`, {}), 400, "M_MISSING_PARAM"],
        [yield* askAdmin(boss, "POST", `/v1/user/${eve.id}/redact`, { rooms: [], limit: 0 }), 400, "M_BAD_JSON"],
        [yield* askAdmin(boss, "GET", "/v1/user/redact_status/none"), 404, "M_NOT_FOUND"]
      ] as const
      for (const [{ body, status }, wanted, code] of refusals) {
        assert.deepStrictEqual([status, body.errcode], [wanted, code])
      }
      assert.deepStrictEqual((yield* read(eve, room)).texts, ["stays"])
    })
  )
})
