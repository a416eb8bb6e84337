import { describe, expect, it } from "vitest"
import { RecentMoves } from "../../../src/sync/internal/RecentMoves.ts"

const at = (xid: number) => ({ xid, nid: 1 })

describe("RecentMoves", () => {
  it("gives what moved after a position, each once", () => {
    const moves = new RecentMoves<string>()
    for (const [index, room] of ["a", "b", "a", "c"].entries()) moves.add(room, at(index + 1))
    expect(moves.after(at(2))).toEqual(new Set(["c", "a"]))
    expect(moves.after(at(4))).toEqual(new Set())
    expect(moves.from(1)).toEqual(["b", "a", "c"])
    expect(moves.from(moves.end)).toEqual([])
  })

  it("says where it has forgotten a part of the answer", () => {
    const moves = new RecentMoves<number>(at(10))
    expect(moves.after(at(9))).toBeUndefined()
    expect(moves.after(at(10))).toEqual(new Set())
    const total = 20_001
    for (let count = 1; count <= total; count++) moves.add(count, at(10 + count))
    expect(moves.end).toBe(total)
    expect(moves.from(0)).toBeUndefined()
    expect(moves.after(at(10))).toBeUndefined()
    expect(moves.from(total - 2)).toEqual([total - 1, total])
    expect(moves.after(at(10 + total - 2))).toEqual(new Set([total, total - 1]))
    // Everything after the last position that was forgotten is still there.
    expect(moves.after(at(10 + 10_000))?.size).toBe(total - 10_000)
  })
})
