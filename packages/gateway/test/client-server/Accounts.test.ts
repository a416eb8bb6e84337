import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import {
  type Answer,
  askToday,
  gateway,
  gatewayWith,
  inPath,
  logIn,
  outcome,
  passwordOf,
  register
} from "../TestGateway.ts"

const post = (path: string, json: unknown, token?: string) => askToday("POST", path, { json, token })
const dummy = { auth: { type: "m.login.dummy" } }

const registerToday = Effect.fnUntraced(function* (username: string, more: object = {}) {
  const { body } = yield* post("/v3/register", { username, password: `secret-${username}`, ...dummy, ...more })
  return { id: body.user_id, token: body.access_token, device: body.device_id as string, body }
})

const terms = [
  { id: "privacy", version: "2", language: "en", name: "Privacy", url: "https://green.test/privacy" },
  { id: "privacy", version: "2", language: "de", name: "Datenschutz", url: "https://green.test/datenschutz" }
]

layer(gatewayWith({}, { login: { terms } }), { excludeTestServices: true })("terms", (it) => {
  it.effect("are a stage of a registration, which is completed on a page", () =>
    Effect.gen(function* () {
      const account = { username: "terry", password: "secret-terry" }
      const asked = yield* post("/v3/register", account)
      assert.deepStrictEqual(asked.body.flows, [{ stages: ["m.login.dummy", "m.login.terms"] }])
      const policy = {
        version: "2",
        en: { name: "Privacy", url: "https://green.test/privacy" },
        de: { name: "Datenschutz", url: "https://green.test/datenschutz" }
      }
      assert.deepStrictEqual(asked.body.params, { "m.login.terms": { policies: { privacy: policy } } })
      const { session } = asked.body
      const next = yield* post("/v3/register", { ...account, auth: { type: "m.login.dummy", session } })
      assert.deepStrictEqual(next.body.completed, ["m.login.dummy"])
      const path = `/v3/auth/m.login.terms/fallback/web?session=${session}`
      assert.include((yield* askToday("GET", path)).text, "https://green.test/privacy")
      assert.strictEqual((yield* askToday("POST", path, { body: new URLSearchParams() })).status, 200)
      const done = yield* post("/v3/register", { ...account, auth: { session } })
      assert.strictEqual(done.body.user_id, "@terry:green.test")
    })
  )
})

layer(gateway, { excludeTestServices: true })("accounts by today's client API", (it) => {
  it.effect("a registration is answered with flows and a session, and completed by a stage of the session", () =>
    Effect.gen(function* () {
      const asked = yield* post("/v3/register", { username: "ivy", password: "secret-ivy" })
      assert.strictEqual(asked.status, 401)
      assert.deepStrictEqual(asked.body.flows, [{ stages: ["m.login.dummy"] }])
      const { session } = asked.body
      const body = { username: "ivy", password: "secret-ivy", auth: { type: "m.login.dummy", session } }
      const done = yield* post("/v3/register", { ...body, initial_device_display_name: "Phone" })
      assert.strictEqual(done.status, 200)
      assert.strictEqual(done.body.user_id, "@ivy:green.test")
      const devices = yield* askToday("GET", "/v3/devices", { token: done.body.access_token })
      assert.deepInclude((devices.body.devices as ReadonlyArray<object>)[0], {
        device_id: done.body.device_id,
        display_name: "Phone"
      })
      const again = yield* post("/v3/register", body)
      assert.strictEqual(
        again.body.user_id,
        "@ivy:green.test",
        "a repeated request, whose first answer may be lost, gets the account"
      )
      const anew = yield* post("/v3/register", { username: "ivy", password: "secret-ivy" })
      assert.strictEqual(anew.body.errcode, "M_USER_IN_USE")
    })
  )

  it.effect("a session of a registration keeps the parameters of its first request", () =>
    Effect.gen(function* () {
      const wanted = { username: "jo", password: "secret-jo", device_id: "TABLET" }
      const { session } = (yield* post("/v3/register", wanted)).body
      const done = yield* post("/v3/register", { auth: { type: "m.login.dummy", session } })
      assert.deepInclude(done.body as object, { user_id: "@jo:green.test", device_id: "TABLET" })
      assert.strictEqual((yield* post("/v3/login", passwordOf("jo"))).status, 200)
    })
  )

  it.effect("a registration with a stage and no session is completed at once", () =>
    Effect.gen(function* () {
      const { id, token } = yield* registerToday("bot")
      assert.strictEqual((yield* askToday("GET", "/v3/account/whoami", { token })).body.user_id, id)
      const { devices } = (yield* askToday("GET", "/v3/devices", { token })).body
      assert.deepInclude((devices as ReadonlyArray<object>)[0], { user_id: id, display_name: "" })
      const silent = yield* post("/v3/register", { username: "silent", password: "x", inhibit_login: true, ...dummy })
      assert.deepStrictEqual(silent.body, { user_id: "@silent:green.test" } as never)
      assert.strictEqual((yield* askToday("GET", "/v3/register/available?username=free")).body.available, true)
      const taken = yield* askToday("GET", "/v3/register/available?username=bot")
      assert.strictEqual(taken.body.errcode, "M_USER_IN_USE")
      const missing = yield* askToday("GET", "/v3/register/available")
      assert.strictEqual(missing.body.errcode, "M_MISSING_PARAM")
    })
  )

  it.effect("an account has its localpart as display name, unless it was registered by the draft's API", () =>
    Effect.gen(function* () {
      const { id, token } = yield* registerToday("nina")
      const drafts = yield* register("otto")
      assert.deepStrictEqual((yield* askToday("GET", `/v3/profile/${inPath(id)}`)).body, {
        displayname: "nina"
      } as never)
      assert.deepStrictEqual((yield* askToday("GET", `/v3/profile/${inPath(drafts.id)}`)).body, {} as never)
      const { room_id } = (yield* post("/v3/createRoom", {}, token)).body
      const membership = yield* askToday("GET", `/v3/rooms/${inPath(room_id)}/state/m.room.member/${inPath(id)}`, {
        token
      })
      assert.strictEqual(membership.body.displayname, "nina")
      yield* askToday("PUT", `/v3/profile/${inPath(id)}/displayname`, { token, json: { displayname: "" } })
      assert.deepStrictEqual((yield* askToday("GET", `/v3/profile/${inPath(id)}`)).body, {} as never)
    })
  )

  it.effect("a login with the ID of a device revokes its access token and keeps the device", () =>
    Effect.gen(function* () {
      const first = yield* registerToday("jan", { device_id: "PHONE" })
      assert.strictEqual(first.device, "PHONE")
      const login = { ...passwordOf("jan"), device_id: "PHONE" }
      const again = yield* post("/v3/login", login)
      assert.strictEqual(again.body.device_id, "PHONE")
      const ended = yield* askToday("GET", "/v3/account/whoami", { token: first.token })
      assert.strictEqual(ended.body.errcode, "M_UNKNOWN_TOKEN")
      const devices = yield* askToday("GET", "/v3/devices", { token: again.body.access_token })
      assert.lengthOf(devices.body.devices as ReadonlyArray<object>, 1)
      for (const wrong of [
        { ...login, password: "wrong" },
        { ...login, identifier: { type: "m.id.user", user: "nobody" } },
        { ...login, identifier: { type: "m.id.thirdparty", medium: "email", address: "no@one.test" } }
      ]) {
        assert.strictEqual((yield* post("/v3/login", wrong)).body.errcode, "M_FORBIDDEN")
      }
      assert.strictEqual((yield* post("/v3/login", { type: "m.login.magic" })).body.errcode, "M_UNKNOWN")
      assert.strictEqual((yield* post("/v3/login", {})).body.errcode, "M_MISSING_PARAM")
    })
  )

  it.effect("an access token is renewed by its refresh token", () =>
    Effect.gen(function* () {
      const { body } = yield* registerToday("kim", { refresh_token: true })
      assert.isNumber(body.expires_in_ms)
      const renewed = yield* post("/v3/refresh", { refresh_token: body.refresh_token })
      assert.strictEqual(renewed.status, 200)
      const repeated = yield* post("/v3/refresh", { refresh_token: body.refresh_token })
      const token = repeated.body.access_token
      assert.strictEqual((yield* askToday("GET", "/v3/account/whoami", { token })).status, 200)
      for (const old of [body.access_token, renewed.body.access_token]) {
        const { body } = yield* askToday("GET", "/v3/account/whoami", { token: old })
        assert.strictEqual(body.errcode, "M_UNKNOWN_TOKEN")
      }
      const errorOf = ({ body: { errcode, soft_logout } }: Answer) => ({ errcode, soft_logout })
      const softly = { errcode: "M_UNKNOWN_TOKEN", soft_logout: true }
      const oldToken = askToday("GET", "/v3/account/whoami", { token: body.access_token as string })
      const oldRefresh = post("/v3/refresh", { refresh_token: body.refresh_token })
      assert.deepStrictEqual<unknown>(errorOf(yield* oldToken), softly, "the session continues")
      assert.deepStrictEqual<unknown>(errorOf(yield* oldRefresh), softly)
      assert.strictEqual((yield* post("/v3/logout", {}, token as string)).status, 200)
      const ended = { errcode: "M_UNKNOWN_TOKEN", soft_logout: undefined }
      assert.deepStrictEqual<unknown>(errorOf(yield* oldToken), ended)
      assert.deepStrictEqual<unknown>(errorOf(yield* oldRefresh), ended)
    })
  )

  it.effect("an access token that has expired is refused, and its refresh token still renews it", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { body, id } = yield* registerToday("kai", { refresh_token: true })
      const whoami = (token: unknown) => askToday("GET", "/v3/account/whoami", { token: token as string })
      yield* sql`UPDATE access_tokens SET expires_at = 1 WHERE user_id = ${id}`
      const refused = yield* whoami(body.access_token)
      assert.deepInclude(refused.body as object, { errcode: "M_UNKNOWN_TOKEN", soft_logout: true })
      const renewed = yield* post("/v3/refresh", { refresh_token: body.refresh_token })
      assert.strictEqual((yield* whoami(renewed.body.access_token)).status, 200)
    })
  )

  it.effect("a login on a device has ended the former one there when it is answered", () =>
    Effect.gen(function* () {
      const phone = { device_id: "PHONE" }
      const statusOf = (token: string) =>
        Effect.map(askToday("GET", "/v3/account/whoami", { token }), ({ status }) => status)
      let { token } = yield* registerToday("joe", phone)
      for (let n = 0; n < 10; n++) {
        assert.strictEqual(yield* statusOf(token), 200)
        const { body } = yield* logIn("joe", undefined, phone)
        assert.strictEqual(yield* statusOf(token), 401)
        token = body.access_token
      }
    })
  )

  it.effect("a second refresh ends the access token from before the first, also where that is remembered", () =>
    Effect.gen(function* () {
      const { body } = yield* registerToday("kit", { refresh_token: true })
      const statusOf = (token: unknown) =>
        Effect.map(askToday("GET", "/v3/account/whoami", { token: token as string }), ({ status }) => status)
      assert.strictEqual(yield* statusOf(body.access_token), 200)
      const first = (yield* post("/v3/refresh", { refresh_token: body.refresh_token })).body
      assert.strictEqual(yield* statusOf(body.access_token), 200, "the new tokens were not used yet")
      const second = (yield* post("/v3/refresh", { refresh_token: first.refresh_token })).body
      assert.strictEqual(yield* statusOf(body.access_token), 401)
      assert.strictEqual(yield* statusOf(first.access_token), 200)
      assert.strictEqual(yield* statusOf(second.access_token), 200)
      assert.strictEqual(yield* statusOf(first.access_token), 401)
    })
  )

  it.effect("a login token is valid for one login", () =>
    Effect.gen(function* () {
      const { id, token } = yield* registerToday("lee")
      const asked = yield* post("/v1/login/get_token", {}, token)
      assert.deepStrictEqual(asked.body.flows, [{ stages: ["m.login.password"] }])
      const given = yield* post(
        "/v1/login/get_token",
        { auth: { ...passwordOf("lee"), session: asked.body.session } },
        token
      )
      const login = { type: "m.login.token", token: given.body.login_token }
      assert.strictEqual((yield* post("/v3/login", login)).body.user_id, id)
      assert.strictEqual((yield* post("/v3/login", login)).body.errcode, "M_FORBIDDEN")
    })
  )

  it.effect("the password confirms the deletion of a device, in a session for that operation alone", () =>
    Effect.gen(function* () {
      const { token } = yield* registerToday("mia")
      const other = yield* post("/v3/login", { ...passwordOf("mia"), device_id: "TABLET" })
      const asked = yield* askToday("DELETE", "/v3/devices/TABLET", { token })
      assert.strictEqual(asked.status, 401)
      const wrong = yield* askToday("DELETE", "/v3/devices/TABLET", {
        token,
        json: { auth: { ...passwordOf("mia", "wrong"), session: asked.body.session } }
      })
      assert.strictEqual(wrong.status, 401)
      assert.strictEqual(wrong.body.errcode, "M_FORBIDDEN")
      assert.strictEqual(wrong.body.session, asked.body.session)
      const elsewhere = yield* post("/v3/account/deactivate", { auth: { session: asked.body.session } }, token)
      assert.deepStrictEqual([elsewhere.status, elsewhere.body.errcode], [403, "M_FORBIDDEN"])
      const stranger = yield* registerToday("mias-stranger")
      for (const [as, auth, outcomeOf] of [
        [stranger.token, { ...passwordOf("mias-stranger"), session: asked.body.session }, "403 M_FORBIDDEN"],
        [token, { type: "m.login.dummy", session: asked.body.session }, "401 M_FORBIDDEN"]
      ] as const) {
        const refused = yield* askToday("DELETE", "/v3/devices/TABLET", { token: as, json: { auth } })
        assert.strictEqual(outcome(refused), outcomeOf)
      }
      const json = { auth: { ...passwordOf("mia"), session: asked.body.session } }
      assert.strictEqual((yield* askToday("DELETE", "/v3/devices/TABLET", { token, json })).status, 200)
      const gone = yield* askToday("GET", "/v3/account/whoami", { token: other.body.access_token })
      assert.strictEqual(gone.body.errcode, "M_UNKNOWN_TOKEN")
      assert.strictEqual((yield* askToday("GET", "/v3/devices/TABLET", { token })).body.errcode, "M_NOT_FOUND")
      for (const json of [{}, { display_name: "Gone" }]) {
        const renamed = yield* askToday("PUT", "/v3/devices/TABLET", { token, json })
        assert.deepStrictEqual([renamed.status, renamed.body.errcode], [404, "M_NOT_FOUND"])
      }
    })
  )

  it.effect("many devices are deleted at once, and their IDs are not stored with the session", () =>
    Effect.gen(function* () {
      const user = yield* registerToday("many-devices")
      const others = yield* Effect.forEach(["A", "B", "C"], (device_id) =>
        logIn("many-devices", undefined, { device_id })
      )
      const unknown = Array.from({ length: 9_000 }, (_, index) => `${"UNKNOWN".repeat(10)}${index}`)
      const devices = ["A", "C", ...unknown]
      const asked = yield* post("/v3/delete_devices", { devices }, user.token)
      const [longest] = yield* SqlClient.SqlClient.use(
        (sql) => sql<{ bytes: number }>`SELECT max(octet_length(progress)) AS bytes FROM login_sessions`
      )
      assert.isBelow(longest!.bytes, 2_000)
      const auth = { ...passwordOf("many-devices"), session: asked.body.session }
      const fewer = yield* post("/v3/delete_devices", { devices: ["A"], auth }, user.token)
      assert.strictEqual(fewer.status, 403, fewer.text)
      const deleted = yield* post("/v3/delete_devices", { devices, auth }, user.token)
      assert.strictEqual(deleted.status, 200, deleted.text)
      const whoami = (token: string) =>
        Effect.map(askToday("GET", "/v3/account/whoami", { token }), ({ status }) => status)
      const statuses = yield* Effect.forEach(others, ({ body }) => whoami(body.access_token))
      assert.deepStrictEqual([...statuses, yield* whoami(user.token)], [401, 200, 401, 200])
    })
  )

  it.effect("another user's password does not confirm an operation", () =>
    Effect.gen(function* () {
      const { token } = yield* registerToday("noa")
      yield* registerToday("mallory")
      const { body, status } = yield* post("/v3/account/deactivate", { auth: passwordOf("mallory") }, token)
      assert.strictEqual(status, 403)
      assert.strictEqual(body.errcode, "M_FORBIDDEN")
      assert.strictEqual((yield* askToday("GET", "/v3/account/whoami", { token })).status, 200)
    })
  )

  it.effect("a new password logs out the other devices, unless logout_devices is false", () =>
    Effect.gen(function* () {
      const { token } = yield* registerToday("oda")
      const login = () => Effect.map(post("/v3/login", passwordOf("oda")), ({ body }) => body.access_token)
      const other = yield* login()
      const change = { new_password: "secret-oda", auth: passwordOf("oda") }
      yield* post("/v3/account/password", { ...change, logout_devices: false }, token)
      assert.strictEqual((yield* askToday("GET", "/v3/account/whoami", { token: other })).status, 200)
      yield* post("/v3/account/password", { ...change, new_password: "another" }, token)
      assert.strictEqual((yield* askToday("GET", "/v3/account/whoami", { token: other })).status, 401)
      assert.strictEqual((yield* askToday("GET", "/v3/account/whoami", { token })).status, 200)
      assert.strictEqual((yield* post("/v3/login", passwordOf("oda"))).body.errcode, "M_FORBIDDEN")
    })
  )

  it.effect("a deactivated account has no session and cannot log in", () =>
    Effect.gen(function* () {
      const { token } = yield* registerToday("pia")
      const { body } = yield* post("/v3/account/deactivate", { auth: passwordOf("pia") }, token)
      assert.strictEqual(body.id_server_unbind_result, "success")
      assert.strictEqual((yield* askToday("GET", "/v3/account/whoami", { token })).status, 401)
      assert.strictEqual((yield* post("/v3/login", passwordOf("pia"))).status, 403)
    })
  )
})
