import { assert, layer } from "@effect/vitest"
import { ServerName } from "@greenroom/protocol/Identifiers"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import {
  encodeBase64,
  exportVerifyKey,
  generateSigningKey,
  type SigningKey,
  signJson,
  verifyKeyOf
} from "@greenroom/room/Signing"
import { Effect, Layer, Result } from "effect"
import { ask, bind, identityWith, lookup, serverName } from "./support/TestIdentity.ts"
import { HomeServer, makeWebServer } from "./support/WebServer.ts"

const homeServer = ServerName.make("hs.test")
const key = generateSigningKey(homeServer, "ed25519:current")
const replaced = generateSigningKey(homeServer, "ed25519:replaced")
const day = 86_400_000

const text = (key: SigningKey) => encodeBase64(exportVerifyKey(verifyKeyOf(key)))

/** The keys that the home server publishes. */
const keysUntil = (valid_until_ts: number): JsonObject =>
  Result.getOrThrow(
    signJson(
      {
        server_name: homeServer,
        verify_keys: { [key.keyId]: { key: text(key) } },
        old_verify_keys: { [replaced.keyId]: { key: text(replaced), expired_ts: 1 } },
        valid_until_ts
      },
      key
    )
  )

const withHomeServer = HomeServer.use(({ url }) =>
  Effect.succeed(identityWith({ identity: { homeServers: new Map([[homeServer as string, url]]) } }))
).pipe(Layer.unwrap, Layer.provideMerge(Layer.effect(HomeServer, makeWebServer)))

const uri = "/_matrix/identity/v2/3pid/unbind"

/** What the home server signs, and the name of this server in its header. */
interface Signing {
  readonly signed?: { readonly [name: string]: Json }
  readonly destination?: string | undefined
  readonly by?: SigningKey
}

/** Asks to end a binding, and says whether it was ended. */
const unbind = Effect.fnUntraced(function* (
  address: string,
  mxid: string,
  { by = key, destination = serverName, signed = { destination: serverName } }: Signing,
  before = ""
) {
  const content = { mxid, threepid: { medium: "email", address } }
  const object = Result.getOrThrow(signJson({ method: "POST", uri, origin: homeServer, content, ...signed }, by))
  const sig = (object.signatures as Record<string, Record<string, string>>)[homeServer]![by.keyId]
  const to = destination === "" ? "" : `,destination="${destination}"`
  const authorization = `${before}X-Matrix origin="${homeServer}",key="${by.keyId}",sig="${sig}"${to}`
  const { body, status } = yield* ask("POST", "//_matrix/identity/v2/3pid/unbind", content, { authorization })
  assert.include([200, 403], status, body.error)
  const isBound = (yield* lookup(address)).mxid === mxid
  assert.strictEqual(isBound, status === 403)
  return !isBound
})

layer(withHomeServer, { excludeTestServices: true })("requests that a home server has signed", (it) => {
  it.effect("the home server of a user ends a binding, however it names this server", () =>
    Effect.gen(function* () {
      const { says } = yield* HomeServer
      says(JSON.stringify(keysUntil(Date.now() + day)))
      const ways: ReadonlyArray<readonly [string, Signing, string?]> = [
        ["usual", {}],
        ["synapse", { signed: { destination_is: serverName } }],
        ["older", { destination: "" }],
        ["twice", {}, 'X-Matrix origin="hs.test",key="ed25519:other",sig="AAAA",']
      ]
      for (const [name, signing, before] of ways) {
        yield* bind(`${name}@example.org`, "@alice:hs.test")
        assert.isTrue(yield* unbind(`${name}@example.org`, "@alice:hs.test", signing, before), name)
      }
    })
  )

  it.effect("a request for another server, by several servers, or by a key that is not current, ends none", () =>
    Effect.gen(function* () {
      const { says } = yield* HomeServer
      says(JSON.stringify(keysUntil(Date.now() + day)))
      yield* bind("bob@example.org", "@bob:hs.test")
      const refused = (signing: Signing, before?: string) =>
        Effect.map(unbind("bob@example.org", "@bob:hs.test", signing, before), (ended) => assert.isFalse(ended))
      yield* refused({ signed: { destination: "other.test" } })
      yield* refused({ signed: { destination: "other.test" }, destination: "" })
      yield* refused({ signed: { destination: "other.test" }, destination: "other.test" })
      yield* refused({ signed: {} })
      yield* refused({ by: replaced })
      yield* refused({ by: generateSigningKey(homeServer, key.keyId) })
      yield* refused({}, 'X-Matrix origin="other.test",key="ed25519:a",sig="AAAA",')
      says(JSON.stringify(keysUntil(Date.now() - 1)))
      yield* refused({})
      says(JSON.stringify(keysUntil(Date.now() + day)))
      assert.isTrue(yield* unbind("bob@example.org", "@bob:hs.test", {}))
    })
  )
})
