/**
 * The pages of the OAuth 2.0 API in a browser, as the clients that have no other login use them: Element X opens them, and gets a
 * code at its redirect URI.
 */
import { createHash, generateKeyPairSync, randomBytes, sign as signBytes } from "node:crypto"
import { assert, layer } from "@effect/vitest"
import { encode } from "@greenroom/room/CanonicalJson"
import { Effect, Layer, Result } from "effect"
import type { Page } from "playwright-core"
import { askToday, inPath, register } from "../TestGateway.ts"
import { Browser, phone, picture, type VisitOptions, visit, webClient } from "./Browser.ts"
import { loginGateway } from "./TestLogin.ts"

const act = <A>(action: () => Promise<A>) => Effect.promise(action)

const heading = (page: Page, name: string) => act(() => page.getByRole("heading", { name }).waitFor())

/** A client on the user's machine comes back to a port that it chooses later. */
const loopback = "http://127.0.0.1/callback"

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

const metadata = Effect.map(
  askToday("GET", "/v1/auth_metadata"),
  ({ body }) => body as unknown as Record<string, string>
)

const post = (url: string | undefined, body: string, type: string) =>
  act(async () => {
    const response = await fetch(url ?? "", { method: "POST", headers: { "content-type": type }, body })
    return (await response.json()) as Record<string, string>
  })

const postForm = (url: string | undefined, form: Record<string, string>) =>
  post(url, new URLSearchParams(form).toString(), "application/x-www-form-urlencoded")

/** The ID of a client that comes back to a path of its own origin. */
const registerClient = Effect.fnUntraced(function* (redirectUri: string) {
  const { registration_endpoint } = yield* metadata
  const client = {
    client_name: "Element <X>",
    client_uri: "https://element.test/",
    redirect_uris: [redirectUri],
    application_type: "native",
    token_endpoint_auth_method: "none",
    response_types: ["code"],
    grant_types: ["authorization_code", "refresh_token", deviceGrant]
  }
  const { client_id } = yield* post(registration_endpoint, JSON.stringify(client), "application/json")
  return client_id ?? ""
})

/** An account with a password; gives an access token of it. */
const openAccount = (name: string) => Effect.map(register(name), ({ token }) => token)

const scopeOf = (device: string) => `urn:matrix:client:api:* urn:matrix:client:device:${device}`

const whoami = (token: string | undefined) =>
  Effect.map(askToday("GET", "/v3/account/whoami", { token }), (_) => _.body)

/** A client on a device opens the page on which its user lets it in. */
const openClient = Effect.fnUntraced(function* (
  device: string,
  options: VisitOptions & { readonly prompt?: string } = {}
) {
  const clientId = yield* registerClient(loopback)
  const verifier = randomBytes(32).toString("base64url")
  const { authorization_endpoint, token_endpoint } = yield* metadata
  const callback = `${yield* webClient}/callback`
  const request = new URLSearchParams({
    response_type: "code",
    client_id: clientId,
    redirect_uri: callback,
    scope: scopeOf(device),
    state: "what I did",
    code_challenge: createHash("sha256").update(verifier).digest("base64url"),
    code_challenge_method: "S256",
    ...(options.prompt === undefined ? {} : { prompt: options.prompt })
  })
  const visited = yield* visit(`${authorization_endpoint}?${request}`, options)
  /** The browser comes back to the client. */
  const back = act(async () => {
    await visited.page.waitForURL((url) => url.href.startsWith(callback))
    return new URL(visited.page.url()).searchParams
  })
  const exchange = Effect.gen(function* () {
    const answer = yield* back
    assert.strictEqual(answer.get("state"), "what I did")
    return yield* postForm(token_endpoint, {
      grant_type: "authorization_code",
      code: answer.get("code") ?? "",
      redirect_uri: callback,
      client_id: clientId,
      code_verifier: verifier
    })
  })
  return { ...visited, back, exchange, clientId }
})

const fill = Effect.fnUntraced(function* (page: Page, fields: { readonly [label: string]: string }) {
  for (const [label, text] of Object.entries(fields)) yield* act(() => page.getByLabel(label).fill(text))
})

/** Goes to a button by the keyboard alone, and presses it. */
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

/** Cross-signing keys of a user, all new. */
const crossSigningKeys = (userId: string) => {
  const make = (usage: string) => {
    const { privateKey, publicKey } = generateKeyPairSync("ed25519")
    const text = publicKey.export({ format: "der", type: "spki" }).subarray(12).toString("base64").replace(/=+$/, "")
    return {
      privateKey,
      id: `ed25519:${text}`,
      key: { user_id: userId, usage: [usage], keys: { [`ed25519:${text}`]: text } }
    }
  }
  const [master, selfSigning, userSigning] = [make("master"), make("self_signing"), make("user_signing")]
  const signed = ({ key }: ReturnType<typeof make>) => {
    const bytes = Buffer.from(Result.getOrThrow(encode(key)))
    const signature = signBytes(null, bytes, master.privateKey).toString("base64").replace(/=+$/, "")
    return { ...key, signatures: { [userId]: { [master.id]: signature } } }
  }
  return { master_key: master.key, self_signing_key: signed(selfSigning), user_signing_key: signed(userSigning) }
}

/** A client with cross-signing keys wants others in their place, and is asked for the approval of its user. */
const beginReset = Effect.fnUntraced(function* (user: string) {
  yield* openAccount(user)
  const client = yield* openClient(`DEVICE${user}`)
  yield* logIn(client.page, user)
  yield* pressByKeyboard(client.page, "Allow")
  const { access_token: token } = yield* client.exchange
  const userId = `@${user}:green.test`
  const upload = (keys: object) => askToday("POST", "/v3/keys/device_signing/upload", { token, json: keys })
  assert.strictEqual((yield* upload(crossSigningKeys(userId))).status, 200)
  const replacement = crossSigningKeys(userId)
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

const home = Layer.merge(loginGateway({ oauth: "on" }), Browser.layer)

layer(home, { excludeTestServices: true })("the pages of the OAuth 2.0 API", (it) => {
  it.effect("a newcomer makes an account and lets the client in, with the keyboard alone", () =>
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
      const { device_id, user_id } = (yield* whoami(access_token)) as unknown as Record<string, string>
      assert.deepStrictEqual([user_id, device_id], ["@newcomer:green.test", "NEWCOMER01"])
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.effect("logs in on a phone with dark colours; a browser that is logged in needs consent alone", () =>
    Effect.gen(function* () {
      yield* openAccount("phoebe")
      const { complaints, exchange, page } = yield* openClient("PHONE00001", { viewport: phone, colorScheme: "dark" })
      yield* heading(page, "Log in to green.test")
      assert.strictEqual(yield* picture(page, "oauth-login-phone-dark"), 0)
      yield* fill(page, { "User name": "phoebe", Password: "a wrong one" })
      yield* act(() => page.getByLabel("Password").press("Enter"))
      yield* act(() => page.getByRole("alert").getByText("wrong").waitFor())
      assert.strictEqual(yield* picture(page, "oauth-login-wrong-phone-dark"), 0)
      yield* logIn(page, "phoebe")
      yield* heading(page, "Let Element <X> use your account?")
      assert.strictEqual(yield* picture(page, "oauth-consent-phone-dark"), 0)
      const asked = page.url()
      yield* act(() => page.getByRole("button", { name: "Allow" }).click())
      const { access_token } = yield* exchange
      assert.strictEqual((yield* whoami(access_token)).user_id, "@phoebe:green.test")
      // The page of a request that was approved is gone.
      yield* act(() => page.goto(asked))
      yield* heading(page, "This request cannot continue")
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.effect("another user may log in instead, and a refusal goes back to the client", () =>
    Effect.gen(function* () {
      yield* openAccount("ophelia")
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

  it.effect("a device that shows a QR code is let in by a browser, and the two devices meet meanwhile", () =>
    Effect.gen(function* () {
      yield* openAccount("quinn")
      const clientId = yield* registerClient(loopback)
      const { device_authorization_endpoint, token_endpoint } = yield* metadata
      const rendezvous = "/unstable/io.element.msc4388/rendezvous"
      // The new device shows the ID of the meeting in its QR code, which the other one scans. What they say is encrypted.
      const { body: meeting } = yield* askToday("POST", rendezvous, { json: { data: "encrypted: hello" } })
      const at = `${rendezvous}/${meeting.id}`
      const read = Effect.map(askToday("GET", at), ({ body }) => body)
      const say = Effect.fnUntraced(function* (data: object) {
        const { sequence_token } = yield* read
        const answer = yield* askToday("PUT", at, { json: { sequence_token, data: JSON.stringify(data) } })
        assert.strictEqual(answer.status, 200)
      })
      const heard = Effect.map(read, ({ data }) => JSON.parse(String(data)) as Record<string, string>)
      const grant = yield* postForm(device_authorization_endpoint, {
        client_id: clientId,
        scope: scopeOf("SCANNED001")
      })
      yield* say({ type: "m.login.protocol", verification_uri_complete: grant.verification_uri_complete })
      const { verification_uri_complete = "" } = yield* heard
      const { complaints, page } = yield* visit(verification_uri_complete, { viewport: phone, colorScheme: "dark" })
      yield* say({ type: "m.login.protocol_accepted" })
      const poll = postForm(token_endpoint, {
        grant_type: deviceGrant,
        device_code: grant.device_code ?? "",
        client_id: clientId
      })
      assert.strictEqual((yield* poll).error, "authorization_pending")
      yield* logIn(page, "quinn")
      yield* act(() => page.getByText("a device in front of you").waitFor())
      assert.strictEqual(yield* picture(page, "oauth-device-phone-dark"), 0)
      yield* pressByKeyboard(page, "Allow")
      yield* heading(page, "Your device is linked")
      const { access_token } = yield* poll
      const me = yield* whoami(access_token)
      assert.deepInclude(me, { user_id: "@quinn:green.test", device_id: "SCANNED001" })
      yield* say({ type: "m.login.success" })
      // The device that was there sees the new one before it gives its secrets away.
      const { body: devices } = yield* askToday("GET", "/v3/devices/SCANNED001", { token: access_token })
      assert.strictEqual(devices.device_id, "SCANNED001")
      yield* say({ type: "m.login.secrets" })
      assert.strictEqual((yield* heard).type, "m.login.secrets")
      assert.strictEqual((yield* askToday("DELETE", at)).status, 200)
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.effect("the code of a device is entered by hand, and a wrong one is said to be wrong", () =>
    Effect.gen(function* () {
      yield* openAccount("typist")
      const clientId = yield* registerClient(loopback)
      const { device_authorization_endpoint, token_endpoint } = yield* metadata
      const grant = yield* postForm(device_authorization_endpoint, {
        client_id: clientId,
        scope: scopeOf("TYPED00001")
      })
      const { complaints, page } = yield* visit(grant.verification_uri ?? "", { viewport: phone })
      yield* heading(page, "Link a device")
      assert.strictEqual(yield* picture(page, "oauth-code-phone"), 0)
      yield* fill(page, { Code: "BBBB-BBBB" })
      yield* act(() => page.getByLabel("Code").press("Enter"))
      yield* act(() => page.getByRole("alert").getByText("wrong").waitFor())
      yield* fill(page, { Code: (grant.user_code ?? "").toLowerCase().replace("-", " ") })
      yield* act(() => page.getByLabel("Code").press("Enter"))
      yield* logIn(page, "typist")
      yield* act(() => page.getByRole("button", { name: "Cancel" }).click())
      yield* heading(page, "Refused")
      const poll = { grant_type: deviceGrant, device_code: grant.device_code ?? "", client_id: clientId }
      assert.strictEqual((yield* postForm(token_endpoint, poll)).error, "access_denied")
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.effect("a reset of the identity that a client begins is allowed on the page of the account", () =>
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
      assert.strictEqual(yield* picture(page, "oauth-reset-phone-dark"), 0)
      yield* pressByKeyboard(page, "Allow the reset")
      yield* heading(page, "The reset is allowed")
      assert.strictEqual((yield* again).status, 200)
      assert.deepStrictEqual(yield* masterKey, replacement.master_key.keys)
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.effect("a client that does not know the stage of the reset leads its user to the fallback page", () =>
    Effect.gen(function* () {
      const { masterKey, replacement, session, upload } = yield* beginReset("fallback")
      const { issuer } = yield* metadata
      const fallback = `${issuer}_matrix/client/v3/auth/m.oauth/fallback/web?session=${session}`
      const { complaints, page } = yield* visit(fallback, { viewport: phone })
      assert.strictEqual(yield* picture(page, "oauth-reset-fallback"), 0)
      yield* pressByKeyboard(page, "Go on")
      yield* act(() => page.getByRole("alert").getByText("has not been approved").waitFor())
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

  it.effect("on the page of the account a device is logged out, and the account deactivated", () =>
    Effect.gen(function* () {
      const token = yield* openAccount("manager")
      const { device_id } = yield* whoami(token)
      const { account_management_uri } = yield* metadata
      const device = `${account_management_uri}?action=org.matrix.device_view&device_id=${device_id}`
      const { complaints, page } = yield* visit(device, { viewport: phone, colorScheme: "dark" })
      yield* logIn(page, "manager")
      yield* heading(page, "@manager:green.test")
      assert.strictEqual(yield* picture(page, "oauth-account-phone-dark"), 0)
      yield* pressByKeyboard(page, "Log this device out")
      yield* act(() => page.getByRole("status").getByText("logged out").waitFor())
      assert.strictEqual((yield* whoami(token)).errcode, "M_UNKNOWN_TOKEN")
      yield* act(() => page.getByRole("link", { name: "Deactivate your account" }).click())
      yield* heading(page, "Deactivate your account?")
      assert.strictEqual(yield* picture(page, "oauth-deactivate-phone-dark"), 0)
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

  it.effect("a page of another site neither frames the pages nor posts their forms", () =>
    Effect.gen(function* () {
      yield* openAccount("victim")
      const { back, page } = yield* openClient("FRAMED0001")
      yield* logIn(page, "victim")
      yield* heading(page, "Let Element <X> use your account?")
      const asked = page.url()
      const evil = yield* webClient
      yield* act(() => page.goto(evil))
      const framed = yield* act(() =>
        page.evaluate(`new Promise((resolve) => {
          const frame = document.createElement("iframe")
          frame.onload = () => resolve(frame.contentDocument === null)
          frame.src = ${JSON.stringify(asked)}
          document.body.append(frame)
        })`)
      )
      assert.isTrue(framed, "the frame is one of another origin: the page's, or the browser's refusal")
      const inside = page.frames().at(-1)
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
      // The user is still asked, and decides.
      yield* act(() => page.goto(asked))
      yield* act(() => page.getByRole("button", { name: "Cancel" }).click())
      assert.strictEqual((yield* back).get("error"), "access_denied")
    })
  )
})
