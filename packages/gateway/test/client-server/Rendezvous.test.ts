import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { askToday, gateway, gatewayWith } from "../TestGateway.ts"

const path = "/unstable/io.element.msc4388/rendezvous"
const textPath = "/unstable/org.matrix.msc4108/rendezvous"

layer(gatewayWith({}, { login: { oauth: "beside" } }), { excludeTestServices: true })("sign-in by QR code", (it) => {
  it.effect("two devices replace a text in turn, and a write over an unread text is refused", () =>
    Effect.gen(function* () {
      assert.isTrue((yield* askToday("GET", path)).body.create_available)
      const { body: begun } = yield* askToday("POST", path, { json: { data: "hello" } })
      const session = `${path}/${begun.id}`
      const put = (sequence_token: unknown, data: string) =>
        askToday("PUT", session, { json: { sequence_token, data } })
      const { body: read } = yield* askToday("GET", session)
      assert.deepInclude(read, { data: "hello", sequence_token: begun.sequence_token })
      const answered = yield* put(read.sequence_token, "hello yourself")
      const late = yield* put(begun.sequence_token, "too late")
      assert.deepInclude(late, { status: 409 })
      assert.strictEqual(late.body.errcode, "M_CONCURRENT_WRITE")
      const repeated = yield* put(begun.sequence_token, "hello yourself")
      assert.strictEqual(repeated.body.sequence_token, answered.body.sequence_token)
      assert.strictEqual((yield* put(answered.body.sequence_token, "x".repeat(4_097))).body.errcode, "M_TOO_LARGE")
      assert.strictEqual((yield* put(answered.body.sequence_token, "nul \0")).body.errcode, "M_INVALID_PARAM")
      const withNul = yield* askToday("POST", textPath, { body: "\0", headers: { "content-type": "text/plain" } })
      assert.strictEqual(withNul.body.errcode, "M_INVALID_PARAM")
      assert.strictEqual((yield* askToday("DELETE", session)).status, 200)
      assert.strictEqual((yield* askToday("GET", session)).body.errcode, "M_NOT_FOUND")
    })
  )

  it.effect("clients of MSC4108 use ETags for that", () =>
    Effect.gen(function* () {
      const begun = yield* askToday("POST", textPath, { body: "hello", headers: { "content-type": "text/plain" } })
      assert.strictEqual(begun.status, 201)
      const session = `${textPath}/${String(begun.body.url).split("/").at(-1)}`
      const tag = begun.headers.get("etag") ?? ""
      const read = yield* askToday("GET", session)
      assert.deepInclude(read, { status: 200, text: "hello" })
      const unchanged = yield* askToday("GET", session, { headers: { "if-none-match": tag } })
      assert.strictEqual(unchanged.status, 304)
      const put = (text: string) =>
        askToday("PUT", session, { body: text, headers: { "content-type": "text/plain", "if-match": tag } })
      assert.strictEqual((yield* put("next")).status, 202)
      assert.strictEqual((yield* put("late")).status, 412)
      assert.strictEqual((yield* askToday("GET", session)).text, "next")
      assert.strictEqual((yield* askToday("DELETE", session)).status, 204)
    })
  )
})

layer(gateway, { excludeTestServices: true })("without the OAuth 2.0 API", (it) => {
  it.effect("the endpoint of rendezvous sessions is unknown", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* askToday("GET", path)).body.errcode, "M_UNRECOGNIZED")
    })
  )
})
