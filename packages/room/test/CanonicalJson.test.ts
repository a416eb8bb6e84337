import { assert, describe, it } from "@effect/vitest"
import type { Json } from "@greenroom/protocol/Json"
import {
  boundOrThrow,
  CanonicalJsonError,
  compareCodePoints,
  encode,
  encodeBytes,
  maxNesting
} from "@greenroom/room/CanonicalJson"
import { Result } from "effect"
import * as fc from "fast-check"

const encoded = (value: Json): string => Result.getOrThrow(encode(value))
const reason = (value: Json): string | undefined => {
  const result = encode(value)
  return Result.isFailure(result) ? result.failure.reason : undefined
}

describe("CanonicalJson", () => {
  it("the examples of the specification have the published form", () => {
    const examples: ReadonlyArray<readonly [json: string, canonical: string]> = [
      ["{}", "{}"],
      ['{ "one": 1, "two": "Two" }', '{"one":1,"two":"Two"}'],
      ['{ "b": "2", "a": "1" }', '{"a":"1","b":"2"}'],
      [
        '{"auth":{"success":true,"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"medium":"email","address":"john.doe@example.org"},{"medium":"msisdn","address":"123456789"}]}}}',
        '{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},"success":true}}'
      ],
      ['{ "a": "日本語" }', '{"a":"日本語"}'],
      ['{ "本": 2, "日": 1 }', '{"日":1,"本":2}'],
      ['{ "a": "\\u65E5" }', '{"a":"日"}'],
      ['{ "a": null }', '{"a":null}'],
      ['{ "a": -0, "b": 1e10 }', '{"a":0,"b":10000000000}']
    ]
    for (const [json, canonical] of examples) assert.strictEqual(encoded(JSON.parse(json)), canonical)
  })

  it("keys are sorted by code point, not by UTF-16 code unit", () => {
    assert.strictEqual(encoded({ "\u{1f600}": 1, "\uff5e": 2, a: 3 }), '{"a":3,"\uff5e":2,"\u{1f600}":1}')
    assert.isBelow(compareCodePoints("\uffff", "\u{10000}"), 0)
    assert.isBelow(compareCodePoints("a", "aa"), 0)
  })

  it("only characters that JSON must escape are escaped", () => {
    assert.strictEqual(
      encoded('\u0000\u001f\b\t\n\f\r"\\/\u007f\u2028'),
      '"\\u0000\\u001f\\b\\t\\n\\f\\r\\"\\\\/\u007f\u2028"'
    )
  })

  it("values without a canonical form are refused with a reason", () => {
    assert.include(reason({ a: 1.5 }), "1.5 is not an integer")
    assert.include(reason([2 ** 53]), "is not an integer of 53 bits")
    assert.include(reason([-(2 ** 53)]), "is not an integer of 53 bits")
    assert.isDefined(reason(Number.NaN))
    assert.include(reason({ a: "\ud800" }), "lone surrogate")
    assert.include(reason({ "\udc00": 1 }), "lone surrogate")
    assert.isUndefined(reason([2 ** 53 - 1, -(2 ** 53) + 1]))
  })

  it("other numbers are written as in Python, for rooms before version 6", () => {
    const loose = (value: Json) => Result.getOrThrow(encode(value, "any"))
    const numbers: ReadonlyArray<readonly [number, string]> = [
      [1.5, "1.5"],
      [-50.57, "-50.57"],
      [0.0001, "0.0001"],
      [0.00012345, "0.00012345"],
      [0.00001, "1e-05"],
      [1.5e-7, "1.5e-07"],
      [1e-10, "1e-10"],
      [5e-324, "5e-324"],
      [4503599627370495.5, "4503599627370495.5"],
      [2 ** 53, "9007199254740992"],
      [-(2 ** 62), "-4611686018427387904"],
      [-0, "0"]
    ]
    for (const [number, text] of numbers) assert.strictEqual(loose({ a: [number] }), `{"a":[${text}]}`)
    for (const wrong of [Number.NaN, Number.POSITIVE_INFINITY, "\ud800"]) {
      assert.isTrue(Result.isFailure(encode(wrong, "any")))
    }
    fc.assert(fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (x) => Number(loose(x)) === x))
  })

  it("boundOrThrow is at least the size of the canonical form, and throws where there is none", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.string({ unit: "binary" }), (value, text) => {
        const whole = [value, { [text]: text }] as Json
        const bytes = encodeBytes(whole)
        if (Result.isSuccess(bytes)) assert.isAtLeast(boundOrThrow(whole), bytes.success.length)
        else assert.throws(() => boundOrThrow(whole), CanonicalJsonError)
      })
    )
  })

  it("nesting that would exhaust the stack is refused", () => {
    const nested = (levels: number): Json => JSON.parse("[".repeat(levels) + "]".repeat(levels))
    assert.isUndefined(reason(nested(maxNesting)))
    assert.include(reason(nested(maxNesting + 1)), "nested deeper")
    assert.include(reason(nested(100_000)), "nested deeper")
  })

  it("a key named __proto__ is kept", () => {
    assert.strictEqual(encoded(JSON.parse('{"__proto__":{"b":1},"a":2}')), '{"__proto__":{"b":1},"a":2}')
  })

  it("the canonical form is equal for equal values, parses back to the value, and is UTF-8", () => {
    const value = fc.jsonValue({ noUnicodeString: false }).filter((json) => Result.isSuccess(encode(json as Json)))
    const reversed = (json: Json): Json => {
      if (Array.isArray(json)) return json.map(reversed)
      if (json === null || typeof json !== "object") return json
      return Object.fromEntries(
        Object.entries(json)
          .reverse()
          .map(([key, entry]) => [key, reversed(entry)])
      )
    }
    fc.assert(
      fc.property(value, (json) => {
        const text = encoded(json as Json)
        assert.deepStrictEqual(JSON.parse(text), JSON.parse(JSON.stringify(json)))
        assert.strictEqual(encoded(reversed(json as Json)), text)
        assert.strictEqual(Buffer.from(Result.getOrThrow(encodeBytes(json as Json))).toString("utf8"), text)
      })
    )
  })
})
