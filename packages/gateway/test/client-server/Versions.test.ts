import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { ask, askToday, gateway, register } from "../TestGateway.ts"

layer(gateway, { excludeTestServices: true })("today's client API", (it) => {
  it.effect("lists the supported versions, and the server's address", () =>
    Effect.gen(function* () {
      const versions = yield* askToday("GET", "/versions")
      assert.strictEqual(versions.status, 200)
      assert.include(versions.body.versions as ReadonlyArray<string>, "v1.11")
      // Element Web sets up cross-signing, searches for spaces and publishes time zones only where these are announced.
      assert.deepInclude(versions.body.unstable_features as object, {
        "org.matrix.e2e_cross_signing": true,
        "org.matrix.msc3827.stable": true,
        "org.matrix.msc3981": true,
        "uk.tcpip.msc4133": true
      })
      assert.strictEqual(versions.headers.get("access-control-allow-origin"), "*")
      const { token } = yield* register("capable")
      const { body } = yield* askToday("GET", "/v3/capabilities", { token })
      const { available, default: byDefault } = (
        body.capabilities as { readonly "m.room_versions": { readonly available: object; readonly default: string } }
      )["m.room_versions"]
      assert.deepInclude(available, { [byDefault]: "stable", "1": "stable", "12": "stable" })
      const wellKnown = yield* ask("GET", "//.well-known/matrix/client")
      assert.match(JSON.stringify(wellKnown.body), /"m.homeserver":\{"base_url":"http:/)
      const support = yield* ask("GET", "//.well-known/matrix/support")
      assert.strictEqual(`${support.status} ${support.body.errcode}`, "404 M_NOT_FOUND")
    })
  )

  it.effect("shares access tokens with the draft's API, under the spellings of r0 and v3", () =>
    Effect.gen(function* () {
      const { id, token } = yield* register("whoami")
      for (const path of ["/v3/account/whoami", "/r0/account/whoami/"]) {
        const { body } = yield* askToday("GET", path, { token })
        assert.strictEqual(body.user_id, id)
      }
      assert.strictEqual((yield* askToday("GET", "/v3/account/whoami")).body.errcode, "M_MISSING_TOKEN")
      assert.strictEqual((yield* askToday("POST", "/v3/logout", { token })).status, 200)
      assert.strictEqual((yield* askToday("GET", "/v3/account/whoami", { token })).body.errcode, "M_UNKNOWN_TOKEN")
    })
  )

  it.effect("answers unknown endpoints with 404 and wrong methods with 405, both M_UNRECOGNIZED", () =>
    Effect.gen(function* () {
      const unknown = yield* askToday("GET", "/v3/no/such/endpoint")
      assert.strictEqual(unknown.status, 404)
      assert.strictEqual(unknown.body.errcode, "M_UNRECOGNIZED")
      const wrong = yield* askToday("DELETE", "/versions")
      assert.strictEqual(wrong.status, 405)
      assert.strictEqual(wrong.body.errcode, "M_UNRECOGNIZED")
    })
  )
})
