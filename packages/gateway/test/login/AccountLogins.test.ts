import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { ask, outcome, register } from "../TestGateway.ts"
import { beginCode, registrationFlows, signUpWithEmail } from "./EmailUsers.ts"
import { emailCode, login, loginGateway, password, post, withMail } from "./TestLogin.ts"
import { codeIn } from "./TestMail.ts"

describe("an account", () => {
  it.live("gets an address once it is verified, and then logs in with it", () =>
    withMail({ flows: [[password], [emailCode]] }, (mail) =>
      Effect.gen(function* () {
        const alice = yield* register("alice")
        const bob = yield* register("bob")
        const link = (json: unknown, token = alice.token) => post("/account/links", json, token)
        const { body } = yield* link({ type: emailCode, email: "alice@mail.test" })
        const code = codeIn(yield* mail.next("alice@mail.test"))
        const verification = { type: emailCode, session: body.session, code }
        assert.strictEqual(outcome(yield* link(verification, bob.token)), "403 M_FORBIDDEN")
        const early = yield* login({ type: emailCode, email: "alice@mail.test", user: "alice" })
        assert.strictEqual(early.status, 200)
        assert.deepStrictEqual((yield* link(verification)).body, {} as never)
        const begun = yield* beginCode(mail, "alice", "alice@mail.test")
        assert.lengthOf(mail.all, 2, "the login before the verification sent no mail")
        assert.strictEqual((yield* login({ type: emailCode, ...begun })).body.user_id, alice.id)
        const gone = yield* post("/account/links/remove", { medium: "email", address: "alice@mail.test" }, alice.token)
        assert.strictEqual(gone.status, 200)
        const { body: left } = yield* ask("GET", "/account/links", { token: alice.token })
        assert.deepStrictEqual(left.threepids, [])
      })
    )
  )

  it.live("that is unregistered keeps no address, and cannot log in with it", () =>
    withMail({ flows: [[password], [emailCode]], registrationFlows }, (mail) =>
      Effect.gen(function* () {
        const alice = yield* signUpWithEmail(mail, "alice")
        assert.strictEqual((yield* post("/unregister", {}, alice.token)).status, 200)
        const sql = yield* SqlClient.SqlClient
        assert.isEmpty(yield* sql`SELECT 1 FROM user_threepids`)
        const sent = mail.all.length
        yield* login({ type: emailCode, user: "alice", email: alice.email })
        yield* signUpWithEmail(mail, "bob")
        assert.deepStrictEqual(
          mail.all.slice(sent).flatMap(({ to }) => to),
          ["bob@mail.test"]
        )
        assert.strictEqual(
          outcome(yield* login({ type: password, user: "alice", password: "secret-alice" })),
          "403 M_FORBIDDEN"
        )
      })
    )
  )

  it.live("lists its devices and logs out one, the others or all; a new password logs out the others", () =>
    Effect.gen(function* () {
      const alice = yield* register("alice")
      const another = Effect.map(
        login({ type: password, user: "alice", password: "secret-alice", device_name: "Phone" }),
        ({ body }) => body
      )
      const works = (token: string) => Effect.map(ask("GET", "/devices", { token }), ({ status }) => status === 200)
      const [first, second, third] = [yield* another, yield* another, yield* another]
      const { body } = yield* ask("GET", "/devices", { token: alice.token })
      assert.lengthOf(body.devices as ReadonlyArray<unknown>, 4)
      assert.strictEqual((yield* ask("DELETE", `/devices/${first.device_id}`, { token: alice.token })).status, 200)
      assert.deepStrictEqual([yield* works(first.access_token), yield* works(second.access_token)], [false, true])
      assert.strictEqual(outcome(yield* ask("DELETE", "/devices/none", { token: alice.token })), "404 M_NOT_FOUND")
      yield* post("/logout/others", {}, second.access_token)
      assert.deepStrictEqual(
        [yield* works(alice.token), yield* works(second.access_token), yield* works(third.access_token)],
        [false, true, false]
      )
      const fourth = yield* another
      const change = (old: string) =>
        post("/account/password", { old_password: old, new_password: "new" }, second.access_token)
      assert.strictEqual(outcome(yield* change("wrong")), "403 M_FORBIDDEN")
      assert.strictEqual((yield* change("secret-alice")).status, 200)
      assert.deepStrictEqual([yield* works(fourth.access_token), yield* works(second.access_token)], [false, true])
      const { body: renewed } = yield* login({ type: password, user: "alice", password: "new" })
      yield* post("/logout/all", {}, renewed.access_token)
      assert.isFalse(yield* works(second.access_token))
    }).pipe(Effect.provide(loginGateway({})))
  )

  it.live("must log in again when its token has expired", () =>
    Effect.gen(function* () {
      const alice = yield* register("alice")
      assert.strictEqual(outcome(yield* ask("GET", "/devices", { token: alice.token })), "401 M_UNKNOWN_TOKEN")
    }).pipe(Effect.provide(loginGateway({ tokenTtl: -1 })))
  )
})
