import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { askToday, outcome, passwordOf, register } from "../TestGateway.ts"
import { login, loginGateway, loginGatewayOnDatabase, password, post, signUp } from "./TestLogin.ts"

describe("a password", () => {
  it.live("has a limit of wrong attempts for each account and for each address", () =>
    Effect.gen(function* () {
      yield* register("alice")
      yield* register("bob")
      const guess = (user: string, secret: string) => login({ type: password, user, password: secret })
      for (let count = 0; count < 3; count++) {
        assert.strictEqual(outcome(yield* guess("alice", "wrong")), "403 M_FORBIDDEN")
        assert.strictEqual((yield* guess("bob", "secret-bob")).status, 200, "an attempt that succeeds does not count")
      }
      const refused = yield* guess("@alice:green.test", "secret-alice")
      assert.strictEqual(outcome(refused), "429 M_LIMIT_EXCEEDED")
      assert.isAbove(refused.body.retry_after_ms, 0)
      assert.strictEqual((yield* guess("bob", "secret-bob")).status, 200)
      for (const user of ["carol", "dave"]) assert.strictEqual(outcome(yield* guess(user, "x")), "403 M_FORBIDDEN")
      assert.strictEqual(outcome(yield* guess("bob", "secret-bob")), "429 M_LIMIT_EXCEEDED")
    }).pipe(
      Effect.provide(
        loginGateway({
          accountAttempts: { limit: 3, window: 600_000 },
          addressAttempts: { limit: 5, window: 600_000 }
        })
      )
    )
  )

  it.live("has the same limit for a holder of an access token", () =>
    Effect.gen(function* () {
      const { token } = yield* register("alice")
      const change = (old_password: string) =>
        post("/account/password", { old_password, new_password: "another secret" }, token)
      for (let count = 0; count < 3; count++) {
        assert.strictEqual(outcome(yield* change(`guess ${count}`)), "403 M_FORBIDDEN")
      }
      assert.strictEqual(outcome(yield* change("secret-alice")), "429 M_LIMIT_EXCEEDED")
      const refused = yield* login({ type: password, user: "alice", password: "secret-alice" })
      assert.strictEqual(outcome(refused), "429 M_LIMIT_EXCEEDED")
    }).pipe(Effect.provide(loginGateway({ accountAttempts: { limit: 3, window: 600_000 } })))
  )

  it.live("has the same limit where it confirms an operation", () =>
    Effect.gen(function* () {
      const { token } = yield* register("alice")
      const confirm = (secret: string) =>
        Effect.map(
          askToday("POST", "/v3/account/deactivate", { token, json: { auth: passwordOf("alice", secret) } }),
          ({ body }) => body.errcode
        )
      for (let count = 0; count < 3; count++) assert.strictEqual(yield* confirm(`guess ${count}`), "M_FORBIDDEN")
      assert.strictEqual(yield* confirm("secret-alice"), "M_LIMIT_EXCEEDED")
      assert.strictEqual((yield* askToday("GET", "/v3/account/whoami", { token })).status, 200)
    }).pipe(Effect.provide(loginGateway({ accountAttempts: { limit: 3, window: 600_000 } })))
  )

  it.live("has the minimum length of the configuration at every endpoint; an existing one stays valid", () =>
    Effect.gen(function* () {
      const old = yield* register("alice").pipe(Effect.provide(loginGatewayOnDatabase({})))
      yield* Effect.gen(function* () {
        const short = yield* signUp({ type: password, user: "bob", password: "2short" })
        assert.strictEqual(outcome(short), "400 M_WEAK_PASSWORD")
        assert.strictEqual(short.body.error, "password: must have 13 to 512 characters")
        assert.strictEqual(outcome(yield* signUp({ user_id: "bob", password: "2short" })), "400 M_WEAK_PASSWORD")
        assert.strictEqual((yield* signUp({ type: password, user: "bob", password: "13 characters" })).status, 200)
        assert.strictEqual((yield* login({ type: password, user: "alice", password: "secret-alice" })).status, 200)
        const passwords = { old_password: "secret-alice", new_password: "2short" }
        const changed = yield* post("/account/password", passwords, old.token)
        assert.strictEqual(changed.body.error, "new_password: must have 13 to 512 characters")
        const sql = yield* SqlClient.SqlClient
        yield* sql`UPDATE users SET admin = true WHERE user_id = ${old.id}`
        for (const [path, json] of [
          ["/admin/users", { user: "carol", password: "2short" }],
          ["/admin/users/@bob:green.test/password", { new_password: "2short" }]
        ] as const) {
          assert.strictEqual(outcome(yield* post(path, json, old.token)), "400 M_WEAK_PASSWORD", path)
        }
      }).pipe(Effect.provide(loginGatewayOnDatabase({ minPasswordLength: 13 })))
    }).pipe(Effect.provide(TestDatabase.layer))
  )
})
