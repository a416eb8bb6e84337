import { assert, describe, it } from "@effect/vitest"
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { sharedParts } from "@greenroom/room/SharedParts"

const parts = (sender: string, authEvents: ReadonlyArray<string>) => ({
  room_id: "!room:one.example" as RoomId,
  type: "m.room.member",
  sender: sender as UserId,
  origin: "one.example" as ServerName,
  state_key: sender,
  auth_events: authEvents as ReadonlyArray<EventId>
})

describe("sharedParts", () => {
  it("an event stays equal", () => {
    const member = parts("@a:one.example", ["$x", "$y"])
    assert.deepStrictEqual(sharedParts(member), member)
    const { state_key: _, ...message } = member
    assert.deepStrictEqual(sharedParts(message), message)
    const ofAnother = { ...member, state_key: "@b:one.example" }
    assert.deepStrictEqual(sharedParts(ofAnother), ofAnother)
  })

  it("events with the same auth events share one list", () => {
    const [first, second] = [parts("@a:one.example", ["$x", "$y"]), parts("@b:one.example", ["$x", "$y"])]
    assert.notStrictEqual(first.auth_events, second.auth_events)
    assert.strictEqual(sharedParts(first).auth_events, sharedParts(second).auth_events)
  })

  it("similar lists of IDs are not mixed up", () => {
    const lists = [["$a $b"], ["$a", "$b"], ['$a","$b'], ["$a,$b"], []]
    for (const list of lists) sharedParts(parts("@a:one.example", list))
    for (const list of lists) assert.deepStrictEqual([...sharedParts(parts("@a:one.example", list)).auth_events], list)
  })

  it("lists stay correct when the cache overflows", () => {
    for (let n = 0; n < 2_500; n++) {
      assert.deepStrictEqual([...sharedParts(parts("@a:one.example", [`$${n}`])).auth_events], [`$${n}`])
    }
  })
})
