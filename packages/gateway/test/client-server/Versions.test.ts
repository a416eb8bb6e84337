import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, ask, askToday, gateway, gatewayWith, register } from "../TestGateway.ts"

layer(gateway, { excludeTestServices: true })("today's client API", (it) => {
  it.effect("lists its versions, features, room versions and address", () =>
    Effect.gen(function* () {
      const versions = yield* askToday("GET", "/versions")
      assert.strictEqual(versions.status, 200)
      assert.include(versions.body.versions as ReadonlyArray<string>, "v1.11")
      // Element Web needs these to set up cross-signing, search for spaces and publish time zones.
      assert.deepInclude(versions.body.unstable_features as object, {
        "org.matrix.e2e_cross_signing": true,
        "org.matrix.msc3827.stable": true,
        "org.matrix.msc3981": true,
        "uk.tcpip.msc4133": true
      })
      assert.notProperty(versions.body.unstable_features as object, "org.matrix.msc4143")
      assert.strictEqual(versions.headers.get("access-control-allow-origin"), "*")
      const { token } = yield* register("capable")
      const { body } = yield* askToday("GET", "/v3/capabilities", { token })
      const { available, default: byDefault } = (
        body.capabilities as { readonly "m.room_versions": { readonly available: object; readonly default: string } }
      )["m.room_versions"]
      assert.deepInclude(available, { [byDefault]: "stable", "1": "stable", "12": "stable" })
      assert.deepInclude(body.capabilities as object, {
        "m.change_password": { enabled: true },
        "m.set_avatar_url": { enabled: true },
        "m.profile_fields": { enabled: true },
        "m.get_login_token": { enabled: true }
      })
      const { body: login } = yield* askToday("GET", "/v3/login")
      assert.notInclude(JSON.stringify(login.flows), "application_service")
      const wellKnown = yield* ask("GET", "//.well-known/matrix/client")
      assert.match(JSON.stringify(wellKnown.body), /"m.homeserver":\{"base_url":"http:/)
      assert.notProperty(wellKnown.body, "m.identity_server")
      const support = yield* ask("GET", "//.well-known/matrix/support")
      assert.strictEqual(`${support.status} ${support.body.errcode}`, "404 M_NOT_FOUND")
    })
  )

  it.effect("accepts access tokens of the draft's API, under the paths of r0 and v3", () =>
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

  it.effect("answers unknown endpoints and wrong methods with M_UNRECOGNIZED", () =>
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

const contacts = [
  { role: "m.role.admin", matrix_id: "@admin:green.test" },
  { role: "m.role.security", email_address: "security@green.test" }
]

layer(
  gatewayWith(
    {},
    {
      identityServers: ["https://id.test", "https://other.test"],
      support: { page: "https://green.test/help", contacts }
    }
  ),
  { excludeTestServices: true }
)("well-known URIs", (it) => {
  it.effect("name the identity server, and the contacts of the operator", () =>
    Effect.gen(function* () {
      const { body: client } = yield* ask("GET", "//.well-known/matrix/client")
      assert.deepStrictEqual(client["m.identity_server"], { base_url: "https://id.test" })
      const { body: support } = yield* ask("GET", "//.well-known/matrix/support")
      assert.deepStrictEqual(support as object, { contacts, support_page: "https://green.test/help" })
    })
  )
})

const transports = [{ type: "livekit", livekit_service_url: "https://livekit.test" }]

layer(gatewayWith({}, { rtcTransports: transports }), { excludeTestServices: true })(
  "the transports of calls",
  (it) => {
    it.effect("are in the endpoint and in the well-known file, and a feature of the versions", () =>
      Effect.gen(function* () {
        const alice = yield* register("rtc-alice")
        const { body } = yield* as(alice)("GET", "/unstable/org.matrix.msc4143/rtc/transports")
        assert.deepStrictEqual(body.rtc_transports, transports)
        const { body: wellKnown } = yield* ask("GET", "//.well-known/matrix/client")
        assert.deepStrictEqual(wellKnown["org.matrix.msc4143.rtc_foci"], transports)
        const { body: versions } = yield* askToday("GET", "/versions")
        assert.propertyVal(versions.unstable_features as object, "org.matrix.msc4143", true)
      })
    )
  }
)
