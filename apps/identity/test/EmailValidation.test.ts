import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Logger, References } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { Mailbox } from "./support/Mailbox.ts"
import { ask, identity, identityWith, requestMail, takeLink, validate } from "./support/TestIdentity.ts"

const submit = (body: object) => ask("POST", "/validate/email/submitToken", body)
const validated = (sid: string, client_secret: string) =>
  ask("GET", `/3pid/getValidated3pid?sid=${sid}&client_secret=${client_secret}`)

layer(identity)("validation of an email address", (it) => {
  it.effect("submitting the token of the mail validates the address", () =>
    Effect.gen(function* () {
      const begun = yield* requestMail("Alice@Example.org", "secret-1")
      assert.strictEqual(begun.status, 200, begun.text)
      const { mail, ...link } = yield* takeLink
      assert.deepStrictEqual(mail.to, ["alice@example.org"])
      assert.include(mail.headers, "From: Greenroom <noreply@id.test>")
      assert.include(mail.headers, "Subject: Confirm your email address")
      assert.strictEqual(link.sid, begun.body.sid)
      assert.match(link.token, /^[A-Za-z0-9_-]{32}$/)
      assert.include(mail.html, `sid=${link.sid}&amp;client_secret=secret-1&amp;token=${link.token}`)
      assert.strictEqual((yield* validated(link.sid, "secret-1")).body.errcode, "M_SESSION_NOT_VALIDATED")
      assert.deepStrictEqual((yield* submit(link)).body, { success: true } as never)
      const answer = yield* validated(link.sid, "secret-1")
      assert.deepInclude(answer.body, { medium: "email", address: "alice@example.org" })
    })
  )

  it.effect("opening the link does not validate the address before its form is submitted", () =>
    Effect.gen(function* () {
      yield* requestMail("bob@example.org", "secret-2", 1, { next_link: "https://app.example/?a=1&b=<2>" })
      const { client_secret, path, sid } = yield* takeLink
      for (let i = 0; i < 10; i++) {
        const page = yield* ask("GET", path)
        assert.strictEqual(page.status, 200)
        assert.match(page.headers.get("content-type") ?? "", /^text\/html/)
        const policy = page.headers.get("content-security-policy") ?? ""
        assert.match(policy, /^default-src 'none'; style-src 'sha256-/)
        assert.notInclude(policy, "unsafe")
        assert.strictEqual(page.headers.get("referrer-policy"), "no-referrer")
        assert.strictEqual(page.headers.get("cache-control"), "no-store")
      }
      assert.strictEqual((yield* validated(sid, client_secret)).status, 400)
      const page = yield* ask("GET", path)
      const action = /<form method="post" action="([^"]+)">/.exec(page.text)![1]!.replaceAll("&amp;", "&")
      const confirm = `${path.slice(0, path.lastIndexOf("/"))}/${action}`
      const confirmed = yield* ask("POST", confirm, "", { "content-type": "application/x-www-form-urlencoded" })
      assert.strictEqual(confirmed.status, 200, confirmed.text)
      assert.include(confirmed.text, 'href="https://app.example/?a=1&amp;b=&lt;2&gt;"')
      assert.include(confirmed.text, "Continue to app.example")
      assert.strictEqual((yield* validated(sid, client_secret)).status, 200)
      const again = yield* ask("POST", confirm, "")
      assert.strictEqual(again.status, 400)
      assert.include(again.text, "used already")
    })
  )

  it.effect("a token is valid once, for its own session only", () =>
    Effect.gen(function* () {
      yield* requestMail("carol@example.org", "secret-3")
      const carol = yield* takeLink
      yield* requestMail("mallory@example.org", "secret-4")
      const mallory = yield* takeLink
      const foreign = yield* submit({ ...mallory, token: carol.token })
      assert.strictEqual(foreign.body.errcode, "M_TOKEN_INCORRECT")
      assert.strictEqual((yield* submit({ ...carol, client_secret: "secret-4" })).body.errcode, "M_NO_VALID_SESSION")
      assert.strictEqual((yield* submit({ ...carol, sid: mallory.sid })).body.errcode, "M_NO_VALID_SESSION")
      const asPhone = yield* ask("POST", "/validate/msisdn/submitToken", carol)
      assert.strictEqual(asPhone.body.errcode, "M_NO_VALID_SESSION")
      assert.strictEqual((yield* submit(carol)).status, 200)
      assert.strictEqual((yield* submit(carol)).body.errcode, "M_TOKEN_INCORRECT")
    })
  )

  it.effect("one of many concurrent submissions succeeds", () =>
    Effect.gen(function* () {
      yield* requestMail("dave@example.org", "secret-5")
      const link = yield* takeLink
      const answers = yield* Effect.all(
        Array.from({ length: 4 }, () => submit(link)),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(answers.filter(({ status }) => status === 200).length, 1)
    })
  )

  it.effect("after five wrong tokens the correct one is refused too, until another mail is sent", () =>
    Effect.gen(function* () {
      yield* requestMail("erin@example.org", "secret-6")
      const link = yield* takeLink
      const guesses = yield* Effect.all(
        Array.from({ length: 20 }, (_, i) => submit({ ...link, token: `guess-${i}` })),
        { concurrency: "unbounded" }
      )
      assert.isTrue(guesses.every(({ status }) => status === 400))
      assert.strictEqual(guesses.filter(({ text }) => text.includes("The token is wrong")).length, 5)
      assert.include((yield* submit(link)).text, "Too many wrong tokens")
      yield* requestMail("erin@example.org", "secret-6", 2)
      const next = yield* takeLink
      assert.strictEqual(next.sid, link.sid)
      assert.strictEqual((yield* submit({ ...next, token: link.token })).status, 400)
      assert.strictEqual((yield* submit(next)).status, 200)
    })
  )

  it.effect("a repeated request sends one mail, a higher send_attempt another one", () =>
    Effect.gen(function* () {
      const first = yield* requestMail("frank@example.org", "secret-7", 3)
      for (const attempt of [3, 2, 3]) {
        assert.strictEqual((yield* requestMail("frank@example.org", "secret-7", attempt)).body.sid, first.body.sid)
      }
      yield* takeLink
      assert.strictEqual(yield* Mailbox.use(({ waiting }) => waiting), 0)
      yield* requestMail("frank@example.org", "secret-7", 4)
      yield* takeLink
      assert.strictEqual(yield* Mailbox.use(({ waiting }) => waiting), 0)
    })
  )

  it.effect("a validated session stays validated, and sends no more mails", () =>
    Effect.gen(function* () {
      yield* requestMail("mike@example.org", "secret-10")
      const link = yield* takeLink
      assert.strictEqual((yield* submit(link)).status, 200)
      const again = yield* requestMail("mike@example.org", "secret-10", 2)
      assert.deepStrictEqual([again.status, again.body.sid], [200, link.sid])
      assert.strictEqual(yield* Mailbox.use(({ waiting }) => waiting), 0)
      assert.strictEqual((yield* validated(link.sid, "secret-10")).status, 200)
    })
  )

  it.effect("a link expires, and so does a validated session", () =>
    Effect.gen(function* () {
      yield* requestMail("grace@example.org", "secret-8")
      const link = yield* takeLink
      yield* TestClock.adjust("25 hours")
      assert.strictEqual((yield* submit(link)).body.errcode, "M_SESSION_EXPIRED")
      const begun = yield* requestMail("grace@example.org", "secret-8")
      assert.notStrictEqual(begun.body.sid, link.sid)
      const next = yield* takeLink
      assert.strictEqual((yield* submit(next)).status, 200)
      yield* TestClock.adjust("23 hours")
      assert.strictEqual((yield* validated(next.sid, "secret-8")).status, 200)
      yield* TestClock.adjust("2 hours")
      assert.strictEqual((yield* validated(next.sid, "secret-8")).body.errcode, "M_SESSION_EXPIRED")
      const bound = yield* ask("POST", "/3pid/bind", {
        sid: next.sid,
        client_secret: "secret-8",
        mxid: "@grace:a.test"
      })
      assert.strictEqual(bound.body.errcode, "M_SESSION_EXPIRED")
    })
  )

  it.effect("an address gets at most five mails an hour, from all clients together", () =>
    Effect.gen(function* () {
      for (let i = 0; i < 5; i++) {
        assert.strictEqual((yield* requestMail("heidi@example.org", `many-${i}`)).status, 200)
        yield* takeLink
      }
      const refused = yield* requestMail("Heidi@EXAMPLE.org", "many-5")
      assert.strictEqual(refused.status, 429)
      assert.strictEqual(refused.body.errcode, "M_LIMIT_EXCEEDED")
      assert.isAbove(refused.body.retry_after_ms, 0)
      assert.strictEqual((yield* requestMail("heidi2@example.org", "many-5")).status, 200)
      yield* takeLink
      yield* TestClock.adjust("61 minutes")
      assert.strictEqual((yield* requestMail("heidi@example.org", "many-5")).status, 200)
      yield* takeLink
    })
  )

  it.effect("malformed addresses cannot add headers or recipients", () =>
    Effect.gen(function* () {
      const hostile = [
        "victim@example.org\r\nBcc: other@example.org",
        "victim@example.org\nSubject: buy",
        "victim@example.org,other@example.org",
        "victim@example.org other@example.org",
        '"a\r\nBcc: b@c.de"@example.org',
        "<victim@example.org>",
        "Name <victim@example.org>",
        "victim@example.org\0",
        "victim@example.org ",
        "victim@[127.0.0.1]",
        "victim@localhost",
        "vïctim@example.org",
        "a@@example.org",
        ".a@example.org",
        `${"a".repeat(65)}@example.org`,
        "-oX@-example.org"
      ]
      for (const email of hostile) {
        const answer = yield* requestMail(email, "hostile")
        assert.strictEqual(answer.status, 400, JSON.stringify(email))
        assert.strictEqual(answer.body.errcode, "M_INVALID_ADDRESS", JSON.stringify(email))
      }
      assert.strictEqual(yield* Mailbox.use(({ waiting }) => waiting), 0)
    })
  )

  it.effect("the URL of the next page must be one of HTTP or HTTPS", () =>
    Effect.gen(function* () {
      for (const next_link of ["javascript:alert(1)", "data:text/html,a", "//evil.example", "https://a:b@c.example/"]) {
        const answer = yield* requestMail("ivan@example.org", "next", 1, { next_link })
        assert.strictEqual(answer.body.errcode, "M_BAD_JSON", next_link)
      }
    })
  )

  it.effect("errors report the fault of a request", () =>
    Effect.gen(function* () {
      const path = "/validate/email/requestToken"
      const good = { client_secret: "a", email: "judy@example.org", send_attempt: 1 }
      assert.strictEqual((yield* ask("POST", path, "{")).body.errcode, "M_NOT_JSON")
      assert.strictEqual((yield* ask("POST", path, [])).body.errcode, "M_BAD_JSON")
      for (const [key, value] of [
        ["client_secret", "not allowed!"],
        ["client_secret", "x".repeat(256)],
        ["client_secret", undefined],
        ["email", 5],
        ["send_attempt", -1],
        ["send_attempt", 1.5],
        ["send_attempt", "1"]
      ] as const) {
        const answer = yield* ask("POST", path, { ...good, [key]: value })
        assert.strictEqual(answer.body.errcode, "M_BAD_JSON", answer.text)
        assert.include(answer.body.error, key)
      }
      const notUtf8 = yield* ask("POST", path, Buffer.from([0x22, 0xff, 0x22]))
      assert.deepStrictEqual([notUtf8.status, notUtf8.body.errcode], [400, "M_NOT_JSON"])
      assert.strictEqual((yield* ask("POST", path, "x".repeat(1_100_000))).status, 413)
      assert.strictEqual((yield* ask("POST", "/validate/pigeon/submitToken", {})).status, 400)
      assert.strictEqual((yield* ask("GET", "/nothing")).body.errcode, "M_UNRECOGNIZED")
      assert.strictEqual((yield* ask("DELETE", path)).status, 405)
    })
  )

  it.effect("the database contains no token and no client secret", () =>
    Effect.gen(function* () {
      yield* requestMail("kim@example.org", "a-client-secret")
      const link = yield* takeLink
      const sql = yield* SqlClient.SqlClient
      const rows = yield* sql<{ row: string }>`SELECT s::text AS row FROM validation_sessions s`
      const text = rows.map(({ row }) => row).join()
      for (const secret of [link.token, "a-client-secret"]) {
        assert.notInclude(text, secret)
        assert.notInclude(text, Buffer.from(secret).toString("hex"))
      }
    })
  )

  it.effect("a mail that could not be sent may be requested again", () =>
    Effect.gen(function* () {
      const mailbox = yield* Mailbox
      mailbox.refuseRecipients("no such user")
      const refused = yield* requestMail("leo@example.org", "secret-9")
      assert.strictEqual(refused.status, 502)
      assert.strictEqual(refused.body.errcode, "M_MESSAGE_SEND_ERROR")
      mailbox.refuseRecipients(undefined)
      assert.strictEqual((yield* requestMail("leo@example.org", "secret-9")).status, 200)
      const link = yield* takeLink
      assert.strictEqual((yield* submit(link)).status, 200)
    })
  )
})

layer(identityWith({ smtp: undefined }))("without an SMTP server", (it) => {
  it.effect("email addresses are refused", () =>
    Effect.gen(function* () {
      const answer = yield* requestMail("a@example.org", "secret")
      assert.strictEqual(answer.body.errcode, "M_THREEPID_MEDIUM_NOT_SUPPORTED")
    })
  )
})

const rates = {
  requests: "off",
  messages: { limit: 3, window: 3_600_000 },
  tries: { limit: 4, window: 3_600_000 },
  lookups: "off"
} as const

layer(identityWith({ rates }))("limits per client", (it) => {
  it.effect("mails and attempted tokens of a client are limited", () =>
    Effect.gen(function* () {
      for (let i = 0; i < 3; i++) assert.strictEqual((yield* requestMail(`a${i}@example.org`, "a")).status, 200)
      assert.strictEqual((yield* requestMail("a4@example.org", "a")).status, 429)
      const guess = { sid: "none", client_secret: "a", token: "none" }
      for (let i = 0; i < 4; i++) assert.strictEqual((yield* submit(guess)).status, 400)
      const refused = yield* submit(guess)
      assert.strictEqual(refused.status, 429)
      assert.isNotNull(refused.headers.get("retry-after"))
    })
  )
})

const behindProxy = { host: "127.0.0.1", port: 0, trustedProxies: ["127.0.0.1"] } as const
const trusting = { http: behindProxy, rates, trustedClients: ["203.0.113.0/24"] }
const direct = { rates, trustedClients: ["203.0.113.0/24"] }

/** Submits a token from an address that a proxy reports. */
const submitFrom = (address: string) =>
  ask(
    "POST",
    "/validate/email/submitToken",
    { sid: "none", client_secret: "a", token: "none" },
    {
      "x-forwarded-for": address
    }
  )

layer(identityWith(trusting))("behind a proxy", (it) => {
  it.effect("each client has its own limit, an IPv6 network one, and trusted clients have none", () =>
    Effect.gen(function* () {
      for (const [address, other] of [
        ["198.51.100.1", "198.51.100.2"],
        ["2001:db8::1", "2001:db8:0:1::1"]
      ] as const) {
        for (let i = 0; i < 4; i++) assert.strictEqual((yield* submitFrom(address)).status, 400)
        assert.strictEqual((yield* submitFrom(address)).status, 429)
        assert.strictEqual((yield* submitFrom(other)).status, 400)
      }
      assert.strictEqual((yield* submitFrom("2001:db8::2")).status, 429)
      for (let i = 0; i < 10; i++) assert.strictEqual((yield* submitFrom("203.0.113.7")).status, 400)
    })
  )
})

layer(identityWith(direct))("without a proxy", (it) => {
  it.effect("a header does not change a client's limit", () =>
    Effect.gen(function* () {
      for (let i = 0; i < 4; i++) assert.strictEqual((yield* submitFrom(`198.51.100.${i}`)).status, 400)
      assert.strictEqual((yield* submitFrom("203.0.113.7")).status, 429)
    })
  )
})

const written: Array<string> = []
const logged = Layer.mergeAll(
  Logger.layer([
    Logger.make(({ cause, message }) => {
      written.push(JSON.stringify([message, String(cause)]))
    })
  ]),
  Layer.succeed(References.MinimumLogLevel, "Trace")
)

layer(identityWith().pipe(Layer.provideMerge(logged)))("the log", (it) => {
  it.effect("the log contains no token, client secret or address", () =>
    Effect.gen(function* () {
      const session = yield* validate("private@example.org", "client-secret-of-the-log")
      yield* ask("POST", "/3pid/bind", { ...session, mxid: "@private:a.test" })
      const mailbox = yield* Mailbox
      mailbox.refuseRecipients("nobody called private2@example.org")
      yield* requestMail("private2@example.org", "client-secret-of-the-log")
      const text = written.join("\n")
      assert.include(text, "A mail could not be sent")
      for (const secret of ["client-secret-of-the-log", session.sid, "private@", "private2@"]) {
        assert.notInclude(text, secret)
      }
    })
  )
})
