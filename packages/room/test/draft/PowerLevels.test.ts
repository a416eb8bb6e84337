import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { JsonObject } from "@greenroom/protocol/Json"
import { eventLevel, levelFor, powerLevels, powerLevelsIn, userLevel } from "@greenroom/room/draft/PowerLevels"
import { memberProposal, stateProposal, TestRoom, user } from "../support/TestRoom.ts"

const alice = user("alice")
const bob = user("bob")
const levels = (content: JsonObject) => powerLevels({ content } as unknown as Event, undefined)

describe("PowerLevels", () => {
  it("without m.room.power_levels the creator has 100, others 0, and state takes 50", () => {
    const room = new TestRoom()
    room.allow(stateProposal(alice, "m.room.create", { creator: alice }))
    room.allow(memberProposal(alice, alice, "join"))
    const found = powerLevelsIn(room.state)
    assert.strictEqual(userLevel(found, alice), 100)
    assert.strictEqual(userLevel(found, bob), 0)
    assert.strictEqual(eventLevel(found, "m.room.name", true), 50)
    assert.strictEqual(eventLevel(found, "m.room.message", false), 0)
  })

  it("absent keys have their defaults", () => {
    const found = levels({})
    assert.strictEqual(userLevel(found, alice), 0)
    assert.deepStrictEqual(
      (["ban", "kick", "redact", "invite", "state_default", "events_default"] as const).map((key) =>
        levelFor(found, key)
      ),
      [50, 50, 50, 0, 50, 0]
    )
  })

  it("an explicit level has precedence over the default", () => {
    const found = levels({
      users: { [alice]: 75 },
      users_default: 5,
      events: { "m.room.name": 30, "m.room.message": 7 },
      state_default: 60,
      events_default: 2
    })
    assert.deepStrictEqual([userLevel(found, alice), userLevel(found, bob)], [75, 5])
    assert.deepStrictEqual([eventLevel(found, "m.room.name", true), eventLevel(found, "m.room.topic", true)], [30, 60])
    assert.deepStrictEqual([eventLevel(found, "m.room.message", false), eventLevel(found, "x.y", false)], [7, 2])
  })

  it("values other than integers count as absent", () => {
    const found = levels({ users: { [alice]: "100" }, users_default: 1.5, ban: null, events: [], kick: { level: 1 } })
    assert.deepStrictEqual([userLevel(found, alice), levelFor(found, "ban"), levelFor(found, "kick")], [0, 50, 50])
    assert.strictEqual(userLevel(levels({ users: {} }), "__proto__"), 0)
    assert.strictEqual(eventLevel(levels({ events: {} }), "constructor", true), 50)
  })
})
