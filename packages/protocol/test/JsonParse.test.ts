import { assert, describe, it } from "@effect/vitest"
import { mendJsonParse, parse } from "@greenroom/protocol/JsonParse"
import fc from "fast-check"

/** Similar keys, most of which JSON escapes. */
const key = fc.oneof(
  fc.string({ unit: fc.constantFrom("\\", '"', "\n", "u", "n", "0", "a", "\u0003"), maxLength: 4 }),
  fc.string(),
  fc.constant("__proto__")
)

const { value } = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    fc.oneof(fc.string(), fc.integer(), fc.double({ noNaN: true }), fc.boolean(), fc.constant(null), key),
    fc.array(tie("value")),
    fc.array(fc.tuple(key, tie("value"))).map((entries) => Object.fromEntries(entries))
  )
}))

describe("JsonParse", () => {
  it("a key with an escape is parsed correctly, also after similar keys", () => {
    const keys = ["\\", '"', "\n", "E\\\\", "E\\\u0003", 'E\\"', "g,\\", "g,\u0004"]
    for (const text of [...keys, ...keys]) {
      assert.deepStrictEqual(Object.keys(parse(JSON.stringify({ h: [], [text]: 0 })) as object), ["h", text])
    }
  })

  it("any JSON is parsed to the value that was written", () => {
    fc.assert(
      fc.property(value, fc.constantFrom(undefined, 2), (written, indentation) => {
        const text = JSON.stringify(written, null, indentation)
        assert.strictEqual(JSON.stringify(parse(text), null, indentation), text)
      }),
      { numRuns: 1_000 }
    )
  })

  it("text that is not JSON is refused, and later texts are parsed", () => {
    for (const text of ["", '{"\\"":}', '{"\\x":1}', '{"a":"\\"', "[1,]", '{"\\"":1}}']) {
      assert.throws(() => parse(text), SyntaxError)
    }
    assert.deepStrictEqual(
      parse('{"a\\n":1,"b":2}', (_key, member) => (member === 2 ? 3 : member)),
      { "a\n": 1, b: 3 }
    )
    assert.deepStrictEqual(parse(' {"\\u0061" : [ ] , "\\u0061" : {} } '), { a: {} })
    const proto = parse('{"\\n":0,"__proto__":{"polluted":1}}') as Record<string, unknown>
    assert.deepStrictEqual(Object.keys(proto), ["\n", "__proto__"])
    assert.isUndefined(proto.polluted)
  })

  it("deep nesting and long strings are parsed", () => {
    const levels = 50_000
    const text = `{"\\"":${"[".repeat(levels)}"${"\\n".repeat(500_000)}"${"]".repeat(levels)}}`
    let inner = (parse(text) as Record<string, unknown>)['"']
    for (let level = 0; level < levels; level++) inner = (inner as ReadonlyArray<unknown>)[0]
    assert.strictEqual(inner, "\n".repeat(500_000))
  })

  it("our parser replaces JSON.parse if that has the fault", () => {
    const before = JSON.parse
    try {
      mendJsonParse()
      JSON.parse('{"h":[],"\\\\":0}')
      assert.deepStrictEqual(Object.keys(JSON.parse('{"h":1,"\\"":2}')), ["h", '"'])
    } finally {
      JSON.parse = before
    }
  })
})
