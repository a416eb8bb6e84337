import { assert, layer } from "@effect/vitest"
import { Accounts } from "@greenroom/actors/account/Accounts"
import { Administration } from "@greenroom/actors/account/Administration"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { Effect } from "effect"
import { registerAdmin } from "../admin/TestAdmin.ts"
import { loginGateway, password, registrationToken, signUp } from "../login/TestLogin.ts"
import { type Ask, ask, inPath, outcome, register } from "../TestGateway.ts"

interface Endpoint {
  readonly method: string
  readonly path: string
}

/** Every endpoint for administrators, with values for its parameters. */
const endpoints = Object.values(ClientApi.groups as Record<string, { readonly endpoints: object }>)
  .flatMap((group) => Object.values(group.endpoints) as ReadonlyArray<Endpoint>)
  .filter(({ path }) => path.includes("/admin/"))
  .map(({ method, path }) => ({
    method,
    path: path.slice(path.indexOf("/admin/")).replace(":userId", "@alice:green.test").replace(/:\w+/, "x")
  }))

layer(loginGateway({}), { excludeTestServices: true })("the administration endpoints of the draft's API", (it) => {
  it.effect("refuse users who are not administrators", () =>
    Effect.gen(function* () {
      const alice = yield* register("alice")
      assert.isAbove(endpoints.length, 11)
      for (const { method, path } of endpoints) {
        const options: Ask = method === "GET" ? {} : { json: {} }
        const refused = yield* ask(method, path, { ...options, token: alice.token })
        assert.strictEqual(outcome(refused), "403 M_FORBIDDEN", `${method} ${path}`)
        assert.strictEqual(outcome(yield* ask(method, path, options)), "401 M_MISSING_TOKEN", `${method} ${path}`)
      }
      assert.strictEqual((yield* ask("GET", "/devices", { token: alice.token })).status, 200)
    })
  )

  it.effect("create, show and deactivate accounts", () =>
    Effect.gen(function* () {
      const { token } = yield* registerAdmin("root")
      const admin = (method: string, path: string, json?: unknown) =>
        ask(method, `/admin${path}`, json === undefined ? { token } : { token, json })
      const created = yield* admin("POST", "/users", { user: "bob", password: "first", email: "bob@mail.test" })
      assert.deepInclude(created.body as object, { user_id: "@bob:green.test", admin: false, has_password: true })
      assert.strictEqual(outcome(yield* admin("POST", "/users", { user: "bob" })), "400 M_USER_IN_USE")
      assert.strictEqual(outcome(yield* admin("POST", "/users", { user: "B\u00f6b" })), "400 M_INVALID_USERNAME")
      assert.strictEqual(outcome(yield* admin("POST", "/users", { user: "carl", email: "x" })), "400 M_BAD_JSON")
      const logIn = (secret: string) =>
        ask("POST", "/login", { json: { type: password, user: "bob", password: secret, device_name: "Phone" } })
      const { body: bob } = yield* logIn("first")
      const path = `/users/${inPath(bob.user_id)}`
      const { body: found } = yield* admin("GET", `${path}/devices`)
      assert.nestedPropertyVal(found, "devices[0].display_name", "Phone")
      yield* admin("POST", `${path}/password`, { new_password: "second" })
      assert.strictEqual(outcome(yield* ask("GET", "/devices", { token: bob.access_token })), "401 M_UNKNOWN_TOKEN")
      assert.strictEqual(outcome(yield* logIn("first")), "403 M_FORBIDDEN")
      const { body: again } = yield* logIn("second")
      assert.strictEqual((yield* admin("DELETE", `${path}/devices/${again.device_id}`)).status, 200)
      assert.strictEqual(outcome(yield* ask("GET", "/devices", { token: again.access_token })), "401 M_UNKNOWN_TOKEN")
      const { body: users } = yield* admin("GET", "/users?after=@alice:green.test")
      assert.deepStrictEqual(
        (users.users as ReadonlyArray<{ readonly user_id: string }>).map(({ user_id }) => user_id),
        ["@bob:green.test", "@root:green.test"]
      )
      assert.strictEqual((yield* admin("POST", `${path}/deactivate`)).status, 200)
      assert.isAbove((yield* admin("GET", path)).body.deactivated_ts as number, 0)
      assert.strictEqual(outcome(yield* admin("PUT", `${path}/admin`, { admin: true })), "400 M_UNKNOWN")
      assert.strictEqual(outcome(yield* admin("GET", "/users/@nobody:green.test")), "404 M_NOT_FOUND")
    })
  )

  it.effect("give and revoke the rights of an administrator from the next request on", () =>
    Effect.gen(function* () {
      const root = yield* registerAdmin("root2")
      const carol = yield* register("carol")
      const set = (admin: boolean) =>
        ask("PUT", `/admin/users/${inPath(carol.id)}/admin`, { token: root.token, json: { admin } })
      const list = ask("GET", "/admin/registration_tokens", { token: carol.token })
      yield* set(true)
      assert.strictEqual((yield* list).status, 200)
      yield* set(false)
      assert.strictEqual((yield* list).status, 403)
    })
  )
})

layer(loginGateway({ registration: "token" }), { excludeTestServices: true })("registration tokens", (it) => {
  it.effect("are shown once, listed without their secrets, and revoked", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const administration = yield* Administration
      const { userId } = yield* administration.createUser({ user: "root", admin: true })
      const { access_token: token } = yield* accounts.openSession(userId)
      const admin = (method: string, path: string, json?: unknown) =>
        ask(method, `/admin/registration_tokens${path}`, json === undefined ? { token } : { token, json })
      const { body: made } = yield* admin("POST", "", { uses_allowed: 2, valid_for: 60_000 })
      const { text } = yield* admin("GET", "")
      assert.include(text, made.token_id as string)
      assert.notInclude(text, made.token as string)
      const begin = signUp({ type: registrationToken, token: made.token })
      assert.strictEqual((yield* begin).body.next, password)
      const short = yield* admin("POST", "", { token: "short" })
      assert.strictEqual(outcome(short), "400 M_BAD_JSON")
      assert.strictEqual(outcome(yield* admin("POST", "", { token: made.token })), "400 M_UNKNOWN")
      assert.strictEqual((yield* admin("DELETE", `/${made.token_id}`)).status, 200)
      assert.strictEqual(outcome(yield* begin), "403 M_FORBIDDEN")
      assert.strictEqual(outcome(yield* admin("DELETE", `/${made.token_id}`)), "404 M_NOT_FOUND")
    })
  )
})

layer(loginGateway({}), { excludeTestServices: true })("room aliases", (it) => {
  it.effect("are removed by an administrator once the room has no members", () =>
    Effect.gen(function* () {
      const [founder, guest] = [yield* register("founder"), yield* register("guest")]
      const admin = yield* registerAdmin("janitor")
      const made = yield* ask("POST", "/createRoom", { json: { room_alias_name: "abandoned" }, token: founder.token })
      const alias = `/directory/room/${inPath("#abandoned:green.test")}`
      yield* ask("POST", `/join/${inPath(made.body.room_id)}`, { json: {}, token: guest.token })
      for (const { token } of [founder, guest]) {
        yield* ask("POST", `/rooms/${inPath(made.body.room_id)}/leave`, { json: {}, token })
      }
      assert.strictEqual(outcome(yield* ask("DELETE", alias, { token: guest.token })), "403 M_FORBIDDEN")
      assert.strictEqual((yield* ask("DELETE", alias, { token: admin.token })).status, 200)
      assert.strictEqual(outcome(yield* ask("GET", alias)), "404 M_NOT_FOUND")
    })
  )
})
