import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { ask, outcome } from "../TestGateway.ts"
import { beginCode, flows, registrationFlows, signUpWithEmail } from "./EmailUsers.ts"
import {
  emailCode,
  emailUrl,
  login,
  loginGatewayOnDatabase,
  mailOptions,
  password,
  signUp,
  withMail
} from "./TestLogin.ts"
import { codeIn, linkIn, testMail } from "./TestMail.ts"

const configured = { flows, registrationFlows }

describe("login flows", () => {
  it.live("are listed with their stages", () =>
    withMail(configured, () =>
      Effect.gen(function* () {
        const { body } = yield* ask("GET", "/login")
        assert.deepStrictEqual(body, {
          flows: [
            { type: password, stages: [password, emailCode] },
            { type: emailUrl },
            { type: emailCode, stages: [emailCode, emailUrl, password] }
          ],
          type: password,
          stages: [password, emailCode]
        } as never)
        const { body: toRegister } = yield* ask("GET", "/register")
        assert.deepStrictEqual(toRegister.flows, [
          { type: emailCode, stages: [emailCode, password] },
          { type: password }
        ])
      })
    )
  )

  it.live("of three factors give credentials after the third, in this order alone", () =>
    withMail({ flows: [[emailCode, emailUrl, password]], registrationFlows }, (mail) =>
      Effect.gen(function* () {
        const alice = yield* signUpWithEmail(mail, "alice")
        const begun = yield* beginCode(mail, "alice", alice.email)
        assert.strictEqual(outcome(yield* login({ type: emailUrl, session: begun.session })), "403 M_FORBIDDEN")
        assert.strictEqual(
          outcome(yield* login({ type: password, session: begun.session, password: "secret-alice" })),
          "403 M_FORBIDDEN"
        )
        const { body: second } = yield* login({ type: emailCode, ...begun })
        assert.deepStrictEqual([second.next, second.session], [emailUrl, begun.session])
        assert.notProperty(second, "access_token")
        assert.strictEqual(outcome(yield* login({ type: emailCode, ...begun })), "403 M_FORBIDDEN")
        const { session } = second
        yield* login({ type: emailUrl, session, email: alice.email })
        const link = linkIn(yield* mail.next(alice.email))
        assert.strictEqual(outcome(yield* login({ type: emailUrl, session })), "400 M_LOGIN_EMAIL_URL_NOT_YET")
        yield* Effect.promise(() => fetch(link, { method: "POST" }))
        const { body: third } = yield* login({ type: emailUrl, session })
        assert.strictEqual(third.next, password)
        assert.strictEqual(outcome(yield* login({ type: password, session, password: "guess" })), "403 M_FORBIDDEN")
        const { body: done } = yield* login({ type: password, session, password: "secret-alice" })
        assert.strictEqual(done.user_id, alice.id)
        const me = yield* ask("GET", "/devices", { token: done.access_token })
        assert.strictEqual(me.status, 200)
        assert.strictEqual(
          outcome(yield* login({ type: password, session, password: "secret-alice" })),
          "403 M_FORBIDDEN"
        )
      })
    )
  )

  it.live("a session belongs to one user, one purpose and the holder of its secret", () =>
    withMail(configured, (mail) =>
      Effect.gen(function* () {
        const alice = yield* signUpWithEmail(mail, "alice")
        yield* signUpWithEmail(mail, "mallory")
        const { body: mallory } = yield* login({ type: password, user: "mallory", password: "secret-mallory" })
        assert.strictEqual(mallory.next, emailCode)
        const asAlice = { type: emailCode, session: mallory.session, user: "alice", email: alice.email }
        assert.strictEqual(outcome(yield* login(asAlice)), "403 M_FORBIDDEN")
        const byAddress = { type: emailCode, session: mallory.session, email: alice.email }
        assert.strictEqual((yield* login(byAddress)).status, 200)
        assert.strictEqual(
          outcome(yield* login({ type: emailCode, session: mallory.session, code: "00000000" })),
          "403 M_FORBIDDEN"
        )
        yield* signUpWithEmail(mail, "bob")
        const toAlice = mail.all.filter(({ to }) => to.includes(alice.email))
        assert.lengthOf(toAlice, 1, "the mail of the registration alone")
        assert.strictEqual(
          outcome(yield* signUp({ type: password, session: mallory.session, password: "x" })),
          "403 M_FORBIDDEN"
        )
        const foreign = { type: password, session: "none", user: "alice", password: "secret-alice" }
        assert.strictEqual(outcome(yield* login(foreign)), "403 M_FORBIDDEN")
        assert.strictEqual(outcome(yield* login({ type: "m.login.nonsense" })), "400 M_UNKNOWN")
      })
    )
  )

  it.live("a started login continues on another node and after a restart", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const mail = yield* testMail()
        const options = { mail: mailOptions(mail), ...configured }
        const session = yield* Effect.gen(function* () {
          yield* signUpWithEmail(mail, "alice")
          return (yield* login({ type: password, user: "alice", password: "secret-alice" })).body.session
        }).pipe(Effect.provide(loginGatewayOnDatabase(options)))
        const code = yield* Effect.gen(function* () {
          const begun = yield* login({ type: emailCode, session, email: "alice@mail.test" })
          assert.strictEqual(begun.status, 200)
          return codeIn(yield* mail.next("alice@mail.test"))
        }).pipe(Effect.provide(Layer.fresh(loginGatewayOnDatabase(options))))
        const done = yield* login({ type: emailCode, session, code }).pipe(
          Effect.provide(Layer.fresh(loginGatewayOnDatabase(options)))
        )
        assert.strictEqual(done.body.user_id, "@alice:green.test")
      }).pipe(Effect.provide(TestDatabase.layer))
    )
  )

  it.live("an expired session gives no credentials", () =>
    withMail(configured, (mail) =>
      Effect.gen(function* () {
        const alice = yield* signUpWithEmail(mail, "alice")
        const { body } = yield* login({ type: password, user: "alice", password: "secret-alice" })
        yield* login({ type: emailCode, session: body.session, email: alice.email })
        const code = codeIn(yield* mail.next(alice.email))
        const { body: byLink } = yield* login({ type: emailUrl, user: "alice", email: alice.email })
        const link = linkIn(yield* mail.next(alice.email))
        const sql = yield* SqlClient.SqlClient
        yield* sql`UPDATE login_sessions SET expires_at = 0`
        assert.strictEqual(outcome(yield* login({ type: emailCode, session: body.session, code })), "403 M_FORBIDDEN")
        const page = yield* Effect.promise(() => fetch(link, { method: "POST" }))
        assert.strictEqual(page.status, 404)
        assert.strictEqual(outcome(yield* login({ type: emailUrl, session: byLink.session })), "403 M_FORBIDDEN")
      })
    )
  )

  it.live("one of many concurrent requests that finish a session gets credentials", () =>
    withMail(configured, (mail) =>
      Effect.gen(function* () {
        const alice = yield* signUpWithEmail(mail, "alice")
        const { body } = yield* login({ type: password, user: "alice", password: "secret-alice" })
        yield* login({ type: emailCode, session: body.session, email: alice.email })
        const code = codeIn(yield* mail.next(alice.email))
        const answers = yield* Effect.all(
          Array.from({ length: 5 }, () => login({ type: emailCode, session: body.session, code })),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(answers.filter(({ status }) => status === 200).length, 1)
        assert.strictEqual(answers.filter(({ status }) => status === 403).length, 4)
      })
    )
  )

  it.live("unfinished logins are limited for each network address", () =>
    withMail({ ...configured, maxSessionsPerAddress: 3 }, (mail) =>
      Effect.gen(function* () {
        yield* signUpWithEmail(mail, "alice")
        const begin = login({ type: password, user: "alice", password: "secret-alice" })
        for (let count = 0; count < 3; count++) assert.strictEqual((yield* begin).status, 200)
        const refused = yield* begin
        assert.strictEqual(outcome(refused), "429 M_LIMIT_EXCEEDED")
      })
    )
  )
})
