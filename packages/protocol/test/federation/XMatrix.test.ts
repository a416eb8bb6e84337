import { assert, describe, it } from "@effect/vitest"
import fc from "fast-check"
import { formatXMatrix, maxSignatures, parseXMatrix, parseXMatrixHeaders } from "../../src/federation/XMatrix.ts"
import type { ServerName } from "../../src/Identifiers.ts"

const signature = { origin: "example.org" as ServerName, key: "ed25519:a1", sig: "abc/+" }

describe("XMatrix", () => {
  it("the header is written as the first servers wrote it", () => {
    assert.strictEqual(formatXMatrix(signature), 'X-Matrix origin=example.org,key="ed25519:a1",sig="abc/+"')
    const origin = "[::1]:8448" as ServerName
    assert.deepStrictEqual(parseXMatrix(formatXMatrix({ ...signature, origin })), { ...signature, origin })
  })

  it("the header is parsed with any quotes, spaces, order and case", () => {
    for (const header of [
      'X-Matrix origin=example.org,key="ed25519:a1",sig="abc/+"',
      "x-matrix origin=example.org,key=ed25519:a1,sig=abc/+",
      'X-MATRIX  sig = "abc/+" , KEY="ed25519:a1" ,\tOrigin="example.org" ',
      'X-Matrix origin=example.org,key="ed25519:a1",sig="abc/+",',
      'X-Matrix origin="example\\.org",key="ed25519:a1",sig="abc/+",version="7"',
      'X-Matrix origin=example.org,key="ed25519:a1",v2="a, b",x.y=1,sig="abc/+"',
      'X-Matrix ,origin=example.org,, key="ed25519:a1", ,sig="abc/+" , ,'
    ]) {
      assert.deepStrictEqual(parseXMatrix(header), signature, header)
    }
    const destination = parseXMatrix('X-Matrix origin=a.b,destination="c.d",key="k",sig="s"')?.destination
    assert.strictEqual(destination, "c.d")
  })

  it("a malformed header, or one with a repeated parameter, is refused", () => {
    for (const header of [
      "",
      "X-Matrix",
      "Bearer abc",
      'X-Matrix origin=example.org,key="ed25519:a1"',
      'X-Matrix origin=example.org,origin=evil.org,key="k",sig="s"',
      'X-Matrix origin=example.org,ORIGIN=evil.org,key="k",sig="s"',
      'X-Matrix origin=not a name,key="k",sig="s"',
      'X-Matrix origin="exam ple.org",key="k",sig="s"',
      'X-Matrix origin=example.org,key="k,sig="s"',
      'X-Matrix origin=example.org key="k" sig="s"'
    ]) {
      assert.isUndefined(parseXMatrix(header), header)
    }
  })

  it("a request may have several signatures, in one header or in many, up to a limit", () => {
    const first = formatXMatrix(signature)
    const second = formatXMatrix({ ...signature, key: "ed25519:b2" })
    const keys = (headers: ReadonlyArray<string>) => parseXMatrixHeaders(headers).map((header) => header.key)
    assert.deepStrictEqual(keys([first, second]), ["ed25519:a1", "ed25519:b2"])
    assert.deepStrictEqual(keys([`${first}, ${second}`]), ["ed25519:a1", "ed25519:b2"])
    assert.deepStrictEqual(keys([first, "Bearer x", second]), ["ed25519:a1", "ed25519:b2"])
    assert.strictEqual(keys(Array(50).fill(first)).length, maxSignatures)
  })

  it("parsing of any header throws no exception", () =>
    fc.assert(
      fc.property(fc.string({ unit: "binary-ascii", maxLength: 100 }), (text) => {
        parseXMatrixHeaders([text, `X-Matrix ${text}`, `X-Matrix origin=a.b,key="${text}",sig="x"`])
      })
    ))
})
