import { assert, describe, it } from "@effect/vitest"
import { exactText, parse, withoutExactNumbers } from "@greenroom/protocol/ExactJson"
import type { Json } from "@greenroom/protocol/Json"
import fc from "fast-check"

describe("ExactJson", () => {
  it("numbers that JavaScript cannot represent are written as Python writes them", () => {
    const texts = [
      ["1.0", "1.0"],
      ["-0.0", "-0.0"],
      ["1e2", "100.0"],
      ["9007199254740993", "9007199254740993"],
      ["-123456789012345678901234567890", "-123456789012345678901234567890"],
      ["1E16", "1e+16"],
      ["15e299", "1.5e+300"]
    ]
    for (const [text, written] of texts) {
      assert.strictEqual(JSON.stringify(parse(`[{"a":[${text}]}]`)), `[{"a":[${written}]}]`)
      assert.strictEqual(exactText((parse(`[${text}]`) as ReadonlyArray<Json>)[0]), written)
      assert.deepStrictEqual(withoutExactNumbers(parse(`[{"a":[${text}]}]`)), JSON.parse(`[{"a":[${text}]}]`))
    }
  })

  it("other JSON is parsed as by JSON.parse", () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        const exact = parse(text)
        assert.deepStrictEqual(withoutExactNumbers(exact), JSON.parse(text) as Json)
      })
    )
    for (const wrong of ["[1.]", "[01]", '{"a":1.0', "[1.0,]"]) assert.throws(() => parse(wrong), SyntaxError)
  })

  it("values with numbers of JavaScript are returned unchanged", () => {
    const value = parse('{"a":[1,1.5,{"b":null}],"text":"[1.0]"}')
    assert.strictEqual(withoutExactNumbers(value), value)
  })

  it("deep nesting does not exhaust the stack", () => {
    const text = `${"[".repeat(100_000)}1.0${"]".repeat(100_000)}`
    withoutExactNumbers(parse(text))
  })
})
