import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { TestClock } from "effect/testing"
import { canonicalMsisdn } from "../src/PhoneNumber.ts"
import { ask, identityWith } from "./support/TestIdentity.ts"
import { makeWebServer, SmsService } from "./support/WebServer.ts"

const withSms = SmsService.use(({ url }) =>
  Effect.succeed(
    identityWith({
      sms: { url: `${url}/messages?from=identity`, authorization: Redacted.make("Bearer hush"), from: "Greenroom" }
    })
  )
).pipe(Layer.unwrap, Layer.provideMerge(Layer.effect(SmsService, makeWebServer)))

const request = (phone_number: string, client_secret: string, more: object = {}) =>
  ask("POST", "/validate/msisdn/requestToken", { client_secret, phone_number, send_attempt: 1, ...more })

const submit = (body: object) => ask("POST", "/validate/msisdn/submitToken", body)

const takeMessage = Effect.gen(function* () {
  const received = yield* SmsService.use(({ take }) => take)
  const message = received.body as { readonly to: string; readonly from: string; readonly text: string }
  return { ...received, message, code: /[0-9]{6}/.exec(message.text)![0] }
})

layer(withSms)("validation of a phone number", (it) => {
  it.effect("a code is sent to the web service of the operator, and validates the number", () =>
    Effect.gen(function* () {
      const begun = yield* request("0151 12345678", "secret-1", { country: "DE" })
      assert.strictEqual(begun.status, 200, begun.text)
      assert.strictEqual(begun.body.msisdn, "4915112345678")
      const { code, headers, message, method, path } = yield* takeMessage
      assert.strictEqual(method, "POST")
      assert.strictEqual(path, "/messages?from=identity")
      assert.strictEqual(headers.authorization, "Bearer hush")
      assert.strictEqual(headers["content-type"], "application/json")
      assert.deepStrictEqual(message, {
        to: "+4915112345678",
        from: "Greenroom",
        text: `${code} is your code to confirm this phone number at id.test.`
      })
      const proof = { sid: begun.body.sid, client_secret: "secret-1" }
      assert.strictEqual((yield* submit({ ...proof, token: code })).status, 200)
      const bound = yield* ask("POST", "/3pid/bind", { ...proof, mxid: "@alice:a.test" })
      assert.deepInclude(bound.body, { medium: "msisdn", address: "4915112345678", mxid: "@alice:a.test" })
    })
  )

  it.effect("a code allows five attempts", () =>
    Effect.gen(function* () {
      const begun = yield* request("+4915112345679", "secret-2")
      const { code } = yield* takeMessage
      const proof = { sid: begun.body.sid, client_secret: "secret-2" }
      for (let i = 1; i <= 5; i++) {
        const guess = String((Number(code) + i) % 1_000_000).padStart(6, "0")
        assert.strictEqual((yield* submit({ ...proof, token: guess })).body.errcode, "M_TOKEN_INCORRECT")
      }
      assert.include((yield* submit({ ...proof, token: code })).text, "Too many")
    })
  )

  it.effect("a code is valid for ten minutes", () =>
    Effect.gen(function* () {
      const begun = yield* request("4915112345680", "secret-3")
      const { code } = yield* takeMessage
      yield* TestClock.adjust("11 minutes")
      const answer = yield* submit({ sid: begun.body.sid, client_secret: "secret-3", token: code })
      assert.strictEqual(answer.body.errcode, "M_SESSION_EXPIRED")
    })
  )

  it.effect("failures and redirects of the web service are errors that may be retried", () =>
    Effect.gen(function* () {
      const service = yield* SmsService
      for (const status of [500, 302, 403]) {
        service.answer(status)
        const answer = yield* request("+4915112345681", "secret-4")
        assert.strictEqual(answer.body.errcode, "M_MESSAGE_SEND_ERROR")
        yield* service.take
      }
      service.answer(201)
      assert.strictEqual((yield* request("+4915112345681", "secret-4")).status, 200)
      yield* service.take
    })
  )

  it.effect("malformed numbers are refused", () =>
    Effect.gen(function* () {
      for (const number of [
        "",
        "12",
        "+",
        "call me",
        "+49151123456789012345",
        "+4915112345678\r\nX: y",
        "0151 12345678"
      ]) {
        const answer = yield* request(number, "secret-5")
        assert.include(["M_INVALID_ADDRESS", "M_BAD_JSON"], answer.body.errcode, number)
      }
      assert.strictEqual(
        (yield* request("0151 12345678", "secret-5", { country: "XX" })).body.errcode,
        "M_INVALID_ADDRESS"
      )
      assert.strictEqual((yield* request("0151 12345678", "secret-5", { country: "de" })).body.errcode, "M_BAD_JSON")
      assert.strictEqual(yield* SmsService.use(({ waiting }) => waiting), 0)
    })
  )
})

layer(identityWith())("without a sender of text messages", (it) => {
  it.effect("phone numbers are refused", () =>
    Effect.gen(function* () {
      const answer = yield* request("+4915112345678", "secret")
      assert.strictEqual(answer.body.errcode, "M_THREEPID_MEDIUM_NOT_SUPPORTED")
    })
  )
})

describe("PhoneNumber", () => {
  it("different notations of a number have the same normal form", () => {
    for (const text of ["+49 151 12345678", "+49 (0)151-12345678", "+4915112345678", "4915112345678"]) {
      assert.strictEqual(canonicalMsisdn(text), "4915112345678", text)
    }
    assert.strictEqual(canonicalMsisdn("0044 7400 123456", "DE"), "447400123456")
    assert.strictEqual(canonicalMsisdn("07400 123456", "GB"), "447400123456")
  })
})
