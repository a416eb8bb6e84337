import { assert, describe, it } from "@effect/vitest"
import { Administration } from "@greenroom/actors/account/Administration"
import type { LoginOptions } from "@greenroom/actors/account/login/LoginOptions"
import { Effect, type Layer } from "effect"
import { Gateway } from "../../src/Gateway.ts"
import { ask, askToday, inPath } from "../TestGateway.ts"
import { loginGateway, oauth2, password, signUp } from "./TestLogin.ts"
import { makeVisitor, providerOptions, type TestProvider, testProvider } from "./TestProvider.ts"

type Home = Layer.Success<ReturnType<typeof loginGateway>>

const client = "https://client.test/?a=b#c"

/** A gateway with a provider. */
const withProvider = <A, E>(
  options: LoginOptions,
  use: (provider: TestProvider, url: string) => Effect.Effect<A, E, Home>
) =>
  Effect.gen(function* () {
    const provider = yield* testProvider
    const login = { providers: [providerOptions(provider)], flows: [[password], [oauth2]], ...options } as LoginOptions
    return yield* Effect.gen(function* () {
      const { url } = yield* Gateway
      provider.allow(url)
      return yield* use(provider, url)
    }).pipe(Effect.provide(loginGateway(login)))
  }).pipe(Effect.scoped)

const open = { registrationFlows: [[password], [oauth2]], ssoRedirects: ["https://client.test/"] } as const

const redirectPath = `/_matrix/client/v3/login/sso/redirect?redirectUrl=${inPath(client)}`

/** Goes to the provider and back, as a person there; what this server shows then. */
const goAndComeBack = Effect.fnUntraced(function* (
  provider: TestProvider,
  visitor: ReturnType<typeof makeVisitor>,
  url: string,
  person: string
) {
  provider.person = person
  const { location = "" } = yield* visitor.visit(url)
  const back = yield* visitor.authorize(location)
  return yield* visitor.visit(back)
})

const tokenOf = (location: string | undefined) => new URL(location ?? "").searchParams.get("loginToken")

const logIn = (token: string | null) => askToday("POST", "/v3/login", { json: { type: "m.login.token", token } })

const postForm = (url: string, form: Record<string, string>, cookies: ReadonlyMap<string, string>) =>
  Effect.promise(async () => {
    const response = await fetch(url, {
      method: "POST",
      redirect: "manual",
      headers: {
        cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join("; "),
        "content-type": "application/x-www-form-urlencoded"
      },
      body: new URLSearchParams(form).toString()
    })
    return {
      status: response.status,
      location: response.headers.get("location") ?? undefined,
      text: await response.text()
    }
  })

const formUrl = (url: string, page: string) =>
  `${url}${/action="([^"]+)"/.exec(page)?.[1]?.replaceAll("&amp;", "&") ?? "/none"}`

describe("single sign-on by today's client API", () => {
  it.live("a newcomer chooses a name, and the client logs in by the token; the next time it goes by itself", () =>
    withProvider(open, (provider, url) =>
      Effect.gen(function* () {
        const { body } = yield* askToday("GET", "/v3/login")
        assert.deepInclude(body.flows as ReadonlyArray<object>, {
          type: "m.login.sso",
          identity_providers: [{ id: "test", name: "Test Service" }]
        })
        const visitor = makeVisitor()
        const page = yield* goAndComeBack(provider, visitor, `${url}${redirectPath}`, "per son")
        assert.include(page.text, "Choose a name")
        const stranger = yield* postForm(formUrl(url, page.text), { user: "ida" }, new Map())
        assert.include(stranger.text, "not started in this browser")
        const wrong = yield* postForm(formUrl(url, page.text), { user: "not a name" }, visitor.cookies)
        assert.include(wrong.text, "A user name consists of")
        const made = yield* postForm(formUrl(url, page.text), { user: "ida" }, visitor.cookies)
        assert.match(made.location ?? "", /^https:\/\/client\.test\/\?a=b&loginToken=[\w-]+#c$/)
        const login = yield* logIn(tokenOf(made.location))
        assert.strictEqual(login.body.user_id, "@ida:green.test")
        assert.strictEqual((yield* logIn(tokenOf(made.location))).body.errcode, "M_FORBIDDEN")
        const again = yield* goAndComeBack(provider, makeVisitor(), `${url}${redirectPath}`, "per son")
        assert.strictEqual((yield* logIn(tokenOf(again.location))).body.user_id, "@ida:green.test")
      })
    )
  )

  it.live("a newcomer gets no access before an administrator has approved the account", () =>
    withProvider({ ...open, registrationApproval: true }, (provider, url) =>
      Effect.gen(function* () {
        const visitor = makeVisitor()
        const page = yield* goAndComeBack(provider, visitor, `${url}${redirectPath}`, "nia")
        const made = yield* postForm(formUrl(url, page.text), { user: "nia" }, visitor.cookies)
        const login = yield* logIn(tokenOf(made.location))
        assert.strictEqual(login.body.errcode, "ORG.MATRIX.MSC3866_USER_AWAITING_APPROVAL")
        yield* Administration.use((administration) => administration.approve("nia"))
        const again = yield* goAndComeBack(provider, visitor, `${url}${redirectPath}`, "nia")
        assert.strictEqual((yield* logIn(tokenOf(again.location))).body.user_id, "@nia:green.test")
      })
    )
  )

  it.live("a client that the operator does not know gets the token only by a click of the user", () =>
    withProvider({ ...open, ssoRedirects: [] }, (provider, url) =>
      Effect.gen(function* () {
        const visitor = makeVisitor()
        const page = yield* goAndComeBack(provider, visitor, `${url}${redirectPath}`, "kay")
        const made = yield* postForm(formUrl(url, page.text), { user: "kay" }, visitor.cookies)
        assert.isUndefined(made.location)
        assert.include(made.text, "Go on to https://client.test?")
      })
    )
  )

  it.live("refuses redirects to other than pages, and returns to another browser", () =>
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
        provider.person = "mallory"
        const attacker = makeVisitor()
        const { location = "", status } = yield* attacker.visit(`${url}${redirectPath}`)
        assert.strictEqual(status, 302)
        const back = yield* attacker.authorize(location)
        const victim = yield* makeVisitor().visit(back)
        assert.strictEqual(victim.status, 403)
        assert.include(victim.text, "not started in this browser")
        assert.strictEqual((yield* attacker.visit(back)).status, 403)
      })
    )
  )

  it.live("without an account a login is refused if registration takes more, or two stages", () =>
    Effect.gen(function* () {
      yield* withProvider({}, (provider, url) =>
        Effect.gen(function* () {
          const refused = yield* goAndComeBack(provider, makeVisitor(), `${url}${redirectPath}`, "nobody")
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

  it.live("an operation is confirmed at the provider, by the owner of the account alone", () =>
    withProvider(open, (provider, url) =>
      Effect.gen(function* () {
        const make = Effect.fnUntraced(function* (name: string) {
          const visitor = makeVisitor()
          const page = yield* goAndComeBack(provider, visitor, `${url}${redirectPath}`, name)
          const made = yield* postForm(formUrl(url, page.text), { user: name }, visitor.cookies)
          return (yield* logIn(tokenOf(made.location))).body.access_token
        })
        const token = yield* make("lea")
        yield* make("moe")
        const asked = yield* askToday("POST", "/v3/account/deactivate", { token, json: {} })
        assert.deepStrictEqual(asked.body.flows, [{ stages: ["m.login.sso"] }])
        const session = asked.body.session as string
        const path = `${url}/_matrix/client/v3/auth/m.login.sso/fallback/web?session=${session}`
        const other = yield* goAndComeBack(provider, makeVisitor(), path, "moe")
        assert.strictEqual(other.status, 403)
        const deactivate = askToday("POST", "/v3/account/deactivate", { token, json: { auth: { session } } })
        assert.strictEqual((yield* deactivate).status, 401)
        const confirmed = yield* goAndComeBack(provider, makeVisitor(), path, "lea")
        assert.include(confirmed.text, "authDone")
        assert.strictEqual((yield* deactivate).status, 200)
      })
    )
  )

  it.live("a stage is passed on a page for a client that knows no form of it", () =>
    withProvider(open, (_, url) =>
      Effect.gen(function* () {
        const { body } = yield* signUp({ type: password, user: "ned", password: "secret-ned" })
        const token = body.access_token
        const asked = yield* askToday("POST", "/v3/account/deactivate", { token, json: {} })
        const session = asked.body.session as string
        const page = `/v3/auth/m.login.password/fallback/web?session=${session}`
        assert.include((yield* askToday("GET", page)).text, "Your password")
        const target = `${url}/_matrix/client${page}`
        const wrong = yield* postForm(target, { password: "guess" }, new Map())
        assert.include(wrong.text, "The password is wrong")
        const right = yield* postForm(target, { password: "secret-ned" }, new Map())
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
