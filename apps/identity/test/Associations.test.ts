import { assert, layer } from "@effect/vitest"
import { redactAddress } from "@greenroom/protocol/identity/ThirdPartyId"
import type { JsonObject } from "@greenroom/protocol/Json"
import { decodeBase64, importVerifyKey, verifyJson } from "@greenroom/room/Signing"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Effect, Result } from "effect"
import { TestClock } from "effect/testing"
import { hashAddress } from "../src/AddressHash.ts"
import { Peppers } from "../src/Peppers.ts"
import { ask, bind, identity, identityWith, lookup, serverName, validate } from "./support/TestIdentity.ts"

const hashDetails = Effect.map(ask("GET", "/hash_details"), ({ body }) => body.lookup_pepper)

const lookupHashed = (addresses: ReadonlyArray<string>, pepper: string, algorithm = "sha256") =>
  ask("POST", "/lookup", { algorithm, pepper, addresses })

/** The public keys of the signatures of an object, from the server. */
const fetchKeys = Effect.fnUntraced(function* (object: JsonObject) {
  const ids = Object.keys((object.signatures as Record<string, object>)[serverName] ?? {})
  const keys = yield* Effect.forEach(ids, (id) =>
    Effect.map(ask("GET", `/pubkey/${encodeURIComponent(id)}`), ({ body }) => {
      const key = importVerifyKey(decodeBase64(body.public_key)!)
      return [id, Result.getOrThrow(key)] as const
    })
  )
  return new Map(keys)
})

layer(identity)("associations", (it) => {
  it.effect("a validated address is bound to a user, with a signature that anyone can verify", () =>
    Effect.gen(function* () {
      const { association } = yield* bind("alice@example.org", "@alice:a.test")
      const found = yield* lookup("ALICE@example.org")
      assert.deepStrictEqual(found, association)
      assert.deepInclude(found, { medium: "email", address: "alice@example.org", mxid: "@alice:a.test" })
      assert.isAtMost(found.not_before, found.ts)
      assert.isAbove(found.not_after, found.ts)
      const keys = yield* fetchKeys(found as never)
      assert.isTrue(Result.isSuccess(verifyJson(found as never, serverName, keys)))
      const forged = verifyJson({ ...(found as never as JsonObject), mxid: "@mallory:a.test" }, serverName, keys)
      assert.isTrue(Result.isFailure(forged))
    })
  )

  it.effect("public keys can be checked, and are no longer valid once replaced", () =>
    Effect.gen(function* () {
      const signingKeys = yield* SigningKeys
      const { keyId } = yield* signingKeys.current
      const { public_key } = (yield* ask("GET", `/pubkey/${keyId}`)).body
      const isValid = ask("GET", `/pubkey/isvalid?public_key=${encodeURIComponent(public_key)}`)
      assert.deepStrictEqual((yield* isValid).body, { valid: true } as never)
      assert.deepStrictEqual((yield* ask("GET", "/pubkey/isvalid?public_key=AAAA")).body, { valid: false } as never)
      assert.strictEqual((yield* ask("GET", "/pubkey/ed25519:none")).body.errcode, "M_NOT_FOUND")
      const { association } = yield* bind("anna@example.org", "@anna:a.test")
      const renewed = yield* signingKeys.rotate
      assert.deepStrictEqual((yield* isValid).body, { valid: false } as never)
      assert.strictEqual((yield* ask("GET", `/pubkey/${keyId}`)).body.public_key, public_key)
      const keys = yield* fetchKeys(association as never)
      assert.isTrue(Result.isSuccess(verifyJson(association as never, serverName, keys)))
      const found = yield* lookup("anna@example.org")
      assert.sameMembers(Object.keys(found.signatures[serverName]!), [keyId, renewed.keyId])
      const foundKeys = yield* fetchKeys(found as never)
      foundKeys.delete(keyId)
      assert.isTrue(Result.isSuccess(verifyJson(found as never, serverName, foundKeys)))
    })
  )

  it.effect("only the user that validated the address can bind it", () =>
    Effect.gen(function* () {
      const session = yield* validate("bob@example.org", "secret-bob")
      for (const proof of [
        { ...session, client_secret: "other" },
        { ...session, sid: "other" }
      ]) {
        const answer = yield* ask("POST", "/3pid/bind", { ...proof, mxid: "@mallory:a.test" })
        assert.strictEqual(answer.body.errcode, "M_NO_VALID_SESSION")
      }
      const wrong = yield* ask("POST", "/3pid/bind", { ...session, mxid: "bob" })
      assert.strictEqual(wrong.body.errcode, "M_BAD_JSON")
      assert.deepStrictEqual(yield* lookup("bob@example.org"), {} as never)
    })
  )

  it.effect("a later binding of an address replaces the earlier one", () =>
    Effect.gen(function* () {
      yield* bind("carol@example.org", "@carol:a.test")
      yield* bind("carol@example.org", "@carol:b.test")
      assert.strictEqual((yield* lookup("carol@example.org")).mxid, "@carol:b.test")
    })
  )

  it.effect("a session that has validated the address can remove its association", () =>
    Effect.gen(function* () {
      const { session } = yield* bind("dave@example.org", "@dave:a.test")
      const other = yield* validate("mallory@example.org", "secret-mallory")
      const threepid = { medium: "email", address: "dave@example.org" }
      const unbind = (proof: object, mxid: string) => ask("POST", "/3pid/unbind", { ...proof, mxid, threepid })
      assert.strictEqual((yield* unbind(other, "@dave:a.test")).status, 403)
      assert.strictEqual((yield* unbind({ sid: "a", client_secret: "b" }, "@dave:a.test")).status, 400)
      assert.strictEqual((yield* unbind(session, "@other:a.test")).status, 404)
      assert.strictEqual((yield* lookup("dave@example.org")).mxid, "@dave:a.test")
      assert.deepStrictEqual((yield* unbind(session, "@dave:a.test")).body, {} as never)
      assert.deepStrictEqual(yield* lookup("dave@example.org"), {} as never)
      assert.strictEqual((yield* unbind(session, "@dave:a.test")).status, 404)
    })
  )

  it.effect("several addresses are looked up by hashes, which do not reveal them to others", () =>
    Effect.gen(function* () {
      yield* bind("erin@example.org", "@erin:a.test")
      yield* bind("frank@example.org", "@frank:a.test")
      const pepper = yield* hashDetails
      const [erin, frank, nobody] = ["erin", "frank", "nobody"].map((name) =>
        hashAddress({ medium: "email", address: `${name}@example.org` }, pepper)
      )
      const found = yield* lookupHashed([erin!, frank!, nobody!], pepper)
      assert.deepStrictEqual(found.body, { mappings: { [erin!]: "@erin:a.test", [frank!]: "@frank:a.test" } } as never)
      const asPhone = hashAddress({ medium: "msisdn", address: "erin@example.org" }, pepper)
      assert.deepStrictEqual((yield* lookupHashed([asPhone], pepper)).body, { mappings: {} } as never)
    })
  )

  it.effect("a new pepper is valid at once, and the previous one for a while", () =>
    Effect.gen(function* () {
      yield* bind("grace@example.org", "@grace:a.test")
      const grace = { medium: "email", address: "grace@example.org" } as const
      const mapped = (pepper: string) =>
        Effect.map(
          lookupHashed([hashAddress(grace, pepper)], pepper),
          ({ body }) => body.mappings?.[hashAddress(grace, pepper)]
        )
      const first = yield* hashDetails
      yield* TestClock.adjust("8 days")
      const peppers = yield* Peppers
      const second = yield* Effect.repeat(hashDetails, { until: (pepper) => pepper !== first })
      assert.strictEqual(yield* mapped(second), "@grace:a.test")
      assert.strictEqual(yield* mapped(first), "@grace:a.test")
      yield* peppers.replace
      const third = yield* hashDetails
      assert.strictEqual(yield* mapped(third), "@grace:a.test")
      assert.strictEqual(yield* mapped(second), "@grace:a.test")
      const old = yield* lookupHashed([hashAddress(grace, first)], first)
      assert.strictEqual(old.status, 400)
      assert.deepInclude(old.body, { errcode: "M_INVALID_PEPPER", algorithm: "sha256", lookup_pepper: third })
      yield* bind("heidi@example.org", "@heidi:a.test")
      const heidi = hashAddress({ medium: "email", address: "heidi@example.org" }, second)
      assert.property((yield* lookupHashed([heidi], second)).body.mappings, heidi)
    })
  )

  it.effect("malformed lookups are refused", () =>
    Effect.gen(function* () {
      const pepper = yield* hashDetails
      assert.strictEqual((yield* lookupHashed([], pepper, "none")).body.errcode, "M_INVALID_PEPPER")
      assert.strictEqual((yield* lookupHashed(["alice@example.org"], pepper)).body.errcode, "M_BAD_JSON")
      assert.strictEqual((yield* lookupHashed(Array(1_001).fill("A".repeat(43)), pepper)).body.errcode, "M_BAD_JSON")
      assert.strictEqual((yield* lookup("' OR 1=1 --")).errcode, "M_INVALID_ADDRESS")
      assert.strictEqual((yield* ask("GET", "/lookup?medium=email")).status, 400)
    })
  )

  it.effect("both prefixes have the same endpoints", () =>
    Effect.gen(function* () {
      for (const prefix of ["/matrix", "/_matrix"]) {
        const answer = yield* ask("GET", `/${prefix}/identity/api/v1/hash_details`)
        assert.strictEqual(answer.body.lookup_pepper, yield* hashDetails)
        assert.deepStrictEqual((yield* ask("GET", `/${prefix}/identity/api/v1`)).body, {} as never)
      }
      assert.isTrue((yield* ask("GET", "//health")).body.ok)
      assert.strictEqual((yield* ask("GET", "//")).status, 200)
    })
  )
})

const few = { requests: "off", messages: "off", tries: "off", lookups: { limit: 10, window: 3_600_000 } } as const

layer(identityWith({ rates: few }))("limits of lookups", (it) => {
  it.effect("every looked-up address counts towards the limit, hashed or not, known or not", () =>
    Effect.gen(function* () {
      const pepper = yield* hashDetails
      const guesses = Array.from({ length: 8 }, (_, i) =>
        hashAddress({ medium: "msisdn", address: `49151${i}` }, pepper)
      )
      assert.strictEqual((yield* lookupHashed(guesses, pepper)).status, 200)
      for (let i = 0; i < 2; i++) yield* lookup(`a${i}@example.org`)
      const refused = yield* lookup("a3@example.org")
      assert.strictEqual(refused.errcode, "M_LIMIT_EXCEEDED")
      assert.strictEqual((yield* lookupHashed(guesses.slice(0, 1), pepper)).status, 429)
      const invite = { medium: "email", address: "a@example.org", room_id: "!r:a.test", sender: "@m:a.test" }
      assert.strictEqual((yield* ask("POST", "/store-invite", invite)).status, 429)
    })
  )
})

layer(identityWith({ identity: { singleLookup: false } }))("without single lookups", (it) => {
  it.effect("addresses are looked up by their hashes only", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* lookup("a@example.org")).errcode, "M_FORBIDDEN")
      const pepper = yield* hashDetails
      assert.strictEqual((yield* lookupHashed([], pepper)).status, 200)
      assert.strictEqual(redactAddress({ medium: "email", address: "foo@example.org" }), "f...@e...")
    })
  )
})
