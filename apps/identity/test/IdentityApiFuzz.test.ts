import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import { ask, identity } from "./support/TestIdentity.ts"

/** Texts that often cause faults, and valid ones. */
const text = fc.oneof(
  fc.constantFrom(
    "",
    "\0",
    "a\0b",
    "\ud800",
    "\u{1f600}",
    "__proto__",
    "' OR 1=1 --",
    "%00",
    "\r\n",
    "x".repeat(70_000)
  ),
  fc.constantFrom(
    "email",
    "msisdn",
    "a@example.org",
    "@a:a.test",
    "!a:a.test",
    "sha256",
    "A".repeat(43),
    "+4915112345678"
  ),
  fc.string({ unit: "binary", maxLength: 20 })
)

const value = fc.oneof(
  { maxDepth: 2 },
  text,
  text,
  fc.integer(),
  fc.double(),
  fc.constant(null),
  fc.jsonValue() as fc.Arbitrary<unknown>
)

const keys = [
  "client_secret",
  "email",
  "send_attempt",
  "next_link",
  "phone_number",
  "country",
  "sid",
  "token",
  "mxid",
  "medium",
  "address",
  "algorithm",
  "pepper",
  "room_id",
  "sender",
  "room_name",
  "origin",
  "destination",
  "ts"
] as const

const valid: Record<string, unknown> = {
  client_secret: "secret",
  email: "fuzz@example.org",
  send_attempt: 1,
  phone_number: "+4915112345678",
  sid: "sid",
  token: "token",
  mxid: "@a:a.test",
  medium: "email",
  address: "fuzz@example.org",
  threepid: { medium: "email", address: "fuzz@example.org" },
  algorithm: "sha256",
  pepper: "pepper",
  addresses: [],
  room_id: "!a:a.test",
  sender: "@a:a.test",
  origin: "a.test",
  records: [],
  signatures: {}
}

const body = fc.oneof(
  fc.tuple(fc.constantFrom(...keys), value).map(([key, wrong]) => JSON.stringify({ ...valid, [key]: wrong })),
  fc.tuple(fc.constantFrom(...keys), value).map(([key, wrong]) => JSON.stringify({ [key]: wrong })),
  fc.jsonValue().map((json) => JSON.stringify(json)),
  fc.string({ unit: "binary" })
)

const posts = [
  "/validate/email/requestToken",
  "/validate/msisdn/requestToken",
  "/validate/email/submitToken",
  "/validate/msisdn/submitToken",
  "/3pid/bind",
  "/3pid/unbind",
  "/lookup",
  "/store-invite",
  "/replicate/v1/push"
]

const gets = ["/validate/email/submitToken", "/3pid/getValidated3pid", "/lookup", "/pubkey/isvalid", "/hash_details"]

const post = fc.record({ path: fc.constantFrom(...posts), json: body })
const get = fc.record({
  path: fc.constantFrom(...gets),
  query: fc.dictionary(fc.constantFrom(...keys, "public_key"), text),
  key: text
})

const documented = [200, 400, 403, 404, 413, 429]

layer(identity, { excludeTestServices: true })("random requests", (it) => {
  it.effect("any body gets a documented status, and errors have an errcode", () =>
    Effect.forEach(fc.sample(post, 600), ({ json, path }) =>
      Effect.gen(function* () {
        const answer = yield* ask("POST", path, json)
        assert.include(documented, answer.status, `${path} ${json.slice(0, 500)} ${answer.text}`)
        if (answer.status !== 200) assert.match(answer.body.errcode, /^M_/)
      })
    )
  )

  it.effect("any query or path gets a documented status", () =>
    Effect.forEach(fc.sample(get, 200), ({ key, path, query }) =>
      Effect.gen(function* () {
        const encoded = new URLSearchParams({ ...(valid as Record<string, string>), ...query })
        for (const entry of [`${path}?${encoded}`, `/pubkey/${encodeURIComponent(key.toWellFormed())}`]) {
          const answer = yield* ask("GET", entry)
          assert.include([...documented, 431], answer.status, `${entry.slice(0, 500)} ${answer.text}`)
        }
      })
    )
  )
})
