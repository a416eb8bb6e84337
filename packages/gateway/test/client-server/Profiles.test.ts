import { assert, layer } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { as, ask, askToday, createRoom, gateway, inPath, register } from "../TestGateway.ts"

layer(gateway, { excludeTestServices: true })("profiles, aliases and presence by today's client API", (it) => {
  it.effect("users set their own profile fields, including custom ones, which everybody can read", () =>
    Effect.gen(function* () {
      const alice = yield* register("profile-alice")
      const bob = yield* register("profile-bob")
      const own = `/v3/profile/${inPath(alice.id)}`
      yield* as(alice)("PUT", `${own}/displayname`, { displayname: "Alice" })
      yield* as(alice)("PUT", `${own}/m.tz`, { "m.tz": "Europe/London" })
      assert.deepStrictEqual((yield* askToday("GET", own)).body, {
        displayname: "Alice",
        "m.tz": "Europe/London"
      } as never)
      assert.deepStrictEqual((yield* askToday("GET", `${own}/m.tz`)).body, { "m.tz": "Europe/London" } as never)
      yield* as(alice)("DELETE", `${own}/m.tz`)
      assert.strictEqual((yield* askToday("GET", `${own}/m.tz`)).body.errcode, "M_NOT_FOUND")
      assert.deepStrictEqual((yield* askToday("GET", `${own}/avatar_url`)).body, {} as never)
      for (const [user, path, json, errcode] of [
        [bob, `${own}/displayname`, { displayname: "Mallory" }, "M_FORBIDDEN"],
        [alice, `${own}/displayname`, {}, "M_MISSING_PARAM"],
        [alice, `${own}/${"x".repeat(256)}`, {}, "M_KEY_TOO_LARGE"],
        [alice, `${own}/UPPER`, { UPPER: 1 }, "M_INVALID_PARAM"],
        [alice, `/v3/profile/${inPath("@nobody:green.test")}`, undefined, "M_UNRECOGNIZED"]
      ] as const) {
        assert.strictEqual((yield* as(user)("PUT", path, json)).body.errcode, errcode)
      }
    })
  )

  it.effect("an empty display name is none, in the profile and in rooms", () =>
    Effect.gen(function* () {
      const alice = yield* register("profile-cleared")
      const own = `/v3/profile/${inPath(alice.id)}`
      yield* as(alice)("PUT", `${own}/displayname`, { displayname: "Alice" })
      yield* as(alice)("PUT", `${own}/avatar_url`, { avatar_url: "mxc://green.test/alice" })
      const room = yield* createRoom(alice)
      const inRoom = Effect.map(
        as(alice)("GET", `/v3/rooms/${inPath(room)}/state/m.room.member/${inPath(alice.id)}`),
        ({ body }) => body
      )
      assert.include(yield* inRoom, { displayname: "Alice", avatar_url: "mxc://green.test/alice" } as never)
      yield* as(alice)("PUT", `${own}/displayname`, { displayname: "" })
      yield* as(alice)("PUT", `${own}/avatar_url`, { avatar_url: "" })
      assert.deepStrictEqual((yield* askToday("GET", own)).body, {} as never)
      yield* inRoom.pipe(
        Effect.repeat({
          until: (content) => !("displayname" in content || "avatar_url" in content),
          schedule: Schedule.spaced(20)
        })
      )
      assert.deepStrictEqual(yield* inRoom, { membership: "join" } as never)
    })
  )

  it.effect("a profile is limited to 64 KiB", () =>
    Effect.gen(function* () {
      const alice = yield* register("profile-large")
      const put = (name: string, size: number) =>
        as(alice)("PUT", `/v3/profile/${inPath(alice.id)}/org.example.${name}`, {
          [`org.example.${name}`]: "x".repeat(size)
        })
      assert.strictEqual((yield* put("whole", 66_000)).body.errcode, "M_PROFILE_TOO_LARGE")
      for (const name of ["a", "b", "c", "d"]) assert.strictEqual((yield* put(name, 16_000)).status, 200)
      const refused = yield* put("e", 5_000)
      assert.deepStrictEqual([refused.status, refused.body.errcode], [400, "M_PROFILE_TOO_LARGE"])
      assert.strictEqual((yield* put("a", 10)).status, 200)
      assert.strictEqual((yield* put("e", 5_000)).status, 200)
    })
  )

  it.effect("an alias is created, resolved and deleted by members, and cannot be created twice", () =>
    Effect.gen(function* () {
      const alice = yield* register("alias-alice")
      const bob = yield* register("alias-bob")
      const room = yield* createRoom(alice)
      const alias = `/v3/directory/room/${inPath("#tea:green.test")}`
      assert.strictEqual((yield* as(bob)("PUT", alias, { room_id: room })).body.errcode, "M_FORBIDDEN")
      assert.strictEqual((yield* as(alice)("PUT", alias, { room_id: room })).status, 200)
      assert.strictEqual((yield* askToday("GET", alias)).body.room_id, room)
      const other = yield* createRoom(bob)
      assert.strictEqual((yield* as(bob)("PUT", alias, { room_id: other })).status, 409)
      const foreign = `/v3/directory/room/${inPath("#tea:blue.test")}`
      assert.strictEqual((yield* as(bob)("PUT", foreign, { room_id: other })).body.errcode, "M_INVALID_PARAM")
      const { body } = yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/aliases`)
      assert.deepStrictEqual(body.aliases, ["#tea:green.test"])
      assert.strictEqual((yield* as(bob)("DELETE", alias)).body.errcode, "M_FORBIDDEN")
      assert.strictEqual((yield* as(alice)("DELETE", alias)).status, 200)
      assert.strictEqual((yield* askToday("GET", alias)).body.errcode, "M_NOT_FOUND")
    })
  )

  it.effect("users get an OpenID token for themselves, which is no access token", () =>
    Effect.gen(function* () {
      const alice = yield* register("openid-alice")
      const { body } = yield* as(alice)("POST", `/v3/user/${inPath(alice.id)}/openid/request_token`, {})
      assert.strictEqual(body.matrix_server_name, "green.test")
      assert.strictEqual(body.token_type, "Bearer")
      const whoami = yield* askToday("GET", "/v3/account/whoami", { token: body.access_token })
      assert.strictEqual(whoami.body.errcode, "M_UNKNOWN_TOKEN")
      const foreign = yield* as(alice)("POST", `/v3/user/${inPath("@bob:green.test")}/openid/request_token`, {})
      assert.strictEqual(foreign.body.errcode, "M_FORBIDDEN")
      // Integration managers ask at the address of the client API.
      const userInfo = (token: string) => ask("GET", `//_matrix/federation/v1/openid/userinfo?access_token=${token}`)
      const known = yield* userInfo(body.access_token)
      assert.deepStrictEqual([known.status, known.body], [200, { sub: alice.id }] as never)
      for (const unknown of ["guessed", alice.token]) {
        const { body, status } = yield* userInfo(unknown)
        assert.deepStrictEqual([status, body.errcode], [401, "M_UNKNOWN_TOKEN"])
      }
      const others = yield* ask("GET", "//_matrix/federation/v1/version")
      assert.deepStrictEqual([others.status, others.body.errcode], [404, "M_UNRECOGNIZED"])
    })
  )

  it.effect("presence, TURN servers and third-party protocols can be read", () =>
    Effect.gen(function* () {
      const alice = yield* register("presence-alice")
      const status = `/v3/presence/${inPath(alice.id)}/status`
      yield* as(alice)("PUT", status, { presence: "unavailable", status_msg: "Tea" })
      const { body } = yield* as(alice)("GET", status)
      assert.strictEqual(body.presence, "unavailable")
      assert.strictEqual(body.status_msg, "Tea")
      assert.strictEqual((yield* as(alice)("PUT", status, { presence: "asleep" })).body.errcode, "M_BAD_JSON")
      const turn = yield* as(alice)("GET", "/v3/voip/turnServer")
      assert.deepStrictEqual(turn.body.uris, ["turn:turn.test"])
      assert.deepStrictEqual((yield* as(alice)("GET", "/v3/thirdparty/protocols")).body, {} as never)
      assert.strictEqual((yield* as(alice)("GET", "/v3/thirdparty/protocol/irc")).body.errcode, "M_NOT_FOUND")
    })
  )
})
