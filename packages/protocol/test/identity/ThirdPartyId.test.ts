import { assert, describe, it } from "@effect/vitest"
import { canonicalEmail, isCanonicalAddress, redactAddress } from "@greenroom/protocol/identity/ThirdPartyId"
import * as fc from "fast-check"

describe("ThirdPartyId", () => {
  it("an email address has one canonical form", () => {
    assert.strictEqual(canonicalEmail("Alice.B+tag@Example.ORG"), "alice.b+tag@example.org")
    for (const text of ["a@b.de", "o'hara@mail.example.co.uk", "x@xn--bcher-kva.example"]) {
      assert.strictEqual(canonicalEmail(text), text)
    }
  })

  it("malformed email addresses are refused", () => {
    for (const text of [
      "",
      "@",
      "a@",
      "@b.de",
      "a@b",
      "a b@c.de",
      "a@b..de",
      "a..b@c.de",
      "a@-b.de",
      "a@b.de.",
      "ſ@b.de"
    ]) {
      assert.isUndefined(canonicalEmail(text), text)
    }
    assert.isUndefined(canonicalEmail(`${"a".repeat(250)}@b.de`))
    assert.isUndefined(canonicalEmail(`a@${"b.".repeat(200)}de`))
  })

  it("canonical addresses contain no line breaks and separators", () => {
    const near = fc.string({ unit: fc.constantFrom(...'ab.@<>"\\\r\n\t ,;:\0\u2028é()[]-+'), maxLength: 12 })
    fc.assert(
      fc.property(near, near, (local, rest) => {
        const address = canonicalEmail(`${local}@${rest}.de`)
        if (address !== undefined) assert.notMatch(address, /[\s\p{C}<>",;:()[\]\\]/u)
      }),
      { numRuns: 2_000 }
    )
  })

  it("a phone number is digits, without leading zeros", () => {
    assert.isTrue(isCanonicalAddress("msisdn", "4915112345678"))
    for (const text of ["+4915112345678", "0151123456", "4915", "49151123456789012", "49 151 12345"]) {
      assert.isFalse(isCanonicalAddress("msisdn", text), text)
    }
  })

  it("the redacted form of an address in a room does not reveal it", () => {
    assert.strictEqual(redactAddress({ medium: "email", address: "foo@example.org" }), "f...@e...")
    assert.strictEqual(redactAddress({ medium: "msisdn", address: "4915112345678" }), "49...")
  })
})
