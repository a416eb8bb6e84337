import { assert, describe, it } from "@effect/vitest"
import { Option, Schema } from "effect"
import { canonicalFederationUrl } from "../../src/federation/FederationApi.ts"
import { eventIdOf, formatPduReference, PduReference, parsePduReference } from "../../src/federation/PduReference.ts"
import type { EventId } from "../../src/Identifiers.ts"

describe("FederationApi", () => {
  it("both prefixes have the same endpoints, with or without a trailing slash", () => {
    const same = (from: string, to: string) => assert.strictEqual(canonicalFederationUrl(from), to)
    same("/matrix/federation/v1/pull", "/matrix/federation/v1/pull")
    same("/_matrix/federation/v1/pull/?v=a/", "/matrix/federation/v1/pull?v=a/")
    same("/_matrix/key/v1", "/matrix/key/v1")
    same("/_matrix/key/v1/", "/matrix/key/v1")
    same("/_matrix/federation/v1/pdu/a;b?v=c;d", "/matrix/federation/v1/pdu/a%3Bb?v=c;d")
    same("/_matrix/client/api/v1/x", "/_matrix/client/api/v1/x")
    same("/", "/")
  })

  it("under the current prefix only endpoints of the draft, or with its references to events, are those of the draft", () => {
    const isDraft = (path: string, expected: boolean) =>
      assert.strictEqual(
        canonicalFederationUrl(`/_matrix/federation/v1/${path}`),
        `${expected ? "" : "/_"}${expected ? "/" : ""}matrix/federation/v1/${path}`
      )
    isDraft("send_join/!r:a/pdu1", true)
    isDraft("send_join/!r:a/$e:a", false)
    isDraft("send_join/!r:a/%24e", false)
    isDraft("invite/!r:a/pdu1", true)
    isDraft("invite/!r:a/%24e", false)
    isDraft("state/!r:a", true)
    isDraft("state/!r:a?at=x,a", true)
    isDraft("state/!r:a?event_id=%24x", false)
    isDraft("backfill/!r:a?v=x,a&limit=5", true)
    isDraft("backfill/!r:a?limit=5&v=$x:a", false)
    isDraft("query/presence?user_id=@a:a", true)
    isDraft("query/profile?user_id=@a:a", false)
    isDraft("make_join/!r:a/@b:b?ver=1", false)
    isDraft("event/$e", false)
  })
})

describe("PduReference", () => {
  it("a PDU reference is another notation of an event ID", () => {
    const id = "$a,b:example.org:8448" as EventId
    assert.strictEqual(formatPduReference(id), "a,b,example.org:8448")
    assert.deepStrictEqual(parsePduReference("a,b,example.org:8448"), Option.some(id))
    assert.strictEqual(Schema.decodeUnknownSync(PduReference)("x,red.org"), "$x:red.org")
    assert.strictEqual(Schema.encodeSync(PduReference)("$x:red.org" as EventId), "x,red.org")
  })

  it("PDU references with a malformed ID or origin are refused", () => {
    for (const text of ["", "x", ",red.org", "x,", "x:y,red.org", "x,not a name", `${"x".repeat(255)},red.org`]) {
      assert.isTrue(Option.isNone(parsePduReference(text)), text)
    }
    assert.isTrue(Option.isNone(eventIdOf("", "red.org")))
  })
})
