import { assert, describe, it } from "@effect/vitest"
import type { EventId } from "@greenroom/protocol/Identifiers"
import type { AuthEdges } from "@greenroom/room/AuthChains"
import { fullConflictedSet } from "@greenroom/room/StateConflict"

const setOf = (ids: string): ReadonlySet<EventId> =>
  new Set([...ids] as ReadonlyArray<string> as ReadonlyArray<EventId>)

describe("fullConflictedSet", () => {
  it("each algorithm takes the events in conflict, and of their auth chains what its version adds", () => {
    // f and b are in conflict: f rests on b by e, which all states rest on too. d is in the auth difference.
    const auth: Readonly<Record<string, string>> = { f: "ed", e: "b", d: "a", b: "a" }
    const edges: AuthEdges = (id) => [...setOf(auth[id] ?? "")]
    const set = (extent: Parameters<typeof fullConflictedSet>[0]) =>
      fullConflictedSet(extent, setOf("fb"), setOf("d"), edges)
    assert.deepStrictEqual(set("conflicted"), setOf("fb"))
    assert.deepStrictEqual(set("authDifference"), setOf("fbd"))
    assert.deepStrictEqual(set("authDifferenceAndSubgraph"), setOf("fbde"))
  })
})
