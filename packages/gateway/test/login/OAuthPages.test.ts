/**
 * The pages of the OAuth 2.0 API in a browser. Clients without another login, such as Element X, open them and get a code at their
 * redirect URI.
 */
import { createHash, randomBytes } from "node:crypto"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import type { Page } from "playwright-core"
import { crossSigningKeys } from "../client-server/DeviceClient.ts"
import { askToday, inPath, register } from "../TestGateway.ts"
import { Browser, phone, picture, type VisitOptions, visit, webClient } from "./Browser.ts"
import { deviceGrant, metadata, postForm, registerClient, scopeOf, whoami } from "./OAuthClient.ts"
import { loginGateway } from "./TestLogin.ts"

const act = <A>(action: () => Promise<A>) => Effect.promise(action)

const heading = (page: Page, name: string) => act(() => page.getByRole("heading", { name }).waitFor())

/** A client on the user's machine comes back to a port that it chooses later. */
const loopback = "http://127.0.0.1/callback"

/** The ID of a client that comes back to a path of its own origin. */
const clientWith = (redirectUri: string) =>
  Effect.map(
    registerClient({ client_name: "Element <X>", redirect_uris: [redirectUri] }),
    ({ body }) => body.client_id ?? ""
  )

/** A client opens the page on which its user logs in and consents. */
const openClient = Effect.fnUntraced(function* (
  device: string,
  options: VisitOptions & { readonly prompt?: string } = {}
) {
  const clientId = yield* clientWith(loopback)
  const verifier = randomBytes(32).toString("base64url")
  const { authorization_endpoint, token_endpoint } = yield* metadata
  const callback = `${yield* webClient}/callback`
  const request = new URLSearchParams({
    response_type: "code",
    client_id: clientId,
    redirect_uri: callback,
    scope: scopeOf(device),
    state: "state of the client",
    code_challenge: createHash("sha256").update(verifier).digest("base64url"),
    code_challenge_method: "S256",
    ...(options.prompt === undefined ? {} : { prompt: options.prompt })
  })
  const visited = yield* visit(`${authorization_endpoint}?${request}`, options)
  /** Waits until the browser returns to the client. */
  const back = act(async () => {
    await visited.page.waitForURL((url) => url.href.startsWith(callback))
    return new URL(visited.page.url()).searchParams
  })
  const exchange = Effect.gen(function* () {
    const answer = yield* back
    assert.strictEqual(answer.get("state"), "state of the client")
    const { body } = yield* postForm(token_endpoint!, {
      grant_type: "authorization_code",
      code: answer.get("code") ?? "",
      redirect_uri: callback,
      client_id: clientId,
      code_verifier: verifier
    })
    return body
  })
  return { ...visited, back, exchange, clientId }
})

const fill = Effect.fnUntraced(function* (page: Page, fields: { readonly [label: string]: string }) {
  for (const [label, text] of Object.entries(fields)) yield* act(() => page.getByLabel(label).fill(text))
})

/** Moves the focus to a button with the tab key, and presses it. */
const pressByKeyboard = Effect.fnUntraced(function* (page: Page, name: string) {
  yield* act(() => page.getByRole("button", { name, exact: true }).waitFor())
  const focused = () => page.evaluate("document.activeElement?.textContent") as Promise<string>
  for (let tabs = 0; tabs < 20 && (yield* act(focused)) !== name; tabs++) {
    yield* act(() => page.keyboard.press("Tab"))
  }
  yield* act(() => page.keyboard.press("Enter"))
})

const logIn = Effect.fnUntraced(function* (page: Page, user: string) {
  yield* fill(page, { "User name": user, Password: `secret-${user}` })
  yield* act(() => page.getByLabel("Password").press("Enter"))
})

/** A client that has cross-signing keys uploads others, and gets the stages by which its user approves that. */
const beginReset = Effect.fnUntraced(function* (user: string) {
  yield* register(user)
  const client = yield* openClient(`DEVICE${user}`)
  yield* logIn(client.page, user)
  yield* pressByKeyboard(client.page, "Allow")
  const { access_token: token } = yield* client.exchange
  const userId = `@${user}:green.test`
  const newKeys = () => crossSigningKeys({ id: userId }).upload
  const upload = (keys: object) => askToday("POST", "/v3/keys/device_signing/upload", { token, json: keys })
  assert.strictEqual((yield* upload(newKeys())).status, 200)
  const replacement = newKeys()
  const asked = yield* upload(replacement)
  assert.strictEqual(asked.status, 401)
  const challenge = asked.body as unknown as {
    readonly flows: ReadonlyArray<{ readonly stages: ReadonlyArray<string> }>
    readonly params: Record<string, { readonly url: string }>
    readonly session: string
  }
  const masterKey = Effect.map(
    askToday("POST", "/v3/keys/query", { token, json: { device_keys: { [userId]: [] } } }),
    ({ body }) => (body as unknown as Record<string, Record<string, { keys: object }>>).master_keys?.[userId]?.keys
  )
  return { ...challenge, masterKey, replacement, upload }
})

const gatewayWithBrowser = Layer.merge(loginGateway({ oauth: "on" }), Browser.layer)

layer(gatewayWithBrowser, { excludeTestServices: true })("the pages of the OAuth 2.0 API", (it) => {
  it.effect("a new user creates an account and allows the client, with the keyboard alone", () =>
    Effect.gen(function* () {
      const { complaints, exchange, page } = yield* openClient("NEWCOMER01", { prompt: "create" })
      yield* heading(page, "Create an account")
      yield* act(() => page.getByText("to continue to Element <X>").waitFor())
      yield* picture(page, "oauth-register")
      yield* act(() => page.keyboard.press("Tab"))
      yield* act(() => page.keyboard.type("Not a name!"))
      yield* act(() => page.keyboard.press("Tab"))
      yield* act(() => page.keyboard.type("a long password"))
      yield* act(() => page.keyboard.press("Enter"))
      yield* act(() => page.getByRole("alert").waitFor())
      yield* fill(page, { "User name": "newcomer", Password: "a long password" })
      yield* pressByKeyboard(page, "Create account")
      yield* heading(page, "Let Element <X> use your account?")
      yield* act(() => page.getByText("@newcomer:green.test").waitFor())
      yield* picture(page, "oauth-consent")
      yield* pressByKeyboard(page, "Allow")
      const { access_token } = yield* exchange
      const { device_id, user_id } = (yield* whoami(access_token)).body as unknown as Record<string, string>
      assert.deepStrictEqual([user_id, device_id], ["@newcomer:green.test", "NEWCOMER01"])
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.effect("a user logs in and allows the client on a phone in dark mode", () =>
    Effect.gen(function* () {
      yield* register("phoebe")
      const { complaints, exchange, page } = yield* openClient("PHONE00001", { viewport: phone, colorScheme: "dark" })
      yield* heading(page, "Log in to green.test")
      yield* picture(page, "oauth-login-phone-dark")
      yield* fill(page, { "User name": "phoebe", Password: "a wrong one" })
      yield* act(() => page.getByLabel("Password").press("Enter"))
      yield* act(() => page.getByRole("alert").getByText("wrong").waitFor())
      yield* picture(page, "oauth-login-wrong-phone-dark")
      yield* logIn(page, "phoebe")
      yield* heading(page, "Let Element <X> use your account?")
      yield* picture(page, "oauth-consent-phone-dark")
      const asked = page.url()
      yield* act(() => page.getByRole("button", { name: "Allow" }).click())
      const { access_token } = yield* exchange
      assert.strictEqual((yield* whoami(access_token)).body.user_id, "@phoebe:green.test")
      // The page of an approved request is no longer there.
      yield* act(() => page.goto(asked))
      yield* heading(page, "This request cannot continue")
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.effect("a user switches to another account, and a cancelled request returns to the client", () =>
    Effect.gen(function* () {
      yield* register("ophelia")
      const { back, complaints, page } = yield* openClient("REFUSED001")
      yield* logIn(page, "ophelia")
      yield* heading(page, "Let Element <X> use your account?")
      yield* act(() => page.getByRole("button", { name: "Use another account" }).click())
      yield* heading(page, "Log in to green.test")
      yield* act(() => page.getByRole("link", { name: "Create an account" }).click())
      yield* heading(page, "Create an account")
      yield* act(() => page.getByRole("button", { name: "Cancel" }).click())
      const answer = yield* back
      assert.deepStrictEqual([answer.get("error"), answer.get("code")], ["access_denied", null])
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.effect("a device that shows a QR code is allowed in a browser, while both devices exchange messages", () =>
    Effect.gen(function* () {
      yield* register("quinn")
      const clientId = yield* clientWith(loopback)
      const { device_authorization_endpoint, token_endpoint } = yield* metadata
      const rendezvous = "/unstable/io.element.msc4388/rendezvous"
      // The QR code of the new device has the ID of the rendezvous session. A real client would encrypt the messages.
      const { body: rendezvousSession } = yield* askToday("POST", rendezvous, { json: { data: "encrypted: hello" } })
      const at = `${rendezvous}/${rendezvousSession.id}`
      const read = Effect.map(askToday("GET", at), ({ body }) => body)
      const send = Effect.fnUntraced(function* (data: object) {
        const { sequence_token } = yield* read
        const answer = yield* askToday("PUT", at, { json: { sequence_token, data: JSON.stringify(data) } })
        assert.strictEqual(answer.status, 200)
      })
      const received = Effect.map(read, ({ data }) => JSON.parse(String(data)) as Record<string, string>)
      const { body: grant } = yield* postForm(device_authorization_endpoint!, {
        client_id: clientId,
        scope: scopeOf("SCANNED001")
      })
      yield* send({ type: "m.login.protocol", verification_uri_complete: grant.verification_uri_complete })
      const { verification_uri_complete = "" } = yield* received
      const { complaints, page } = yield* visit(verification_uri_complete, { viewport: phone, colorScheme: "dark" })
      yield* send({ type: "m.login.protocol_accepted" })
      const poll = postForm(token_endpoint!, {
        grant_type: deviceGrant,
        device_code: grant.device_code ?? "",
        client_id: clientId
      })
      assert.strictEqual((yield* poll).body.error, "authorization_pending")
      yield* logIn(page, "quinn")
      yield* act(() => page.getByText("a device in front of you").waitFor())
      yield* picture(page, "oauth-device-phone-dark")
      yield* pressByKeyboard(page, "Allow")
      yield* heading(page, "Your device is linked")
      const { access_token } = (yield* poll).body
      const { body: me } = yield* whoami(access_token)
      assert.deepInclude(me, { user_id: "@quinn:green.test", device_id: "SCANNED001" })
      yield* send({ type: "m.login.success" })
      // The existing device checks that the new one is there before it sends its secrets.
      const { body: devices } = yield* askToday("GET", "/v3/devices/SCANNED001", { token: access_token })
      assert.strictEqual(devices.device_id, "SCANNED001")
      yield* send({ type: "m.login.secrets" })
      assert.strictEqual((yield* received).type, "m.login.secrets")
      assert.strictEqual((yield* askToday("DELETE", at)).status, 200)
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.effect("a user enters the code of a device, and a wrong code is reported", () =>
    Effect.gen(function* () {
      yield* register("typist")
      const clientId = yield* clientWith(loopback)
      const { device_authorization_endpoint, token_endpoint } = yield* metadata
      const { body: grant } = yield* postForm(device_authorization_endpoint!, {
        client_id: clientId,
        scope: scopeOf("TYPED00001")
      })
      const { complaints, page } = yield* visit(grant.verification_uri ?? "", { viewport: phone })
      yield* heading(page, "Link a device")
      yield* picture(page, "oauth-code-phone")
      yield* fill(page, { Code: "BBBB-BBBB" })
      yield* act(() => page.getByLabel("Code").press("Enter"))
      yield* act(() => page.getByRole("alert").getByText("wrong").waitFor())
      yield* fill(page, { Code: (grant.user_code ?? "").toLowerCase().replace("-", " ") })
      yield* act(() => page.getByLabel("Code").press("Enter"))
      yield* logIn(page, "typist")
      yield* act(() => page.getByRole("button", { name: "Cancel" }).click())
      yield* heading(page, "Refused")
      const poll = { grant_type: deviceGrant, device_code: grant.device_code ?? "", client_id: clientId }
      assert.strictEqual((yield* postForm(token_endpoint!, poll)).body.error, "access_denied")
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.effect("a reset of the cross-signing keys is approved on the account page", () =>
    Effect.gen(function* () {
      const { flows, masterKey, params, replacement, session, upload } = yield* beginReset("reset")
      assert.deepStrictEqual(
        flows.map(({ stages }) => stages),
        [["m.oauth"], ["org.matrix.cross_signing_reset"]]
      )
      const again = upload({ ...replacement, auth: { type: "m.oauth", session } })
      assert.strictEqual((yield* again).status, 401)
      const { complaints, page } = yield* visit(params["m.oauth"]?.url ?? "", { viewport: phone, colorScheme: "dark" })
      yield* logIn(page, "reset")
      yield* heading(page, "Reset your identity?")
      yield* picture(page, "oauth-reset-phone-dark")
      yield* pressByKeyboard(page, "Allow the reset")
      yield* heading(page, "The reset is allowed")
      assert.strictEqual((yield* again).status, 200)
      assert.deepStrictEqual(yield* masterKey, replacement.master_key.keys)
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.effect("a client that does not know the stage of the reset uses the fallback page", () =>
    Effect.gen(function* () {
      const { masterKey, replacement, session, upload } = yield* beginReset("fallback")
      const { issuer } = yield* metadata
      const fallback = `${issuer}_matrix/client/v3/auth/m.oauth/fallback/web?session=${session}`
      const { complaints, page } = yield* visit(fallback, { viewport: phone })
      yield* picture(page, "oauth-reset-fallback")
      yield* pressByKeyboard(page, "Go on")
      yield* act(() =>
        page.getByRole("alert").getByText("Approve the reset on the page of your account first").waitFor()
      )
      const [account] = yield* act(() =>
        Promise.all([
          page.context().waitForEvent("page"),
          page.getByRole("link", { name: "approve the reset" }).click()
        ])
      )
      yield* logIn(account, "fallback")
      yield* pressByKeyboard(account, "Allow the reset")
      yield* heading(account, "The reset is allowed")
      yield* pressByKeyboard(page, "Go on")
      yield* heading(page, "Done")
      assert.strictEqual((yield* upload({ ...replacement, auth: { session } })).status, 200)
      assert.deepStrictEqual(yield* masterKey, replacement.master_key.keys)
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.effect("a user logs a device out and deactivates the account on the account page", () =>
    Effect.gen(function* () {
      const { token } = yield* register("manager")
      const { device_id } = (yield* whoami(token)).body
      const { account_management_uri } = yield* metadata
      const device = `${account_management_uri}?action=org.matrix.device_view&device_id=${device_id}`
      const { complaints, page } = yield* visit(device, { viewport: phone, colorScheme: "dark" })
      yield* logIn(page, "manager")
      yield* heading(page, "@manager:green.test")
      yield* picture(page, "oauth-account-phone-dark")
      yield* pressByKeyboard(page, "Log this device out")
      yield* act(() => page.getByRole("status").getByText("logged out").waitFor())
      assert.strictEqual((yield* whoami(token)).body.errcode, "M_UNKNOWN_TOKEN")
      yield* act(() => page.getByRole("link", { name: "Deactivate your account" }).click())
      yield* heading(page, "Deactivate your account?")
      yield* picture(page, "oauth-deactivate-phone-dark")
      yield* fill(page, { "Your password": "a guess" })
      yield* pressByKeyboard(page, "Deactivate")
      yield* act(() => page.getByRole("alert").getByText("wrong").waitFor())
      yield* fill(page, { "Your password": "secret-manager" })
      yield* pressByKeyboard(page, "Deactivate")
      yield* heading(page, "Your account is gone")
      assert.strictEqual((yield* askToday("GET", `/v3/profile/${inPath("@manager:green.test")}`)).status, 404)
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.effect("a page of another site cannot frame the pages or post their forms", () =>
    Effect.gen(function* () {
      yield* register("victim")
      const { back, page } = yield* openClient("FRAMED0001")
      yield* logIn(page, "victim")
      yield* heading(page, "Let Element <X> use your account?")
      const asked = page.url()
      const evil = yield* webClient
      yield* act(() => page.goto(evil))
      yield* act(() =>
        page.evaluate(`new Promise((resolve) => {
          const frame = document.createElement("iframe")
          frame.onload = resolve
          frame.src = ${JSON.stringify(asked)}
          document.body.append(frame)
        })`)
      )
      const [inside] = page.mainFrame().childFrames()
      assert.strictEqual(inside?.url(), "chrome-error://chromewebdata/")
      assert.strictEqual(yield* act(() => inside?.getByRole("button").count() ?? Promise.resolve(0)), 0)
      yield* act(() =>
        Promise.all([
          page.waitForURL((url) => url.href.startsWith(asked)),
          page.evaluate(`{
            const form = document.createElement("form")
            form.method = "post"
            form.action = ${JSON.stringify(asked)}
            form.innerHTML = '<input name="action" value="approve">'
            document.body.append(form)
            form.submit()
          }`)
        ])
      )
      yield* heading(page, "This request cannot continue")
      // The request is unchanged: its user can still cancel it.
      yield* act(() => page.goto(asked))
      yield* act(() => page.getByRole("button", { name: "Cancel" }).click())
      assert.strictEqual((yield* back).get("error"), "access_denied")
    })
  )
})
