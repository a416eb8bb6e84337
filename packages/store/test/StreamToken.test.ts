import { assert, describe, it } from "@effect/vitest"
import { Option } from "effect"
import * as fc from "fast-check"
import { beginning, comparePositions, formatPosition, formatToken, parseToken } from "../src/StreamToken.ts"

const position = fc.record({ xid: fc.maxSafeNat(), nid: fc.maxSafeInteger() })

describe("StreamToken", () => {
  it("what was given out is understood again", () => {
    fc.assert(
      fc.property(position, fc.stringMatching(/^[0-9a-z]{1,16}$/), fc.maxSafeNat(), (at, incarnation, ephemeral) => {
        const token = { position: at, incarnation, ephemeral }
        assert.deepStrictEqual(Option.getOrThrow(parseToken(formatToken(token))), token)
        const place = { position: at, incarnation: "", ephemeral: 0 }
        assert.deepStrictEqual(Option.getOrThrow(parseToken(formatPosition(at))), place)
        assert.strictEqual(formatToken(place), formatPosition(at))
      })
    )
    assert.deepStrictEqual(Option.getOrThrow(parseToken(formatPosition(beginning))).position, beginning)
  })

  it("nothing else is a token", () => {
    const none = [
      "",
      "s",
      "START",
      "END",
      "s1",
      "s1_",
      "s_1",
      "s1_2_",
      "s1_2_3",
      "s1_2_a_b",
      "s-1_2",
      " s1_2",
      "s1_2\n"
    ]
    const tooLarge = [
      `s${"9".repeat(16)}_1`,
      `s1_${"9".repeat(16)}`,
      `s1_2_a_${"9".repeat(16)}`,
      `s${"1".repeat(17)}_1`
    ]
    for (const text of [...none, ...tooLarge, "s1_2_A_1", "s1.5_2", "s1e3_2", "s0x1_2", "s١_2"]) {
      assert.isTrue(Option.isNone(parseToken(text)), text)
    }
    fc.assert(fc.property(fc.string(), (text) => Option.isNone(parseToken(text)) || /^s[0-9]/.test(text)))
  })

  it("positions are in order by transaction, then by event", () => {
    assert.isBelow(comparePositions({ xid: 1, nid: 9 }, { xid: 2, nid: 1 }), 0)
    assert.isBelow(comparePositions({ xid: 2, nid: 1 }, { xid: 2, nid: 9 }), 0)
    assert.isBelow(comparePositions(beginning, { xid: 0, nid: -1_000_000 }), 0)
    assert.strictEqual(comparePositions({ xid: 2, nid: 1 }, { xid: 2, nid: 1 }), 0)
  })
})
