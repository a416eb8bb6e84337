import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { withMail } from "../login/TestLogin.ts"
import { linkIn } from "../login/TestMail.ts"
import { askToday, passwordOf, register } from "../TestGateway.ts"
import { addEmail, clickLink, identityStage, openLink, post, requestToken, validate } from "./TestAddresses.ts"

describe("addresses by today's client API", () => {
  it.live("users register with a validated address, and log in with it", () =>
    withMail({ registrationFlows: [["m.login.email.url", "m.login.password"]] }, (mail) =>
      Effect.gen(function* () {
        const wanted = { username: "ada", password: "secret-ada" }
        const asked = yield* post("/v3/register", wanted)
        assert.deepStrictEqual(asked.body.flows, [{ stages: ["m.login.email.identity"] }])
        const { body } = yield* requestToken("/v3/register", "Ada@mail.test", "abc", 1, {
          next_link: "https://client.test/go"
        })
        const creds = { sid: body.sid, client_secret: "abc" }
        const early = yield* post("/v3/register", { ...wanted, auth: identityStage(creds, asked.body.session) })
        assert.strictEqual(early.body.errcode, "M_THREEPID_AUTH_FAILED")
        const link = linkIn(yield* mail.next("ada@mail.test"))
        for (const opened of [yield* openLink(link), yield* openLink(link)]) {
          assert.strictEqual(opened.status, 200)
          assert.include(opened.page, "https://client.test/go")
        }
        const second = yield* requestToken("/v3/register", "ada@mail.test", "second", 1)
        yield* openLink(linkIn(yield* mail.next("ada@mail.test")))
        const foreign = { ...creds, client_secret: "guess" }
        const stolen = yield* post("/v3/register", { ...wanted, auth: identityStage(foreign, asked.body.session) })
        assert.strictEqual(stolen.body.errcode, "M_THREEPID_AUTH_FAILED")
        const done = yield* post("/v3/register", { ...wanted, auth: identityStage(creds, asked.body.session) })
        assert.strictEqual(done.status, 200, done.text)
        const twin = { username: "adas-twin", password: "secret-twin" }
        const { session } = (yield* post("/v3/register", twin)).body
        const secondCreds = { sid: second.body.sid, client_secret: "second" }
        const taken = yield* post("/v3/register", { ...twin, auth: identityStage(secondCreds, session) })
        assert.strictEqual(taken.body.errcode, "M_THREEPID_IN_USE")
        const login = yield* post("/v3/login", {
          type: "m.login.password",
          identifier: { type: "m.id.thirdparty", medium: "email", address: "ada@mail.test" },
          password: "secret-ada"
        })
        assert.strictEqual(login.body.user_id, "@ada:green.test")
      })
    )
  )

  it.live("the owner of the address of an account sets a new password, which ends its sessions", () =>
    withMail({}, (mail) =>
      Effect.gen(function* () {
        const user = yield* register("bea")
        const added = yield* addEmail(mail, user, "bea", "bea@mail.test")
        assert.strictEqual(added.status, 200, added.text)
        const { body } = yield* requestToken("/v3/account/password", "bea@mail.test", "forgotten")
        const creds = { sid: body.sid, client_secret: "forgotten" }
        const asked = yield* post("/v3/account/password", { new_password: "anew" })
        assert.deepStrictEqual(asked.body.flows, [{ stages: ["m.login.email.identity"] }])
        const change = { new_password: "anew", auth: identityStage(creds, asked.body.session) }
        const link = linkIn(yield* mail.next("bea@mail.test"))
        yield* openLink(link)
        const opened = yield* post("/v3/account/password", change)
        assert.strictEqual(opened.body.errcode, "M_THREEPID_AUTH_FAILED", "opening the link does not confirm it")
        assert.strictEqual((yield* clickLink(link)).clicked, 200)
        assert.strictEqual((yield* clickLink(link)).clicked, 404)
        assert.strictEqual((yield* post("/v3/account/password", change)).status, 200)
        const old = yield* askToday("GET", "/v3/account/whoami", { token: user.token })
        assert.strictEqual(old.body.errcode, "M_UNKNOWN_TOKEN")
        const login = yield* post("/v3/login", { ...passwordOf("bea"), password: "anew" })
        assert.strictEqual(login.status, 200)
      })
    )
  )

  it.live("an unknown address cannot set a password, and answers do not reveal whether an address is known", () =>
    withMail({}, (mail) =>
      Effect.gen(function* () {
        const user = yield* register("cleo")
        yield* addEmail(mail, user, "cleo", "cleo@mail.test")
        const unknown = yield* requestToken("/v3/account/password", "nobody@mail.test", "x1")
        const known = yield* requestToken("/v3/account/password", "cleo@mail.test", "x1")
        const taken = yield* requestToken("/v3/register", "cleo@mail.test", "x2")
        for (const { body, status } of [unknown, known, taken]) {
          assert.strictEqual(status, 200)
          assert.hasAllKeys(body, ["sid"])
        }
        yield* mail.next("cleo@mail.test")
        const notice = yield* mail.next("cleo@mail.test")
        assert.include(notice.headers.subject, "You have an account")
        assert.strictEqual(linkIn(notice), "no link")
        const creds = yield* validate(mail, "/v3/account/3pid", "free@mail.test", "x3")
        const { body } = yield* post("/v3/account/password", { new_password: "mine", auth: identityStage(creds) })
        assert.strictEqual(body.errcode, "M_THREEPID_AUTH_FAILED", "the link was not for a password")
        const refused = yield* mail.next("nobody@mail.test")
        assert.include(refused.headers.subject, "No account")
        assert.strictEqual(linkIn(refused), "no link")
      })
    )
  )

  it.live("revealAddresses tells clients whether an address belongs to an account", () =>
    withMail({ revealAddresses: true }, (mail) =>
      Effect.gen(function* () {
        const user = yield* register("hugo")
        const added = yield* addEmail(mail, user, "hugo", "hugo@mail.test")
        assert.strictEqual(added.status, 200, added.text)
        for (const [path, email, errcode] of [
          ["/v3/register", "hugo@mail.test", "M_THREEPID_IN_USE"],
          ["/v3/account/3pid", "Hugo@mail.test", "M_THREEPID_IN_USE"],
          ["/v3/account/password", "nobody@mail.test", "M_THREEPID_NOT_FOUND"]
        ] as const) {
          const { body, status } = yield* requestToken(path, email, "known")
          assert.deepStrictEqual([status, body.errcode], [400, errcode])
        }
        yield* requestToken("/v3/account/password", "hugo@mail.test", "forgotten")
        assert.notStrictEqual(linkIn(yield* mail.next("hugo@mail.test")), "no link")
        assert.lengthOf(mail.all, 2)
      })
    )
  )

  it.live("an address belongs to one account, is listed, and can be removed", () =>
    withMail({}, (mail) =>
      Effect.gen(function* () {
        const dora = yield* register("dora")
        const emil = yield* register("emil")
        yield* addEmail(mail, dora, "dora", "dora@mail.test")
        const listed = yield* askToday("GET", "/v3/account/3pid", { token: dora.token })
        const [threepid] = listed.body.threepids as ReadonlyArray<{ readonly [key: string]: unknown }>
        assert.deepInclude(threepid, { medium: "email", address: "dora@mail.test" })
        assert.isNumber(threepid?.added_at)
        const { body } = yield* requestToken("/v3/account/3pid", "dora@mail.test", "of.emil")
        const notice = yield* mail.next("dora@mail.test")
        assert.include(notice.headers.subject, "You have an account")
        const creds = { sid: body.sid, client_secret: "of.emil" }
        const stolen = yield* post("/v3/account/3pid/add", { ...creds, auth: passwordOf("emil") }, emil.token)
        assert.strictEqual(stolen.body.errcode, "M_THREEPID_AUTH_FAILED")
        const old = yield* post("/v3/account/3pid", { three_pid_creds: creds }, emil.token)
        assert.deepStrictEqual([old.status, old.body.errcode], [403, "M_THREEPID_AUTH_FAILED"])
        const removal = { medium: "email", address: "DORA@mail.test" }
        const foreign = yield* post("/v3/account/3pid/delete", removal, emil.token)
        assert.strictEqual(foreign.body.errcode, "M_NOT_FOUND")
        const removed = yield* post("/v3/account/3pid/delete", removal, dora.token)
        assert.deepStrictEqual(removed.body, { id_server_unbind_result: "no-support" } as never)
        const empty = yield* askToday("GET", "/v3/account/3pid", { token: dora.token })
        assert.deepStrictEqual(empty.body.threepids, [])
      })
    )
  )

  it.live("mails are sent once for each attempt, and limited for each address", () =>
    withMail({ mailRate: { limit: 3, window: 3_600_000 } }, (mail) =>
      Effect.gen(function* () {
        const first = yield* requestToken("/v3/register", "fay@mail.test", "s", 1)
        const again = yield* requestToken("/v3/register", "fay@mail.test", "s", 1)
        assert.strictEqual(again.body.sid, first.body.sid)
        yield* requestToken("/v3/register", "fay@mail.test", "s", 2)
        yield* mail.next("fay@mail.test")
        yield* mail.next("fay@mail.test")
        const refused = yield* requestToken("/v3/register", "fay@mail.test", "s", 3)
        assert.strictEqual(refused.body.errcode, "M_LIMIT_EXCEEDED")
        assert.lengthOf(mail.all, 2)
        const bad = yield* requestToken("/v3/register", "no address", "s", 1)
        assert.strictEqual(bad.body.errcode, "M_INVALID_PARAM")
        const script = yield* requestToken("/v3/register", "gus@mail.test", "s", 1, {
          next_link: "javascript:alert(1)"
        })
        assert.strictEqual(script.body.errcode, "M_INVALID_PARAM")
        const phone = yield* post("/v3/register/msisdn/requestToken", {
          client_secret: "s",
          send_attempt: 1,
          phone_number: "07700900001",
          country: "GB"
        })
        assert.strictEqual(phone.body.errcode, "M_THREEPID_MEDIUM_NOT_SUPPORTED")
      })
    )
  )
})
