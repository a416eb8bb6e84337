import { assert, describe, it } from "@effect/vitest"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { type AuthEdges, authDifference, eventsBetween } from "@greenroom/room/AuthChains"

/** The auth events of each event, by letters. */
const edgesOf =
  (auth: Readonly<Record<string, string>>): AuthEdges =>
  (id) =>
    [...(auth[id] ?? "")] as ReadonlyArray<string> as ReadonlyArray<EventId>

const setOf = (ids: string): ReadonlySet<EventId> =>
  new Set([...ids] as ReadonlyArray<string> as ReadonlyArray<EventId>)

describe("Auth chains", () => {
  it("the events on the way from one event to another are between them, however long the way is", () => {
    // f - e - d - c - b - a, and x beside e.
    const edges = edgesOf({ f: "ex", e: "d", d: "c", c: "b", b: "a", x: "a" })
    assert.deepStrictEqual(eventsBetween(setOf("fb"), edges), setOf("fbcde"))
    assert.deepStrictEqual(eventsBetween(setOf("fa"), edges), setOf("fabcdex"))
    assert.deepStrictEqual(eventsBetween(setOf("ex"), edges), setOf("ex"), "neither rests on the other")
  })

  it("an event is in the auth difference if a state rests on it and another does not, by whatever way", () => {
    // f and g are in conflict; c is below both.
    const edges = edgesOf({ f: "e", e: "cd", d: "a", g: "c", c: "a" })
    const heldBy = new Map([
      ["f" as EventId, 1n],
      ["g" as EventId, 2n]
    ])
    assert.deepStrictEqual(authDifference(heldBy, 2, edges), setOf("ed"))
    assert.deepStrictEqual(authDifference(heldBy, 3, edges), setOf("edca"))
  })
})
