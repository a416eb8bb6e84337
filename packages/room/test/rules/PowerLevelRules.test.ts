/**
 * The rules for power levels and creators of room versions 1 to 12: what changed from version to version.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { Result } from "effect"
import { alice, bob, carol, dave, ids, Line, room, since } from "../support/Line.ts"
import { keyOf } from "../support/TestRoom.ts"

describe("Creators (MSC4289)", () => {
  it("stand above all levels in version 12, also those that m.room.create adds", () => {
    const line = room("12", { additional_creators: [carol] })
    line.allows(line.member(carol, carol, "join")).allows(line.member(dave, dave, "join"))
    line.allows(line.levels(alice, { [bob]: 100, [dave]: Number.MAX_SAFE_INTEGER }))
    assert.strictEqual(line.version.levels(line.state).user(carol), Number.POSITIVE_INFINITY)
    line.refuses(line.member(dave, carol, "leave"), "Users remove and ban only those with a lower power level")
    line.refuses(line.member(carol, alice, "ban"), "Users remove and ban only those with a lower power level")
    line.allows(line.levels(carol, {})).allows(line.member(carol, dave, "ban"))
  })

  it("have no levels in m.room.power_levels of version 12", () => {
    const line = room("12", { additional_creators: [carol] })
    for (const creator of [alice, carol]) {
      line.refuses(line.levels(alice, { [creator]: 100 }), "Power levels do not name the creators of the room")
    }
  })

  it("are user IDs in version 12, and mean nothing before", () => {
    for (const id of since(11)) {
      const version = roomVersion(id)!
      for (const wrong of ["@bob:two.example", ["bob"], [1]] as ReadonlyArray<Json>) {
        const proposal = {
          type: "m.room.create",
          state_key: "",
          sender: alice,
          content: { additional_creators: wrong }
        }
        const create = Result.getOrThrow(version.createRoom(proposal, keyOf("one.example"), 0))
        const refusal = version.authorise(create, () => undefined)
        assert.strictEqual(refusal?.rule, id === "12" ? "additional_creators is a list of user IDs" : undefined)
      }
    }
    const line = room("11", { additional_creators: [carol] }).allows(room("11").member(carol, carol, "join"))
    assert.strictEqual(line.version.levels(line.state).user(carol), 0)
  })

  it("before version 12 have 100 as long as no power levels say otherwise", () => {
    for (const id of ids) {
      const line = new Line(id)
      const { user: levelOf } = line.version.levels(line.state)
      assert.strictEqual(levelOf(alice), id === "12" ? Number.POSITIVE_INFINITY : 100)
      assert.strictEqual(levelOf(bob), 0)
      line.allows(line.levels(alice, { [bob]: 50, ...(id === "12" ? {} : { [alice]: 10 }) }))
      assert.strictEqual(line.version.levels(line.state).user(alice), id === "12" ? Number.POSITIVE_INFINITY : 10)
    }
  })
})

describe("Power levels", () => {
  const change = (line: Line, changes: JsonObject) => {
    const { content } = line.state("m.room.power_levels", "")!
    return { type: "m.room.power_levels", sender: bob, state_key: "", content: { ...content, ...changes } }
  }

  const leveled = (id: string): Line => {
    const line = room(id)
    return line.allows(line.levels(alice, { [bob]: 50, [dave]: 50 }, { events: { "m.room.power_levels": 50, x: 60 } }))
  }

  it("are not given or taken beyond one's own", () => {
    for (const id of ids) {
      const line = leveled(id)
      const { users, events } = line.state("m.room.power_levels", "")!.content as {
        users: JsonObject
        events: JsonObject
      }
      const rule = "Users cannot give or take a power level above their own"
      const { x: _, ...withoutX } = events
      for (const changes of [
        { users: { ...users, [carol]: 51 } },
        { users: { ...users, [bob]: 51 } },
        { users: { ...users, [dave]: 0 } },
        { events: { ...events, y: 51 } },
        { events: { ...events, x: 10 } },
        { events: withoutX },
        { ban: 51 },
        { users_default: 51 }
      ] as ReadonlyArray<JsonObject>) {
        line.refuses(change(line, changes), rule)
      }
      line.allows(change(line, { users: { ...users, [carol]: 50 }, ban: 50, kick: 10 }))
      line.allows(change(line, { users: { ...users, [carol]: 50, [bob]: 49 } }))
    }
  })

  it("of notifications are checked from version 6", () => {
    for (const id of ids) {
      const line = leveled(id)
      const above = change(line, { notifications: { room: 51 } })
      if (Number(id) < 6) line.allows(above)
      else line.refuses(above, "Users cannot give or take a power level above their own")
    }
  })

  it("are integers from version 10; before also text, and in versions 1 to 5 fractions", () => {
    for (const id of ids) {
      const line = leveled(id)
      for (const [level, read] of [
        ["10", 10],
        [" +0010 ", 10],
        ["-5", -5]
      ] as const) {
        const text = change(line, { users_default: level })
        if (Number(id) >= 10) line.refuses(text, "Power levels are integers")
        else assert.strictEqual(line.allows(text).version.levels(line.state).user(carol), read)
      }
      for (const wrong of ["ten", "1.5", "", "1e1", null, [1], {}] as ReadonlyArray<Json>) {
        line.refuses(change(line, { kick: wrong }), "Power levels are integers")
      }
    }
    for (const id of ids.slice(0, 5)) {
      const line = leveled(id)
      const content = { ...line.state("m.room.power_levels", "")!.content, users_default: 9.99 }
      const event = { ...line.build(change(line, {})), content } as Event
      assert.isUndefined(line.version.authorise(event, line.state))
      assert.strictEqual(line.version.levels((type) => (type === "m.room.create" ? line.create : event)).user(carol), 9)
    }
  })

  it("name users by their IDs", () => {
    for (const id of ids) {
      const line = leveled(id)
      for (const users of [{ carol: 1 }, { "@carol": 1 }, [], "x", { [carol]: null }] as ReadonlyArray<Json>) {
        line.refuses(change(line, { users }), "Power levels name users by their IDs")
      }
    }
  })
})
