import { assert, describe, it } from "@effect/vitest"
import { Administration } from "@greenroom/actors/account/Administration"
import { Effect } from "effect"
import { ask, askToday, inPath } from "../TestGateway.ts"
import { oauth2, password, signUp } from "./TestLogin.ts"
import { authorize, type TestProvider, withProvider } from "./TestProvider.ts"
import { makeUserAgent, type UserAgent } from "./UserAgent.ts"

const client = "https://client.test/?a=b#c"

const flows = [[password], [oauth2]] as const

const open = { flows, registrationFlows: [[password], [oauth2]], ssoRedirects: ["https://client.test/"] } as const

const redirectPath = `/_matrix/client/v3/login/sso/redirect?redirectUrl=${inPath(client)}`

/** Visits a URL, and logs in at the provider to which it redirects. Returns the page of this server after that. */
const loginAtProvider = Effect.fnUntraced(function* (
  provider: TestProvider,
  userAgent: UserAgent,
  url: string,
  subject: string
) {
  provider.subject = subject
  const { location = "" } = yield* userAgent.visit(url)
  const back = yield* authorize(userAgent, location)
  return yield* userAgent.visit(back)
})

const tokenOf = (location: string | undefined) => new URL(location ?? "").searchParams.get("loginToken")

const logInByToken = (token: string | null) => askToday("POST", "/v3/login", { json: { type: "m.login.token", token } })

const formUrl = (url: string, page: string) =>
  `${url}${/action="([^"]+)"/.exec(page)?.[1]?.replaceAll("&amp;", "&") ?? "/none"}`

describe("single sign-on by today's client API", () => {
  it.live("a new user chooses a user name, and the client logs in by the token; the next login needs no name", () =>
    withProvider(open, (provider, url) =>
      Effect.gen(function* () {
        const { body } = yield* askToday("GET", "/v3/login")
        assert.deepInclude(body.flows as ReadonlyArray<object>, {
          type: "m.login.sso",
          identity_providers: [{ id: "test", name: "Test Service" }]
        })
        const userAgent = makeUserAgent()
        const page = yield* loginAtProvider(provider, userAgent, `${url}${redirectPath}`, "per son")
        assert.include(page.text, "Choose a name")
        const stranger = yield* makeUserAgent().visit(formUrl(url, page.text), { form: { user: "ida" } })
        assert.include(stranger.text, "not started in this browser")
        const wrong = yield* userAgent.visit(formUrl(url, page.text), { form: { user: "not a name" } })
        assert.include(wrong.text, "A user name consists of")
        const made = yield* userAgent.visit(formUrl(url, page.text), { form: { user: "ida" } })
        assert.match(made.location ?? "", /^https:\/\/client\.test\/\?a=b&loginToken=[\w-]+#c$/)
        const login = yield* logInByToken(tokenOf(made.location))
        assert.strictEqual(login.body.user_id, "@ida:green.test")
        assert.strictEqual((yield* logInByToken(tokenOf(made.location))).body.errcode, "M_FORBIDDEN")
        const again = yield* loginAtProvider(provider, makeUserAgent(), `${url}${redirectPath}`, "per son")
        assert.strictEqual((yield* logInByToken(tokenOf(again.location))).body.user_id, "@ida:green.test")
      })
    )
  )

  it.live("a new user gets no access before an administrator has approved the account", () =>
    withProvider({ ...open, registrationApproval: true }, (provider, url) =>
      Effect.gen(function* () {
        const userAgent = makeUserAgent()
        const page = yield* loginAtProvider(provider, userAgent, `${url}${redirectPath}`, "nia")
        const made = yield* userAgent.visit(formUrl(url, page.text), { form: { user: "nia" } })
        const login = yield* logInByToken(tokenOf(made.location))
        assert.strictEqual(login.body.errcode, "ORG.MATRIX.MSC3866_USER_AWAITING_APPROVAL")
        yield* Administration.use((administration) => administration.approve("nia"))
        const again = yield* loginAtProvider(provider, userAgent, `${url}${redirectPath}`, "nia")
        assert.strictEqual((yield* logInByToken(tokenOf(again.location))).body.user_id, "@nia:green.test")
      })
    )
  )

  it.live("a client that is not in ssoRedirects gets the token only by a click of the user", () =>
    withProvider({ ...open, ssoRedirects: [] }, (provider, url) =>
      Effect.gen(function* () {
        const userAgent = makeUserAgent()
        const page = yield* loginAtProvider(provider, userAgent, `${url}${redirectPath}`, "kay")
        const made = yield* userAgent.visit(formUrl(url, page.text), { form: { user: "kay" } })
        assert.isUndefined(made.location)
        assert.include(made.text, "Go on to https://client.test?")
      })
    )
  )

  it.live("a client's URL with line breaks or other scripts is in the redirect as a URL is written", () =>
    withProvider(open, (provider, url) =>
      Effect.gen(function* () {
        const loginTo = (target: string) =>
          loginAtProvider(
            provider,
            makeUserAgent(),
            `${url}/_matrix/client/v3/login/sso/redirect?redirectUrl=${inPath(target)}`,
            "lou"
          )
        const userAgent = makeUserAgent()
        const page = yield* loginAtProvider(provider, userAgent, `${url}${redirectPath}`, "lou")
        yield* userAgent.visit(formUrl(url, page.text), { form: { user: "lou" } })
        const broken = yield* loginTo("https://client.test/\r\nset-cookie: a=b")
        assert.match(broken.location ?? "", /^https:\/\/client\.test\/set-cookie:%20a=b\?loginToken=[\w-]+$/)
        assert.notInclude(broken.headers.get("set-cookie") ?? "", "a=b")
        const other = yield* loginTo("https://client.test/gr\u00fcn?\u{1F33F}")
        assert.match(other.location ?? "", /^https:\/\/client\.test\/gr%C3%BCn\?%F0%9F%8C%BF&loginToken=[\w-]+$/)
      })
    )
  )

  it.live("redirects to URLs that are no web pages, and returns to another browser, are refused", () =>
    withProvider(open, (provider, url) =>
      Effect.gen(function* () {
        for (const target of ["javascript:alert(1)", "data:text/html,x", "no URL"]) {
          const path = `/v3/login/sso/redirect?redirectUrl=${inPath(target)}`
          assert.strictEqual((yield* askToday("GET", path)).body.errcode, "M_INVALID_PARAM", target)
        }
        const unknown = `/v3/login/sso/redirect/other?redirectUrl=${inPath(client)}`
        assert.strictEqual((yield* askToday("GET", unknown)).body.errcode, "M_NOT_FOUND")
        const missing = yield* askToday("GET", "/v3/login/sso/redirect")
        assert.strictEqual(missing.body.errcode, "M_MISSING_PARAM")
        provider.subject = "mallory"
        const attacker = makeUserAgent()
        const { location = "", status } = yield* attacker.visit(`${url}${redirectPath}`)
        assert.strictEqual(status, 302)
        const back = yield* authorize(attacker, location)
        const victim = yield* makeUserAgent().visit(back)
        assert.strictEqual(victim.status, 403)
        assert.include(victim.text, "not started in this browser")
        assert.strictEqual((yield* attacker.visit(back)).status, 403)
      })
    )
  )

  it.live("a login without an account is refused if registration is closed to it; flows of two stages offer none", () =>
    Effect.gen(function* () {
      yield* withProvider({ flows }, (provider, url) =>
        Effect.gen(function* () {
          const refused = yield* loginAtProvider(provider, makeUserAgent(), `${url}${redirectPath}`, "nobody")
          assert.strictEqual(refused.status, 403)
          assert.include(refused.text, "No account of this server is linked")
        })
      )
      yield* withProvider({ flows: [[password, oauth2]] }, () =>
        Effect.gen(function* () {
          const { body } = yield* askToday("GET", "/v3/login")
          assert.notInclude(JSON.stringify(body.flows), "m.login.sso")
          assert.strictEqual((yield* ask("GET", `/${redirectPath}`)).body.errcode, "M_NOT_FOUND")
        })
      )
    })
  )

  it.live("an operation is confirmed at the provider by the owner of the account alone", () =>
    withProvider(open, (provider, url) =>
      Effect.gen(function* () {
        const make = Effect.fnUntraced(function* (name: string) {
          const userAgent = makeUserAgent()
          const page = yield* loginAtProvider(provider, userAgent, `${url}${redirectPath}`, name)
          const made = yield* userAgent.visit(formUrl(url, page.text), { form: { user: name } })
          return (yield* logInByToken(tokenOf(made.location))).body.access_token
        })
        const token = yield* make("lea")
        yield* make("moe")
        const asked = yield* askToday("POST", "/v3/account/deactivate", { token, json: {} })
        assert.deepStrictEqual(asked.body.flows, [{ stages: ["m.login.sso"] }])
        const session = asked.body.session as string
        const path = `${url}/_matrix/client/v3/auth/m.login.sso/fallback/web?session=${session}`
        const other = yield* loginAtProvider(provider, makeUserAgent(), path, "moe")
        assert.strictEqual(other.status, 403)
        const deactivate = askToday("POST", "/v3/account/deactivate", { token, json: { auth: { session } } })
        assert.strictEqual((yield* deactivate).status, 401)
        const confirmed = yield* loginAtProvider(provider, makeUserAgent(), path, "lea")
        assert.include(confirmed.text, "authDone")
        assert.strictEqual((yield* deactivate).status, 200)
      })
    )
  )

  it.live("a client completes a stage that it does not know on the fallback page", () =>
    withProvider(open, (_, url) =>
      Effect.gen(function* () {
        const { body } = yield* signUp({ type: password, user: "ned", password: "secret-ned" })
        const token = body.access_token
        const asked = yield* askToday("POST", "/v3/account/deactivate", { token, json: {} })
        const session = asked.body.session as string
        const page = `/v3/auth/m.login.password/fallback/web?session=${session}`
        assert.include((yield* askToday("GET", page)).text, "Your password")
        const target = `${url}/_matrix/client${page}`
        const wrong = yield* makeUserAgent().visit(target, { form: { password: "guess" } })
        assert.include(wrong.text, "The password is wrong")
        const right = yield* makeUserAgent().visit(target, { form: { password: "secret-ned" } })
        assert.include(right.text, "authDone")
        const done = yield* askToday("POST", "/v3/account/deactivate", { token, json: { auth: { session } } })
        assert.strictEqual(done.status, 200)
        const gone = yield* askToday("GET", page)
        assert.include(gone.text, "no longer valid")
        const login = yield* ask("GET", "//_matrix/static/client/login/")
        assert.include(login.text, "Log in")
      })
    )
  )
})
