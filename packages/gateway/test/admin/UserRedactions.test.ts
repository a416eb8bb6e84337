import { assert, layer } from "@effect/vitest"
import { AuditStore } from "@greenroom/store/AuditStore"
import { Effect } from "effect"
import { askToday, createRoom, gateway, inPath, register, type TestUser } from "../TestGateway.ts"
import { askAdmin, registerAdmin, until } from "./TestAdmin.ts"

const say = (user: TestUser, room: string, txn: string) =>
  Effect.map(
    askToday("PUT", `/v3/rooms/${inPath(room)}/send/m.room.message/${txn}`, {
      token: user.token,
      json: { msgtype: "m.text", body: txn }
    }),
    ({ body }) => body.event_id as string
  )

const join = (user: TestUser, room: string) =>
  askToday("POST", `/v3/join/${inPath(room)}`, { token: user.token, json: {} })

/** The messages that can still be read, and the redactions, by their sender. */
const read = Effect.fnUntraced(function* (user: TestUser, room: string) {
  const { body } = yield* askToday("GET", `/v3/rooms/${inPath(room)}/messages?dir=f&limit=100`, { token: user.token })
  const events = body.chunk as unknown as ReadonlyArray<{
    readonly type: string
    readonly sender: string
    readonly content: { readonly body?: string; readonly reason?: string }
  }>
  return {
    texts: events.flatMap(({ content, type }) => (type === "m.room.message" ? (content.body ?? []) : [])),
    redactions: events.flatMap(({ content, sender, type }) =>
      type === "m.room.redaction" ? [`${sender} ${content.reason}`] : []
    )
  }
})

const redact = Effect.fnUntraced(function* (admin: TestUser, user: string, json: object) {
  const { body, status } = yield* askAdmin(admin, "POST", `/v1/user/${user}/redact`, json)
  assert.strictEqual(status, 200, JSON.stringify(body))
  const ended = yield* until(
    askAdmin(admin, "GET", `/v1/user/redact_status/${body.redact_id}`),
    ({ body }) => body.status === "completed" || body.status === "failed"
  )
  return ended.body as unknown as { readonly status: string; readonly failed_redactions: Record<string, string> }
})

layer(gateway, { excludeTestServices: true })("redaction of what a user has sent", (it) => {
  it.effect("strips the messages of all rooms once, in the name of the user, and no others", () =>
    Effect.gen(function* () {
      const [boss, eve, bob] = [yield* registerAdmin("boss1"), yield* register("eve1"), yield* register("bob1")]
      const rooms = [
        yield* createRoom(eve, { preset: "public_chat" }),
        yield* createRoom(bob, { preset: "public_chat" })
      ]
      for (const room of rooms) {
        yield* join(eve, room)
        yield* join(bob, room)
        yield* say(bob, room, "kept")
        for (let number = 0; number < 20; number++) yield* say(eve, room, `spam${number}`)
      }
      const asked = { rooms: [], reason: "spam" }
      assert.deepStrictEqual(yield* redact(boss, eve.id, asked), { status: "completed", failed_redactions: {} })
      const after = yield* Effect.forEach(rooms, (room) => read(bob, room))
      for (const { redactions, texts } of after) {
        assert.deepStrictEqual(texts, ["kept"])
        // The messages, and the profile in the join.
        assert.lengthOf(redactions, 21)
        assert.deepStrictEqual([...new Set(redactions)], [`${eve.id} spam`])
      }
      assert.deepStrictEqual(yield* redact(boss, eve.id, asked), { status: "completed", failed_redactions: {} })
      assert.deepStrictEqual(yield* Effect.forEach(rooms, (room) => read(bob, room)), after)
      const [entry] = yield* AuditStore.use(({ list }) => list({ limit: 1, target: eve.id }))
      assert.deepInclude(entry, { actor: boss.id, action: "user.redact", reason: "spam" })
    })
  )

  it.effect("takes the newest events of the chosen rooms, within the times that are given", () =>
    Effect.gen(function* () {
      const [boss, eve] = [yield* registerAdmin("boss2"), yield* register("eve2")]
      const [room, other] = [yield* createRoom(eve), yield* createRoom(eve)]
      yield* say(eve, other, "elsewhere")
      const ids = [yield* say(eve, room, "one"), yield* say(eve, room, "two"), yield* say(eve, room, "three")]
      yield* redact(boss, eve.id, { rooms: [room], limit: 1 })
      assert.deepStrictEqual((yield* read(eve, room)).texts, ["one", "two"])
      const { body } = yield* askToday("GET", `/v3/rooms/${inPath(room)}/event/${inPath(ids[0]!)}`, {
        token: eve.token
      })
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

  it.effect("names the events that a user who left cannot redact; the administrator of the room can", () =>
    Effect.gen(function* () {
      const [boss, eve] = [yield* registerAdmin("boss3"), yield* register("eve3")]
      const room = yield* createRoom(boss, { preset: "public_chat" })
      yield* join(eve, room)
      const id = yield* say(eve, room, "gone")
      yield* askToday("POST", `/v3/rooms/${inPath(room)}/leave`, { token: eve.token, json: {} })
      const { failed_redactions } = yield* redact(boss, eve.id, { rooms: [] })
      assert.strictEqual(failed_redactions[id], "The sender must be in the room")
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
      yield* say(eve, room, "stays")
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
