/**
 * The rules for m.room.create, m.room.aliases and redactions of room versions 1 to 12.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import { alice, bob, carol, dave, ids, Line, room, say } from "../support/Line.ts"
import { user } from "../support/TestRoom.ts"

describe("m.room.create", () => {
  it("is not among the auth events of version 12, and must be among those of all others (MSC4291)", () => {
    for (const id of ids) {
      const line = room(id)
      const event = line.build(say(bob, "m.room.message"))
      assert.strictEqual(event.auth_events.includes(line.create.event_id), id !== "12")
      const authEvents = [line.state("m.room.power_levels", ""), line.state("m.room.member", bob)] as Array<Event>
      const bare = { ...event, auth_events: authEvents.map(({ event_id }) => event_id) }
      const isRejected = () => false
      const { version, create } = line
      assert.strictEqual(
        version.authoriseByAuthEvents(bare, authEvents, { create, isRejected }) === undefined,
        id === "12"
      )
      assert.isDefined(version.authoriseByAuthEvents(bare, authEvents, { create: undefined, isRejected }))
      const all = [...authEvents, create]
      const whole = { ...event, auth_events: all.map(({ event_id }) => event_id) }
      assert.strictEqual(version.authoriseByAuthEvents(whole, all, { create, isRejected }) === undefined, id !== "12")
    }
  })

  it("of version 12 must be accepted, and be that of the room", () => {
    const line = room("12")
    const other = new Line("12", { other: 1 })
    const event = line.build(say(bob, "m.room.message"))
    const authEvents = event.auth_events.map(
      (id) => [...line.current.values()].find(({ event_id }) => event_id === id)!
    )
    const judge = (create: Event, isRejected: (id: EventId) => boolean) =>
      line.version.authoriseByAuthEvents(event, authEvents, { create, isRejected })?.rule
    assert.isUndefined(judge(line.create, () => false))
    const rule = "A room begins with its m.room.create event"
    assert.strictEqual(
      judge(other.create, () => false),
      rule
    )
    assert.strictEqual(
      judge(line.create, (id) => id === line.create.event_id),
      rule
    )
  })

  it("keeps others out of a room with m.federate false", () => {
    for (const id of ids) {
      const line = new Line(id, { "m.federate": false }).joinRule("public")
      line.refuses(line.member(bob, bob, "join"), "only users of the creator's server take part")
      line.allows(line.member(user("anna"), user("anna"), "join"))
    }
  })

  it("comes first, once, for its own version, and before version 12 from the server that the room ID names", () => {
    for (const id of ids) {
      const line = room(id)
      const again = { ...line.create, prev_events: [line.last.event_id] } as Event
      assert.include(line.version.authorise(again, () => undefined)?.rule, "comes once")
      const otherVersion = { ...line.create, content: { creator: alice, room_version: "elsewhere" } } as Event
      assert.include(line.version.authorise(otherVersion, () => undefined)?.rule, "names the room version")
      const moved = { ...line.create, sender: bob } as Event
      assert.strictEqual(line.version.authorise(moved, () => undefined) === undefined, id === "12")
      const { creator: _, ...content } = line.create.content
      const nobodys = { ...line.create, content } as Event
      assert.strictEqual(line.version.authorise(nobodys, () => undefined) === undefined, Number(id) > 10)
    }
  })
})

describe("m.room.aliases", () => {
  it("belongs to a server before version 6, whatever the levels, and is like other state later", () => {
    for (const id of ids) {
      const line = room(id).allows(room(id).member(dave, dave, "join"))
      const own = say(dave, "m.room.aliases", { aliases: [] }, "two.example")
      const other = say(bob, "m.room.aliases", { aliases: [] }, "one.example")
      if (Number(id) < 6) line.allows(own).refuses(other, "The state key of m.room.aliases is the server of its sender")
      else line.allows(other).refuses(own, "An event takes the power level of its type")
    }
  })
})

describe("Redactions", () => {
  const strips = (line: Line, sender: UserId, target: Event): string | undefined => {
    const redaction = line.build({ type: "m.room.redaction", sender, content: {}, redacts: target.event_id })
    return line.version.authoriseRedaction(redaction, target, line.state)?.rule
  }

  it("take the level `redact`, or an event of the sender's server", () => {
    for (const id of ids) {
      const line = room(id)
      line.allows(line.member(carol, carol, "join")).allows(line.member(dave, dave, "join"))
      const ofBob = line.build(say(bob, "m.room.message"))
      assert.isUndefined(strips(line, bob, line.build(say(carol, "m.room.message"))))
      assert.isUndefined(strips(line, dave, ofBob))
      assert.include(strips(line, carol, ofBob), "takes the power level `redact`")
      assert.strictEqual(strips(line, alice, line.create), "m.room.create cannot be redacted")
      const elsewhere = { ...ofBob, room_id: room("1").create.room_id }
      assert.strictEqual(strips(line, alice, elsewhere), "A redaction strips an event of its own room")
    }
  })

  it("are refused in versions 1 and 2 where they may not take effect, and allowed later", () => {
    for (const id of ids) {
      const line = room(id)
      line.allows(line.member(carol, carol, "join"))
      const target = line.build(say(bob, "m.room.message"))
      const redaction = { type: "m.room.redaction", sender: carol, content: {}, redacts: target.event_id }
      if (Number(id) < 3) line.refuses(redaction, "Users redact events of their own server")
      else line.allows(redaction)
    }
  })
})
