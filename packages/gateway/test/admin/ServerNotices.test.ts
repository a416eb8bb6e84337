import { assert, layer } from "@effect/vitest"
import { Administration } from "@greenroom/actors/account/Administration"
import { Effect } from "effect"
import {
  as,
  type ClientEvent,
  gateway,
  gatewayWith,
  inPath,
  joinRoom,
  messageBodies,
  putState,
  register,
  sendEvent,
  type TestUser
} from "../TestGateway.ts"
import { askAdmin, registerAdmin, repeatUntil } from "./TestAdmin.ts"

interface Rooms {
  readonly [roomId: string]: {
    readonly timeline: { readonly events: ReadonlyArray<ClientEvent> }
    readonly account_data: { readonly events: ReadonlyArray<{ readonly type: string; readonly content: unknown }> }
  }
}

const sync = (user: TestUser) =>
  Effect.map(
    as(user)("GET", "/v3/sync"),
    ({ body }) => body.rooms as { readonly join?: Rooms; readonly invite?: { readonly [roomId: string]: unknown } }
  )

const text = (body: string) => ({ msgtype: "m.text", body })

const bodiesOf = (rooms: Rooms) => Object.values(rooms).flatMap(({ timeline }) => messageBodies(timeline.events))

layer(gatewayWith({}, { serverNotices: { localpart: "server", name: "From the server" } }), {
  excludeTestServices: true
})("server notices", (it) => {
  it.effect("arrive in one tagged room, whose invitation cannot be rejected, and which can be left", () =>
    Effect.gen(function* () {
      const admin = yield* registerAdmin("boss")
      const alice = yield* register("alice")
      const send = (content: object, path = "", method = "POST") =>
        askAdmin(admin, method, `/v1/send_server_notice${path}`, { user_id: alice.id, content })
      const first = yield* send(text("Down tonight"))
      assert.strictEqual(first.status, 200, first.text)
      assert.match(first.body.event_id, /^\$/)
      const repeated = [yield* send(text("Once"), "/t1", "PUT"), yield* send(text("Once"), "/t1", "PUT")]
      assert.strictEqual(repeated[0]?.body.event_id, repeated[1]?.body.event_id)

      const room = Object.keys((yield* sync(alice)).invite ?? {})[0]!
      const rejected = yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      assert.deepStrictEqual([rejected.status, rejected.body.errcode], [403, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM"])
      const byState = yield* putState(alice, room, "m.room.member", { membership: "leave" }, alice.id)
      assert.strictEqual(byState.body.errcode, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM")
      yield* joinRoom(alice, room)
      const { join = {} } = yield* sync(alice)
      assert.deepStrictEqual(bodiesOf(join), ["Down tonight", "Once"])
      const tags = (join[room]?.account_data.events ?? []).filter(({ type }) => type === "m.tag")
      assert.deepStrictEqual(tags, [{ type: "m.tag", content: { tags: { "m.server_notice": {} } } }])
      const reply = yield* sendEvent(alice, room, text("Why?"))
      assert.strictEqual(reply.body.errcode, "M_FORBIDDEN")
      const left = yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      assert.strictEqual(left.status, 200)
      yield* send(text("Again"))
      assert.deepStrictEqual(Object.keys((yield* sync(alice)).invite ?? {}), [room])
    })
  )

  it.effect("from the command line are sent once", () =>
    Effect.gen(function* () {
      const alice = yield* register("cli-alice")
      const { sendNotice } = yield* Administration
      yield* sendNotice("cli-alice", "From the command line")
      const synced = as(alice)("GET", "/v3/sync")
      yield* repeatUntil(synced, ({ text }) => text.includes("From the server"))
      const room = Object.keys((yield* sync(alice)).invite ?? {})[0]!
      yield* joinRoom(alice, room)
      yield* sendNotice("cli-alice", "Another")
      yield* repeatUntil(synced, ({ text }) => text.includes("Another"))
      assert.deepStrictEqual(bodiesOf((yield* sync(alice)).join ?? {}), ["From the command line", "Another"])
    })
  )
})

layer(gateway, { excludeTestServices: true })("a server without a sender of notices", (it) => {
  it.effect("refuses to send one", () =>
    Effect.gen(function* () {
      const admin = yield* registerAdmin("boss")
      const sent = yield* askAdmin(admin, "POST", "/v1/send_server_notice", { user_id: admin.id, content: text("?") })
      assert.deepStrictEqual([sent.status, sent.body.errcode], [400, "M_UNKNOWN"])
    })
  )
})
