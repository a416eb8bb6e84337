import { assert, layer } from "@effect/vitest"
import { GreenroomAdminApi } from "@greenroom/protocol/admin/GreenroomAdminApi"
import { SynapseAdminApi } from "@greenroom/protocol/admin/SynapseAdminApi"
import { AuditStore } from "@greenroom/store/AuditStore"
import { Effect } from "effect"
import { ask, askToday, gateway, inPath, register, type TestUser } from "../TestGateway.ts"
import { askAdmin, registerAdmin } from "./TestAdmin.ts"

interface Endpoint {
  readonly method: string
  readonly path: string
}

/** Every endpoint for administrators, with values for its parameters. */
const endpoints = [SynapseAdminApi, GreenroomAdminApi].flatMap((api) =>
  Object.values(api.groups as unknown as { readonly [name: string]: { readonly endpoints: object } })
    .flatMap((group) => Object.values(group.endpoints) as ReadonlyArray<Endpoint>)
    .filter(({ path }) => path !== "/_greenroom/client/v1/export")
    .map(({ method, path }) => ({
      method,
      path: path
        .replace(/:userId|:user_id/, "@victim:green.test")
        .replace(/:roomIdOrAlias|:roomId/, inPath("!room:green.test"))
        .replace(":eventId", inPath("$event:green.test"))
        .replace(":serverName", "green.test")
        .replace(":medium", "email")
        .replace(":kind", "user")
        .replace(/:[a-zA-Z]+Id\b/, "1")
        .replace(/:[a-zA-Z]+/, "x")
    }))
)

/** Sends a valid request to an endpoint. */
const askAt = ({ method, path }: Endpoint, token?: string) =>
  ask(method, `/${path}${path.endsWith("username_available") ? "?username=x" : "?before_ts=1"}`, {
    ...(method === "GET" ? {} : { json: { reason: "because" } }),
    ...(token === undefined ? {} : { token })
  })

layer(gateway, { excludeTestServices: true })("the administration APIs", (it) => {
  it.effect("refuse users without administrator rights at every endpoint, and changes nothing", () =>
    Effect.gen(function* () {
      const user = yield* register("victim")
      assert.isAbove(endpoints.length, 50)
      for (const endpoint of endpoints) {
        const name = `${endpoint.method} ${endpoint.path}`
        const stranger = yield* askAt(endpoint)
        assert.deepStrictEqual([stranger.status, stranger.body.errcode], [401, "M_MISSING_TOKEN"], name)
        const foreign = yield* askAt(endpoint, "syt_b3RoZXI_of_another_server")
        assert.deepStrictEqual([foreign.status, foreign.body.errcode], [401, "M_UNKNOWN_TOKEN"], name)
        const refused = yield* askAt(endpoint, user.token)
        assert.deepStrictEqual([refused.status, refused.body.errcode], [403, "M_FORBIDDEN"], name)
      }
      assert.strictEqual((yield* askToday("GET", "/v3/account/whoami", { token: user.token })).status, 200)
      const audit = yield* AuditStore.use(({ list }) => list({ limit: 10, actor: user.id }))
      assert.lengthOf(audit, 0)
      const admin = yield* registerAdmin("boss0")
      const unknown = yield* askAdmin(admin, "GET", "/v1/nothing")
      assert.deepStrictEqual([unknown.status, unknown.body.errcode], [404, "M_UNRECOGNIZED"])
      assert.strictEqual((yield* askAdmin(admin, "POST", "/v1/server_version", {})).status, 405)
    })
  )

  it.effect("refuse administrators that were suspended, deactivated or demoted from the next request on", () =>
    Effect.gen(function* () {
      const boss = yield* registerAdmin("boss00")
      const [idle, gone, former] = [
        yield* register("idle"),
        yield* registerAdmin("gone"),
        yield* registerAdmin("former")
      ]
      const suspend = (suspend: boolean) => askAdmin(boss, "PUT", `/v1/suspend/${inPath(idle.id)}`, { suspend })
      const setAdmin = (user: TestUser, admin: boolean) =>
        askAdmin(boss, "PUT", `/v1/users/${inPath(user.id)}/admin`, { admin })
      yield* suspend(true)
      yield* setAdmin(idle, true)
      for (const { token } of [gone, former]) {
        assert.strictEqual((yield* ask("GET", "//_synapse/admin/v1/server_version", { token })).status, 200)
      }
      yield* askAdmin(boss, "POST", `/v1/deactivate/${inPath(gone.id)}`, {})
      yield* setAdmin(former, false)
      for (const endpoint of endpoints) {
        const answers = [
          yield* askAt(endpoint, idle.token),
          yield* askAt(endpoint, gone.token),
          yield* askAt(endpoint, former.token)
        ]
        assert.deepStrictEqual(
          answers.map(({ body, status }) => `${status} ${body.errcode}`),
          ["403 M_USER_SUSPENDED", "401 M_UNKNOWN_TOKEN", "403 M_FORBIDDEN"],
          `${endpoint.method} ${endpoint.path}`
        )
      }
      // The suspension began before the account became an administrator. It can end, and no other can begin.
      assert.strictEqual((yield* suspend(false)).status, 200)
      assert.strictEqual((yield* askAdmin(idle, "GET", "/v1/server_version")).status, 200)
      assert.strictEqual((yield* suspend(true)).body.errcode, "M_FORBIDDEN")
      const locked = yield* askAdmin(boss, "PUT", `/v2/users/${inPath(idle.id)}`, { locked: true })
      assert.strictEqual(locked.body.errcode, "M_FORBIDDEN")
    })
  )
})
