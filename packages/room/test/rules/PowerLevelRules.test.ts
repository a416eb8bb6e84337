/** The rules about power levels and creators that changed between the room versions 1 to 12. */
import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { Result } from "effect"
import { alice, bob, carol, dave, ids, LinearRoom, makeRoom, since } from "../support/LinearRoom.ts"
import { keyOf } from "../support/TestRoom.ts"

describe("Creators (MSC4289)", () => {
  it("creators are above all power levels in version 12, additional ones too", () => {
    const room = makeRoom("12", { additional_creators: [carol] })
    room.allows(room.member(carol, carol, "join")).allows(room.member(dave, dave, "join"))
    room.allows(room.levels(alice, { [bob]: 100, [dave]: Number.MAX_SAFE_INTEGER }))
    assert.strictEqual(room.version.levels(room.state).user(carol), Number.POSITIVE_INFINITY)
    room.refuses(room.member(dave, carol, "leave"), "Users remove and ban only those with a lower power level")
    room.refuses(room.member(carol, alice, "ban"), "Users remove and ban only those with a lower power level")
    room.allows(room.levels(carol, {})).allows(room.member(carol, dave, "ban"))
  })

  it("power levels of version 12 must not name creators", () => {
    const room = makeRoom("12", { additional_creators: [carol] })
    for (const creator of [alice, carol]) {
      room.refuses(room.levels(alice, { [creator]: 100 }), "Power levels do not name the creators of the room")
    }
  })

  it("additional creators are user IDs in version 12, and have no effect before", () => {
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
    for (const room of [
      new LinearRoom("11", { additional_creators: [carol] }),
      makeRoom("11", { additional_creators: [carol] })
    ]) {
      assert.strictEqual(room.version.levels(room.state).user(carol), 0)
    }
  })

  it("creators have the power level 100 before version 12, until m.room.power_levels sets another", () => {
    for (const id of ids) {
      const room = new LinearRoom(id)
      const { user: levelOf } = room.version.levels(room.state)
      assert.strictEqual(levelOf(alice), id === "12" ? Number.POSITIVE_INFINITY : 100)
      assert.strictEqual(levelOf(bob), 0)
      room.allows(room.levels(alice, { [bob]: 50, ...(id === "12" ? {} : { [alice]: 10 }) }))
      assert.strictEqual(room.version.levels(room.state).user(alice), id === "12" ? Number.POSITIVE_INFINITY : 10)
    }
  })
})

describe("Power levels", () => {
  const change = (room: LinearRoom, changes: JsonObject) => {
    const { content } = room.state("m.room.power_levels", "")!
    return { type: "m.room.power_levels", sender: bob, state_key: "", content: { ...content, ...changes } }
  }

  const leveled = (id: string): LinearRoom => {
    const room = makeRoom(id)
    return room.allows(room.levels(alice, { [bob]: 50, [dave]: 50 }, { events: { "m.room.power_levels": 50, x: 60 } }))
  }

  it("users cannot give or take levels above their own", () => {
    for (const id of ids) {
      const room = leveled(id)
      const { users, events } = room.state("m.room.power_levels", "")!.content as {
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
        room.refuses(change(room, changes), rule)
      }
      room.allows(change(room, { users: { ...users, [carol]: 50 }, ban: 50, kick: 10 }))
      room.allows(change(room, { users: { ...users, [carol]: 50, [bob]: 49 } }))
    }
  })

  it("the levels of notifications are checked from version 6", () => {
    for (const id of ids) {
      const room = leveled(id)
      const above = change(room, { notifications: { room: 51 } })
      if (Number(id) < 6) room.allows(above)
      else room.refuses(above, "Users cannot give or take a power level above their own")
      const malformed = room.levels(alice, { [bob]: 50 }, { notifications: { room: "loud" } })
      if (Number(id) < 6) room.allows(malformed)
      else room.refuses(malformed, "Power levels are integers")
    }
  })

  it("power levels are integers from version 10; texts are read as integers before, and fractions in versions 1 to 5", () => {
    for (const id of ids) {
      const room = leveled(id)
      for (const [level, read] of [
        ["10", 10],
        [" +0010 ", 10],
        ["-5", -5]
      ] as const) {
        const text = change(room, { users_default: level })
        if (Number(id) >= 10) room.refuses(text, "Power levels are integers")
        else assert.strictEqual(room.allows(text).version.levels(room.state).user(carol), read)
      }
      for (const wrong of ["ten", "1.5", "", "1e1", null, [1], {}] as ReadonlyArray<Json>) {
        room.refuses(change(room, { kick: wrong }), "Power levels are integers")
      }
    }
    for (const id of ids.slice(0, 5)) {
      const room = leveled(id)
      const content = { ...room.state("m.room.power_levels", "")!.content, users_default: 9.99 }
      const event = { ...room.build(change(room, {})), content } as Event
      assert.isUndefined(room.version.authorise(event, room.state))
      assert.strictEqual(room.version.levels((type) => (type === "m.room.create" ? room.create : event)).user(carol), 9)
    }
  })

  it("the levels of the first m.room.power_levels are integers from version 10; before, those that cannot be read do not count", () => {
    for (const id of ids) {
      for (const wrong of [{ ban: "ten" }, { events: { x: "ten" } }, { events: [] }] as ReadonlyArray<JsonObject>) {
        const room = new LinearRoom(id)
        const first = room.levels(alice, {}, wrong)
        if (Number(id) >= 10) room.refuses(first, "Power levels are integers")
        else assert.strictEqual(room.allows(first).version.levels(room.state).of("ban"), 50)
        room.refuses(room.levels(alice, { [bob]: "ten" }), "Power levels name users by their IDs")
      }
    }
  })

  it("power levels under another state key have no effect, and are not compared with those in force", () => {
    for (const id of ids) {
      const room = leveled(id)
      room.allows({ ...change(room, { users: { [carol]: 100 } }), state_key: "x" })
      assert.strictEqual(room.version.levels(room.state).user(carol), 0)
    }
  })

  it("notifying a room takes the power level 50, if m.room.power_levels names no other", () => {
    for (const id of ids) {
      const room = leveled(id)
      assert.strictEqual(room.version.levels(room.state).notification("room"), 50)
      room.allows(room.levels(alice, { [bob]: 50 }, { notifications: { room: 20 } }))
      assert.strictEqual(room.version.levels(room.state).notification("room"), 20)
    }
  })

  it("power levels name users by their IDs", () => {
    for (const id of ids) {
      const room = leveled(id)
      for (const users of [{ carol: 1 }, { "@carol": 1 }, [], "x", { [carol]: null }] as ReadonlyArray<Json>) {
        room.refuses(change(room, { users }), "Power levels name users by their IDs")
      }
    }
  })
})
