import { assert, describe, it } from "@effect/vitest"
import { KeyFilter } from "../../src/internal/KeyFilter.ts"

describe("KeyFilter", () => {
  it("knows every key that was added, and few others", () => {
    const filter = new KeyFilter()
    assert.isFalse(filter.mayHave("send/m.room.message/0"))
    const keys = Array.from({ length: 50_000 }, (_, index) => `send/m.room.message/${index}`)
    for (const key of keys) filter.add(key)
    assert.isTrue(keys.every((key) => filter.mayHave(key)))
    const mistaken = keys.filter((key) => filter.mayHave(`${key}.other`)).length
    assert.isBelow(mistaken / keys.length, 0.1)
  })
})
