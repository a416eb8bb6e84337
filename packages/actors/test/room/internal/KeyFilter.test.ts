import { assert, describe, it } from "@effect/vitest"
import { KeyFilter } from "../../../src/room/internal/KeyFilter.ts"

describe("KeyFilter", () => {
  it("knows every key that was added, and few others", () => {
    const filter = new KeyFilter()
    const keys = Array.from({ length: 50_000 }, (_, index) => `send/m.room.message/${index}`)
    const mistaken = keys.filter((key) => !filter.add(key)).length
    assert.isBelow(mistaken / keys.length, 0.01)
    assert.isTrue(keys.every((key) => !filter.add(key)))
  })
})
