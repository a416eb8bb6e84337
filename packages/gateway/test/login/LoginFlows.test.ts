import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { ask, register } from "../TestGateway.ts"
import {
  emailCode,
  emailUrl,
  gatewayOn,
  login,
  loginGateway,
  mailOptions,
  outcome,
  password,
  post,
  registrationToken,
  signUp,
  withMail
} from "./TestLogin.ts"
import { codeIn, linkIn, type TestMail, testMail } from "./TestMail.ts"

const flows = [[password, emailCode], [emailUrl], [emailCode, emailUrl, password]] as const
const registrationFlows = [[emailCode, password], [password]] as const
const configured = { flows, registrationFlows }

/** A user whose address is bound, because they registered with a code that it got. */
const signUpWithEmail = Effect.fnUntraced(function* (mail: TestMail, name: string) {
  const email = `${name}@mail.test`
  const { body: begun } = yield* signUp({ type: emailCode, user: name, email })
  const code = codeIn(yield* mail.next(email))
  const { body: coded } = yield* signUp({ type: emailCode, session: begun.session, code })
  assert.strictEqual(coded.next, password)
  const done = yield* signUp({ type: password, session: coded.session, password: `secret-${name}` })
  assert.strictEqual(done.status, 200, done.text)
  return { id: done.body.user_id, token: done.body.access_token, email }
})

/** Begins a login by code, and reads the code. */
const beginCode = Effect.fnUntraced(function* (mail: TestMail, user: string, email: string) {
  const { body } = yield* login({ type: emailCode, user, email })
  return { session: body.session, code: codeIn(yield* mail.next(email)) }
})

const wrongCode = (code: string) => String((Number(code.replace(" ", "")) + 1) % 1e8).padStart(8, "0")

describe("the flows", () => {
  it.live("are listed, each with its stages, and the first one beside them", () =>
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

  it.live("a login of three factors gives credentials after the third, in this order alone", () =>
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

  it.live("a session belongs to one user and one purpose, and to the holder of its secret", () =>
    withMail(configured, (mail) =>
      Effect.gen(function* () {
        const alice = yield* signUpWithEmail(mail, "alice")
        yield* signUpWithEmail(mail, "mallory")
        const { body: mallory } = yield* login({ type: password, user: "mallory", password: "secret-mallory" })
        assert.strictEqual(mallory.next, emailCode)
        const asAlice = { type: emailCode, session: mallory.session, user: "alice", email: alice.email }
        assert.strictEqual(outcome(yield* login(asAlice)), "403 M_FORBIDDEN")
        const toAlice = { type: emailCode, session: mallory.session, email: alice.email }
        assert.strictEqual((yield* login(toAlice)).status, 200)
        assert.strictEqual(
          outcome(yield* login({ type: emailCode, session: mallory.session, code: "00000000" })),
          "403 M_FORBIDDEN"
        )
        assert.isEmpty(mail.all.filter(({ to }) => to.includes(alice.email)).slice(1), "alice gets no mail of it")
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

  it.live("a login that is under way goes on at another node, and after a restart", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const mail = yield* testMail()
        const options = { mail: mailOptions(mail), ...configured }
        const session = yield* Effect.gen(function* () {
          yield* signUpWithEmail(mail, "alice")
          return (yield* login({ type: password, user: "alice", password: "secret-alice" })).body.session
        }).pipe(Effect.provide(gatewayOn(options)))
        const begun = yield* login({ type: emailCode, session, email: "alice@mail.test" }).pipe(
          Effect.provide(Layer.fresh(gatewayOn(options)))
        )
        assert.strictEqual(begun.status, 200)
        const code = codeIn(yield* mail.next("alice@mail.test"))
        const done = yield* login({ type: emailCode, session, code }).pipe(
          Effect.provide(Layer.fresh(gatewayOn(options)))
        )
        assert.strictEqual(done.body.user_id, "@alice:green.test")
      }).pipe(Effect.provide(TestDatabase.layer))
    )
  )

  it.live("a session that has expired gives nothing, whatever comes", () =>
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

  it.live("of many requests at once that end a session, one gets credentials", () =>
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

  it.live("from one address only so many logins are under way", () =>
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

describe("a code by email", () => {
  it.live("is good for five guesses, and then not even the right one helps", () =>
    withMail({ flows: [[emailCode], [password]], registrationFlows }, (mail) =>
      Effect.gen(function* () {
        const alice = yield* signUpWithEmail(mail, "alice")
        const { code, session } = yield* beginCode(mail, "alice", alice.email)
        const guesses = yield* Effect.all(
          Array.from({ length: 20 }, () => login({ type: emailCode, session, code: wrongCode(code) })),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual([...new Set(guesses.map(outcome))], ["403 M_FORBIDDEN"])
        assert.strictEqual(outcome(yield* login({ type: emailCode, session, code })), "403 M_FORBIDDEN")
        const again = yield* beginCode(mail, "alice", alice.email)
        const foreign = { type: emailCode, session: again.session, code }
        assert.strictEqual(outcome(yield* login(foreign)), "403 M_FORBIDDEN", "a code of another session")
        assert.strictEqual((yield* login({ type: emailCode, ...again })).body.user_id, alice.id)
        assert.strictEqual(outcome(yield* login({ type: emailCode, ...again })), "403 M_FORBIDDEN", "used already")
      })
    )
  )

  it.live("sent again, it replaces the one before; after three mails the login must begin anew", () =>
    withMail({ flows: [[emailCode], [password]], registrationFlows }, (mail) =>
      Effect.gen(function* () {
        const { email } = yield* signUpWithEmail(mail, "alice")
        const { code, session } = yield* beginCode(mail, "alice", email)
        yield* login({ type: emailCode, session, email })
        const second = codeIn(yield* mail.next(email))
        if (second !== code)
          assert.strictEqual(outcome(yield* login({ type: emailCode, session, code })), "403 M_FORBIDDEN")
        yield* login({ type: emailCode, session, email })
        const third = codeIn(yield* mail.next(email))
        assert.strictEqual(outcome(yield* login({ type: emailCode, session, email })), "403 M_FORBIDDEN")
        assert.strictEqual((yield* login({ type: emailCode, session, code: third })).status, 200)
      })
    )
  )

  it.live("the answers do not tell whether an address is bound, or to whom", () =>
    withMail({ flows: [[emailCode], [password]], registrationFlows, mailRate: { limit: 20, window: 60_000 } }, (mail) =>
      Effect.gen(function* () {
        const alice = yield* signUpWithEmail(mail, "alice")
        yield* register("bob")
        const before = mail.all.length
        for (const user of ["bob", "nobody", "@alice:elsewhere.test", "Not A User"]) {
          const begun = yield* login({ type: emailCode, user, email: alice.email })
          assert.strictEqual(begun.status, 200)
          assert.hasAllKeys(begun.body, ["type", "session"])
          const guess = yield* login({ type: emailCode, session: begun.body.session, code: "12345678" })
          assert.strictEqual(outcome(guess), "403 M_FORBIDDEN")
        }
        const unbound = yield* login({ type: emailCode, user: "bob", email: "bob@mail.test" })
        assert.hasAllKeys(unbound.body, ["type", "session"])
        const taken = yield* signUp({ type: emailCode, user: "carol", email: alice.email })
        assert.hasAllKeys(taken.body, ["type", "session"])
        assert.strictEqual(mail.all.length, before)
      })
    )
  )

  it.live("an address that would inject a header is refused, and so is one that is none", () =>
    withMail({ flows: [[emailCode]], registrationFlows }, (mail) =>
      Effect.gen(function* () {
        const addresses = [
          "alice@mail.test\r\nBcc: mallory@evil.test",
          "alice@mail.test\nSubject: Hello",
          "alice@mail.test, mallory@evil.test",
          "Alice <alice@mail.test>",
          '"a\r\nBcc: x@evil.test"@mail.test',
          "alice@mail.test\0",
          "alice",
          "@mail.test",
          `${"a".repeat(70)}@mail.test`,
          ""
        ]
        for (const email of addresses) {
          const answer = yield* signUp({ type: emailCode, user: "alice", email })
          assert.strictEqual(outcome(answer), "400 M_BAD_JSON", JSON.stringify(email))
          assert.include(answer.body.error, "email")
        }
        const good = yield* signUp({ type: emailCode, user: "alice", email: "Alice@Mail.Test" })
        assert.strictEqual(good.status, 200)
        const received = yield* mail.next("alice@mail.test")
        assert.deepStrictEqual(received.to, ["alice@mail.test"])
        assert.strictEqual(received.headers.to, "alice@mail.test")
        assert.include(received.headers.from, "noreply@green.test")
        assert.include(received.headers["content-type"], "multipart/alternative")
        assert.notProperty(received.headers, "bcc")
        assert.strictEqual(mail.all.length, 1)
      })
    )
  )

  it.live("one address gets only so many mails", () =>
    withMail({ flows: [[emailCode]], registrationFlows, mailRate: { limit: 2, window: 600_000 } }, () =>
      Effect.gen(function* () {
        const begin = signUp({ type: emailCode, user: "alice", email: "alice@mail.test" })
        assert.strictEqual((yield* begin).status, 200)
        assert.strictEqual((yield* begin).status, 200)
        assert.strictEqual(outcome(yield* begin), "429 M_LIMIT_EXCEEDED")
        const other = yield* signUp({ type: emailCode, user: "alice", email: "bob@mail.test" })
        assert.strictEqual(other.status, 200)
      })
    )
  )
})

describe("a link by email", () => {
  it.live("is confirmed by its button, not by programs that visit links", () =>
    withMail({ flows: [[emailUrl], [password]], registrationFlows }, (mail) =>
      Effect.gen(function* () {
        const alice = yield* signUpWithEmail(mail, "alice")
        const { body } = yield* login({ type: emailUrl, user: "alice", email: alice.email })
        const poll = login({ type: emailUrl, session: body.session })
        const link = linkIn(yield* mail.next(alice.email))
        const page = yield* Effect.promise(() => fetch(link, { headers: { accept: "text/html" } }))
        assert.strictEqual(page.status, 200)
        assert.include(page.headers.get("content-security-policy") ?? "", "default-src 'none'")
        assert.notInclude(yield* Effect.promise(() => page.text()), alice.email)
        yield* Effect.promise(() => fetch(link, { method: "HEAD" }))
        assert.strictEqual(outcome(yield* poll), "400 M_LOGIN_EMAIL_URL_NOT_YET")
        assert.strictEqual((yield* Effect.promise(() => fetch(link, { method: "POST" }))).status, 200)
        assert.strictEqual((yield* poll).body.user_id, alice.id)
        assert.strictEqual(outcome(yield* poll), "403 M_FORBIDDEN")
        assert.strictEqual((yield* Effect.promise(() => fetch(link, { method: "POST" }))).status, 404)
      })
    )
  )

  it.live("of another login does not help", () =>
    withMail({ flows: [[emailUrl], [password]], registrationFlows }, (mail) =>
      Effect.gen(function* () {
        const alice = yield* signUpWithEmail(mail, "alice")
        const { body: first } = yield* login({ type: emailUrl, user: "alice", email: alice.email })
        yield* mail.next(alice.email)
        yield* login({ type: emailUrl, user: "alice", email: alice.email })
        const link = linkIn(yield* mail.next(alice.email))
        yield* Effect.promise(() => fetch(link, { method: "POST" }))
        const poll = yield* login({ type: emailUrl, session: first.session })
        assert.strictEqual(outcome(poll), "400 M_LOGIN_EMAIL_URL_NOT_YET")
        const forged = link.replace(/token=.*/, "token=AAAA")
        assert.strictEqual((yield* Effect.promise(() => fetch(forged, { method: "POST" }))).status, 404)
      })
    )
  )
})

describe("a password", () => {
  it.live("is guessed a few times for one account from anywhere, and from one address for any account", () =>
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

  it.live("is guessed as few times by a holder of an access token", () =>
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

  it.live("has the length that the operator wants, however it comes; one that is there stays good", () =>
    Effect.gen(function* () {
      const old = yield* register("alice").pipe(Effect.provide(gatewayOn({})))
      yield* Effect.gen(function* () {
        const short = yield* signUp({ type: password, user: "bob", password: "2short" })
        assert.strictEqual(outcome(short), "400 M_BAD_JSON")
        assert.strictEqual(short.body.error, "password: must have 13 to 512 characters")
        assert.strictEqual(outcome(yield* signUp({ user_id: "bob", password: "2short" })), "400 M_BAD_JSON")
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
          assert.strictEqual(outcome(yield* post(path, json, old.token)), "400 M_BAD_JSON", path)
        }
      }).pipe(Effect.provide(gatewayOn({ minPasswordLength: 13 })))
    }).pipe(Effect.provide(TestDatabase.layer))
  )
})

describe("registration", () => {
  it.live("that is closed says so at every door", () =>
    Effect.gen(function* () {
      assert.strictEqual(outcome(yield* ask("GET", "/register")), "403 M_FORBIDDEN")
      assert.strictEqual(outcome(yield* signUp({ type: password, user: "alice", password: "x" })), "403 M_FORBIDDEN")
      assert.strictEqual(outcome(yield* signUp({ user_id: "alice", password: "x" })), "403 M_FORBIDDEN")
      assert.strictEqual(outcome(yield* signUp({ type: password, session: "none" })), "403 M_FORBIDDEN")
    }).pipe(Effect.provide(loginGateway({ registration: "closed" })))
  )

  it.live("refuses user IDs that look alike or break the grammar", () =>
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

  it.live("by token takes as many accounts as the token allows", () =>
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

  it.live("whose name was taken meanwhile can choose another", () =>
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

describe("an account", () => {
  it.live("gets an address after it was verified, and logs in with it then", () =>
    withMail({ flows: [[password], [emailCode]] }, (mail) =>
      Effect.gen(function* () {
        const alice = yield* register("alice")
        const bob = yield* register("bob")
        const link = (json: unknown, token = alice.token) => post("/account/links", json, token)
        const { body } = yield* link({ type: emailCode, email: "alice@mail.test" })
        const code = codeIn(yield* mail.next("alice@mail.test"))
        const foreign = { type: emailCode, session: body.session, code }
        assert.strictEqual(outcome(yield* link(foreign, bob.token)), "403 M_FORBIDDEN")
        const early = yield* login({ type: emailCode, email: "alice@mail.test", user: "alice" })
        assert.strictEqual(early.status, 200)
        assert.strictEqual(mail.all.length, 1, "no mail to an address that is not verified")
        assert.deepStrictEqual((yield* link(foreign)).body, {} as never)
        const begun = yield* beginCode(mail, "alice", "alice@mail.test")
        assert.strictEqual((yield* login({ type: emailCode, ...begun })).body.user_id, alice.id)
        const gone = yield* post("/account/links/remove", { medium: "email", address: "alice@mail.test" }, alice.token)
        assert.strictEqual(gone.status, 200)
        const { body: left } = yield* ask("GET", "/account/links", { token: alice.token })
        assert.deepStrictEqual(left.threepids, [])
      })
    )
  )

  it.live("that is unregistered leaves no address behind, and cannot log in with it", () =>
    withMail({ flows: [[password], [emailCode]], registrationFlows }, (mail) =>
      Effect.gen(function* () {
        const alice = yield* signUpWithEmail(mail, "alice")
        assert.strictEqual((yield* post("/unregister", {}, alice.token)).status, 200)
        const sql = yield* SqlClient.SqlClient
        assert.isEmpty(yield* sql`SELECT 1 FROM user_threepids`)
        const sent = mail.all.length
        yield* login({ type: emailCode, user: "alice", email: alice.email })
        assert.strictEqual(mail.all.length, sent)
        assert.strictEqual(
          outcome(yield* login({ type: password, user: "alice", password: "secret-alice" })),
          "403 M_FORBIDDEN"
        )
      })
    )
  )

  it.live("lists its devices, ends one, the others, or all; a new password ends the others", () =>
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

  it.live("it must log in again if tokens expire", () =>
    Effect.gen(function* () {
      const alice = yield* register("alice")
      assert.strictEqual(outcome(yield* ask("GET", "/devices", { token: alice.token })), "401 M_UNKNOWN_TOKEN")
    }).pipe(Effect.provide(loginGateway({ tokenTtl: -1 })))
  )
})
