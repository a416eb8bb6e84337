import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { registerAdmin } from "../admin/TestAdmin.ts"
import { connect } from "../socket/TestSocket.ts"
import {
  as,
  askToday,
  createRoom,
  gatewayWith,
  inPath,
  joinRoom,
  register,
  sendEvent,
  sendText,
  type TestUser
} from "../TestGateway.ts"

const guest = Effect.map(
  askToday("POST", "/v3/register?kind=guest", { json: {} }),
  ({ body }): TestUser => ({ id: body.user_id, token: body.access_token })
)

const setAccess = (user: TestUser, room: string, guest_access: string) =>
  as(user)("PUT", `/v3/rooms/${inPath(room)}/state/m.room.guest_access`, { guest_access })

const membership = (user: TestUser, room: string, of: TestUser) =>
  Effect.map(
    as(user)("GET", `/v3/rooms/${inPath(room)}/state/m.room.member/${inPath(of.id)}`),
    ({ body }) => body.membership
  )

layer(gatewayWith({}, { guests: true }), { excludeTestServices: true })("guests", (it) => {
  it.effect("join and send in rooms that allow guests, and leave when a room no longer does", () =>
    Effect.gen(function* () {
      const alice = yield* register("guest-alice")
      const visitor = yield* guest
      assert.isTrue((yield* as(visitor)("GET", "/v3/account/whoami")).body.is_guest)
      const room = yield* createRoom(alice, { name: "Open" })
      yield* setAccess(alice, room, "forbidden")
      const join = as(visitor)("POST", `/v3/rooms/${inPath(room)}/join`, {})
      assert.strictEqual((yield* join).body.errcode, "M_GUEST_ACCESS_FORBIDDEN")
      yield* setAccess(alice, room, "can_join")
      assert.strictEqual((yield* join).status, 200)
      assert.isString(yield* sendText(visitor, room, "hello"))
      const since = (yield* as(alice)("GET", "/v3/sync")).body.next_batch
      yield* setAccess(alice, room, "forbidden")
      let current = yield* membership(alice, room, visitor)
      for (let from = since; current === "join"; ) {
        from = (yield* as(alice)("GET", `/v3/sync?since=${from}&timeout=30000`)).body.next_batch
        current = yield* membership(alice, room, visitor)
      }
      assert.strictEqual(current, "leave")
    })
  )

  it.effect("are refused at endpoints that guests may not call", () =>
    Effect.gen(function* () {
      const alice = yield* register("refusing-alice")
      const visitor = yield* guest
      const refused = [
        ["POST", "/v3/createRoom", {}],
        ["GET", "/v3/pushers", undefined],
        ["PUT", `/v3/profile/${inPath(visitor.id)}/avatar_url`, { avatar_url: "mxc://green.test/x" }],
        ["POST", "/v3/search", { search_categories: {} }],
        ["POST", "/v3/user_directory/search", { search_term: "alice" }],
        ["POST", "/v3/account/deactivate", {}],
        ["POST", "/v3/join/!room:elsewhere.test", {}],
        ["PUT", `/v3/rooms/!room:elsewhere.test/state/m.room.member/${inPath(visitor.id)}`, { membership: "knock" }],
        ["PUT", `/v3/rooms/!room:elsewhere.test/state/m.room.member/${inPath(alice.id)}`, { membership: "invite" }]
      ] as const
      for (const [method, path, json] of refused) {
        assert.strictEqual((yield* as(visitor)(method, path, json)).body.errcode, "M_GUEST_ACCESS_FORBIDDEN", path)
      }
      const named = yield* as(visitor)("PUT", `/v3/profile/${inPath(visitor.id)}/displayname`, {
        displayname: "Visitor"
      })
      assert.strictEqual(named.status, 200)
      assert.strictEqual((yield* as(visitor)("GET", "/v3/sync")).status, 200)
      const { body: able } = yield* as(visitor)("GET", "/v3/capabilities")
      assert.deepInclude(able.capabilities as object, {
        "m.change_password": { enabled: false },
        "m.set_avatar_url": { enabled: false },
        "m.profile_fields": { enabled: true, allowed: ["displayname"] }
      })
    })
  )

  it.effect("cannot use the WebSocket, and send nothing while they are suspended", () =>
    Effect.gen(function* () {
      const admin = yield* registerAdmin("guest-boss")
      const visitor = yield* guest
      const room = yield* createRoom(admin, { preset: "public_chat" })
      yield* setAccess(admin, room, "can_join")
      yield* joinRoom(visitor, room)
      const socket = yield* connect(visitor, "m.json")
      yield* socket.ask(1, { method: "ping", params: {} })
      const answer = yield* socket.answer
      assert.strictEqual("error" in answer && answer.error.errcode, "M_GUEST_ACCESS_FORBIDDEN")
      yield* as(admin)("PUT", `/v1/admin/suspend/${inPath(visitor.id)}`, { suspended: true })
      const sent = yield* sendEvent(visitor, room, { msgtype: "m.text", body: "more" })
      assert.strictEqual(sent.body.errcode, "M_USER_SUSPENDED")
    }).pipe(Effect.scoped)
  )

  it.effect("read what needs no access token, and search the directory of public rooms", () =>
    Effect.gen(function* () {
      const alice = yield* register("open-alice")
      const visitor = yield* guest
      const { body } = yield* as(alice)("POST", "/v3/createRoom", { preset: "public_chat", room_alias_name: "open" })
      const alias = yield* as(visitor)("GET", `/v3/directory/room/${inPath("#open:green.test")}`)
      assert.strictEqual(alias.body.room_id, body.room_id)
      assert.strictEqual((yield* as(visitor)("GET", `/v3/profile/${inPath(alice.id)}`)).status, 200)
      assert.strictEqual((yield* as(visitor)("GET", `/v1/room_summary/${inPath(body.room_id)}`)).status, 200)
      const file = yield* as(visitor)("GET", "/../media/v3/download/green.test/none")
      assert.strictEqual(file.body.errcode, "M_NOT_FOUND")
      for (const config of ["/v1/media/config", "/../media/v3/config"]) {
        assert.isNumber((yield* as(visitor)("GET", config)).body["m.upload.size"])
      }
      assert.strictEqual((yield* as(visitor)("POST", "/v3/publicRooms", {})).status, 200)
      const password = yield* as(visitor)("POST", "/v3/account/password", { new_password: "another" })
      assert.strictEqual(password.body.errcode, "M_GUEST_ACCESS_FORBIDDEN")
    })
  )

  it.effect("become users when they register with their user name", () =>
    Effect.gen(function* () {
      const visitor = yield* guest
      const username = visitor.id.slice(1).split(":")[0]
      const upgrade = (username: string | undefined) =>
        askToday("POST", "/v3/register", {
          json: {
            username,
            password: "a-password",
            guest_access_token: visitor.token,
            auth: { type: "m.login.dummy" }
          }
        })
      assert.strictEqual((yield* upgrade("somebody-else")).body.errcode, "M_INVALID_USERNAME")
      const { body } = yield* upgrade(username)
      assert.strictEqual(body.user_id, visitor.id)
      const user = { id: visitor.id, token: body.access_token }
      assert.isFalse((yield* as(user)("GET", "/v3/account/whoami")).body.is_guest)
      assert.strictEqual((yield* as(user)("POST", "/v3/createRoom", {})).status, 200)
      assert.strictEqual((yield* as(visitor)("GET", "/v3/account/whoami")).body.errcode, "M_UNKNOWN_TOKEN")
      assert.strictEqual((yield* upgrade(username)).body.errcode, "M_UNKNOWN_TOKEN")
    })
  )
})
