import type { ServerResponse } from "node:http"
import { assert, describe, it } from "@effect/vitest"
import { callbackPath } from "@greenroom/actors/account/login/OAuth2Client"
import { serveHttp } from "@greenroom/store/testing/Loopback"
import { Effect, Fiber, Queue } from "effect"
import { SqlClient } from "effect/sql"
import { Gateway } from "../../src/Gateway.ts"
import { ask, askToday, type Body, inPath, outcome, register } from "../TestGateway.ts"
import { login, loginGateway, oauth2, password, post, signUp } from "./TestLogin.ts"
import { authorize, providerOptions, type TestProvider, testProvider, withProvider } from "./TestProvider.ts"
import { makeUserAgent } from "./UserAgent.ts"

const byService = { flows: [[oauth2], [password]], registrationFlows: [[oauth2], [password]] } as const

const json = (text: string) => JSON.parse(text) as Body

/** Logs in or registers with an account at the provider. Returns the answer of the redirect URI. */
const enterAs = Effect.fnUntraced(function* (
  provider: TestProvider,
  subject: string | undefined,
  path: "/login" | "/register",
  stage: object = {}
) {
  provider.subject = subject
  const begun = yield* post(path, { type: oauth2, ...stage })
  assert.strictEqual(begun.status, 200, begun.text)
  const userAgent = makeUserAgent()
  const back = yield* authorize(userAgent, begun.body.uri as string)
  const answer = yield* userAgent.visit(back)
  return { status: answer.status, body: json(answer.text), back, begun: begun.body }
})

describe("OAuth2", () => {
  it.live("registers and logs in with an account at a provider; the redirect URI answers with credentials", () =>
    withProvider(byService, (provider) =>
      Effect.gen(function* () {
        const registered = yield* enterAs(provider, "subject-1", "/register", { user: "alice" })
        assert.strictEqual(registered.body.user_id, "@alice:green.test")
        const again = yield* enterAs(provider, "subject-1", "/login", { user: "alice" })
        assert.strictEqual(again.body.user_id, "@alice:green.test")
        assert.strictEqual((yield* ask("GET", "/devices", { token: again.body.access_token })).status, 200)
        const unnamed = yield* enterAs(provider, "subject-1", "/login")
        assert.strictEqual(unnamed.body.user_id, "@alice:green.test")
        const uri = new URL(again.begun.uri as string)
        assert.strictEqual(uri.searchParams.get("response_type"), "code")
        assert.strictEqual(uri.searchParams.get("code_challenge_method"), "S256")
        assert.isAbove(uri.searchParams.get("state")?.length ?? 0, 30)
        assert.match(provider.tokenRequests[0] ?? "", /^Basic /, "a confidential client")
      })
    )
  )

  it.live("finds accounts by the subject at the provider, never by user name or address", () =>
    withProvider(byService, (provider) =>
      Effect.gen(function* () {
        const alice = yield* register("alice")
        const sql = yield* SqlClient.SqlClient
        yield* sql`
          INSERT INTO user_threepids (medium, address, user_id, verified_at)
          VALUES ('email', 'alice@mail.test', ${alice.id}, 0)`
        const stranger = yield* enterAs(provider, "alice", "/login", { user: "alice" })
        assert.strictEqual(outcome(stranger), "403 M_FORBIDDEN")
        yield* enterAs(provider, "subject-bob", "/register", { user: "bob" })
        const asAlice = yield* enterAs(provider, "subject-bob", "/login", { user: "alice" })
        assert.strictEqual(outcome(asAlice), "403 M_FORBIDDEN")
        const twice = yield* enterAs(provider, "subject-bob", "/register", { user: "bob2" })
        assert.strictEqual(outcome(twice), "403 M_FORBIDDEN")
      })
    )
  )

  it.live("refuses a state that is forged or used, and the code of another login", () =>
    withProvider(byService, (provider) =>
      Effect.gen(function* () {
        const { url } = yield* Gateway
        const first = yield* enterAs(provider, "subject-1", "/register", { user: "alice" })
        const { visit } = makeUserAgent()
        const replayed = yield* visit(first.back)
        assert.deepStrictEqual([replayed.status, json(replayed.text).errcode], [403, "M_FORBIDDEN"])
        for (const query of ["", "?state=", "?code=1&state=forged", `?${"state=a&".repeat(50)}`, "?code=1"]) {
          const forged = yield* visit(`${url}${callbackPath}${query}`)
          assert.deepStrictEqual([forged.status, json(forged.text).errcode], [403, "M_FORBIDDEN"], query)
        }
        const mine = yield* login({ type: oauth2 })
        const theirs = yield* login({ type: oauth2 })
        const userAgent = makeUserAgent()
        const back = new URL(yield* authorize(userAgent, theirs.body.uri as string))
        back.searchParams.set("state", new URL(mine.body.uri as string).searchParams.get("state") ?? "")
        const mixed = yield* userAgent.visit(back.href)
        assert.strictEqual(mixed.status, 403, "the code is bound to the other login by PKCE and nonce")
      })
    )
  )

  it.live("gives no credentials to the session that started a login, if another browser confirmed it", () =>
    withProvider({ flows: [[oauth2, password], [password]], registrationFlows: [[oauth2, password]] }, (provider) =>
      Effect.gen(function* () {
        const registering = yield* enterAs(provider, "subject-1", "/register", { user: "alice" })
        assert.strictEqual(registering.body.next, password)
        yield* signUp({ type: password, session: registering.body.session, password: "secret" })
        const { back, begun, body } = yield* enterAs(provider, "subject-1", "/login")
        assert.strictEqual(body.next, password)
        assert.notStrictEqual(body.session, begun.session)
        const finish = (session: unknown) => login({ type: password, session, password: "secret" })
        assert.strictEqual(outcome(yield* finish(begun.session)), "403 M_FORBIDDEN")
        assert.strictEqual((yield* finish(body.session)).body.user_id, "@alice:green.test")
        assert.include(back, "code=")
      })
    )
  )

  it.live("answers a refusal at the provider with an error, and lets the user try again", () =>
    withProvider(byService, (provider) =>
      Effect.gen(function* () {
        const denied = yield* enterAs(provider, undefined, "/register", { user: "alice" })
        assert.strictEqual(outcome(denied), "403 M_FORBIDDEN")
        const again = yield* enterAs(provider, "subject-1", "/register", { session: denied.begun.session })
        assert.strictEqual(again.body.user_id, "@alice:green.test")
      })
    )
  )

  it.live("answers with a page to the browser that started the login, and to no other", () =>
    withProvider(byService, (provider) =>
      Effect.gen(function* () {
        yield* enterAs(provider, "subject-1", "/register", { user: "alice" })
        const { url } = yield* Gateway
        const begin = Effect.promise(async () => {
          const response = await fetch(`${url}/matrix/client/api/v1/login`, {
            method: "POST",
            body: JSON.stringify({ type: oauth2, fallback: true })
          })
          return { cookie: response.headers.get("set-cookie") ?? "", body: (await response.json()) as Body }
        })
        const { body, cookie } = yield* begin
        assert.match(cookie, /^greenroom_login=[\w-]{43}; Path=\/matrix\/client\/api\/v1\/; .*HttpOnly; SameSite=Lax$/)
        const userAgent = makeUserAgent()
        const foreign = yield* userAgent.visit(yield* authorize(userAgent, body.uri as string))
        assert.include(foreign.text, "was not started here")
        assert.notInclude(foreign.text, 'access_token\\":')
        const own = yield* begin
        userAgent.cookies.set("greenroom_login", /=([\w-]+);/.exec(own.cookie)?.[1] ?? "")
        const page = yield* userAgent.visit(yield* authorize(userAgent, own.body.uri as string))
        assert.match(page.headers.get("content-type") ?? "", /text\/html/)
        assert.include(page.text, "@alice:green.test")
        assert.strictEqual(page.headers.get("cache-control"), "no-store")
      })
    )
  )

  it.live("offers several services on a page without redirects to elsewhere", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const [one, two] = [yield* testProvider, yield* testProvider]
        const providers = [
          providerOptions(one, { id: "one", name: "<One> & Only" }),
          providerOptions(two, {
            id: "two",
            name: "Two",
            authorizationEndpoint: `${two.issuer}/auth`,
            tokenEndpoint: `${two.issuer}/token`,
            userinfoEndpoint: `${two.issuer}/me`,
            subjectClaim: "sub",
            scope: "openid"
          })
        ]
        yield* Effect.gen(function* () {
          const { url } = yield* Gateway
          one.allow(url)
          two.allow(url)
          two.subject = "subject-2"
          const { body } = yield* signUp({ type: oauth2, user: "alice" })
          const userAgent = makeUserAgent()
          const { visit } = userAgent
          const page = yield* visit(body.uri as string)
          assert.include(page.text, "&lt;One&gt; &amp; Only")
          const links = [...page.text.matchAll(/href="([^"]+)"/g)].map(([, href]) =>
            (href ?? "").replaceAll("&amp;", "&")
          )
          assert.lengthOf(links, 2)
          const target = (href: string) => new URL(href, body.uri as string).href
          const elsewhere = target((links[0] ?? "").replace("provider=one", "provider=https://evil.test"))
          assert.strictEqual((yield* visit(elsewhere)).status, 400)
          assert.strictEqual((yield* visit(target("authorize?ticket=none&provider=one"))).status, 404)
          const chosen = yield* visit(target(links[1] ?? ""))
          assert.strictEqual(chosen.status, 303)
          assert.isTrue(chosen.location?.startsWith(`${two.issuer}/auth?`))
          const back = yield* authorize(userAgent, chosen.location ?? "")
          const other = new URL(back)
          other.searchParams.set("redirect_uri", "https://evil.test")
          const done = yield* visit(other.href)
          assert.strictEqual(done.status, 200, done.text)
          assert.strictEqual(json(done.text).user_id, "@alice:green.test")
          assert.isUndefined(done.location)
        }).pipe(Effect.provide(loginGateway({ providers, ...byService })))
      })
    )
  )

  it.live("links a service to the account of the user whose browser returned from it", () =>
    withProvider(byService, (provider) =>
      Effect.gen(function* () {
        const alice = yield* register("alice")
        const mallory = yield* register("mallory")
        const link = (stage: object, token: string) => post("/account/links", { type: oauth2, ...stage }, token)
        provider.subject = "subject-1"
        const begun = yield* link({}, mallory.token)
        const userAgent = makeUserAgent()
        const back = yield* userAgent.visit(yield* authorize(userAgent, begun.body.uri as string))
        const { session } = json(back.text)
        assert.strictEqual(outcome(yield* link({ session: begun.body.session }, mallory.token)), "403 M_FORBIDDEN")
        assert.strictEqual(outcome(yield* link({ session }, alice.token)), "403 M_FORBIDDEN")
        assert.strictEqual(outcome(yield* enterAs(provider, "subject-1", "/login")), "403 M_FORBIDDEN")
        assert.strictEqual((yield* link({ session }, mallory.token)).status, 200)
        assert.strictEqual((yield* enterAs(provider, "subject-1", "/login")).body.user_id, mallory.id)
      })
    )
  )

  it.live("answers with an error while a provider cannot be reached, and tries again", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const provider = yield* testProvider
        yield* Effect.gen(function* () {
          assert.strictEqual(outcome(yield* login({ type: oauth2 })), "400 M_UNKNOWN")
          provider.allow((yield* Gateway).url)
          assert.strictEqual((yield* login({ type: oauth2 })).status, 200)
        }).pipe(Effect.provide(loginGateway({ providers: [providerOptions(provider)], ...byService })))
      })
    )
  )

  it.live("asks a provider that stays silent once for all logins, and delays no logins at another", () =>
    Effect.gen(function* () {
      const held = yield* Queue.unbounded<ServerResponse>()
      const issuer = yield* serveHttp((_, response) => void Queue.offerUnsafe(held, response))
      const silent = { issuer, subject: undefined, tokenRequests: [], allow: () => {} }
      const other = yield* testProvider
      const providers = [
        providerOptions(silent, { id: "silent", name: "Silent" }),
        providerOptions(other, { id: "other", name: "Other" })
      ]
      yield* Effect.gen(function* () {
        other.allow((yield* Gateway).url)
        const begin = (provider: string) =>
          askToday("GET", `/v3/login/sso/redirect/${provider}?redirectUrl=${inPath("https://client.test/")}`, {
            redirect: "manual"
          })
        const stuck = yield* Effect.forkChild(
          Effect.all([begin("silent"), begin("silent"), begin("silent")], { concurrency: "unbounded" }),
          { startImmediately: true }
        )
        const request = yield* Queue.take(held)
        assert.strictEqual((yield* begin("other")).status, 302)
        assert.isUndefined(stuck.pollUnsafe())
        request.writeHead(500).end()
        assert.deepStrictEqual(
          (yield* Fiber.join(stuck)).map(({ status }) => status),
          [400, 400, 400]
        )
        assert.strictEqual(yield* Queue.size(held), 0)
      }).pipe(Effect.provide(loginGateway({ providers, ...byService })))
    }).pipe(Effect.scoped)
  )

  it.live("reads at most a megabyte of a provider's answer", () =>
    Effect.gen(function* () {
      const page = Buffer.alloc(65_536, " ")
      let sent = 0
      const issuer = yield* serveHttp((_request, response) => {
        response.writeHead(200, { "content-type": "application/json" })
        const more = () => {
          while (!response.destroyed && sent < 2 ** 30) {
            sent += page.length
            if (!response.write(page)) return void response.once("drain", more)
          }
        }
        more()
      })
      const provider = { issuer, subject: undefined, tokenRequests: [], allow: () => {} }
      const options = { providers: [providerOptions(provider)], ...byService }
      const begun = yield* Effect.provide(post("/login", { type: oauth2 }), loginGateway(options))
      assert.strictEqual(begun.status, 400, begun.text)
      assert.isBelow(sent, 32 * 1024 * 1024)
    }).pipe(Effect.scoped)
  )
})
