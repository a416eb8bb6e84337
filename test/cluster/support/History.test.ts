import { assert, describe, it } from "@effect/vitest"
import { type History, violations } from "./History.ts"

const message = (number: number) => ({ eventId: `$${number}`, text: `text ${number}` })
const all = [1, 2, 3, 4].map(message)

const good: History = {
  acknowledged: new Map(all.map(({ eventId, text }) => [text, eventId])),
  room: all,
  followers: [all, all]
}

const withFollower = (received: ReadonlyArray<number>): History => ({
  ...good,
  followers: [all, received.map(message)]
})

describe("violations", () => {
  it("a correct history has no violations", () => assert.deepStrictEqual(violations(good), []))

  it("lost events are found", () => {
    assert.deepStrictEqual(violations({ ...good, room: all.slice(1), followers: [] }), [
      "text 1 was acknowledged and is lost"
    ])
    assert.deepStrictEqual(violations(withFollower([1, 2, 4])), ["follower 1 lacks $3 (text 3)"])
  })

  it("doubled events are found", () => {
    const doubled = [...all, { eventId: "$5", text: "text 2" }]
    assert.include(violations({ ...good, room: doubled, followers: [] }), "text 2 is in the room twice")
    assert.deepStrictEqual(violations(withFollower([1, 2, 3, 3, 4])), ["follower 1 got $3 twice"])
  })

  it("events out of order, or that are not in the room, are found", () => {
    assert.deepStrictEqual(violations(withFollower([1, 3, 2, 4])), ["follower 1 got $2 out of order"])
    assert.deepStrictEqual(violations(withFollower([1, 2, 3, 4, 9])), ["follower 1 got $9, which is not in the room"])
  })
})
