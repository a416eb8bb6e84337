/** Version 2 of the identity API with tokens of home servers, an identity server and a mail server, all on loopback. */
import { assert, layer } from "@effect/vitest"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Effect, Layer } from "effect"
import { IdentityHttp } from "../../apps/identity/src/IdentityHttp.ts"
import { askUrl, identityWith, requestMail, takeLink } from "../../apps/identity/test/support/TestIdentity.ts"
import { Homes, type Person, person } from "./support/TestHomes.ts"

type Json = { readonly [key: string]: unknown }

const terms = [
  { id: "privacy", version: "1.0", language: "en", url: "https://id.test/privacy-1.0-en", name: "Privacy" },
  { id: "privacy", version: "1.0", language: "de", url: "https://id.test/privacy-1.0-de", name: "Datenschutz" }
]

/** The public URL of the identity server is the one at which it listens. */
const withTerms = Layer.unwrap(
  Effect.map(freePort, (port) =>
    identityWith({
      identity: { verifyCertificates: false, privateAddresses: true, terms, publicUrl: `http://127.0.0.1:${port}` },
      http: { host: "127.0.0.1", port, trustedProxies: [] }
    })
  )
)

const ask = Effect.fnUntraced(function* (method: string, path: string, json?: unknown, token?: string) {
  const { url } = yield* IdentityHttp
  const answer = yield* askUrl(
    method,
    `${url}/_matrix/identity/v2${path}`,
    json,
    token === undefined ? {} : { authorization: `Bearer ${token}` }
  )
  return { status: answer.status, body: answer.body as unknown as Json }
})

const openIdToken = Effect.fnUntraced(function* ({ home, token, userId }: Person) {
  const { body } = yield* askUrl(
    "POST",
    `${home.url}/_matrix/client/v3/user/${encodeURIComponent(userId)}/openid/request_token`,
    {},
    { authorization: `Bearer ${token}` }
  )
  return body as unknown as Json
})

/** Logs a user in who accepts the terms. Returns the access token. */
const logIn = Effect.fnUntraced(function* (user: Person) {
  const { body } = yield* ask("POST", "/account/register", yield* openIdToken(user))
  const token = body.token as string
  yield* ask("POST", "/terms", { user_accepts: ["https://id.test/privacy-1.0-de"] }, token)
  return token
})

/** Validates an address by its mail. */
const validate = Effect.fnUntraced(function* (email: string, accessToken: string) {
  yield* requestMail(email, `secret-${email.replace(/[^a-z]/g, "")}`)
  const { client_secret, sid, token } = yield* takeLink
  yield* ask("POST", "/validate/email/submitToken", { sid, client_secret, token }, accessToken)
  return { sid, client_secret }
})

/** Validates an address and binds it to the user. */
const bind = Effect.fnUntraced(function* ({ userId }: Person, email: string, accessToken: string) {
  const session = yield* validate(email, accessToken)
  return yield* ask("POST", "/3pid/bind", { ...session, mxid: userId }, accessToken)
})

/** The user to whom an address is bound, by its hash. */
const lookup = Effect.fnUntraced(function* (email: string, accessToken: string) {
  const { body: details } = yield* ask("GET", "/hash_details", undefined, accessToken)
  const bytes = new TextEncoder().encode(`${email} email ${details.lookup_pepper}`)
  const hash = Buffer.from(yield* Effect.promise(() => crypto.subtle.digest("SHA-256", bytes))).toString("base64url")
  const content = { algorithm: "sha256", pepper: details.lookup_pepper, addresses: [hash] }
  const { body } = yield* ask("POST", "/lookup", content, accessToken)
  const mappings = body.mappings as { readonly [hash: string]: string }
  assert.deepStrictEqual(
    Object.keys(mappings).filter((key) => key !== hash),
    []
  )
  return mappings[hash]
})

layer(Homes.layer.pipe(Layer.provideMerge(withTerms)), { excludeTestServices: true, timeout: "60 seconds" })(
  "version 2 of the identity API",
  (it) => {
    it.effect("a user logs in with a token of the home server, and accepts the terms in one language", () =>
      Effect.gen(function* () {
        const { red } = yield* Homes
        const ann = yield* person(red, "ann")
        const registered = yield* ask("POST", "/account/register", yield* openIdToken(ann))
        assert.strictEqual(registered.status, 200, JSON.stringify(registered.body))
        const token = registered.body.token as string
        const early = yield* ask("GET", "/account", undefined, token)
        assert.deepStrictEqual([early.status, early.body.errcode], [403, "M_TERMS_NOT_SIGNED"])
        const offered = yield* ask("GET", "/terms")
        assert.deepStrictEqual(offered.body.policies, {
          privacy: {
            version: "1.0",
            en: { name: "Privacy", url: "https://id.test/privacy-1.0-en" },
            de: { name: "Datenschutz", url: "https://id.test/privacy-1.0-de" }
          }
        })
        yield* ask("POST", "/terms", { user_accepts: ["https://id.test/privacy-1.0-de"] }, token)
        const account = yield* ask("GET", "/account", undefined, token)
        assert.deepStrictEqual(account.body, { user_id: ann.userId })
        yield* ask("POST", "/account/logout", {}, token)
        assert.strictEqual((yield* ask("GET", "/account", undefined, token)).body.errcode, "M_UNKNOWN_TOKEN")
      })
    )

    it.effect("OpenID tokens of other servers and unknown ones are refused, and requests without an access token", () =>
      Effect.gen(function* () {
        const { blue, red } = yield* Homes
        const ben = yield* person(red, "ben")
        const given = yield* openIdToken(ben)
        for (const wrong of [
          { ...given, matrix_server_name: blue.serverName },
          { ...given, access_token: "made up" },
          { ...given, matrix_server_name: "127.0.0.1:1" }
        ]) {
          const { body, status } = yield* ask("POST", "/account/register", wrong)
          assert.deepStrictEqual([status, body.errcode], [403, "M_FORBIDDEN"])
        }
        assert.strictEqual((yield* ask("POST", "/account/register", {})).body.errcode, "M_MISSING_PARAM")
        for (const [method, path] of [
          ["GET", "/hash_details"],
          ["POST", "/lookup"],
          ["POST", "/store-invite"],
          ["POST", "/validate/email/requestToken"],
          ["POST", "/3pid/bind"],
          ["POST", "/sign-ed25519"]
        ] as const) {
          const { body, status } = yield* ask(method, path, method === "GET" ? undefined : {})
          assert.deepStrictEqual([status, body.errcode], [401, "M_MISSING_TOKEN"], path)
        }
        assert.strictEqual((yield* ask("GET", "/lookup?medium=email&address=a@b.test")).status, 404)
      })
    )

    it.effect("a user validates an address, binds it to themselves alone, and is found by its hash", () =>
      Effect.gen(function* () {
        const { red } = yield* Homes
        const cleo = yield* person(red, "cleo")
        const token = yield* logIn(cleo)
        yield* requestMail("cleo@mail.test", "cleos-secret")
        const { client_secret, sid, token: mailed } = yield* takeLink
        const session = { sid, client_secret }
        const early = yield* ask("POST", "/3pid/bind", { ...session, mxid: cleo.userId }, token)
        assert.strictEqual(early.body.errcode, "M_SESSION_NOT_VALIDATED")
        const submitted = yield* ask("POST", "/validate/email/submitToken", { ...session, token: mailed }, token)
        assert.deepStrictEqual(submitted.body, { success: true })
        const foreign = yield* ask("POST", "/3pid/bind", { ...session, mxid: "@other:red.test" }, token)
        assert.strictEqual(foreign.body.errcode, "M_FORBIDDEN")
        const bound = yield* ask("POST", "/3pid/bind", { ...session, mxid: cleo.userId }, token)
        assert.deepInclude(bound.body, { medium: "email", address: "cleo@mail.test", mxid: cleo.userId })
        assert.strictEqual(yield* lookup("cleo@mail.test", token), cleo.userId)
      })
    )

    it.effect(
      "a home server looks up contacts by their hashes at a trusted identity server on behalf of the user",
      () =>
        Effect.gen(function* () {
          const { red } = yield* Homes
          const [finn, dana] = [yield* person(red, "finn"), yield* person(red, "dana")]
          const finnsToken = yield* logIn(finn)
          yield* bind(finn, "finn@mail.test", finnsToken)

          const askContacts = (method: string, path: string, json?: unknown) =>
            Effect.map(
              askUrl(method, `${red.url}/_matrix/client/unstable/org.greenroom/contacts${path}`, json, {
                authorization: `Bearer ${dana.token}`
              }),
              ({ body }) => body as unknown as Json
            )
          const card = (name: string, email: string) => ({
            card: [
              "vcard",
              [
                ["version", {}, "text", "4.0"],
                ["fn", {}, "text", name],
                ["email", {}, "text", email]
              ]
            ]
          })
          const added = yield* askContacts("POST", "", card("My Finn", "Finn@Mail.test"))
          assert.deepStrictEqual(added.user_ids, [])
          yield* askContacts("POST", "", card("Nobody", "nobody@mail.test"))
          const foreign = yield* askContacts("POST", "/lookup", { id_access_token: "x", id_server: "evil.test" })
          assert.strictEqual(foreign.errcode, "M_SERVER_NOT_TRUSTED")
          assert.strictEqual(
            (yield* askContacts("POST", "/lookup", { id_access_token: "made-up" })).errcode,
            "M_FORBIDDEN"
          )
          const id_access_token = yield* logIn(dana)
          const found = yield* askContacts("POST", "/lookup", { id_access_token })
          assert.deepStrictEqual(found, { looked_up: 2, found: 1 })
          const contact = yield* askContacts("GET", `/${added.contact_id}`)
          assert.deepStrictEqual(contact.user_ids, [finn.userId])
          // An address is looked up once a day.
          assert.deepStrictEqual(yield* askContacts("POST", "/lookup", { id_access_token }), { looked_up: 0, found: 0 })
          const { body: directory } = yield* askUrl(
            "POST",
            `${red.url}/_matrix/client/v3/user_directory/search`,
            { search_term: "my finn" },
            { authorization: `Bearer ${dana.token}` }
          )
          assert.deepStrictEqual((directory as unknown as Json).results, [
            { user_id: finn.userId, display_name: "My Finn" }
          ])
        })
    )

    it.effect("a home server removes bindings of its own users only", () =>
      Effect.gen(function* () {
        const { blue, red } = yield* Homes
        const [ida, jim] = [yield* person(red, "ida"), yield* person(blue, "jim")]
        const idasToken = yield* logIn(ida)
        yield* bind(ida, "ida@mail.test", idasToken)
        const threepid = { medium: "email", address: "ida@mail.test" }
        const unbind = (user: Person, id_server?: string) =>
          Effect.map(
            askUrl(
              "POST",
              `${user.home.url}/_matrix/client/v3/account/3pid/unbind`,
              { ...threepid, ...(id_server === undefined ? {} : { id_server }) },
              { authorization: `Bearer ${user.token}` }
            ),
            ({ body }) => (body as unknown as Json).id_server_unbind_result
          )
        yield* unbind(jim)
        assert.strictEqual(yield* unbind(ida, "other.test"), "no-support")
        const { url } = yield* IdentityHttp
        const forged = yield* askUrl(
          "POST",
          `${url}/_matrix/identity/v2/3pid/unbind`,
          { mxid: ida.userId, threepid },
          {
            authorization: `X-Matrix origin="${red.serverName}",destination="${new URL(url).host}",key="ed25519:1",sig="${"A".repeat(86)}"`
          }
        )
        assert.deepStrictEqual([forged.status, forged.body.errcode], [403, "M_FORBIDDEN"])
        assert.strictEqual(yield* lookup("ida@mail.test", idasToken), ida.userId)
        assert.strictEqual(yield* unbind(ida), "success")
        assert.isUndefined(yield* lookup("ida@mail.test", idasToken))
      })
    )

    it.effect("a home server binds addresses and invites by them on behalf of a user", () =>
      Effect.gen(function* () {
        const { red } = yield* Homes
        const [gus, hal] = [yield* person(red, "gus"), yield* person(red, "hal")]
        const client = (user: Person, method: string, path: string, json?: unknown) =>
          askUrl(method, `${red.url}/_matrix/client/v3${path}`, json, { authorization: `Bearer ${user.token}` })
        const gussToken = yield* logIn(gus)
        const session = yield* validate("gus@mail.test", gussToken)
        const bindAt = (id_access_token: string) =>
          client(gus, "POST", "/account/3pid/bind", { ...session, id_access_token })
        assert.strictEqual((yield* bindAt("unknown")).status, 403)
        assert.strictEqual((yield* bindAt(gussToken)).status, 200)

        const id_access_token = yield* logIn(hal)
        const { body } = yield* client(hal, "POST", "/createRoom", {
          preset: "private_chat",
          invite_3pid: [{ medium: "email", address: "Gus@mail.test", id_access_token }]
        })
        const room = encodeURIComponent((body as unknown as Json).room_id as string)
        const invited = yield* client(
          hal,
          "GET",
          `/rooms/${room}/state/m.room.member/${encodeURIComponent(gus.userId)}`
        )
        assert.strictEqual((invited.body as unknown as Json).membership, "invite")
        const stored = yield* client(hal, "POST", `/rooms/${room}/invite`, {
          medium: "email",
          address: "later@mail.test",
          id_access_token
        })
        assert.strictEqual(stored.status, 200)
        const { body: state } = yield* client(hal, "GET", `/rooms/${room}/state`)
        const invites = (state as unknown as ReadonlyArray<Json>).filter(
          ({ type }) => type === "m.room.third_party_invite"
        )
        assert.lengthOf(invites, 1)
      })
    )

    it.effect("an invitation of an address has an ephemeral key, and the identity server signs it for a user", () =>
      Effect.gen(function* () {
        const { red } = yield* Homes
        const dora = yield* person(red, "dora")
        const token = yield* logIn(dora)
        const stored = yield* ask(
          "POST",
          "/store-invite",
          { medium: "email", address: "guest@mail.test", room_id: "!room:red.test", sender: dora.userId },
          token
        )
        assert.strictEqual(stored.status, 200, JSON.stringify(stored.body))
        const keys = stored.body.public_keys as ReadonlyArray<{ readonly public_key: string }>
        const isValid = (path: string, key: string) =>
          Effect.map(
            ask("GET", `/pubkey/${path}isvalid?public_key=${encodeURIComponent(key)}`),
            ({ body }) => body.valid
          )
        assert.strictEqual(yield* isValid("", keys[0]!.public_key), true)
        assert.strictEqual(yield* isValid("ephemeral/", keys[1]!.public_key), true)
        assert.strictEqual(yield* isValid("ephemeral/", keys[0]!.public_key), false)
        const private_key = Buffer.alloc(32, 7).toString("base64")
        const signed = yield* ask(
          "POST",
          "/sign-ed25519",
          { mxid: dora.userId, token: stored.body.token, private_key },
          token
        )
        assert.deepInclude(signed.body, { mxid: dora.userId, sender: dora.userId, token: stored.body.token })
        const unknown = yield* ask("POST", "/sign-ed25519", { mxid: dora.userId, token: "unknown", private_key }, token)
        assert.deepStrictEqual([unknown.status, unknown.body.errcode], [404, "M_UNRECOGNIZED"])
      })
    )
  }
)
