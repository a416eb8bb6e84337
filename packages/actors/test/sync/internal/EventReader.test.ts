import { assert, describe, it } from "@effect/vitest"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { StreamedMembership } from "@greenroom/store/EventLog"
import { beginning, comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"
import * as fc from "fast-check"
import { visibleRanges } from "../../../src/sync/internal/EventReader.ts"

const user = "@alice:green.test" as UserId

/** A step in one of two rooms: a change of the user's membership, or something else. */
const happening = fc.record({
  roomNid: fc.integer({ min: 1, max: 2 }),
  membership: fc.constantFrom(undefined, undefined, "invite", "join", "leave", "ban", "knock"),
  sameTransaction: fc.boolean()
})

type Happening = typeof happening extends fc.Arbitrary<infer A> ? A & { readonly position: StreamPosition } : never

const placed = fc.array(happening, { maxLength: 40 }).map((all) => {
  let xid = 10
  return all.map((entry, index): Happening => {
    if (!entry.sameTransaction) xid++
    return { ...entry, position: { xid, nid: index * 3 } }
  })
})

/** Whether the user may see each: what happens while they are joined, and every change of their own membership. */
const visible = (all: ReadonlyArray<Happening>): ReadonlyArray<Happening> => {
  const joined = new Set<number>()
  return all.filter(({ membership, roomNid }) => {
    const seen = joined.has(roomNid) || membership !== undefined
    if (membership === "join") joined.add(roomNid)
    else if (membership !== undefined) joined.delete(roomNid)
    return seen
  })
}

const toChange = ({ membership, position, roomNid }: Happening): StreamedMembership => ({
  position,
  roomNid,
  roomId: `!${roomNid}:green.test` as RoomId,
  userId: user,
  membership: membership!
})

describe("visibleRanges", () => {
  it("cover the events of the user's time in the room, and each of the user's own membership changes, once", () => {
    fc.assert(
      fc.property(placed, fc.nat(40), fc.nat(40), (all, from, to) => {
        const after = all[from]?.position ?? beginning
        const upTo = all[Math.max(from, to)]?.position ?? { xid: 1_000, nid: 0 }
        const history = all.filter(
          ({ membership, position }) => membership !== undefined && comparePositions(position, upTo) <= 0
        )
        const ranges = visibleRanges(history.map(toChange), after, upTo)
        const isIn = (entry: Happening) =>
          ranges.filter(
            (range) =>
              range.roomNid === entry.roomNid &&
              comparePositions(entry.position, range.after) > 0 &&
              comparePositions(entry.position, range.upTo) <= 0
          ).length
        const expected = new Set(
          visible(all).filter(
            ({ position }) => comparePositions(position, after) > 0 && comparePositions(position, upTo) <= 0
          )
        )
        for (const entry of all) assert.strictEqual(isIn(entry), expected.has(entry) ? 1 : 0)
      }),
      { numRuns: 500 }
    )
  })
})
