import { assert, describe, it } from "@effect/vitest"
import { removeOldest, setNewest } from "../src/BoundedMap.ts"

describe("setNewest", () => {
  it("keeps the newest entries, also where others were removed or set again", () => {
    const entries = new Map<number, string>()
    const add = (...keys: ReadonlyArray<number>) => {
      for (const key of keys) setNewest(entries, key, `${key}`, 3)
    }
    add(1, 2, 3, 4)
    assert.deepStrictEqual([...entries.keys()], [2, 3, 4])
    add(2, 5)
    assert.deepStrictEqual([...entries.keys()], [4, 2, 5])
    entries.delete(4)
    add(6, 7)
    assert.deepStrictEqual([...entries.keys()], [5, 6, 7])
    entries.clear()
    add(8, 9, 10, 11)
    assert.deepStrictEqual([...entries.keys()], [9, 10, 11])
  })

  it("adds a million entries to a full map of 200,000, each in constant time", () => {
    const entries = new Map<number, number>()
    for (let key = 0; key < 1_200_000; key++) setNewest(entries, key, key, 200_000)
    assert.deepStrictEqual([entries.size, entries.has(1_000_000), entries.has(999_999)], [200_000, true, false])
  })

  it("removes the oldest entry of a set", () => {
    const entries = new Set(["a", "b", "c"])
    removeOldest(entries)
    removeOldest(entries)
    assert.deepStrictEqual([...entries], ["c"])
  })
})
