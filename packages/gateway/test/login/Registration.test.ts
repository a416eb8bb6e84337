import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { ask, outcome } from "../TestGateway.ts"
import { emailCode, login, loginGateway, password, registrationToken, signUp, withMail } from "./TestLogin.ts"
import { codeIn } from "./TestMail.ts"

describe("registration", () => {
  it.live("is refused at every endpoint if it is closed", () =>
    Effect.gen(function* () {
      assert.strictEqual(outcome(yield* ask("GET", "/register")), "403 M_FORBIDDEN")
      assert.strictEqual(outcome(yield* signUp({ type: password, user: "alice", password: "x" })), "403 M_FORBIDDEN")
      assert.strictEqual(outcome(yield* signUp({ user_id: "alice", password: "x" })), "403 M_FORBIDDEN")
      assert.strictEqual(outcome(yield* signUp({ type: password, session: "none" })), "403 M_FORBIDDEN")
    }).pipe(Effect.provide(loginGateway({ registration: "closed" })))
  )

  it.live("refuses user IDs that violate the grammar", () =>
    Effect.gen(function* () {
      const names = [
        "\u0430lice",
        "al ice",
        "alice\u200b",
        "alice\n",
        "\uff41lice",
        "alice:green.test",
        "@al:evil.test",
        "",
        "a".repeat(300)
      ]
      for (const user of names) {
        const answer = yield* signUp({ type: password, user, password: "secret" })
        assert.strictEqual(outcome(answer), "400 M_INVALID_USERNAME", JSON.stringify(user))
      }
    }).pipe(Effect.provide(loginGateway({})))
  )

  it.live("by token is limited to the uses of the token", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { body } = yield* ask("GET", "/register")
      assert.deepStrictEqual(body.flows, [{ type: registrationToken, stages: [registrationToken, password] }])
      assert.strictEqual(outcome(yield* signUp({ type: password, user: "a", password: "x" })), "403 M_FORBIDDEN")
      assert.strictEqual(outcome(yield* signUp({ user_id: "a", password: "x" })), "403 M_FORBIDDEN")
      yield* sql`
        INSERT INTO registration_tokens (token_hash, token_id, uses_allowed, created_at)
        VALUES (sha256('welcome'), 'one', 1, 0)`
      assert.strictEqual(outcome(yield* signUp({ type: registrationToken, token: "guess" })), "403 M_FORBIDDEN")
      const begin = signUp({ type: registrationToken, token: "welcome" })
      const [first, second] = [yield* begin, yield* begin]
      const finish = (session: unknown, user: string) => signUp({ type: password, session, user, password: "x" })
      assert.strictEqual(first.body.next, password)
      assert.strictEqual((yield* finish(first.body.session, "alice")).body.user_id, "@alice:green.test")
      assert.strictEqual(outcome(yield* finish(second.body.session, "bob")), "403 M_FORBIDDEN")
      assert.strictEqual(outcome(yield* begin), "403 M_FORBIDDEN")
      assert.strictEqual(outcome(yield* login({ type: password, user: "bob", password: "x" })), "403 M_FORBIDDEN")
    }).pipe(Effect.provide(loginGateway({ registration: "token" })))
  )

  it.live("with a refused user name can choose another one", () =>
    withMail({ registrationFlows: [[emailCode, password]] }, (mail) =>
      Effect.gen(function* () {
        const { body } = yield* signUp({ type: emailCode, email: "alice@mail.test" })
        const code = codeIn(yield* mail.next("alice@mail.test"))
        const { body: next } = yield* signUp({ type: emailCode, session: body.session, code })
        const finish = (user: string) => signUp({ type: password, session: next.session, user, password: "x" })
        const { session } = next
        assert.strictEqual(outcome(yield* signUp({ session, user: "alice" })), "400 M_BAD_JSON", "the earliest form")
        assert.strictEqual(outcome(yield* signUp({ type: password, session })), "400 M_BAD_JSON")
        assert.strictEqual(outcome(yield* finish("@alice:evil.test")), "400 M_INVALID_USERNAME")
        const done = yield* finish("alice")
        assert.strictEqual(done.body.user_id, "@alice:green.test")
        const { body: links } = yield* ask("GET", "/account/links", { token: done.body.access_token })
        assert.nestedPropertyVal(links, "threepids[0].address", "alice@mail.test")
      })
    )
  )
})
