import { createHash, createPublicKey, type JsonWebKey, randomBytes, verify } from "node:crypto"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { Gateway } from "../../src/Gateway.ts"
import { unlimited } from "../../src/Rate.ts"
import { registerAdmin } from "../admin/TestAdmin.ts"
import { deviceGrant, metadata, postForm, registerClient, scopeOf, whoami } from "../login/OAuthClient.ts"
import { loginGateway } from "../login/TestLogin.ts"
import { makeUserAgent } from "../login/UserAgent.ts"
import { as, ask, askToday, gateway, inPath, passwordOf, register } from "../TestGateway.ts"

/** A browser without scripts, whose URLs are relative to the gateway. */
const makeBrowser = () => {
  const userAgent = makeUserAgent()
  return {
    visit: (url: string, form?: Record<string, string>, headers?: Record<string, string>) =>
      Effect.flatMap(Gateway, (gateway) => userAgent.visit(new URL(url, gateway.url).href, { form, headers }))
  }
}

const longUris = Array.from({ length: 5 }, (_, index) => `https://element.test/${index}${"a".repeat(2_000)}`)

const makeRequest = Effect.fnUntraced(function* (device: string, more: Record<string, string> = {}) {
  const { body } = yield* registerClient()
  const verifier = randomBytes(32).toString("base64url")
  const query = new URLSearchParams({
    response_type: "code",
    client_id: body.client_id!,
    redirect_uri: "test.element:/callback",
    scope: `${scopeOf(device)} unknown`,
    state: "state of the client",
    response_mode: "query",
    code_challenge: createHash("sha256").update(verifier).digest("base64url"),
    code_challenge_method: "S256",
    ...more
  })
  const { authorization_endpoint, token_endpoint } = yield* metadata
  return { url: `${authorization_endpoint}?${query}`, clientId: body.client_id!, verifier, tokenUrl: token_endpoint! }
})

type Request = Effect.Success<ReturnType<typeof makeRequest>>

/** A user logs in and consents. Returns the code that the client gets. */
const authorize = Effect.fnUntraced(function* (request: Request, user: string) {
  const { visit } = makeBrowser()
  const { location = "" } = yield* visit(request.url)
  assert.include((yield* visit(location)).text, "Element")
  yield* visit(location, { action: "login", user, password: `secret-${user}` })
  const consent = yield* visit(location)
  assert.include(consent.text, `@${user}:green.test`)
  const back = yield* visit(location, { action: "approve" })
  const target = new URL(back.location ?? "")
  assert.strictEqual(target.protocol, "test.element:")
  assert.strictEqual(target.searchParams.get("state"), "state of the client")
  assert.strictEqual(target.searchParams.get("iss"), (yield* metadata).issuer)
  return target.searchParams.get("code") ?? ""
})

const exchange = (request: Request, code: string, more: Record<string, string> = {}) =>
  postForm(request.tokenUrl, {
    grant_type: "authorization_code",
    code,
    redirect_uri: "test.element:/callback",
    client_id: request.clientId,
    code_verifier: request.verifier,
    ...more
  })

layer(loginGateway({ oauth: "beside" }), { excludeTestServices: true })("the OAuth 2.0 API", (it) => {
  it.effect("a client of OpenID Connect gets an ID token with its nonce, signed by the published key", () =>
    Effect.gen(function* () {
      yield* register("iris")
      const scope = `openid ${scopeOf("IDTOKEN123")}`
      const request = yield* makeRequest("IDTOKEN123", { scope, nonce: "nonce of the client" })
      const { body } = yield* exchange(request, yield* authorize(request, "iris"))
      assert.strictEqual(body.scope, "openid urn:matrix:client:api:* urn:matrix:client:device:IDTOKEN123")
      const [header = "", payload = "", signature = ""] = body.id_token!.split(".")
      const { issuer, jwks_uri } = yield* metadata
      const keys = yield* Effect.promise(async () => (await (await fetch(jwks_uri!)).json()) as { keys: [JsonWebKey] })
      const key = createPublicKey({ key: keys.keys[0], format: "jwk" })
      assert.isTrue(
        verify("sha256", Buffer.from(`${header}.${payload}`), key, Buffer.from(signature, "base64url")),
        body.id_token
      )
      const read = (part: string) => JSON.parse(Buffer.from(part, "base64url").toString())
      assert.deepInclude(read(header), { alg: "RS256", kid: keys.keys[0].kid })
      const claims = read(payload)
      assert.deepInclude(claims, {
        iss: issuer,
        sub: "@iris:green.test",
        aud: request.clientId,
        nonce: "nonce of the client"
      })
      assert.isAbove(claims.exp, claims.iat)
      const longNonce = yield* makeRequest("IDTOKEN124", { scope, nonce: "n".repeat(3_000) })
      assert.strictEqual((yield* makeBrowser().visit(longNonce.url)).status, 400)
    })
  )

  it.effect("a registered client gets the device that it requested, once its user consents", () =>
    Effect.gen(function* () {
      yield* register("ann")
      const request = yield* makeRequest("PHONE12345")
      const code = yield* authorize(request, "ann")
      const { body, status } = yield* exchange(request, code)
      assert.strictEqual(status, 200, JSON.stringify(body))
      assert.strictEqual(body.token_type, "Bearer")
      assert.strictEqual(body.scope, "urn:matrix:client:api:* urn:matrix:client:device:PHONE12345")
      assert.notProperty(body, "id_token")
      const who = yield* whoami(body.access_token)
      assert.deepInclude(who.body, { user_id: "@ann:green.test", device_id: "PHONE12345" })
      const renewal = { grant_type: "refresh_token", client_id: request.clientId, refresh_token: body.refresh_token! }
      const another = yield* registerClient({ client_name: "Another" })
      const foreign = yield* postForm(request.tokenUrl, { ...renewal, client_id: another.body.client_id! })
      assert.strictEqual(foreign.body.error, "invalid_grant")
      const renewed = yield* postForm(request.tokenUrl, renewal)
      assert.strictEqual((yield* whoami(renewed.body.access_token)).status, 200)
      const deactivation = yield* askToday("POST", "/v3/account/deactivate", {
        token: renewed.body.access_token,
        json: {}
      })
      assert.strictEqual(deactivation.body.errcode, "M_FORBIDDEN")
      const { body: able } = yield* askToday("GET", "/v3/capabilities", { token: renewed.body.access_token })
      assert.deepInclude(able.capabilities as object, {
        "m.change_password": { enabled: false },
        "m.get_login_token": { enabled: false },
        "m.3pid_changes": { enabled: false }
      })
      const { revocation_endpoint } = yield* metadata
      yield* postForm(revocation_endpoint!, { token: renewed.body.refresh_token!, client_id: request.clientId })
      assert.strictEqual((yield* whoami(renewed.body.access_token)).body.errcode, "M_UNKNOWN_TOKEN")
    })
  )

  it.effect("a code is valid once, for its own client, verifier and redirect URI; a replay ends the session", () =>
    Effect.gen(function* () {
      yield* register("ben")
      const request = yield* makeRequest("TABLET1234")
      const other = yield* registerClient({ client_name: "Mallory" })
      const code = yield* authorize(request, "ben")
      for (const more of [
        { code_verifier: createHash("sha256").update(request.verifier).digest("base64url") },
        { client_id: other.body.client_id! },
        { redirect_uri: "https://element.test/callback" }
      ]) {
        assert.strictEqual((yield* exchange(request, code, more)).body.error, "invalid_grant")
      }
      const { body } = yield* exchange(request, code)
      assert.strictEqual((yield* whoami(body.access_token)).status, 200)
      assert.strictEqual((yield* exchange(request, code)).body.error, "invalid_grant")
      assert.strictEqual((yield* whoami(body.access_token)).body.errcode, "M_UNKNOWN_TOKEN")
    })
  )

  it.effect("a code that several requests use at once gives tokens to one of them", () =>
    Effect.gen(function* () {
      yield* register("joy")
      const request = yield* makeRequest("ATONCE1234")
      const code = yield* authorize(request, "joy")
      const answers = yield* Effect.all(
        Array.from({ length: 4 }, () => exchange(request, code)),
        { concurrency: "unbounded" }
      )
      assert.lengthOf(
        answers.filter(({ body }) => body.access_token !== undefined),
        1
      )
    })
  )

  it.effect("a code is no code of a device, and expires", () =>
    Effect.gen(function* () {
      yield* register("gus")
      const request = yield* makeRequest("EXPIRES123")
      const code = yield* authorize(request, "gus")
      const asDevice = { grant_type: deviceGrant, device_code: code, client_id: request.clientId }
      assert.strictEqual((yield* postForm(request.tokenUrl, asDevice)).body.error, "expired_token")
      const expired = '{"codeUntil": 1}'
      yield* SqlClient.SqlClient.use(
        (sql) => sql`UPDATE login_sessions SET progress = progress::jsonb || ${expired}::jsonb WHERE purpose = 'oauth'`
      )
      assert.strictEqual((yield* exchange(request, code)).body.error, "invalid_grant")
    })
  )

  it.effect("a code and an approved device code end when the password changes", () =>
    Effect.gen(function* () {
      const user = yield* register("una")
      const request = yield* makeRequest("PASSWORD12")
      const { device_authorization_endpoint } = yield* metadata
      const device = yield* postForm(device_authorization_endpoint!, {
        client_id: request.clientId,
        scope: scopeOf("PASSWORD34")
      })
      const { visit } = makeBrowser()
      const { location = "" } = yield* visit(device.body.verification_uri_complete!)
      yield* visit(location, { action: "login", user: "una", password: "secret-una" })
      assert.include((yield* visit(location, { action: "approve" })).text, "linked")
      const code = yield* authorize(request, "una")
      const change = { new_password: "another-password", auth: passwordOf("una"), logout_devices: false }
      assert.strictEqual((yield* as(user)("POST", "/v3/account/password", change)).status, 200)
      assert.strictEqual((yield* exchange(request, code)).body.error, "invalid_grant")
      const poll = { grant_type: deviceGrant, device_code: device.body.device_code!, client_id: request.clientId }
      assert.strictEqual((yield* postForm(request.tokenUrl, poll)).body.error, "invalid_grant")
      const devices = yield* as(user)("GET", "/v3/devices")
      assert.lengthOf(devices.body.devices as ReadonlyArray<unknown>, 1)
    })
  )

  it.effect("a refresh token can be used again until the next one is used; after that it ends the session", () =>
    Effect.gen(function* () {
      yield* register("ida")
      const request = yield* makeRequest("LAPTOP1234")
      const { body: first } = yield* exchange(request, yield* authorize(request, "ida"))
      const refresh = (refresh_token: string) =>
        postForm(request.tokenUrl, { grant_type: "refresh_token", client_id: request.clientId, refresh_token })
      const unused = yield* refresh(first.refresh_token!)
      assert.strictEqual(unused.status, 200)
      const second = (yield* refresh(first.refresh_token!)).body
      assert.strictEqual((yield* whoami(first.access_token)).status, 200)
      assert.strictEqual((yield* whoami(second.access_token)).status, 200)
      const third = (yield* refresh(second.refresh_token!)).body
      assert.strictEqual((yield* whoami(third.access_token)).status, 200)
      assert.strictEqual((yield* refresh(first.refresh_token!)).body.error, "invalid_grant")
      assert.strictEqual((yield* whoami(third.access_token)).body.errcode, "M_UNKNOWN_TOKEN")
      assert.strictEqual((yield* refresh(third.refresh_token!)).body.error, "invalid_grant")
    })
  )

  it.effect("errors are not redirected: a page links to the redirect URI if it is registered", () =>
    Effect.gen(function* () {
      const { visit } = makeBrowser()
      for (const redirect_uri of [
        "https://evil.test/callback",
        "https://element.test/callback?more",
        "https://element.test/callback#x",
        "test.element:/callback/x",
        "http://localhost:51234/other",
        "http://localhost@evil.test/callback"
      ]) {
        const request = yield* makeRequest("DEVICE1234", { redirect_uri })
        const answer = yield* visit(request.url)
        assert.deepStrictEqual([answer.status, answer.location], [400, undefined], redirect_uri)
      }
      const backOf = Effect.fnUntraced(function* (more: Record<string, string>) {
        const { location, text } = yield* visit((yield* makeRequest("DEVICE1234", more)).url)
        assert.strictEqual(location, undefined)
        return /href="(test\.element:[^"]+)"/.exec(text)?.[1]?.replaceAll("&amp;", "&") ?? ""
      })
      const errorOf = (more: Record<string, string>) =>
        Effect.map(backOf(more), (back) => new URL(back).searchParams.get("error"))
      assert.strictEqual(yield* errorOf({ code_challenge_method: "plain" }), "invalid_request")
      assert.strictEqual(yield* errorOf({ code_challenge_method: "" }), "invalid_request")
      assert.strictEqual(yield* errorOf({ code_challenge: "" }), "invalid_request")
      assert.strictEqual(yield* errorOf({ code_challenge: "short" }), "invalid_request")
      assert.strictEqual(yield* errorOf({ response_type: "token" }), "unsupported_response_type")
      assert.strictEqual(yield* errorOf({ scope: "urn:matrix:client:api:*" }), "invalid_scope")
      assert.strictEqual(yield* errorOf({ scope: `${scopeOf("A")} urn:matrix:client:device:B` }), "invalid_scope")
      const loopback = yield* makeRequest("DEVICE1234", { redirect_uri: "http://localhost:51234/callback" })
      assert.include((yield* visit(loopback.url)).location ?? "", "/oauth2/continue?id=")
      const fragment = yield* backOf({ response_mode: "fragment", response_type: "x" })
      assert.match(fragment, /^test\.element:\/callback#error=/)
    })
  )

  it.effect("client metadata is validated, and the same metadata gets the same client ID", () =>
    Effect.gen(function* () {
      const first = yield* registerClient()
      assert.strictEqual(first.status, 201)
      assert.strictEqual((yield* registerClient()).body.client_id, first.body.client_id)
      for (const [more, error] of [
        [{ client_uri: "http://element.test/" }, "invalid_client_metadata"],
        [{ client_uri: undefined }, "invalid_client_metadata"],
        [{ client_uri: "https://user:pw@element.test/" }, "invalid_client_metadata"],
        [{ logo_uri: "https://evil.test/logo.png" }, "invalid_client_metadata"],
        [{ redirect_uris: ["https://evil.test/"] }, "invalid_redirect_uri"],
        [{ redirect_uris: ["https://evilelement.test/"] }, "invalid_redirect_uri"],
        [{ redirect_uris: ["javascript:alert(1)"] }, "invalid_redirect_uri"],
        [{ client_uri: "https://javascript/", redirect_uris: ["javascript:alert(1)"] }, "invalid_redirect_uri"],
        [{ client_uri: "https://data/", redirect_uris: ["data:text/html,x"] }, "invalid_redirect_uri"],
        [{ redirect_uris: ["test.element://callback"] }, "invalid_redirect_uri"],
        [{ redirect_uris: ["https://element.test/callback#fragment"] }, "invalid_redirect_uri"],
        [{ redirect_uris: ["https://element.test\\@evil.test/"] }, "invalid_redirect_uri"],
        [{ redirect_uris: "https://element.test/callback" }, "invalid_redirect_uri"],
        [{ client_name: "Element\u202E" }, "invalid_client_metadata"],
        [
          { client_uri: `https://element.test/${"a".repeat(2_000)}`, redirect_uris: longUris },
          "invalid_client_metadata"
        ],
        [{ redirect_uris: ["http://localhost:1234/callback"] }, "invalid_redirect_uri"],
        [{ application_type: "web", redirect_uris: ["http://localhost/"] }, "invalid_redirect_uri"]
      ] as const) {
        const { body, status } = yield* registerClient(more)
        assert.deepStrictEqual([status, body.error], [400, error], JSON.stringify(more))
      }
    })
  )

  it.effect("a user without an account registers during the request", () =>
    Effect.gen(function* () {
      const { visit } = makeBrowser()
      const request = yield* makeRequest("NEW1234567", { prompt: "create" })
      const { location = "" } = yield* visit(request.url)
      assert.include((yield* visit(location)).text, "Create an account")
      const form = { action: "register", user: "cato", password: "long enough" }
      const made = yield* visit(location, form)
      assert.strictEqual(made.status, 303, made.text)
      const again = yield* makeBrowser().visit(location, form)
      assert.include(again.text, "is taken")
      const back = yield* visit(location, { action: "approve" })
      const code = new URL(back.location ?? "").searchParams.get("code") ?? ""
      const { body } = yield* exchange(request, code)
      assert.strictEqual((yield* whoami(body.access_token)).body.user_id, "@cato:green.test")
    })
  )

  it.effect("a wrong password, a refusal and a form of another site give no code", () =>
    Effect.gen(function* () {
      yield* register("dan")
      const { visit } = makeBrowser()
      const request = yield* makeRequest("REFUSED123")
      const { location = "" } = yield* visit(request.url)
      const wrong = yield* visit(location, { action: "login", user: "dan", password: "guess" })
      assert.include(wrong.text, "password is wrong")
      assert.include((yield* visit(location, { action: "approve" })).text, "Log in")
      yield* visit(location, { action: "login", user: "dan", password: "secret-dan" })
      const forged = yield* visit(location, { action: "approve" }, { "sec-fetch-site": "cross-site" })
      assert.strictEqual(forged.status, 403)
      for (const origin of ["https://evil.test", "null"]) {
        assert.strictEqual((yield* visit(location, { action: "approve" }, { origin })).status, 403)
      }
      const refused = yield* visit(location, { action: "refuse" })
      assert.strictEqual(new URL(refused.location ?? "").searchParams.get("error"), "access_denied")
      assert.strictEqual((yield* visit(location, { action: "approve" })).status, 400)
    })
  )

  it.effect("U+0000 in a form is refused", () =>
    Effect.gen(function* () {
      const { device_authorization_endpoint, token_endpoint } = yield* metadata
      const client_id = "nul\0"
      const grant = yield* postForm(token_endpoint!, { grant_type: "refresh_token", refresh_token: "x", client_id })
      assert.deepStrictEqual([grant.status, grant.body.error], [400, "invalid_request"])
      const device = yield* postForm(device_authorization_endpoint!, { scope: scopeOf("NUL"), client_id })
      assert.deepStrictEqual([device.status, device.body.error], [400, "invalid_request"])
    })
  )

  it.effect("a device without a browser gets a token once its code is approved", () =>
    Effect.gen(function* () {
      yield* register("eve")
      const { body: client } = yield* registerClient()
      const { device_authorization_endpoint, token_endpoint } = yield* metadata
      const begun = yield* postForm(device_authorization_endpoint!, {
        client_id: client.client_id!,
        scope: scopeOf("TELEVISION")
      })
      assert.match(begun.body.user_code!, /^[A-Z]{4}-[A-Z]{4}$/)
      const poll = postForm(token_endpoint!, {
        grant_type: deviceGrant,
        device_code: begun.body.device_code!,
        client_id: client.client_id!
      })
      assert.strictEqual((yield* poll).body.error, "authorization_pending")
      assert.strictEqual((yield* poll).body.error, "slow_down")
      const another = (yield* registerClient({ client_name: "Another" })).body.client_id!
      const stolen = { grant_type: deviceGrant, device_code: begun.body.device_code!, client_id: another }
      assert.strictEqual((yield* postForm(token_endpoint!, stolen)).body.error, "invalid_grant")
      const { visit } = makeBrowser()
      assert.include((yield* visit("/_greenroom/link?user_code=AAAA-AAAA")).text, "wrong")
      const bySecret = yield* visit(`/_greenroom/oauth2/continue?id=${begun.body.device_code}`)
      assert.strictEqual(bySecret.status, 400, "the secret of the device opens no page")
      const { location = "" } = yield* visit(begun.body.verification_uri_complete!)
      yield* visit(location, { action: "login", user: "eve", password: "secret-eve" })
      assert.include((yield* visit(location, { action: "approve" })).text, "linked")
      assert.strictEqual((yield* visit(location, { action: "refuse" })).status, 400, "a decision is final")
      const { body } = yield* poll
      assert.deepInclude((yield* whoami(body.access_token)).body, { device_id: "TELEVISION" })
      assert.strictEqual((yield* poll).body.error, "expired_token")
    })
  )

  it.effect("the account page logs devices out and deactivates the account", () =>
    Effect.gen(function* () {
      const user = yield* register("fin")
      const { visit } = makeBrowser()
      const page = "/_greenroom/account"
      assert.include((yield* visit(page)).text, "Log in")
      yield* visit(page, { action: "login", user: "fin", password: "secret-fin" })
      const devices = yield* askToday("GET", "/v3/devices", { token: user.token })
      const [device] = devices.body.devices as ReadonlyArray<{ readonly device_id: string }>
      assert.include((yield* visit(page)).text, device?.device_id ?? "none")
      yield* visit(page, { action: "end_device", device_id: device?.device_id ?? "" })
      assert.strictEqual((yield* whoami(user.token)).body.errcode, "M_UNKNOWN_TOKEN")
      const before = Date.now()
      assert.include((yield* visit(page, { action: "allow_keys_reset" })).text, "allowed")
      const sql = yield* SqlClient.SqlClient
      const [allowed] = yield* sql<{ until: bigint }>`
        SELECT keys_reset_until AS until FROM users WHERE user_id = ${user.id}`
      const tenMinutes = 10 * 60_000
      assert.isAtLeast(Number(allowed!.until), before + tenMinutes)
      assert.isAtMost(Number(allowed!.until), Date.now() + tenMinutes)
      const deactivation = `${page}?action=org.matrix.account_deactivate`
      assert.include((yield* visit(deactivation, { action: "deactivate", password: "guess" })).text, "wrong")
      assert.include((yield* visit(deactivation, { action: "deactivate", password: "secret-fin" })).text, "gone")
      const profile = yield* askToday("GET", `/v3/profile/${inPath(user.id)}`)
      assert.strictEqual(profile.status, 404)
      assert.include((yield* visit(page)).text, "Log in")
    })
  )
})

layer(loginGateway({ oauth: "beside" }), { excludeTestServices: true })("the login of a browser", (it) => {
  it.effect("ends when the password changes and when the account is locked", () =>
    Effect.gen(function* () {
      const user = yield* register("hal")
      const admin = yield* registerAdmin("hals-admin")
      const { visit } = makeBrowser()
      const page = "/_greenroom/account"
      const logInWith = (password: string) => visit(page, { action: "login", user: "hal", password })
      yield* logInWith("secret-hal")
      assert.include((yield* visit(page)).text, user.id)
      const change = { new_password: "another-password", auth: passwordOf("hal") }
      assert.strictEqual((yield* as(user)("POST", "/v3/account/password", change)).status, 200)
      assert.notInclude((yield* visit(page)).text, user.id)
      yield* logInWith("another-password")
      assert.include((yield* visit(page)).text, user.id)
      yield* as(admin)("PUT", `/v1/admin/lock/${inPath(user.id)}`, { locked: true })
      assert.notInclude((yield* visit(page)).text, user.id)
    })
  )
})

layer(loginGateway({ oauth: "beside" }, { rates: { ...unlimited, logins: { limit: 5, window: 3_600_000 } } }), {
  excludeTestServices: true
})("the codes of devices", (it) => {
  it.effect("have the rate limit of passwords on every page", () =>
    Effect.gen(function* () {
      const { visit } = makeBrowser()
      for (const path of ["/_greenroom/link", "/_greenroom/oauth2/continue"]) {
        const guesses = Array.from({ length: 6 }, () => visit(`${path}?user_code=AAAA-AAAA`))
        assert.strictEqual((yield* Effect.all(guesses)).at(-1)?.status, 429, path)
      }
    })
  )
})

layer(loginGateway({ oauth: "on" }), { excludeTestServices: true })("the OAuth 2.0 API in place of passwords", (it) => {
  it.effect("is announced to clients, and passwords are not", () =>
    Effect.gen(function* () {
      const { body } = yield* askToday("GET", "/v3/login")
      assert.notInclude(JSON.stringify(body.flows), "m.login.password")
      const auth = { type: "m.login.dummy" }
      const made = yield* askToday("POST", "/v3/register", { json: { username: "gil", password: "x", auth } })
      assert.strictEqual(made.body.errcode, "M_FORBIDDEN")
      const wellKnown = yield* ask("GET", "//.well-known/matrix/client")
      assert.property(wellKnown.body, "org.matrix.msc2965.authentication")
      const issuer = yield* askToday("GET", "/unstable/org.matrix.msc2965/auth_issuer")
      assert.strictEqual(issuer.body.issuer, (yield* metadata).issuer)
    })
  )
})

layer(gateway, { excludeTestServices: true })("without the OAuth 2.0 API", (it) => {
  it.effect("its endpoints are unknown", () =>
    Effect.gen(function* () {
      for (const path of ["/v1/auth_metadata", "/unstable/org.matrix.msc2965/auth_issuer"]) {
        assert.strictEqual((yield* askToday("GET", path)).body.errcode, "M_UNRECOGNIZED")
      }
      assert.strictEqual((yield* ask("GET", "//_greenroom/account")).status, 404)
    })
  )
})
