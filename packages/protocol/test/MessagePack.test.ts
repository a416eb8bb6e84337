import { assert, describe, it } from "@effect/vitest"
import type { Json } from "@greenroom/protocol/Json"
import { maxRequestDepth } from "@greenroom/protocol/JsonShape"
import { decode, encode, readScalar } from "@greenroom/protocol/MessagePack"
import { Result } from "effect"
import fc from "fast-check"
import { Packr, unpack } from "msgpackr"

const bytes = (...values: ReadonlyArray<number>) => Uint8Array.from(values)

const decoded = (data: Uint8Array): Json => Result.getOrThrow(decode(data))

const refused = (data: Uint8Array): string => {
  const result = decode(data)
  assert.isTrue(Result.isFailure(result), `accepted ${Buffer.from(data).toString("hex")}`)
  return Result.isFailure(result) ? result.failure._tag : ""
}

/** JSON without -0, which JSON.stringify writes as 0, and without the one key that is refused. */
const json = fc
  .jsonValue({ maxDepth: 5 })
  .filter((value) => !JSON.stringify(value).includes("__proto__"))
  .map((value) => JSON.parse(JSON.stringify(value)) as Json)

/**
 * Compares values by their members. Stringifying and parsing them would test the `JSON.parse` of V8, which reads a key with an escape wrongly
 * after certain others (https://github.com/nodejs/node/issues/63785).
 */
const isJson = (value: unknown): boolean => {
  if (typeof value === "number") return Number.isFinite(value)
  if (typeof value !== "object" || value === null) return value === null || ["boolean", "string"].includes(typeof value)
  if (Array.isArray(value)) return value.every(isJson)
  return Object.getPrototypeOf(value) === Object.prototype && Object.values(value).every(isJson)
}

const withoutNegativeZero = (value: Json): Json => {
  if (typeof value !== "object" || value === null) return value === 0 ? 0 : value
  if (Array.isArray(value)) return value.map(withoutNegativeZero)
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, withoutNegativeZero(member)]))
}

describe("encode and decode", () => {
  it("any JSON is decoded to the encoded value", () => {
    fc.assert(fc.property(json, (value) => assert.deepStrictEqual(decoded(encode(value)), value)))
  })

  it("every integer of 53 bits is decoded as a number, also by plain msgpackr", () => {
    const same = (value: number) => {
      const data = encode({ value })
      assert.deepStrictEqual(decoded(data), { value })
      assert.deepStrictEqual(unpack(data), { value })
    }
    fc.assert(fc.property(fc.maxSafeInteger(), same))
    for (const value of [0, -1, 127, 128, 2 ** 31, 2 ** 32, -(2 ** 31) - 1, 2 ** 53 - 1, 1 - 2 ** 53]) same(value)
  })

  it("integers of 64 bits are decoded", () => {
    assert.strictEqual(decoded(bytes(0xcf, 0, 0, 1, 0, 0, 0, 0, 5)), 2 ** 40 + 5)
    assert.strictEqual(decoded(bytes(0xd3, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0)), -(2 ** 40))
  })

  it("fractions are decoded to the encoded values", () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
        assert.strictEqual(decoded(encode([value])) && (decoded(encode([value])) as [number])[0] + 0, value + 0)
      })
    )
  })

  it("strings of any length and language are decoded to the encoded ones", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", maxLength: 400 }), fc.string({ unit: "binary" }), (a, b) => {
        const value = { [`k${a}`]: b.toWellFormed(), list: [a, a, b.toWellFormed()] }
        assert.deepStrictEqual(decoded(encode(value)), value)
      })
    )
    for (const length of [31, 32, 255, 256, 65_535, 65_536]) {
      const text = "ü".repeat(length)
      assert.strictEqual(decoded(encode(text)), text)
    }
  })

  it("keys that JSON escapes are decoded correctly, also after similar keys", () => {
    const keys = ["\\", '"', "\n", "E\\\\", "E\\\u0003", 'E\\"', "g,\\", "g,\u0004"]
    for (const key of [...keys, ...keys]) {
      assert.deepStrictEqual(Object.keys(decoded(encode({ a: 1, [key]: null })) as object), ["a", key])
    }
  })

  it("undefined values are omitted, as in JSON", () => {
    assert.deepStrictEqual(decoded(encode({ a: undefined, b: [undefined], c: null })), { b: [null], c: null })
  })

  it("decoded objects are plain objects", () => {
    const value = decoded(encode({ a: { b: 1 } })) as { readonly a: object }
    assert.strictEqual(Object.getPrototypeOf(value), Object.prototype)
    assert.strictEqual(Object.getPrototypeOf(value.a), Object.prototype)
  })
})

describe("foreign bytes", () => {
  it("every form of MessagePack is decoded", () => {
    const everything = bytes(0xdf, 0, 0, 0, 2, 0xda, 0, 1, 0x61, 0xdd, 0, 0, 0, 2, 0xd2, 0xff, 0xff, 0xff, 0xff, 0xc3)
    const rest = bytes(0xdb, 0, 0, 0, 1, 0x62, 0xde, 0, 1, 0xd9, 1, 0x63, 0xca, 0x3f, 0, 0, 0)
    assert.deepStrictEqual(decoded(Buffer.concat([everything, rest])), { a: [-1, true], b: { c: 0.5 } })
    assert.strictEqual(decoded(bytes(0xd3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe)), -2)
    assert.strictEqual(decoded(bytes(0x41)), 0x41)
  })

  it("values that JSON does not have are M_BAD_JSON", () => {
    const more = new Packr({ moreTypes: true, structuredClone: true, useRecords: true })
    for (const value of [new Date(0), new Set([1]), /a/, new Error("x"), new Uint8Array(4), { record: 1 }, 2n ** 70n]) {
      assert.strictEqual(refused(more.pack({ value })), "M_BAD_JSON")
    }
    assert.strictEqual(refused(bytes(0xc1)), "M_BAD_JSON")
    assert.strictEqual(refused(bytes(0xc4, 1, 0)), "M_BAD_JSON")
    assert.strictEqual(refused(bytes(0xd4, 0x72, 0x40, 0x91, 0xa1, 0x61, 0x01)), "M_BAD_JSON")
    assert.strictEqual(refused(bytes(0xd6, 0x69, 0, 0, 0, 1, 0x90)), "M_BAD_JSON")
    assert.strictEqual(refused(bytes(0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0)), "M_BAD_JSON")
    assert.strictEqual(refused(bytes(0xca, 0x7f, 0x80, 0, 0)), "M_BAD_JSON")
    assert.strictEqual(refused(bytes(0x81, 0x01, 0x01)), "M_BAD_JSON")
  })

  it("strings that are not UTF-8 are M_NOT_JSON", () => {
    for (const wrong of [[0xff], [0xc0, 0xaf], [0xe2, 0x82], [0xed, 0xa0, 0x80], [0xf5, 0x80, 0x80, 0x80]]) {
      assert.strictEqual(refused(bytes(0xa0 + wrong.length, ...wrong)), "M_NOT_JSON")
      assert.strictEqual(refused(bytes(0x81, 0xa0 + wrong.length, ...wrong, 0xc0)), "M_NOT_JSON")
      const long = Buffer.concat([bytes(0xda, 1, wrong.length), Buffer.alloc(256, "a"), bytes(...wrong)])
      assert.strictEqual(refused(long), "M_NOT_JSON")
    }
    assert.strictEqual(decoded(encode("\ufffd")), "\ufffd")
  })

  it("a requested key can be read from refused bytes", () => {
    const more = new Packr({ moreTypes: true, useRecords: false, variableMapSize: true })
    const holding = (value: unknown) => [more.pack({ id: 7, value }), more.pack({ value, id: 7 })]
    const refusedValues = [new Date(0), new Uint8Array(4), Buffer.alloc(70_000), Number.NaN, { id: 8 }]
    for (const data of refusedValues.flatMap(holding)) assert.strictEqual(readScalar(data, "id"), 7)
    assert.strictEqual(readScalar(bytes(0x82, 0x01, 0x02, 0xa2, 0x69, 0x64, 0xa1, 0x78), "id"), "x")
    assert.isUndefined(readScalar(encode({ id: { id: 7 } }), "id"))
    assert.isUndefined(readScalar(encode({ other: 7 }), "id"))
    assert.isUndefined(readScalar(encode([7]), "id"))
    assert.isUndefined(readScalar(bytes(0x81, 0xa2, 0x69, 0x64, 0xc4, 1, 0), "id"))
    assert.isUndefined(readScalar(bytes(0x81, 0xa2, 0x69, 0x64, 0xa1, 0xff), "id"))
    assert.isUndefined(readScalar(bytes(0x82, 0xa2, 0x69, 0x64, 0x07), "id"))
  })

  it("decoded keys cannot change a prototype", () => {
    assert.strictEqual(refused(encode(JSON.parse('{"__proto__": {"polluted": 1}}'))), "M_BAD_JSON")
    assert.strictEqual(refused(encode([{ a: JSON.parse('{"__proto__": 1}') }])), "M_BAD_JSON")
    assert.strictEqual(decoded(encode("__proto__")), "__proto__")
    assert.deepStrictEqual(decoded(encode({ constructor: 1, prototype: 2 })), { constructor: 1, prototype: 2 })
  })

  it("bytes with a length beyond their end are M_NOT_JSON, and no memory is allocated for it", () => {
    assert.strictEqual(refused(bytes()), "M_NOT_JSON")
    assert.strictEqual(refused(bytes(0xdd, 0xff, 0xff, 0xff, 0xff)), "M_NOT_JSON")
    assert.strictEqual(refused(bytes(0xdf, 0xff, 0xff, 0xff, 0xff)), "M_NOT_JSON")
    assert.strictEqual(refused(bytes(0xdb, 0xff, 0xff, 0xff, 0xff)), "M_NOT_JSON")
    assert.strictEqual(refused(bytes(0xdd, 0xff)), "M_NOT_JSON")
    assert.strictEqual(refused(bytes(0x92, 0x01)), "M_NOT_JSON")
    assert.strictEqual(refused(bytes(0xcf, 0, 0)), "M_NOT_JSON")
    assert.strictEqual(refused(bytes(0x01, 0x01)), "M_NOT_JSON")
    const nestedClaims = new Uint8Array(50_000).fill(0xdd)
    assert.strictEqual(refused(nestedClaims), "M_NOT_JSON")
  })

  it("deeply nested bytes are refused without exhausting the stack", () => {
    const nested = (levels: number) => Buffer.concat([Buffer.alloc(levels, 0x91), Buffer.from([0xc0])])
    assert.isTrue(Result.isSuccess(decode(nested(maxRequestDepth))))
    assert.strictEqual(refused(nested(maxRequestDepth + 1)), "M_BAD_JSON")
    assert.strictEqual(refused(nested(200_000)), "M_BAD_JSON")
  })

  it("any bytes are accepted as JSON or refused without an exception", () => {
    const check = (data: Uint8Array) => {
      readScalar(data, "id")
      const result = decode(data)
      if (Result.isSuccess(result)) {
        assert.isTrue(isJson(result.success), `not JSON: ${Buffer.from(data).toString("hex")}`)
        assert.deepStrictEqual(decoded(encode(result.success)), withoutNegativeZero(result.success))
      }
    }
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), check), { numRuns: 2000 })
    const damaged = fc.tuple(json, fc.nat(), fc.nat({ max: 255 })).map(([value, at, byte]) => {
      const data = Uint8Array.from(encode(value))
      data[at % data.length] = byte
      return data
    })
    fc.assert(fc.property(damaged, check), { numRuns: 1000 })
  })
})
