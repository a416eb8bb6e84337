import { createHmac } from "node:crypto"
import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { AccountStore } from "@greenroom/store/AccountStore"
import { Effect, Option, Redacted } from "effect"
import { ask, gateway, gatewayWith } from "../TestGateway.ts"

const secret = "the operator's secret"
const path = "//_synapse/admin/v1/register"

const withSecret = gatewayWith({}, { enableRegistration: false, registrationSharedSecret: Redacted.make(secret) })

const mac = (nonce: string, username: string, password: string, admin: boolean, by = secret) =>
  createHmac("sha1", by)
    .update([nonce, username, password, admin ? "admin" : "notadmin"].join("\0"))
    .digest("hex")

layer(withSecret, { excludeTestServices: true })("registration by a shared secret", (it) => {
  it.effect("creates an account and a session while registration is closed", () =>
    Effect.gen(function* () {
      const { body } = yield* ask("GET", path)
      const nonce = body.nonce as string
      const json = { nonce, username: "Boss", password: "pw", admin: true, mac: mac(nonce, "Boss", "pw", true) }
      const made = yield* ask("POST", path, { json: { ...json, displayname: "The Boss" } })
      assert.strictEqual(made.status, 200)
      assert.strictEqual(made.body.user_id, "@boss:green.test")
      const account = yield* AccountStore.use((store) => store.find("@boss:green.test" as UserId))
      assert.isTrue(Option.getOrThrow(account).admin)
      const profile = yield* ask("GET", "//_matrix/client/v3/profile/@boss:green.test/displayname")
      assert.strictEqual(profile.body.displayname, "The Boss")
      assert.strictEqual((yield* ask("POST", path, { json })).body.errcode, "M_USER_IN_USE")
    })
  )

  it.effect("refuses a wrong secret, a wrong mac and a nonce of another server", () =>
    Effect.gen(function* () {
      const { body } = yield* ask("GET", path)
      const nonce = body.nonce as string
      const json = { nonce, username: "eve", password: "pw", admin: false }
      const post = (more: object) =>
        Effect.map(ask("POST", path, { json: { ...json, ...more } }), ({ body }) => body.errcode)
      assert.strictEqual(yield* post({ mac: mac(nonce, "eve", "pw", false, "guessed") }), "M_FORBIDDEN")
      assert.strictEqual(yield* post({ admin: true, mac: mac(nonce, "eve", "pw", false) }), "M_FORBIDDEN")
      const forged = `${Date.now()}.abc.def`
      assert.strictEqual(yield* post({ nonce: forged, mac: mac(forged, "eve", "pw", false) }), "M_INVALID_PARAM")
      assert.strictEqual(yield* post({}), "M_MISSING_PARAM")
    })
  )
})

layer(gateway, { excludeTestServices: true })("without a shared secret", (it) => {
  it.effect("the endpoint is not found", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* ask("GET", path)).body.errcode, "M_NOT_FOUND")
    })
  )
})
