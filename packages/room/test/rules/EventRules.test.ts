/**
 * The rules for m.room.create, m.room.aliases and redactions of room versions 1 to 12.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { senderMustBeJoined } from "@greenroom/room/OutsiderRules"
import type { StateLookup } from "@greenroom/room/RoomVersion"
import { alice, bob, carol, dave, ids, LinearRoom, makeRoom, proposalOf } from "../support/LinearRoom.ts"
import { user } from "../support/TestRoom.ts"

describe("m.room.create", () => {
  it("m.room.create is no auth event in version 12, and must be one in all others (MSC4291)", () => {
    for (const id of ids) {
      const room = makeRoom(id)
      const event = room.build(proposalOf(bob, "m.room.message"))
      assert.strictEqual(event.auth_events.includes(room.create.event_id), id !== "12")
      const authEvents = [room.state("m.room.power_levels", ""), room.state("m.room.member", bob)] as Array<Event>
      const bare = { ...event, auth_events: authEvents.map(({ event_id }) => event_id) }
      const isRejected = () => false
      const { version, create } = room
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

  it("m.room.create of version 12 must be the accepted one of the room", () => {
    const room = makeRoom("12")
    const other = new LinearRoom("12", { other: 1 })
    const event = room.build(proposalOf(bob, "m.room.message"))
    const authEvents = room.authEventsOf(event)
    const judge = (create: Event, isRejected: (id: EventId) => boolean) =>
      room.version.authoriseByAuthEvents(event, authEvents, { create, isRejected })?.rule
    assert.isUndefined(judge(room.create, () => false))
    const rule = "A room begins with its m.room.create event"
    assert.strictEqual(
      judge(other.create, () => false),
      rule
    )
    assert.strictEqual(
      judge(room.create, (id) => id === room.create.event_id),
      rule
    )
  })

  it("the m.room.create of another room allows nothing", () => {
    for (const id of ids) {
      const room = makeRoom(id)
      const event = room.build(proposalOf(bob, "m.room.message"))
      const elsewhere = { ...room.create, room_id: "!elsewhere:one.example" as RoomId }
      const state: StateLookup = (type, key) => (type === "m.room.create" ? elsewhere : room.state(type, key))
      assert.strictEqual(room.version.authorise(event, state)?.rule, "A room begins with its m.room.create event")
    }
  })

  it("users of other servers cannot join a room with m.federate false, and can join any other", () => {
    for (const id of ids) {
      const open = new LinearRoom(id, { "m.federate": true }).joinRule("public")
      open.allows(open.member(bob, bob, "join"))
      const room = new LinearRoom(id, { "m.federate": false }).joinRule("public")
      room.refuses(room.member(bob, bob, "join"), "only users of the creator's server take part")
      room.allows(room.member(user("anna"), user("anna"), "join"))
    }
  })

  it("m.room.create comes first and once, names the version, and before version 12 comes from the server in the room ID", () => {
    for (const id of ids) {
      const room = makeRoom(id)
      const again = { ...room.create, prev_events: [room.last.event_id] } as Event
      assert.include(room.version.authorise(again, () => undefined)?.rule, "comes once")
      const second = { ...room.create, event_id: `${room.create.event_id}x` as EventId }
      assert.include(room.version.authorise(second, () => room.create)?.rule, "comes once")
      const keyed = { ...room.create, state_key: "x" } as Event
      assert.include(room.version.authorise(keyed, () => undefined)?.rule, 'the state key ""')
      const otherVersion = { ...room.create, content: { creator: alice, room_version: "elsewhere" } } as Event
      assert.include(room.version.authorise(otherVersion, () => undefined)?.rule, "names the room version")
      const nullVersion = { ...room.create, content: { creator: alice, room_version: null } } as Event
      assert.include(room.version.authorise(nullVersion, () => undefined)?.rule, "names the room version")
      const moved = { ...room.create, sender: bob } as Event
      assert.strictEqual(room.version.authorise(moved, () => undefined) === undefined, id === "12")
      const { creator: _, ...content } = room.create.content
      const withoutCreator = { ...room.create, content } as Event
      assert.strictEqual(room.version.authorise(withoutCreator, () => undefined) === undefined, Number(id) > 10)
    }
  })
})

describe("Types and state keys", () => {
  it("an event with a type or a state key of more than 255 bytes is rejected", () => {
    for (const id of ids) {
      const [within, beyond] = ["\u{1f4a5}".repeat(63), "\u{1f4a5}".repeat(64)]
      const room = makeRoom(id).allows(proposalOf(bob, within, {}, within))
      room.refuses(proposalOf(bob, beyond, {}, ""), "at most 255 bytes")
      room.refuses(proposalOf(bob, "m.test", {}, beyond), "at most 255 bytes")
    }
  })

  it("state under the ID of a user is set by that user", () => {
    for (const id of ids) {
      const room = makeRoom(id).allows(proposalOf(bob, "m.test", {}, bob))
      room.refuses(proposalOf(alice, "m.test", {}, bob), "is set by the user that it names")
      room.refuses(proposalOf(alice, "m.test", {}, "@nobody"), "is set by the user that it names")
    }
  })
})

describe("m.room.aliases", () => {
  it("m.room.aliases belongs to a server, whatever the power levels, before version 6, and needs a power level later", () => {
    for (const id of ids) {
      const room = makeRoom(id).allows(makeRoom(id).member(dave, dave, "join"))
      const own = proposalOf(dave, "m.room.aliases", { aliases: [] }, "two.example")
      const other = proposalOf(bob, "m.room.aliases", { aliases: [] }, "one.example")
      if (Number(id) < 6) room.allows(own).refuses(other, "The state key of m.room.aliases is the server of its sender")
      else room.allows(other).refuses(own, "An event requires the power level of its type")
      const outsider = proposalOf(carol, "m.room.aliases", { aliases: [] }, "three.example")
      if (Number(id) < 6) room.allows(outsider)
      else room.refuses(outsider, senderMustBeJoined)
    }
  })
})

describe("Redactions", () => {
  const redactionRefusal = (room: LinearRoom, sender: UserId, target: Event): string | undefined => {
    const redaction = room.build({ type: "m.room.redaction", sender, content: {}, redacts: target.event_id })
    return room.version.authoriseRedaction(redaction, target, room.state)?.rule
  }

  it("redactions need the power level `redact`, or an event of the sender's server", () => {
    for (const id of ids) {
      const room = makeRoom(id)
      room.allows(room.member(carol, carol, "join")).allows(room.member(dave, dave, "join"))
      const ofBob = room.build(proposalOf(bob, "m.room.message"))
      assert.isUndefined(redactionRefusal(room, bob, room.build(proposalOf(carol, "m.room.message"))))
      assert.isUndefined(redactionRefusal(room, dave, ofBob))
      assert.include(redactionRefusal(room, carol, ofBob), "requires the power level `redact`")
      assert.strictEqual(redactionRefusal(room, alice, room.create), "m.room.create cannot be redacted")
      const elsewhere = { ...ofBob, room_id: makeRoom("1").create.room_id }
      assert.strictEqual(redactionRefusal(room, alice, elsewhere), "A redaction strips an event of its own room")
    }
  })

  it("redactions that may not take effect are refused in versions 1 and 2, and allowed later", () => {
    for (const id of ids) {
      const room = makeRoom(id)
      room.allows(room.member(carol, carol, "join"))
      const target = room.build(proposalOf(bob, "m.room.message"))
      const redaction = { type: "m.room.redaction", sender: carol, content: {}, redacts: target.event_id }
      const ofNothing = { type: "m.room.redaction", sender: carol, content: {} }
      for (const refused of [redaction, ofNothing]) {
        if (Number(id) < 3) room.refuses(refused, "Users redact events of their own server")
        else room.allows(refused)
      }
      const ofCarol = room.build(proposalOf(carol, "m.room.message"))
      room.allows({ ...redaction, redacts: ofCarol.event_id })
      room.allows({ ...redaction, sender: bob, redacts: ofCarol.event_id })
    }
  })
})
