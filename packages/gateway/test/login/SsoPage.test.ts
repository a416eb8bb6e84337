/**
 * `m.login.sso` on the pages of the OAuth 2.0 API, for clients that do not speak that.
 */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { Gateway } from "../../src/Gateway.ts"
import { ask, askToday, inPath, register } from "../TestGateway.ts"
import { loginGateway } from "./TestLogin.ts"
import { makeUserAgent } from "./UserAgent.ts"

const client = "https://client.test/?a=b#c"
const redirectPath = (redirectUrl: string, more = "") =>
  `/_matrix/client/v3/login/sso/redirect?redirectUrl=${inPath(redirectUrl)}${more}`

const logInByToken = (location: string | undefined) =>
  askToday("POST", "/v3/login", {
    json: { type: "m.login.token", token: new URL(location ?? "").searchParams.get("loginToken") }
  })

const flowsOf = Effect.map(
  askToday("GET", "/v3/login"),
  ({ body }) => body.flows as ReadonlyArray<{ readonly type: string; readonly oauth_aware_preferred?: boolean }>
)

layer(loginGateway({ oauth: "on", ssoRedirects: ["https://trusted.test/"] }), { excludeTestServices: true })(
  "single sign-on on the pages of the OAuth 2.0 API",
  (it) => {
    it.effect("a user logs in on the page, and the client once by a token", () =>
      Effect.gen(function* () {
        const { url } = yield* Gateway
        yield* register("page-ann")
        const sso = (yield* flowsOf).find(({ type }) => type === "m.login.sso")
        assert.isTrue(sso?.oauth_aware_preferred)
        const { visit } = makeUserAgent()
        const begun = yield* visit(`${url}${redirectPath(client)}`)
        assert.strictEqual(begun.status, 302)
        const page = begun.location ?? ""
        assert.include((yield* visit(page)).text, "Log in to")
        const wrong = yield* visit(page, { form: { action: "login", user: "page-ann", password: "wrong" } })
        assert.isUndefined(wrong.location)
        yield* visit(page, { form: { action: "login", user: "page-ann", password: "secret-page-ann" } })
        const asked = yield* visit(page)
        assert.include(asked.text, "Log in at https://client.test?")
        assert.include(asked.text, "@page-ann:green.test")
        assert.include(asked.headers.get("content-security-policy") ?? "", "form-action 'self' https://client.test;")
        const back = yield* visit(page, { form: { action: "approve" } })
        assert.match(back.location ?? "", /^https:\/\/client\.test\/\?a=b&loginToken=[\w-]+#c$/)
        const { body } = yield* logInByToken(back.location)
        assert.strictEqual(body.user_id, "@page-ann:green.test")
        assert.strictEqual((yield* logInByToken(back.location)).body.errcode, "M_FORBIDDEN")
        const trusted = yield* visit(`${url}${redirectPath("https://trusted.test/x")}`)
        const known = yield* visit(trusted.location ?? "")
        assert.strictEqual((yield* logInByToken(known.location)).body.user_id, "@page-ann:green.test")
      })
    )

    it.effect("a new user registers on the page", () =>
      Effect.gen(function* () {
        const { url } = yield* Gateway
        const { visit } = makeUserAgent()
        const { location: page = "" } = yield* visit(`${url}${redirectPath(client, "&action=register")}`)
        assert.include((yield* visit(page)).text, "Create an account")
        yield* visit(page, { form: { action: "register", user: "page-new", password: "secret-page-new" } })
        const back = yield* visit(page, { form: { action: "approve" } })
        assert.strictEqual((yield* logInByToken(back.location)).body.user_id, "@page-new:green.test")
      })
    )

    it.effect("a browser is sent to no script, and approves nothing without a login or for another site", () =>
      Effect.gen(function* () {
        const { url } = yield* Gateway
        yield* register("page-eve")
        const { visit } = makeUserAgent()
        const script = yield* ask("GET", `/${redirectPath("javascript:alert(1)")}`)
        assert.strictEqual(script.body.errcode, "M_INVALID_PARAM")
        const pageOf = (redirectUrl: string) => `${url}/_greenroom/oauth2/sso?redirectUrl=${inPath(redirectUrl)}`
        assert.strictEqual((yield* visit(pageOf("javascript:alert(1)"))).status, 400)
        const page = pageOf(client)
        const early = yield* visit(page, { form: { action: "approve" } })
        assert.isUndefined(early.location)
        assert.include(early.text, "Log in to")
        yield* visit(page, { form: { action: "login", user: "page-eve", password: "secret-page-eve" } })
        const foreign = yield* visit(page, {
          form: { action: "approve" },
          headers: { origin: "https://evil.test", "sec-fetch-site": "cross-site" }
        })
        assert.deepStrictEqual([foreign.status, foreign.location], [403, undefined])
        const named = yield* ask("GET", `//_matrix/client/v3/login/sso/redirect/x?redirectUrl=${inPath(client)}`)
        assert.strictEqual(named.body.errcode, "M_NOT_FOUND")
      })
    )
  }
)

layer(loginGateway({}), { excludeTestServices: true })("without the OAuth 2.0 API", (it) => {
  it.effect("there is no single sign-on", () =>
    Effect.gen(function* () {
      assert.notInclude(JSON.stringify(yield* flowsOf), "m.login.sso")
      assert.strictEqual((yield* ask("GET", `/${redirectPath(client)}`)).body.errcode, "M_NOT_FOUND")
    })
  )
})
