import { assert, describe, it, layer } from "@effect/vitest"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { RoomId } from "@greenroom/protocol/Identifiers"
import { closeCodes } from "@greenroom/protocol/SocketFrame"
import type { SocketCall } from "@greenroom/protocol/SocketMethod"
import { Effect, Fiber } from "effect"
import { forGuests, groupsWhileSuspended, redactions, whileSuspended } from "../../src/client-api/AccountRules.ts"
import { registerAdmin } from "../admin/TestAdmin.ts"
import { connect } from "../socket/TestSocket.ts"
import {
  as,
  ask,
  askToday,
  createRoom,
  gateway,
  inPath,
  joinRoom,
  logIn,
  register,
  sendEvent,
  type TestUser
} from "../TestGateway.ts"

const put = (what: "lock" | "suspend", of: string, value: boolean, by: TestUser) =>
  askToday("PUT", `/v1/admin/${what}/${inPath(of)}`, {
    token: by.token,
    json: { [what === "lock" ? "locked" : "suspended"]: value }
  })

layer(gateway, { excludeTestServices: true })("the administration of accounts", (it) => {
  it.effect("a lock or suspension ends the waiting requests of the user", () =>
    Effect.gen(function* () {
      const admin = yield* registerAdmin("boss0")
      const user = yield* register("wally")
      const since = (yield* as(user)("GET", "/v3/sync")).body.next_batch
      const wait = as(user)("GET", `/v3/sync?since=${since}&timeout=300000`)
      // The suspension is repeated, because the request may arrive after one.
      const suspend = Effect.andThen(put("suspend", user.id, false, admin), put("suspend", user.id, true, admin))
      assert.strictEqual((yield* Effect.raceFirst(wait, Effect.forever(suspend))).status, 200)
      const other = yield* register("will")
      const begin = (yield* as(other)("GET", "/v3/sync")).body.next_batch
      const locked = yield* Effect.forkChild(as(other)("GET", `/v3/sync?since=${begin}&timeout=300000`))
      yield* put("lock", other.id, true, admin)
      assert.strictEqual((yield* Fiber.join(locked)).body.errcode, "M_USER_LOCKED")
    })
  )

  it.effect("a locked account can only log out, and uses its session again once it is unlocked", () =>
    Effect.gen(function* () {
      const admin = yield* registerAdmin("boss1")
      const user = yield* register("lois")
      const whoami = () => as(user)("GET", "/v3/account/whoami")
      const locked = yield* put("lock", user.id, true, admin)
      assert.deepStrictEqual(locked.body, { locked: true } as never)
      const refused = yield* whoami()
      assert.strictEqual(refused.status, 401)
      assert.deepInclude(refused.body, { errcode: "M_USER_LOCKED", soft_logout: true })
      const ofOpen = yield* as(user)("GET", `/v3/profile/${inPath(user.id)}`)
      assert.strictEqual(ofOpen.body.errcode, "M_USER_LOCKED", "also where no access token is needed")
      const login = yield* logIn("lois")
      assert.strictEqual(login.body.errcode, "M_USER_LOCKED")
      const asked = yield* as(admin)("GET", `/v1/admin/lock/${inPath(user.id)}`)
      assert.strictEqual(asked.body.locked, true)
      yield* put("lock", user.id, false, admin)
      assert.strictEqual((yield* whoami()).status, 200)
      yield* put("lock", user.id, true, admin)
      const out = yield* as(user)("POST", "/v3/logout", {})
      assert.strictEqual(out.status, 200)
    })
  )

  it.effect("a locked account gets no new tokens by its refresh token, which is valid again once it is unlocked", () =>
    Effect.gen(function* () {
      const admin = yield* registerAdmin("boss8")
      const registered = yield* askToday("POST", "/v3/register", {
        json: { username: "liam", password: "secret", refresh_token: true, auth: { type: "m.login.dummy" } }
      })
      const { refresh_token, user_id } = registered.body
      const refresh = askToday("POST", "/v3/refresh", { json: { refresh_token } })
      yield* put("lock", user_id, true, admin)
      assert.strictEqual((yield* refresh).body.errcode, "M_USER_LOCKED")
      yield* put("lock", user_id, false, admin)
      assert.strictEqual((yield* refresh).status, 200)
    })
  )

  it.effect("a suspended account can read, leave and redact its own events, and do nothing else in rooms", () =>
    Effect.gen(function* () {
      const admin = yield* registerAdmin("boss2")
      const user = yield* register("sue")
      const other = yield* register("olga")
      const room = yield* createRoom(user, { preset: "public_chat", visibility: "public" })
      yield* joinRoom(other, room)
      const own = yield* sendEvent(user, room, { msgtype: "m.text", body: "own" })
      const foreign = yield* sendEvent(other, room, { msgtype: "m.text", body: "foreign" })
      const suspension = (of: TestUser, by: TestUser) => as(by)("GET", `/v1/admin/suspend/${inPath(of.id)}`)
      assert.strictEqual((yield* suspension(user, admin)).body.suspended, false)
      yield* put("suspend", user.id, true, admin)
      assert.strictEqual((yield* suspension(user, admin)).body.suspended, true)
      assert.strictEqual((yield* suspension(other, admin)).body.suspended, false)
      assert.strictEqual((yield* suspension(user, other)).body.errcode, "M_FORBIDDEN")
      const refused = [
        yield* sendEvent(user, room, { msgtype: "m.text", body: "more" }),
        yield* as(user)("POST", "/v3/createRoom", {}),
        yield* as(user)("PUT", `/v3/profile/${inPath(user.id)}/displayname`, { displayname: "Sue" }),
        yield* as(user)("PUT", `/v3/rooms/${inPath(room)}/redact/${inPath(foreign.body.event_id)}/1`, {}),
        yield* as(user)("POST", `/v3/rooms/${inPath(room)}/send/m.room.message`, {
          msgtype: "m.text",
          body: "without a transaction ID"
        }),
        yield* as(user)("POST", `/v3/rooms/${inPath(room)}/redact/${inPath(foreign.body.event_id)}`, {}),
        yield* ask("POST", "//matrix/content", { token: user.token, body: "a file" }),
        yield* ask("POST", `/presence/list/${inPath(user.id)}`, { token: user.token, json: { invite: [other.id] } })
      ]
      for (const { body, status } of refused) {
        assert.deepStrictEqual([status, body.errcode], [403, "M_USER_SUSPENDED"])
      }
      const allowed = [
        yield* as(user)("GET", "/v3/sync"),
        yield* as(user)("PUT", `/v3/rooms/${inPath(room)}/redact/${inPath(own.body.event_id)}/2`, {}),
        yield* as(user)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      ]
      for (const { status } of allowed) assert.strictEqual(status, 200)
      yield* put("suspend", user.id, false, admin)
      const free = yield* as(user)("POST", "/v3/createRoom", {})
      assert.strictEqual(free.status, 200)
    })
  )

  it.effect("a suspended account reads and leaves by WebSocket, and does nothing else; a lock closes its sockets", () =>
    Effect.gen(function* () {
      const admin = yield* registerAdmin("boss7")
      const user = yield* register("sid")
      const room_id = RoomId.make(yield* createRoom(user, { preset: "public_chat" }))
      const socket = yield* connect(user, "m.json")
      yield* put("suspend", user.id, true, admin)
      const errorOf = (call: SocketCall) =>
        Effect.map(Effect.andThen(socket.ask(1, call), socket.answer), (answer) =>
          "error" in answer ? answer.error.errcode : undefined
        )
      const content = { msgtype: "m.text", body: "more" }
      const changes: ReadonlyArray<SocketCall> = [
        { method: "send", params: { room_id, type: "m.room.message", content } },
        { method: "state", params: { room_id, type: "m.room.topic", content: { topic: "Mine" } } },
        { method: "presence", params: { state: "unavailable" } },
        { method: "presence", params: { presence: "unavailable" } },
        { method: "profile", params: { field: "displayname", value: "Sid" } },
        { method: "createRoom", params: {} }
      ]
      for (const call of changes) assert.strictEqual(yield* errorOf(call), "M_USER_SUSPENDED", JSON.stringify(call))
      const reads: ReadonlyArray<SocketCall> = [
        { method: "messages", params: { room_id } },
        { method: "initialSync", params: {} },
        { method: "members", params: { room_id } },
        { method: "state", params: { room_id, type: "m.room.create" } },
        { method: "presence", params: {} },
        { method: "profile", params: {} },
        { method: "ping", params: {} },
        { method: "leave", params: { room_id } }
      ]
      for (const call of reads) assert.isUndefined(yield* errorOf(call), JSON.stringify(call))
      const closed = yield* Effect.forkChild(socket.closed, { startImmediately: true })
      yield* put("lock", user.id, true, admin)
      assert.strictEqual((yield* Fiber.join(closed)).code, closeCodes.unknownToken)
      const refused = yield* Effect.flip(connect(user, "m.json"))
      assert.deepStrictEqual([refused.status, refused.body.errcode], [401, "M_USER_LOCKED"])
    }).pipe(Effect.scoped)
  )

  it.effect("administrators alone lock and suspend accounts, and no accounts of administrators", () =>
    Effect.gen(function* () {
      const admin = yield* registerAdmin("boss3")
      const second = yield* registerAdmin("boss4")
      const user = yield* register("uma")
      const outcomes = [
        yield* put("lock", "@nobody:green.test", true, user),
        yield* put("lock", admin.id, true, user),
        yield* put("suspend", second.id, true, admin),
        yield* put("lock", admin.id, true, admin),
        yield* put("lock", "@alice:elsewhere.test", true, admin),
        yield* put("lock", "@nobody:green.test", true, admin),
        yield* as(user)("GET", `/v3/admin/whois/${inPath(admin.id)}`)
      ]
      assert.deepStrictEqual(
        outcomes.map(({ body }) => body.errcode),
        ["M_FORBIDDEN", "M_FORBIDDEN", "M_FORBIDDEN", "M_FORBIDDEN", "M_INVALID_PARAM", "M_NOT_FOUND", "M_FORBIDDEN"]
      )
      const capabilities = (token: string) =>
        Effect.map(
          askToday("GET", "/v3/capabilities", { token }),
          ({ body }) => (body.capabilities as { readonly [name: string]: unknown })["m.account_moderation"]
        )
      assert.deepStrictEqual(yield* capabilities(admin.token), { suspend: true, lock: true })
      assert.isUndefined(yield* capabilities(user.token))
    })
  )

  it.effect("the delayed events of a suspended or locked account are not sent", () =>
    Effect.gen(function* () {
      const admin = yield* registerAdmin("boss6")
      for (const how of ["suspend", "lock"] as const) {
        const user = yield* register(`later-${how}`)
        const room = yield* createRoom(user, { preset: "public_chat" })
        const path = `/v3/rooms/${inPath(room)}/delayed_event/m.room.message/1`
        const json = { delay_ms: 600_000, content: { msgtype: "m.text", body: "later" } }
        const { body } = yield* askToday("PUT", path, { token: user.token, json })
        yield* put(how, user.id, true, admin)
        const sent = yield* askToday("POST", `/v1/delayed_events/${body.delay_id}/send`)
        assert.strictEqual(sent.status, 409)
      }
    })
  )

  it.effect("whois has the sessions of a user, for the user and for administrators", () =>
    Effect.gen(function* () {
      const admin = yield* registerAdmin("boss5")
      const user = yield* register("wim")
      const own = yield* as(user)("GET", `/v3/admin/whois/${inPath(user.id)}`)
      const seen = yield* as(admin)("GET", `/v3/admin/whois/${inPath(user.id)}`)
      assert.strictEqual(own.body.user_id, user.id)
      assert.deepStrictEqual(seen.body, own.body)
      const devices = Object.values(own.body.devices as { readonly [id: string]: object })
      assert.lengthOf(devices, 1)
      assert.hasAllKeys(devices[0], ["sessions"])
    })
  )
})

describe("the endpoints in the account rules", () => {
  it("exist in the API", () => {
    const groups = [ClientApi, ClientServerApi].flatMap((api) => Object.values(api.groups))
    const names = groups.flatMap((group) => Object.keys(group.endpoints).map((name) => `${group.identifier}.${name}`))
    for (const name of [...whileSuspended, ...redactions, ...forGuests]) assert.include(names, name)
    for (const name of groupsWhileSuspended)
      assert.include(groups.map(({ identifier }) => identifier) as unknown[], name)
  })
})
