import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import type { Page } from "playwright-core"
import { Gateway } from "../../src/Gateway.ts"
import { ask, register } from "../TestGateway.ts"
import { Browser, phone, picture, type Visit, type VisitOptions, visit, webClient } from "./Browser.ts"
import {
  emailCode,
  emailUrl,
  type LoginGateway,
  loginGateway,
  mailOptions,
  oauth2,
  password,
  registrationToken,
  signUp
} from "./TestLogin.ts"
import { codeIn, linkIn, type TestMail, testMail } from "./TestMail.ts"
import { providerOptions, type TestProvider, testProvider } from "./TestProvider.ts"

const flows = [[password], [password, emailCode], [emailUrl], [oauth2], [emailCode, oauth2]] as const
const reachable = flows.filter((flow) => flow.join() !== [password, emailCode].join())
const registrationFlows = [[password], [emailCode, password], [emailUrl, oauth2]] as const

interface Servers {
  readonly mail: TestMail
  readonly provider: TestProvider
  readonly other: TestProvider
}

type LoginOptions = Parameters<typeof loginGateway>[0]

/** Runs a test with a gateway, a mail server and two services. */
const withServers = <A, E, R>(
  options: LoginOptions,
  use: (servers: Servers) => Effect.Effect<A, E, R | LoginGateway>
) =>
  Effect.gen(function* () {
    const mail = yield* testMail()
    const [provider, other] = [yield* testProvider, yield* testProvider]
    const providers = [
      providerOptions(provider, { id: "green", name: "Green Service" }),
      providerOptions(other, { id: "other", name: "Other Service" })
    ]
    const login: LoginOptions = { mail: mailOptions(mail), providers, flows: reachable, registrationFlows, ...options }
    return yield* Effect.gen(function* () {
      const { url } = yield* Gateway
      provider.allow(url)
      other.allow(url)
      return yield* use({ mail, provider, other })
    }).pipe(Effect.provide(loginGateway(login)))
  }).pipe(Effect.scoped)

const api = "/matrix/client/api/v1"

const open = Effect.fnUntraced(function* (path: string, options: VisitOptions = {}) {
  const { url } = yield* Gateway
  return yield* visit(`${url}${api}${path}`, options)
})

const act = <A>(action: () => Promise<A>) => Effect.promise(action)

const heading = (page: Page, text: string) => act(() => page.getByRole("heading", { name: text }).waitFor())

/** Fills in fields by their labels, and submits, with the keyboard alone. */
const fill = Effect.fnUntraced(function* (page: Page, fields: { readonly [label: string]: string }) {
  for (const [label, text] of Object.entries(fields)) {
    yield* act(() => page.getByLabel(label).focus())
    yield* act(() => page.keyboard.type(text))
  }
  yield* act(() => page.keyboard.press("Enter"))
})

const choose = (page: Page, name: string) => act(() => page.getByRole("button", { name, exact: true }).click())

/** Waits until the page names the user who is logged in, and checks that it has had no errors. */
const loggedIn = Effect.fnUntraced(function* ({ complaints, page }: Visit, userId: string) {
  yield* act(() => page.getByText(userId).waitFor())
  assert.deepStrictEqual(complaints, [])
})

/** A user with an email address and a linked service. */
const linkedUser = Effect.fnUntraced(function* (name: string) {
  const user = yield* register(name)
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    INSERT INTO user_threepids (medium, address, user_id, verified_at)
    VALUES ('email', ${`${name}@mail.test`}, ${user.id}, 0)`
  yield* sql`
    INSERT INTO user_identities (provider, subject, user_id, linked_at)
    VALUES ('green', ${JSON.stringify(`subject-${name}`)}, ${user.id}, 0)`
  return user
})

layer(Browser.layer, { excludeTestServices: true })("the fallback page", (it) => {
  it.effect("logs in by password with the keyboard, and returns to a client of another origin", () =>
    withServers({ flows: [[password]] }, () =>
      Effect.gen(function* () {
        const { url } = yield* Gateway
        const alice = yield* register("alice")
        const client = yield* webClient
        const fallback = `${url}${api}/login/fallback`
        const { complaints, page: opener } = yield* visit(`${client}/?open=${encodeURIComponent(fallback)}`)
        const [page] = yield* act(() => Promise.all([opener.waitForEvent("popup"), opener.getByRole("button").click()]))
        yield* act(() => page.getByText(`You do this for ${client}`).waitFor())
        yield* picture(page, "login-password")
        yield* fill(page, { "User name or user ID": "alice", Password: "wrong" })
        yield* act(() => page.getByRole("alert").getByText("wrong").waitFor())
        yield* picture(page, "login-password-wrong")
        yield* act(() => page.getByLabel("Password").fill("secret-alice"))
        yield* act(() => Promise.all([page.waitForEvent("close"), page.keyboard.press("Enter")]))
        const received = (yield* act(() => opener.evaluate("window.received"))) as ReadonlyArray<{
          readonly origin: string
          readonly data: { readonly type: string; readonly result: { readonly [key: string]: string } }
        }>
        assert.lengthOf(received, 1)
        assert.deepStrictEqual([received[0]?.origin, received[0]?.data.type], [url, "m.login"])
        assert.strictEqual(received[0]?.data.result.user_id, alice.id)
        const token = received[0]?.data.result.access_token
        assert.strictEqual((yield* ask("GET", "/devices", { token })).status, 200)
        assert.deepStrictEqual(complaints, [])
      })
    )
  )

  it.effect("calls onLogin of an embedding client, and of an opener of the same origin", () =>
    withServers({ flows: [[password]] }, () =>
      Effect.gen(function* () {
        yield* register("alice")
        const { page } = yield* open("/login/fallback")
        const calls: Array<string> = []
        const onLogin = (name: string) => (userId: string) => void calls.push(`${name} ${userId}`)
        const done = (of: Page) => act(() => of.getByText("@alice:green.test").waitFor())
        yield* act(() => page.exposeFunction("loginOfPage", onLogin("page")))
        yield* act(() => page.evaluate("window.matrixLogin = { onLogin: (result) => loginOfPage(result.user_id) }"))
        yield* fill(page, { "User name or user ID": "alice", Password: "secret-alice" })
        yield* done(page)
        const { page: opener } = yield* open("/login")
        yield* act(() => opener.exposeFunction("loginOfOpener", onLogin("opener")))
        yield* act(() => opener.evaluate("window.onLogin = (result) => loginOfOpener(result.user_id)"))
        const [popup] = yield* act(() =>
          Promise.all([opener.waitForEvent("popup"), opener.evaluate(`void window.open("${api}/login/fallback")`)])
        )
        yield* act(() => popup.getByLabel("Password").fill("secret-alice"))
        yield* act(() => popup.getByLabel("User name or user ID").fill("alice"))
        yield* act(() => Promise.all([popup.waitForEvent("close"), popup.keyboard.press("Enter")]))
        assert.deepStrictEqual(calls, ["page @alice:green.test", "opener @alice:green.test"])
      })
    )
  )

  it.effect("logs in by password and code on a phone in dark mode", () =>
    withServers({ flows: [[password, emailCode], [emailUrl]] }, ({ mail }) =>
      Effect.gen(function* () {
        const alice = yield* linkedUser("alice")
        const visited = yield* open("/login/fallback", { viewport: phone, colorScheme: "dark" })
        const { page } = visited
        yield* heading(page, "Log in")
        yield* picture(page, "login-choice-phone-dark")
        yield* choose(page, "Password, then a code by email")
        yield* act(() => page.getByText("Step 1 of 2").waitFor())
        yield* picture(page, "login-step-phone-dark")
        yield* fill(page, { "User name or user ID": "alice", Password: "secret-alice" })
        yield* heading(page, "A code by email")
        yield* fill(page, { "Email address": "alice@mail.test" })
        yield* heading(page, "Enter the code")
        yield* picture(page, "login-code-phone-dark")
        yield* fill(page, { Code: "1" })
        yield* act(() => page.getByRole("alert").getByText("The code is wrong").waitFor())
        yield* picture(page, "login-code-wrong-phone-dark")
        yield* act(() => page.getByLabel("Code").fill(""))
        yield* fill(page, { Code: codeIn(yield* mail.next("alice@mail.test")) })
        yield* loggedIn(visited, alice.id)
        yield* picture(page, "login-done-phone-dark")
      })
    )
  )

  it.effect("logs in by a link that is confirmed in another browser", () =>
    withServers({}, ({ mail }) =>
      Effect.gen(function* () {
        const alice = yield* linkedUser("alice")
        const visited = yield* open("/login/fallback")
        yield* heading(visited.page, "Log in")
        yield* picture(visited.page, "login-choice")
        yield* choose(visited.page, "A link by email")
        yield* fill(visited.page, { "User name or user ID": "alice", "Email address": "alice@mail.test" })
        yield* heading(visited.page, "Look into your mail")
        yield* picture(visited.page, "login-link-waits")
        const received = yield* mail.next("alice@mail.test")
        const { page: confirming } = yield* visit(linkIn(received), { viewport: phone })
        yield* picture(confirming, "email-link-phone")
        yield* choose(confirming, "Yes, it is me")
        yield* heading(confirming, "Confirmed")
        yield* picture(confirming, "email-link-confirmed-phone")
        yield* loggedIn(visited, alice.id)
        const html = /(<!DOCTYPE html>[\s\S]*<\/html>)/.exec(received.body)?.[1] ?? ""
        const { page: reading } = yield* visit("about:blank")
        yield* act(() => reading.setContent(html))
        yield* picture(reading, "mail-link")
        yield* act(() => confirming.reload())
        yield* heading(confirming, "This link is no longer valid")
        yield* picture(confirming, "email-link-expired-phone")
      })
    )
  )

  it.effect("logs in by a service, and by a code and a service", () =>
    withServers({}, ({ mail, provider }) =>
      Effect.gen(function* () {
        const alice = yield* linkedUser("alice")
        provider.subject = "subject-alice"
        const visited = yield* open("/login/fallback", { colorScheme: "dark" })
        const { page } = visited
        yield* choose(page, "Another service")
        yield* choose(page, "Continue")
        yield* heading(page, "Log in with")
        yield* picture(page, "services-dark")
        yield* act(() => page.getByRole("link", { name: "Green Service" }).click())
        yield* choose(page, "Allow")
        yield* loggedIn(visited, alice.id)
        const second = yield* open("/login/fallback")
        yield* choose(second.page, "A code by email, then another service")
        yield* fill(second.page, { "User name or user ID": "alice", "Email address": "alice@mail.test" })
        yield* heading(second.page, "Enter the code")
        yield* fill(second.page, { Code: codeIn(yield* mail.next("alice@mail.test")) })
        yield* heading(second.page, "Another service")
        yield* act(() => second.page.getByText("Step 2 of 2").waitFor())
        yield* choose(second.page, "Continue")
        yield* act(() => second.page.getByRole("link", { name: "Green Service" }).click())
        yield* choose(second.page, "Allow")
        yield* loggedIn(second, alice.id)
      })
    )
  )

  it.effect("shows the error of a service, and starts again", () =>
    withServers({}, ({ provider }) =>
      Effect.gen(function* () {
        provider.subject = "subject-nobody"
        const { page } = yield* open("/login/fallback")
        yield* choose(page, "Another service")
        yield* choose(page, "Continue")
        yield* act(() => page.getByRole("link", { name: "Green Service" }).click())
        yield* choose(page, "Allow")
        yield* act(() => page.getByRole("alert").getByText("No account of this server is linked").waitFor())
        yield* picture(page, "login-service-unlinked")
        yield* heading(page, "Log in")
      })
    )
  )

  it.effect("registers by password, by code, and by a link and a service", () =>
    withServers({}, ({ mail, provider }) =>
      Effect.gen(function* () {
        const first = yield* open("/register/fallback", { viewport: phone })
        yield* heading(first.page, "Create an account")
        yield* picture(first.page, "register-choice-phone")
        yield* choose(first.page, "Choose a password")
        yield* picture(first.page, "register-password-phone")
        yield* fill(first.page, { "User name": "alice", "New password": "secret" })
        yield* loggedIn(first, "@alice:green.test")
        const second = yield* open("/register/fallback")
        yield* choose(second.page, "A code by email, then choose a password")
        yield* fill(second.page, { "Email address": "bob@mail.test" })
        yield* heading(second.page, "Enter the code")
        yield* fill(second.page, { Code: codeIn(yield* mail.next("bob@mail.test")) })
        yield* heading(second.page, "Choose a password")
        yield* fill(second.page, { "User name": "bob", "New password": "secret" })
        yield* loggedIn(second, "@bob:green.test")
        provider.subject = "subject-carol"
        const third = yield* open("/register/fallback")
        yield* choose(third.page, "A link by email, then another service")
        yield* fill(third.page, { "Email address": "carol@mail.test" })
        yield* heading(third.page, "Look into your mail")
        yield* Effect.promise(async () =>
          fetch(linkIn(await Effect.runPromise(mail.next("carol@mail.test"))), { method: "POST" })
        )
        yield* heading(third.page, "Another service")
        yield* choose(third.page, "Continue")
        yield* act(() => third.page.getByRole("link", { name: "Green Service" }).click())
        yield* choose(third.page, "Allow")
        yield* loggedIn(third, "Your account is @")
      })
    )
  )

  it.effect("focuses the wrong field, and names the minimum length of a password", () =>
    withServers({ minPasswordLength: 8, registrationFlows: [[password]] }, () =>
      Effect.gen(function* () {
        yield* register("alice")
        const visited = yield* open("/register/fallback")
        const { page } = visited
        yield* act(() => page.getByText("at least 8 characters").waitFor())
        const focused = act(() => page.evaluate("document.activeElement.name"))
        yield* fill(page, { "User name": "Alice", "New password": "2short" })
        yield* picture(page, "register-short-password")
        assert.strictEqual(yield* focused, "password")
        yield* act(() => page.getByLabel("New password").fill("long enough"))
        for (const [name, error] of [
          ["alice!", "the letters a-z"],
          ["Alice", "is taken"]
        ] as const) {
          yield* act(() => page.getByLabel("User name").fill(name))
          yield* act(() => page.getByLabel("New password").press("Enter"))
          yield* act(() => page.getByRole("alert").getByText(error).waitFor())
          assert.strictEqual(yield* focused, "user")
        }
        yield* act(() => page.getByLabel("User name").fill("bob"))
        yield* act(() => page.keyboard.press("Enter"))
        yield* loggedIn(visited, "@bob:green.test")
      })
    )
  )

  it.effect("registers with a token", () =>
    withServers({ registration: "token", registrationFlows: [[password]] }, () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`
          INSERT INTO registration_tokens (token_hash, token_id, uses_allowed, created_at)
          VALUES (sha256('welcome'), 'one', 1, 0)`
        const visited = yield* open("/register/fallback")
        yield* fill(visited.page, { "Registration token": "welcome" })
        yield* heading(visited.page, "Choose a password")
        yield* picture(visited.page, "register-token-password")
        yield* fill(visited.page, { "User name": "alice", "New password": "secret" })
        yield* loggedIn(visited, "@alice:green.test")
        const closed = yield* signUp({ type: registrationToken, token: "welcome" })
        assert.strictEqual(closed.status, 403)
      })
    )
  )

  it.effect("runs no script but its own, and cannot be framed", () =>
    withServers({}, () =>
      Effect.gen(function* () {
        const { headers, text } = yield* ask("GET", "/login/fallback")
        const policy = headers.get("content-security-policy") ?? ""
        for (const part of ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "script-src 'sha256-"]) {
          assert.include(policy, part)
        }
        assert.notInclude(policy, "unsafe")
        assert.notMatch(text, /(src|href)="/)
        const { page } = yield* open("/login/fallback")
        yield* heading(page, "Log in")
        const ran = yield* act(() =>
          page.evaluate(`(() => {
            const script = document.createElement("script")
            script.textContent = "window.injected = true"
            document.body.append(script)
            return window.injected === true
          })()`)
        )
        assert.isFalse(ran)
      })
    )
  )
})
