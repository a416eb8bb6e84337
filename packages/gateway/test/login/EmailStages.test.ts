import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { outcome, register } from "../TestGateway.ts"
import { beginCode, registrationFlows, signUpWithEmail } from "./EmailUsers.ts"
import { emailCode, emailUrl, login, password, signUp, withMail } from "./TestLogin.ts"
import { codeIn, linkIn } from "./TestMail.ts"

const wrongCode = (code: string) => String((Number(code.replace(" ", "")) + 1) % 1e8).padStart(8, "0")

describe("a code by email", () => {
  it.live("is refused after five guesses, even if it is right", () =>
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

  it.live("replaces the code of the mail before; after three mails the login must start again", () =>
    withMail({ flows: [[emailCode], [password]], registrationFlows }, (mail) =>
      Effect.gen(function* () {
        const { email } = yield* signUpWithEmail(mail, "alice")
        const { code, session } = yield* beginCode(mail, "alice", email)
        yield* login({ type: emailCode, session, email })
        yield* mail.next(email)
        assert.strictEqual(outcome(yield* login({ type: emailCode, session, code })), "403 M_FORBIDDEN")
        yield* login({ type: emailCode, session, email })
        const third = codeIn(yield* mail.next(email))
        assert.strictEqual(outcome(yield* login({ type: emailCode, session, email })), "403 M_FORBIDDEN")
        assert.strictEqual((yield* login({ type: emailCode, session, code: third })).status, 200)
      })
    )
  )

  it.live("does not reveal whether an address belongs to an account, or to which", () =>
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
        yield* beginCode(mail, "alice", alice.email)
        assert.lengthOf(mail.all, before + 1, "the requests above sent no mail")
      })
    )
  )

  it.live("is not sent to an address that would inject a header, or that is not valid", () =>
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

  it.live("is limited in number for each address", () =>
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
  it.live("is confirmed by the button of its page, not by opening it", () =>
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

  it.live("of another login does not confirm this one", () =>
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
