/** Phone numbers, with home servers, an identity server and the web service that sends text messages, all on loopback. */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { ask, askUrl, identityWith, lookup } from "../../apps/identity/test/support/TestIdentity.ts"
import { makeWebServer, SmsService } from "../../apps/identity/test/support/WebServer.ts"
import { createRoom, Homes, inviterOf, join, membershipOf, type Person, person } from "./support/TestHomes.ts"

const identity = SmsService.use(({ url }) =>
  Effect.succeed(
    identityWith({
      identity: { privateAddresses: true, verifyCertificates: false },
      sms: { url: `${url}/messages`, authorization: Redacted.make("Bearer hush"), from: "Greenroom" }
    })
  )
).pipe(Layer.unwrap, Layer.provideMerge(Layer.effect(SmsService, makeWebServer)))

/** The next text message. */
const takeMessage = Effect.map(
  SmsService.use(({ take }) => take),
  ({ body }) => body as { readonly to: string; readonly text: string }
)

const waitingMessages = SmsService.use(({ waiting }) => waiting)

/** Requests a code by text message. */
const requestCode = Effect.fnUntraced(function* (phone_number: string, client_secret: string, country?: string) {
  const begun = yield* ask("POST", "/validate/msisdn/requestToken", {
    client_secret,
    phone_number,
    ...(country === undefined ? {} : { country }),
    send_attempt: 1
  })
  assert.strictEqual(begun.status, 200, begun.text)
  const { text, to } = yield* takeMessage
  return { to, code: /\d{6}/.exec(text)![0], session: { sid: begun.body.sid, client_secret } }
})

const submitCode = (session: object, token: string) =>
  ask("POST", "/validate/msisdn/submitToken", { ...session, token })

/** Validates a number by its code, and adds it to the account. */
const addNumber = Effect.fnUntraced(function* ({ request, userId }: Person, phone: string) {
  const { code, session } = yield* requestCode(phone, `secret-${userId.replace(/\W/g, "")}`)
  yield* submitCode(session, code)
  const added = yield* request("POST", "/account/3pid", session)
  assert.strictEqual(added.status, 200, added.text)
  return session
})

const addresses = ({ request }: Person) =>
  Effect.map(request("GET", "/account/3pid"), ({ body }) =>
    (
      body as unknown as { threepids: ReadonlyArray<{ readonly medium: string; readonly address: string }> }
    ).threepids.map(({ address, medium }) => `${medium} ${address}`)
  )

const inviteNumber = ({ request }: Person, roomId: string, address: string) =>
  request("POST", `/rooms/${encodeURIComponent(roomId)}/invite`, { medium: "msisdn", address })

layer(Homes.layer.pipe(Layer.provideMerge(identity)), { excludeTestServices: true })("phone numbers", (it) => {
  it.effect("a number is added to the account with the code sent to it, and others find the user by it", () =>
    Effect.gen(function* () {
      const { red } = yield* Homes
      const [alice, mallory] = [yield* person(red, "alice"), yield* person(red, "mallory")]
      const { code, session, to } = yield* requestCode("0151 12345678", "alices-secret", "DE")
      assert.strictEqual(to, "+4915112345678")
      const early = yield* alice.request("POST", "/account/3pid", session)
      assert.strictEqual(early.body.errcode, "M_SESSION_NOT_VALIDATED")
      const wrong = String((Number(code) + 1) % 1_000_000).padStart(6, "0")
      assert.strictEqual((yield* submitCode(session, wrong)).body.errcode, "M_TOKEN_INCORRECT")
      assert.strictEqual((yield* submitCode(session, code)).status, 200)
      const foreign = yield* mallory.request("POST", "/account/3pid", { ...session, client_secret: "guessed" })
      assert.strictEqual(foreign.body.errcode, "M_NO_VALID_SESSION")
      const added = yield* alice.request("POST", "/account/3pid", { three_pid_creds: session })
      assert.strictEqual(added.status, 200, added.text)
      assert.deepStrictEqual(yield* addresses(alice), ["msisdn 4915112345678"])
      assert.strictEqual((yield* lookup("4915112345678", "msisdn")).mxid, alice.userId)
      assert.strictEqual((yield* mallory.request("POST", "/account/3pid", session)).body.errcode, "M_FORBIDDEN")

      const removal = { medium: "msisdn", address: "+49 151 1234-5678", ...session }
      const removed = yield* alice.request("POST", "/account/3pid/delete", removal)
      assert.strictEqual(removed.status, 200, removed.text)
      assert.deepStrictEqual(yield* addresses(alice), [])
      assert.isUndefined((yield* lookup("4915112345678", "msisdn")).mxid)
    })
  )

  it.effect("a number is added with a code that the home server requests, and later resets a forgotten password", () =>
    Effect.gen(function* () {
      const { red } = yield* Homes
      const dora = yield* person(red, "dora")
      const anonymous = (method: string, path: string, json: object, headers?: Record<string, string>) =>
        askUrl(method, `${red.url}/_matrix/client/v3${path}`, json, headers)
      const asDora = (method: string, path: string, json: object) =>
        anonymous(method, path, json, { authorization: `Bearer ${dora.token}` })
      const phone = { phone_number: "0151 45678901", country: "DE", send_attempt: 1 }
      /** A session whose code was submitted to the URL that the home server returned. */
      const validate = Effect.fnUntraced(function* (path: string, client_secret: string, number: object = phone) {
        const begun = yield* asDora("POST", `${path}/msisdn/requestToken`, { ...number, client_secret })
        assert.strictEqual(begun.status, 200, begun.text)
        const session = { sid: begun.body.sid, client_secret }
        const { text, to } = yield* takeMessage
        assert.strictEqual(to, "+4915145678901")
        const submitUrl = String((begun.body as unknown as { submit_url: string }).submit_url)
        const submitted = yield* askUrl("POST", submitUrl, { ...session, token: /\d{6}/.exec(text)![0] })
        assert.strictEqual(submitted.status, 200, submitted.text)
        return session
      })
      const international = { ...phone, phone_number: "+4915145678901" }
      const unknown = yield* asDora("POST", "/account/password/msisdn/requestToken", {
        ...international,
        client_secret: "early"
      })
      assert.strictEqual(unknown.body.errcode, "M_THREEPID_NOT_FOUND")
      const password = {
        type: "m.login.password",
        identifier: { type: "m.id.user", user: dora.userId },
        password: "secret"
      }
      const session = yield* validate("/account/3pid", "doras-secret")
      const added = yield* asDora("POST", "/account/3pid/add", { ...session, auth: password })
      assert.strictEqual(added.status, 200, added.text)
      const taken = yield* asDora("POST", "/account/3pid/msisdn/requestToken", {
        ...international,
        client_secret: "again"
      })
      assert.strictEqual(taken.body.errcode, "M_THREEPID_IN_USE")

      const forgotten = yield* validate("/account/password", "forgotten", international)
      const auth = { type: "m.login.msisdn", threepid_creds: forgotten }
      const changed = yield* anonymous("POST", "/account/password", { new_password: "anew", auth })
      assert.strictEqual(changed.status, 200, changed.text)
      const logIn = (secret: string) => asDora("POST", "/login", { ...password, password: secret })
      assert.deepStrictEqual([(yield* logIn("secret")).status, (yield* logIn("anew")).status], [403, 200])
      assert.strictEqual(yield* waitingMessages, 0)
    })
  )

  it.effect("an invited number gets a text message, and its user is invited once it is validated, on any server", () =>
    Effect.gen(function* () {
      const { blue, red } = yield* Homes
      const [alice, bob] = [yield* person(red, "alice-2"), yield* person(blue, "bob")]
      const roomId = yield* createRoom(alice, { name: "Tea party" })
      const sent = yield* inviteNumber(alice, roomId, "+49 151 2345-6789")
      assert.strictEqual(sent.status, 200, sent.text)
      const { text, to } = yield* takeMessage
      assert.strictEqual(to, "+4915123456789")
      assert.include(text, `${alice.userId} invites you to Tea party`)
      yield* addNumber(bob, "+4915123456789")
      assert.strictEqual(yield* inviterOf(bob, roomId), alice.userId)
      assert.strictEqual((yield* join(bob, roomId)).status, 200)
      assert.strictEqual(yield* membershipOf(alice, roomId, bob.userId), "join")
    })
  )

  it.effect("an invitation of a bound number invites its user at once, without a message", () =>
    Effect.gen(function* () {
      const { red } = yield* Homes
      const [alice, carol] = [yield* person(red, "alice-3"), yield* person(red, "carol")]
      yield* addNumber(carol, "+4915134567890")
      const roomId = yield* createRoom(alice)
      assert.strictEqual((yield* inviteNumber(alice, roomId, "4915134567890")).status, 200)
      assert.strictEqual(yield* membershipOf(alice, roomId, carol.userId), "invite")
      assert.strictEqual(yield* waitingMessages, 0)
    })
  )

  it.effect("malformed international numbers are refused, and nothing is sent", () =>
    Effect.gen(function* () {
      const { red } = yield* Homes
      const alice = yield* person(red, "alice-4")
      const roomId = yield* createRoom(alice)
      for (const number of ["", "+", "12", "call me", "0151 12345678", "+49151\r\n12345678", "alice@mail.example"]) {
        const refused = yield* inviteNumber(alice, roomId, number)
        assert.strictEqual(refused.body.errcode, "M_BAD_JSON", number)
      }
      const { error } = (yield* inviteNumber(alice, roomId, "0151 12345678")).body
      assert.include(error, "such as +4915112345678")
      assert.strictEqual(yield* waitingMessages, 0)
    })
  )
})
