import { assert, describe, it } from "@effect/vitest"
import { matchesGlob, matchesWords, parseGlob } from "../src/Glob.ts"

const whole = (text: string, pattern: string) => matchesGlob(text, parseGlob(pattern))
const matchWords = (text: string, pattern: string) =>
  matchesWords(text.toLowerCase(), parseGlob(pattern, { ignoreCase: true }))

describe("glob-style patterns", () => {
  it("a glob matches a whole text, with * for any characters and ? for exactly one", () => {
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

  it("a character beyond U+FFFF is one character", () => {
    for (const [text, pattern] of [
      ["a💩b", "a?b"],
      ["💩", "?"],
      ["x💩", "*?"],
      ["💩💩", "*??"],
      ["💩a💩", "?*?"],
      ["x💩y💩z", "*?y?*"]
    ] as const) {
      assert.isTrue(whole(text, pattern), `${pattern} matches ${text}`)
    }
    for (const [text, pattern] of [
      ["a💩b", "a??b"],
      ["💩", "??"],
      ["💩", "*??"],
      ["💩", "?*?"]
    ] as const) {
      assert.isFalse(whole(text, pattern), `${pattern} does not match ${text}`)
    }
    assert.isTrue(matchWords("a big 💩 here", "big ? here"))
    assert.isTrue(matchWords("a 💩b c", "a ?b*c"))
  })

  it("a glob matches words of a body without regard to case", () => {
    for (const body of ["An example event.", "exple", "An exciting triple-whammy", "EXAMPLE"]) {
      assert.isTrue(matchWords(body, "ex*ple"), body)
    }
    assert.isTrue(matchWords("It's time for tea", "tea"))
    assert.isFalse(matchWords("teapot or steam", "tea"))
    assert.isTrue(matchWords("teapot, then tea", "tea"))
    assert.isFalse(matchWords("examples", "ex*ple"))
    assert.isTrue(matchWords("anything", "*"))
    assert.isFalse(matchWords("", "tea"))
  })

  it("a malicious pattern is matched in bounded time", () => {
    assert.isFalse(whole("a".repeat(10_000), `${"a*".repeat(100)}b`))
    assert.isFalse(matchWords("a ".repeat(5_000), `${"a*".repeat(100)}b`))
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
