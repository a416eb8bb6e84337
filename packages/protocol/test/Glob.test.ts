import { assert, describe, it } from "@effect/vitest"
import { matchesGlob, matchesWords, parseGlob } from "../src/Glob.ts"

const whole = (text: string, pattern: string) => matchesGlob(text, parseGlob(pattern))
const words = (text: string, pattern: string) =>
  matchesWords(text.toLowerCase(), parseGlob(pattern, { ignoreCase: true }))

describe("glob-style patterns", () => {
  it("match a text as a whole: * for any characters, ? for exactly one", () => {
    for (const [text, pattern] of [
      ["lunch plans", "lunc?*"],
      ["lunch", "lunc?*"],
      ["", "*"],
      ["", ""],
      ["abcabc", "a*c"],
      ["aXbYc", "a?b?c"],
      ["evil.example.org", "*.example.org"]
    ] as const) {
      assert.isTrue(whole(text, pattern), `${pattern} matches ${text}`)
    }
    for (const [text, pattern] of [
      [" lunch", "lunc?*"],
      ["lunc", "lunc?*"],
      ["ab", "a"],
      ["aba", "ab*ba"],
      ["example.org", "*.example.org"]
    ] as const) {
      assert.isFalse(whole(text, pattern), `${pattern} does not match ${text}`)
    }
  })

  it("match words of a body, whatever its case", () => {
    for (const body of ["An example event.", "exple", "An exciting triple-whammy", "EXAMPLE"]) {
      assert.isTrue(words(body, "ex*ple"), body)
    }
    assert.isTrue(words("It's time for tea", "tea"))
    assert.isFalse(words("teapot or steam", "tea"))
    assert.isTrue(words("teapot, then tea", "tea"))
    assert.isFalse(words("examples", "ex*ple"))
    assert.isTrue(words("anything", "*"))
    assert.isFalse(words("", "tea"))
  })

  it("a pattern that is made to be slow is not", () => {
    assert.isFalse(whole("a".repeat(10_000), `${"a*".repeat(100)}b`))
    assert.isFalse(words("a ".repeat(5_000), `${"a*".repeat(100)}b`))
  })

  it("a match that needs more steps than its budget fails", () => {
    const text = `${"a".repeat(1_000)}b`
    const slow = parseGlob(`*${"?".repeat(500)}b*`)
    const plenty = { left: 1_000_000 }
    assert.isTrue(matchesGlob(text, slow, plenty))
    assert.isAbove(plenty.left, 0)
    for (const matches of [matchesGlob, matchesWords]) {
      const budget = { left: 10_000 }
      assert.isFalse(matches(text, slow, budget))
      assert.isAbove(budget.left, -1_000)
      assert.isFalse(matches(text, parseGlob("*b*"), budget))
    }
  })
})
