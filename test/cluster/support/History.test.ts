import { assert, describe, it } from "@effect/vitest"
import { type History, violations } from "./History.ts"

const message = (number: number) => ({ eventId: `$${number}`, text: `text ${number}` })
const all = [1, 2, 3, 4].map(message)

const good: History = {
  acknowledged: new Map(all.map(({ eventId, text }) => [text, eventId])),
  room: all,
  followers: [all, all]
}

const withFollower = (got: ReadonlyArray<number>): History => ({ ...good, followers: [all, got.map(message)] })

describe("violations", () => {
  it("finds none where all is well", () => assert.deepStrictEqual(violations(good), []))

  it("finds lost events", () => {
    assert.deepStrictEqual(violations({ ...good, room: all.slice(1), followers: [] }), [
      "text 1 was acknowledged and is lost"
    ])
    assert.deepStrictEqual(violations(withFollower([1, 2, 4])), ["follower 1 lacks $3 (text 3)"])
  })

  it("finds doubled events", () => {
    const doubled = [...all, { eventId: "$5", text: "text 2" }]
    assert.include(violations({ ...good, room: doubled, followers: [] }), "text 2 is in the room twice")
    assert.deepStrictEqual(violations(withFollower([1, 2, 3, 3, 4])), ["follower 1 got $3 twice"])
  })

  it("finds events out of order, or from nowhere", () => {
    assert.deepStrictEqual(violations(withFollower([1, 3, 2, 4])), ["follower 1 got $2 out of order"])
    assert.deepStrictEqual(violations(withFollower([1, 2, 3, 4, 9])), ["follower 1 got $9, which is not in the room"])
  })
})
