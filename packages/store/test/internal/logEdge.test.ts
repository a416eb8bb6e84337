import { assert, describe, it } from "@effect/vitest"
import { wholeNumber } from "../../src/internal/logEdge.ts"

describe("logEdge", () => {
  it("the number of a running transaction is the one near the next, also where the lower half begins anew", () => {
    const turn = 2 ** 32
    assert.strictEqual(wholeNumber(990, 1_000), 990)
    assert.strictEqual(wholeNumber(1_005, 1_000), 1_005)
    assert.strictEqual(wholeNumber(990, 3 * turn + 1_000), 3 * turn + 990)
    assert.strictEqual(wholeNumber(turn - 5, 3 * turn + 10), 3 * turn - 5)
    assert.strictEqual(wholeNumber(7, 3 * turn - 3), 3 * turn + 7)
  })
})
