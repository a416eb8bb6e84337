import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { Accounts } from "../src/Accounts.ts"
import { ask, hour, identityWith } from "./support/TestIdentity.ts"
import { HomeServer, makeWebServer } from "./support/WebServer.ts"

const withHomeServer = HomeServer.use(({ url }) =>
  Effect.succeed(identityWith({ identity: { homeServers: new Map([["home.test", url]]) } }))
).pipe(Layer.unwrap, Layer.provideMerge(Layer.effect(HomeServer, makeWebServer)))

const register = Effect.map(
  ask("POST", "//_matrix/identity/v2/account/register", {
    access_token: "openid",
    matrix_server_name: "home.test"
  }),
  ({ body }) => body.token
)

const statusOf = (token: string) =>
  Effect.map(
    ask("GET", "//_matrix/identity/v2/account", undefined, { authorization: `Bearer ${token}` }),
    ({ status }) => status
  )

layer(withHomeServer, { excludeTestServices: true })("access tokens of users", (it) => {
  it.effect("end when they were not used for 90 days", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { forget } = yield* Accounts
      const { says } = yield* HomeServer
      const pass = (days: number) => sql`UPDATE accounts SET used_at = used_at - ${days * 24 * hour}::bigint`
      says(JSON.stringify({ sub: "@alice:home.test" }))
      const [used, unused] = [yield* register, yield* register]
      yield* pass(89)
      yield* forget
      assert.strictEqual(yield* statusOf(used), 200)
      yield* pass(2)
      yield* forget
      assert.deepStrictEqual([yield* statusOf(used), yield* statusOf(unused)], [200, 401])
    })
  )
})
