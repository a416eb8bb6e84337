import { assert, describe, it } from "@effect/vitest"
import { Option, Schema } from "effect"
import { canonicalFederationUrl } from "../../src/federation/FederationApi.ts"
import { eventIdOf, formatPduReference, PduReference, parsePduReference } from "../../src/federation/PduReference.ts"
import type { EventId } from "../../src/Identifiers.ts"

describe("FederationApi", () => {
  it("is reached under both prefixes, with or without a slash at the end", () => {
    const same = (from: string, to: string) => assert.strictEqual(canonicalFederationUrl(from), to)
    same("/matrix/federation/v1/pull", "/matrix/federation/v1/pull")
    same("/_matrix/federation/v1/pull/?v=a/", "/matrix/federation/v1/pull?v=a/")
    same("/_matrix/key/v1", "/matrix/key/v1")
    same("/_matrix/key/v1/", "/matrix/key/v1")
    same("/_matrix/federation/v1/event/a;b?v=c;d", "/matrix/federation/v1/event/a%3Bb?v=c;d")
    same("/_matrix/client/api/v1/x", "/_matrix/client/api/v1/x")
    same("/", "/")
  })
})

describe("PduReference", () => {
  it("is an event ID in another writing", () => {
    const id = "$a,b:example.org:8448" as EventId
    assert.strictEqual(formatPduReference(id), "a,b,example.org:8448")
    assert.deepStrictEqual(parsePduReference("a,b,example.org:8448"), Option.some(id))
    assert.strictEqual(Schema.decodeUnknownSync(PduReference)("x,red.org"), "$x:red.org")
    assert.strictEqual(Schema.encodeSync(PduReference)("$x:red.org" as EventId), "x,red.org")
  })

  it("names no PDU with an ID or origin that nobody could have", () => {
    for (const text of ["", "x", ",red.org", "x,", "x:y,red.org", "x,not a name", `${"x".repeat(255)},red.org`]) {
      assert.isTrue(Option.isNone(parsePduReference(text)), text)
    }
    assert.isTrue(Option.isNone(eventIdOf("", "red.org")))
  })
})
