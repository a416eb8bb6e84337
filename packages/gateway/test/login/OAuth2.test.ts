import { assert, describe, it } from "@effect/vitest"
import type { LoginOptions } from "@greenroom/actors/account/login/LoginOptions"
import { callbackPath } from "@greenroom/actors/account/login/OAuth2Client"
import { Effect, type Layer } from "effect"
import { SqlClient } from "effect/sql"
import { Gateway } from "../../src/Gateway.ts"
import { ask, type Body, register } from "../TestGateway.ts"
import { login, loginGateway, oauth2, outcome, password, post, signUp } from "./TestLogin.ts"
import { makeVisitor, providerOptions, type TestProvider, testProvider } from "./TestProvider.ts"

const withProvider = <A, E>(
  options: LoginOptions,
  use: (provider: TestProvider) => Effect.Effect<A, E, Layer.Success<ReturnType<typeof loginGateway>>>
) =>
  Effect.scoped(
    Effect.gen(function* () {
      const provider = yield* testProvider
      return yield* Effect.gen(function* () {
        provider.allow((yield* Gateway).url)
        return yield* use(provider)
      }).pipe(Effect.provide(loginGateway({ providers: [providerOptions(provider)], ...options })))
    })
  )

const byService = { flows: [[oauth2], [password]], registrationFlows: [[oauth2], [password]] } as const

const json = (text: string) => JSON.parse(text) as Body

/** Registers as somebody at the provider; what the redirect URI answers. */
const comeAs = Effect.fnUntraced(function* (
  provider: TestProvider,
  person: string | undefined,
  path: "/login" | "/register",
  stage: object = {}
) {
  provider.person = person
  const begun = yield* post(path, { type: oauth2, ...stage })
  assert.strictEqual(begun.status, 200, begun.text)
  const visitor = makeVisitor()
  const back = yield* visitor.authorize(begun.body.uri as string)
  const answer = yield* visitor.visit(back)
  return { status: answer.status, body: json(answer.text), back, begun: begun.body }
})

describe("OAuth2", () => {
  it.live("registers with an account elsewhere, and logs in with it; the redirect URI ends with credentials", () =>
    withProvider(byService, (provider) =>
      Effect.gen(function* () {
        const registered = yield* comeAs(provider, "subject-1", "/register", { user: "alice" })
        assert.strictEqual(registered.body.user_id, "@alice:green.test")
        const again = yield* comeAs(provider, "subject-1", "/login", { user: "alice" })
        assert.strictEqual(again.body.user_id, "@alice:green.test")
        assert.strictEqual((yield* ask("GET", "/devices", { token: again.body.access_token })).status, 200)
        const unnamed = yield* comeAs(provider, "subject-1", "/login")
        assert.strictEqual(unnamed.body.user_id, "@alice:green.test")
        const uri = new URL(again.begun.uri as string)
        assert.strictEqual(uri.searchParams.get("response_type"), "code")
        assert.strictEqual(uri.searchParams.get("code_challenge_method"), "S256")
        assert.isAbove(uri.searchParams.get("state")?.length ?? 0, 30)
        assert.match(provider.tokenRequests[0] ?? "", /^Basic /, "it is a confidential client")
      })
    )
  )

  it.live("links by the provider's name of the user, never by a name or an address", () =>
    withProvider(byService, (provider) =>
      Effect.gen(function* () {
        const alice = yield* register("alice")
        const sql = yield* SqlClient.SqlClient
        yield* sql`
          INSERT INTO user_threepids (medium, address, user_id, verified_at)
          VALUES ('email', 'alice@mail.test', ${alice.id}, 0)`
        const stranger = yield* comeAs(provider, "alice", "/login", { user: "alice" })
        assert.strictEqual(outcome(stranger), "403 M_FORBIDDEN")
        yield* comeAs(provider, "subject-bob", "/register", { user: "bob" })
        const asAlice = yield* comeAs(provider, "subject-bob", "/login", { user: "alice" })
        assert.strictEqual(outcome(asAlice), "403 M_FORBIDDEN")
        const twice = yield* comeAs(provider, "subject-bob", "/register", { user: "bob2" })
        assert.strictEqual(outcome(twice), "403 M_FORBIDDEN")
      })
    )
  )

  it.live("refuses a state that is forged, was used, or whose code belongs to another login", () =>
    withProvider(byService, (provider) =>
      Effect.gen(function* () {
        const { url } = yield* Gateway
        const first = yield* comeAs(provider, "subject-1", "/register", { user: "alice" })
        const { visit } = makeVisitor()
        const replayed = yield* visit(first.back)
        assert.deepStrictEqual([replayed.status, json(replayed.text).errcode], [403, "M_FORBIDDEN"])
        for (const query of ["", "?state=", "?code=1&state=forged", `?${"state=a&".repeat(50)}`, "?code=1"]) {
          const forged = yield* visit(`${url}${callbackPath}${query}`)
          assert.deepStrictEqual([forged.status, json(forged.text).errcode], [403, "M_FORBIDDEN"], query)
        }
        const mine = yield* login({ type: oauth2 })
        const theirs = yield* login({ type: oauth2 })
        const visitor = makeVisitor()
        const back = new URL(yield* visitor.authorize(theirs.body.uri as string))
        back.searchParams.set("state", new URL(mine.body.uri as string).searchParams.get("state") ?? "")
        const mixed = yield* visitor.visit(back.href)
        assert.strictEqual(mixed.status, 403, "the code is bound to the other login by PKCE and nonce")
      })
    )
  )

  it.live("gives nothing to the starter of a login that another person confirmed", () =>
    withProvider({ flows: [[oauth2, password], [password]], registrationFlows: [[oauth2, password]] }, (provider) =>
      Effect.gen(function* () {
        const registering = yield* comeAs(provider, "subject-1", "/register", { user: "alice" })
        assert.strictEqual(registering.body.next, password)
        yield* signUp({ type: password, session: registering.body.session, password: "secret" })
        const { back, begun, body } = yield* comeAs(provider, "subject-1", "/login")
        assert.strictEqual(body.next, password)
        assert.notStrictEqual(body.session, begun.session)
        const finish = (session: unknown) => login({ type: password, session, password: "secret" })
        assert.strictEqual(outcome(yield* finish(begun.session)), "403 M_FORBIDDEN")
        assert.strictEqual((yield* finish(body.session)).body.user_id, "@alice:green.test")
        assert.include(back, "code=")
      })
    )
  )

  it.live("a refusal at the provider is an error, and the user may try again", () =>
    withProvider(byService, (provider) =>
      Effect.gen(function* () {
        const denied = yield* comeAs(provider, undefined, "/register", { user: "alice" })
        assert.strictEqual(outcome(denied), "403 M_FORBIDDEN")
        const again = yield* comeAs(provider, "subject-1", "/register", { session: denied.begun.session })
        assert.strictEqual(again.body.user_id, "@alice:green.test")
      })
    )
  )

  it.live("a browser comes back to a page, and only the browser that began", () =>
    withProvider(byService, (provider) =>
      Effect.gen(function* () {
        yield* comeAs(provider, "subject-1", "/register", { user: "alice" })
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
        const visitor = makeVisitor()
        const foreign = yield* visitor.visit(yield* visitor.authorize(body.uri as string))
        assert.include(foreign.text, "was not started here")
        assert.notInclude(foreign.text, 'access_token\\":')
        const own = yield* begin
        visitor.cookies.set("greenroom_login", /=([\w-]+);/.exec(own.cookie)?.[1] ?? "")
        const page = yield* visitor.visit(yield* visitor.authorize(own.body.uri as string))
        assert.match(page.headers.get("content-type") ?? "", /text\/html/)
        assert.include(page.text, "@alice:green.test")
        assert.strictEqual(page.headers.get("cache-control"), "no-store")
      })
    )
  )

  it.live("several services are selected on a page, and nothing on it leads elsewhere", () =>
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
          two.person = "subject-2"
          const { body } = yield* signUp({ type: oauth2, user: "alice" })
          const { visit, authorize } = makeVisitor()
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
          const back = yield* authorize(chosen.location ?? "")
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

  it.live("a logged-in user links a service to their account, after returning from it themselves", () =>
    withProvider(byService, (provider) =>
      Effect.gen(function* () {
        const alice = yield* register("alice")
        const mallory = yield* register("mallory")
        const link = (stage: object, token: string) => post("/account/links", { type: oauth2, ...stage }, token)
        provider.person = "subject-1"
        const begun = yield* link({}, mallory.token)
        const visitor = makeVisitor()
        const back = yield* visitor.visit(yield* visitor.authorize(begun.body.uri as string))
        const { session } = json(back.text)
        assert.strictEqual(outcome(yield* link({ session: begun.body.session }, mallory.token)), "403 M_FORBIDDEN")
        assert.strictEqual(outcome(yield* link({ session }, alice.token)), "403 M_FORBIDDEN")
        assert.strictEqual(outcome(yield* comeAs(provider, "subject-1", "/login")), "403 M_FORBIDDEN")
        assert.strictEqual((yield* link({ session }, mallory.token)).status, 200)
        assert.strictEqual((yield* comeAs(provider, "subject-1", "/login")).body.user_id, mallory.id)
      })
    )
  )

  it.live("a provider that does not answer is said so, and is tried again", () =>
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
})
