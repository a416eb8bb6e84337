import { assert, describe, it } from "@effect/vitest"
import { Option } from "effect"
import * as fc from "fast-check"
import {
  beginning,
  comparePositions,
  earlierPosition,
  formatToken,
  laterPosition,
  parseToken,
  positionBefore,
  type StreamToken
} from "../src/StreamToken.ts"

const position = fc.record({ xid: fc.maxSafeNat(), nid: fc.maxSafeInteger() })

const token = fc.record(
  {
    position,
    epoch: fc.stringMatching(/^[0-9a-z]{1,16}$/),
    cut: fc.record({ presence: position, toDevice: position })
  },
  { requiredKeys: ["position", "epoch"] }
)

const parsed = (text: string): StreamToken => Option.getOrThrow(parseToken(text))

describe("StreamToken", () => {
  it("tokens that were given out are parsed again", () => {
    fc.assert(fc.property(token, (given) => assert.deepStrictEqual(parsed(formatToken(given)), given)))
    const first = { position: beginning, epoch: "abc" }
    assert.deepStrictEqual(parsed(formatToken(first)), first)
  })

  it("the text of a token stays the same, because clients have tokens from before an upgrade", () => {
    const whole = { position: { xid: 4711, nid: 20_093 }, epoch: "k3j9x0q2ab" }
    const cut = { presence: { xid: 4700, nid: 3 }, toDevice: { xid: 4701, nid: -4 } }
    const text = "t1_4711_20093_k3j9x0q2ab_p4700.3_d4701.-4"
    assert.strictEqual(formatToken({ ...whole, cut }), text)
    assert.deepStrictEqual(parsed(text), { ...whole, cut })
    assert.deepStrictEqual(parsed("t1_4711_20093_k3j9x0q2ab_d4701.-4"), { ...whole, cut: { toDevice: cut.toDevice } })
  })

  it("tokens of former versions are positions of no epoch, and say nothing of presence", () => {
    const former = { position: { xid: 4711, nid: -8 }, epoch: "", cut: { presence: beginning } }
    assert.deepStrictEqual(parsed("s4711_-8"), former)
    assert.deepStrictEqual(parsed("s4711_-8_00ff_12"), former)
  })

  it("nothing else is a token", () => {
    const nines = "9".repeat(16)
    const none = [
      ...["", "s", "START", "END", "s1", "s1_", "s_1", "s1_2_", "s1_2_3", "s1_2_a_b", "s-1_2", " s1_2", "s1_2\n"],
      ...["s1_2_A_1", "s1.5_2", "s1e3_2", "s0x1_2", "s\u0661_2", `s${nines}_1`, `s1_${nines}`, `s${"1".repeat(17)}_1`],
      ...["t1", "t1_1_2", "t1_1_2_", "t1_1_2_A", "t1_1_2_a_", "t1_1_2_a_x1.2", "t1_1_2_a_p1", "t1_1_2_a_p1.2.3"],
      ...["t2_1_2_a", "t1_1_2_a\n", `t1_${nines}_2_a`, `t1_1_2_a_p${nines}.2`, `t1_1_2_${"a".repeat(17)}`]
    ]
    for (const text of none) assert.isTrue(Option.isNone(parseToken(text)), text)
    fc.assert(fc.property(fc.string(), (text) => Option.isNone(parseToken(text)) || /^(s|t1_)[0-9]/.test(text)))
  })

  it("positions are in order by transaction, then by row", () => {
    assert.isBelow(comparePositions({ xid: 1, nid: 9 }, { xid: 2, nid: 1 }), 0)
    assert.isBelow(comparePositions({ xid: 2, nid: 1 }, { xid: 2, nid: 9 }), 0)
    assert.isBelow(comparePositions(beginning, { xid: 0, nid: -1_000_000 }), 0)
    assert.strictEqual(comparePositions({ xid: 2, nid: 1 }, { xid: 2, nid: 1 }), 0)
    const [first, last] = [
      { xid: 2, nid: 8 },
      { xid: 2, nid: 9 }
    ]
    assert.deepStrictEqual([earlierPosition(first, last), earlierPosition(last, first)], [first, first])
    assert.deepStrictEqual([laterPosition(first, last), laterPosition(last, first)], [last, last])
    assert.deepStrictEqual(positionBefore(last), first)
  })
})
