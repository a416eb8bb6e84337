import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { draftRoomVersion } from "@greenroom/room/DraftRoomVersion"
import {
  memberProposal,
  messageProposal,
  noneRejected,
  roomId,
  stateProposal,
  TestRoom,
  user
} from "../support/TestRoom.ts"

const alice = user("alice")
const bob = user("bob")
const carol = user("carol", "two.example")

const withPower = (users: Readonly<Record<string, number>>, more: JsonObject = {}): TestRoom => {
  const room = TestRoom.created(alice)
  for (const key of Object.keys(users))
    if (key !== alice) room.allow(memberProposal(key as UserId, key as UserId, "join"))
  room.allow(stateProposal(alice, "m.room.power_levels", { users: { [alice]: 100, ...users }, ...more }))
  return room
}

const joinRules = (content: JsonObject): TestRoom => {
  const room = TestRoom.created(alice)
  room.allow(stateProposal(alice, "m.room.join_rules", content))
  return room
}

describe("The first events of a room", () => {
  it("A room begins with its m.room.create event", () => {
    const rule = "A room begins with its m.room.create event"
    assert.strictEqual(new TestRoom().refuse(memberProposal(alice, alice, "join")), rule)
    assert.strictEqual(new TestRoom().refuse(messageProposal(alice)), rule)
  })

  it("m.room.create is the first event of a room and comes once", () => {
    const again = stateProposal(alice, "m.room.create", { creator: alice })
    assert.strictEqual(
      TestRoom.created(alice).refuse(again),
      "m.room.create is the first event of a room and comes once"
    )
  })

  it("m.room.create names its sender, from the server of the room ID", () => {
    const first = (sender: UserId, creator: UserId, key = "") =>
      new TestRoom().refuse(stateProposal(sender, "m.room.create", { creator }, key))
    assert.strictEqual(first(alice, bob), "The creator that m.room.create names is its sender")
    assert.strictEqual(first(carol, carol), "m.room.create comes from the server that the room ID names")
    assert.strictEqual(first(alice, alice, "x"), 'm.room.create has the state key ""')
  })

  it("only the creator can join before the room has join rules", () => {
    const room = new TestRoom()
    room.allow(stateProposal(alice, "m.room.create", { creator: alice }))
    assert.include(room.refuse(memberProposal(bob, bob, "join")), "Users need an invite to join")
    room.allow(memberProposal(alice, alice, "join"))
    assert.include(room.refuse(memberProposal(bob, bob, "join")), "Users need an invite to join")
  })

  it("only the creator can be the first to set power levels", () => {
    const room = new TestRoom()
    room.allow(stateProposal(alice, "m.room.create", { creator: alice }))
    room.allow(memberProposal(alice, alice, "join"))
    room.allow(stateProposal(alice, "m.room.join_rules", { join_rule: "public" }))
    room.allow(memberProposal(bob, bob, "join"))
    const escalation = stateProposal(bob, "m.room.power_levels", { users: { [bob]: 100 } })
    assert.strictEqual(room.refuse(escalation), "An event requires the power level of its type")
    assert.include(
      room.refuse({ ...escalation, sender: alice, content: { users: { [alice]: 101 } } }),
      "above their own"
    )
  })
})

describe("Every event", () => {
  it("An event comes from the server of its sender", () => {
    const room = TestRoom.created(alice)
    const forged: Event = { ...room.build(messageProposal(alice)), sender: carol }
    assert.deepStrictEqual(room.add(forged), { rule: "An event comes from the server of its sender" })
    const spoofed = { ...room.build(messageProposal(alice)), origin: "two.example" } as unknown as Event
    assert.deepStrictEqual(room.add(spoofed), { rule: "An event comes from the server of its sender" })
  })

  it("In a room with m.federate false only users of the creator's server take part", () => {
    const room = new TestRoom()
    room.allow(stateProposal(alice, "m.room.create", { creator: alice, "m.federate": false }))
    room.allow(memberProposal(alice, alice, "join"))
    room.allow(stateProposal(alice, "m.room.join_rules", { join_rule: "public" }))
    room.allow(memberProposal(bob, bob, "join"))
    assert.strictEqual(
      room.refuse(memberProposal(carol, carol, "join")),
      "In a room with m.federate false only users of the creator's server take part"
    )
  })

  it("The sender must be in the room", () => {
    const room = TestRoom.created(alice)
    assert.strictEqual(room.refuse(messageProposal(bob)), "The sender must be in the room")
    room.allow(memberProposal(alice, bob, "invite"))
    assert.strictEqual(room.refuse(messageProposal(bob)), "The sender must be in the room")
    room.allow(memberProposal(bob, bob, "join"))
    room.allow(messageProposal(bob))
    room.allow(memberProposal(bob, bob, "leave"))
    assert.strictEqual(room.refuse(messageProposal(bob)), "The sender must be in the room")
  })

  it("The state of another room does not authorise an event", () => {
    const room = TestRoom.created(alice)
    const elsewhere: Event = { ...room.build(messageProposal(alice)), room_id: "!other:one.example" as never }
    assert.deepStrictEqual(room.add(elsewhere), { rule: "A room begins with its m.room.create event" })
  })
})

describe("Joining", () => {
  it("any user can join with the join rule public", () => {
    const room = joinRules({ join_rule: "public" })
    room.allow(memberProposal(bob, bob, "join"))
    room.allow(memberProposal(bob, bob, "join", { displayname: "Bob" }))
  })

  it("invited users can join with the join rule invite, and return only with another invite", () => {
    const room = joinRules({ join_rule: "invite" })
    assert.include(room.refuse(memberProposal(bob, bob, "join")), "Users need an invite to join")
    room.allow(memberProposal(alice, bob, "invite"))
    room.allow(memberProposal(bob, bob, "join"))
    room.allow(memberProposal(bob, bob, "leave"))
    assert.include(room.refuse(memberProposal(bob, bob, "join")), "Users need an invite to join")
  })

  it("invited users and users in `may_join` can join with the join rule private", () => {
    const room = joinRules({ join_rule: "private", may_join: [bob] })
    room.allow(memberProposal(bob, bob, "join"))
    assert.include(room.refuse(memberProposal(carol, carol, "join")), "Users need an invite to join")
    room.allow(memberProposal(alice, carol, "invite"))
    room.allow(memberProposal(carol, carol, "join"))
  })

  it("`may_join` counts in private rooms only, and only if it is a list", () => {
    assert.include(
      joinRules({ join_rule: "invite", may_join: [bob] }).refuse(memberProposal(bob, bob, "join")),
      "Users need an invite to join"
    )
    assert.include(
      joinRules({ join_rule: "private", may_join: `${bob}` }).refuse(memberProposal(bob, bob, "join")),
      "Users need an invite to join"
    )
  })

  it("only invited users can join with an unknown join rule", () => {
    const room = joinRules({ join_rule: "everyone" })
    assert.include(room.refuse(memberProposal(bob, bob, "join")), "Users need an invite to join")
    room.allow(memberProposal(alice, bob, "invite"))
    room.allow(memberProposal(bob, bob, "join"))
  })

  it("users outside the room knock for themselves with the join rule knock, and join when invited", () => {
    const room = joinRules({ join_rule: "knock" })
    assert.strictEqual(room.refuse(memberProposal(bob, carol, "knock")), "Users knock for themselves only")
    room.allow(memberProposal(bob, bob, "knock"))
    assert.include(room.refuse(memberProposal(bob, bob, "join")), "Users need an invite to join")
    room.allow(memberProposal(alice, bob, "invite"))
    assert.include(room.refuse(memberProposal(bob, bob, "knock")), "cannot knock")
    room.allow(memberProposal(bob, bob, "join"))
    assert.include(room.refuse(memberProposal(bob, bob, "knock")), "cannot knock")
    const open = joinRules({ join_rule: "public" })
    assert.strictEqual(open.refuse(memberProposal(bob, bob, "knock")), "Users knock at rooms whose join rule allows it")
  })

  it("a knock can be refused and retracted", () => {
    const room = joinRules({ join_rule: "knock" })
    room.allow(memberProposal(bob, bob, "knock"))
    room.allow(memberProposal(alice, bob, "leave"))
    room.allow(memberProposal(bob, bob, "knock"))
    room.allow(memberProposal(bob, bob, "leave"))
  })

  it("Users join for themselves only", () => {
    assert.strictEqual(
      TestRoom.created(alice).refuse(memberProposal(alice, bob, "join")),
      "Users join for themselves only"
    )
  })

  it("Banned users cannot join, be invited or knock", () => {
    const room = joinRules({ join_rule: "public" })
    room.allow(memberProposal(alice, bob, "ban"))
    assert.strictEqual(room.refuse(memberProposal(bob, bob, "join")), "Banned users cannot join")
    assert.strictEqual(room.refuse(memberProposal(alice, bob, "invite")), "Banned users cannot be invited")
    room.allow(stateProposal(alice, "m.room.join_rules", { join_rule: "knock" }))
    assert.include(room.refuse(memberProposal(bob, bob, "knock")), "cannot knock")
    assert.include(room.refuse(memberProposal(bob, bob, "leave")), "Users leave rooms")
  })
})

describe("Inviting, leaving, removing, banning", () => {
  it("members with the power level `invite` can invite", () => {
    const room = withPower({ [bob]: 0 }, { invite: 10 })
    assert.strictEqual(room.refuse(memberProposal(bob, carol, "invite")), "Inviting requires the power level `invite`")
    assert.strictEqual(room.refuse(memberProposal(carol, carol, "invite")), "The sender must be in the room")
    room.allow(memberProposal(alice, carol, "invite"))
    room.allow(memberProposal(alice, carol, "invite"))
    assert.include(room.refuse(memberProposal(alice, bob, "invite")), "is already in the room")
  })

  it("Users leave rooms that they are in, are invited to or knock at", () => {
    const room = TestRoom.created(alice)
    assert.include(room.refuse(memberProposal(bob, bob, "leave")), "Users leave rooms")
    room.allow(memberProposal(alice, bob, "invite"))
    room.allow(memberProposal(bob, bob, "leave"))
    assert.include(room.refuse(memberProposal(bob, bob, "leave")), "Users leave rooms")
  })

  it("removing others needs the power level `kick`, and a higher level than theirs", () => {
    const room = withPower({ [bob]: 50, [carol]: 50 })
    const dave = user("dave")
    room.allow(memberProposal(dave, dave, "join"))
    assert.strictEqual(
      room.refuse(memberProposal(dave, bob, "leave")),
      "Removing others requires the power level `kick`"
    )
    assert.strictEqual(
      room.refuse(memberProposal(bob, carol, "leave")),
      "Users remove only those with a lower power level"
    )
    assert.strictEqual(
      room.refuse(memberProposal(bob, alice, "leave")),
      "Users remove only those with a lower power level"
    )
    room.allow(memberProposal(bob, dave, "leave"))
    assert.strictEqual(
      room.refuse(memberProposal(bob, dave, "leave")),
      "Users who are not in the room cannot be removed"
    )
  })

  it("banning and lifting a ban need the power level `ban`, and banning a higher level than theirs", () => {
    const room = withPower({ [bob]: 60, [carol]: 40 }, { ban: 60, kick: 40 })
    assert.strictEqual(room.refuse(memberProposal(carol, bob, "ban")), "Banning requires the power level `ban`")
    assert.strictEqual(room.refuse(memberProposal(bob, alice, "ban")), "Users ban only those with a lower power level")
    const dave = user("dave")
    room.allow(memberProposal(bob, dave, "ban"))
    assert.strictEqual(
      room.refuse(memberProposal(carol, dave, "leave")),
      "Lifting a ban requires the power level `ban`"
    )
    room.allow(memberProposal(bob, dave, "leave"))
    room.allow(memberProposal(dave, dave, "join"))
  })

  it("m.room.member has one of five memberships, and a user ID as state key", () => {
    const room = TestRoom.created(alice)
    assert.strictEqual(
      room.refuse(memberProposal(alice, alice, "king")),
      "A membership is one of invite, join, leave, ban and knock"
    )
    assert.strictEqual(
      room.refuse(memberProposal(alice, "bob" as UserId, "invite")),
      "The state key of m.room.member is a user ID"
    )
    assert.strictEqual(
      room.refuse({ room_id: roomId, sender: alice, type: "m.room.member", content: { membership: "join" } }),
      "The state key of m.room.member is a user ID"
    )
  })
})

describe("State and messages", () => {
  it("An event requires the power level of its type", () => {
    const room = withPower({ [bob]: 10 }, { events: { "m.room.message": 5, "m.room.topic": 10 }, events_default: 20 })
    room.allow(messageProposal(bob))
    room.allow(stateProposal(bob, "m.room.topic", { topic: "x" }))
    const rule = "An event requires the power level of its type"
    assert.strictEqual(room.refuse(stateProposal(bob, "m.room.name", { name: "x" })), rule)
    assert.strictEqual(room.refuse({ ...messageProposal(bob), type: "org.example.other" }), rule)
    assert.strictEqual(room.refuse(stateProposal(bob, "constructor", {})), rule)
  })

  it("State whose key is a user ID is set by that user", () => {
    const room = withPower({ [bob]: 50 })
    room.allow(stateProposal(bob, "org.example.mood", {}, bob))
    assert.strictEqual(
      room.refuse(stateProposal(bob, "org.example.mood", {}, alice)),
      "State whose key is a user ID is set by that user"
    )
  })

  it("The state key of m.room.aliases is the server of its sender; no power level is needed", () => {
    const room = TestRoom.created(alice)
    room.allow(memberProposal(carol, carol, "join"))
    room.allow(stateProposal(carol, "m.room.aliases", { aliases: [] }, "two.example"))
    assert.strictEqual(
      room.refuse(stateProposal(carol, "m.room.aliases", { aliases: [] }, "one.example")),
      "The state key of m.room.aliases is the server of its sender"
    )
    const outsider = user("dave", "three.example")
    assert.strictEqual(
      room.refuse(stateProposal(outsider, "m.room.aliases", { aliases: [] }, "three.example")),
      "The sender must be in the room"
    )
  })

  it("a redaction names an event of the sender's server, unless the sender has the power level `redact`", () => {
    const room = TestRoom.created(alice)
    room.allow(memberProposal(carol, carol, "join"))
    const hers = room.allow(messageProposal(alice)).event_id
    const own = room.allow(messageProposal(carol)).event_id
    const redaction = (sender: UserId) => ({ room_id: roomId, sender, type: "m.room.redaction", content: {} })
    assert.strictEqual(room.refuse(redaction(carol)), "A redaction names the event that it strips")
    assert.include(room.refuse({ ...redaction(carol), redacts: hers }), "Users redact events of their own server")
    room.allow({ ...redaction(carol), redacts: own })
    room.allow({ ...redaction(alice), redacts: own })
  })

  it("a redaction applies to events of its sender, and with the power level `redact` to those of others", () => {
    const room = TestRoom.created(alice)
    room.allow(memberProposal(bob, bob, "join"))
    const hers = room.allow(messageProposal(alice))
    const his = room.allow(messageProposal(bob))
    const redaction = (sender: UserId, target: Event) =>
      draftRoomVersion.authoriseRedaction(
        room.build({ room_id: roomId, sender, type: "m.room.redaction", content: {}, redacts: target.event_id }),
        target,
        room.state
      )
    assert.isUndefined(redaction(bob, his))
    assert.isUndefined(redaction(alice, his))
    assert.deepStrictEqual(redaction(bob, hers), {
      rule: "Redacting events of others requires the power level `redact`"
    })
    assert.deepStrictEqual(redaction(alice, room.events[0]!), { rule: "m.room.create cannot be redacted" })
  })
})

describe("Changing power levels", () => {
  const above = "Users cannot give or take a power level above their own, or change that of an equal"
  const levels = (sender: UserId, content: JsonObject) => stateProposal(sender, "m.room.power_levels", content)
  const moderated = (more: JsonObject = {}) => withPower({ [bob]: 50, [carol]: 50 }, more)
  const base = { users: { [alice]: 100, [bob]: 50, [carol]: 50 } }

  it("users can give levels up to their own", () => {
    const dave = user("dave")
    moderated().allow(levels(bob, { users: { ...base.users, [dave]: 50 } }))
    assert.strictEqual(moderated().refuse(levels(bob, { users: { ...base.users, [dave]: 51 } })), above)
    assert.strictEqual(moderated().refuse(levels(bob, { users: { ...base.users, [bob]: 51 } })), above)
  })

  it("users can take levels from users below them, and from themselves", () => {
    moderated().allow(levels(bob, { users: { ...base.users, [bob]: 0 } }))
    assert.strictEqual(moderated().refuse(levels(bob, { users: { ...base.users, [carol]: 49 } })), above)
    assert.strictEqual(moderated().refuse(levels(bob, { users: { ...base.users, [alice]: 50 } })), above)
    assert.strictEqual(moderated().refuse(levels(bob, { users: { [bob]: 50, [carol]: 50 } })), above)
    moderated().allow(levels(alice, { users: { [alice]: 100 } }))
  })

  it("users can change the levels of actions up to their own, and leaving a key out is a change", () => {
    moderated().allow(levels(bob, { ...base, ban: 40, invite: 50 }))
    assert.strictEqual(moderated().refuse(levels(bob, { ...base, ban: 51 })), above)
    assert.strictEqual(moderated({ ban: 80 }).refuse(levels(bob, base)), above)
    assert.strictEqual(moderated({ events: { "m.room.name": 80 } }).refuse(levels(bob, base)), above)
    assert.strictEqual(moderated().refuse(levels(bob, { ...base, users_default: 60 })), above)
  })

  it("a level that a default sets above the sender cannot be lowered", () => {
    const room = withPower({ [bob]: 30 }, { events: { "m.room.power_levels": 30 } })
    const was = { users: { [alice]: 100, [bob]: 30 }, events: { "m.room.power_levels": 30 } }
    const open = { ...was, events: { ...was.events, "m.room.name": 0 } }
    assert.strictEqual(room.refuse(levels(bob, open)), above)
    assert.strictEqual(room.refuse(levels(bob, { ...was, state_default: 0 })), above)
    room.allow(levels(bob, { ...was, events_default: 10 }))
  })

  it("Power levels are integers, in `users` by user ID and in `events` by type", () => {
    const rule = "Power levels are integers, in `users` by user ID and in `events` by type"
    for (const content of [
      { ban: "100" },
      { users: { [alice]: null } },
      { users: [alice] },
      { users: { alice: 100 } },
      { events: { "m.room.name": true } },
      { events: 5 }
    ] satisfies ReadonlyArray<JsonObject>) {
      assert.strictEqual(TestRoom.created(alice).refuse(levels(alice, content)), rule)
    }
  })
})

describe("Auth events", () => {
  it("the auth events of an event authorise it as the whole state does", () => {
    const room = TestRoom.created(alice)
    room.allow(memberProposal(alice, carol, "invite"))
    room.allow(memberProposal(carol, carol, "join"))
    room.allow(memberProposal(alice, carol, "ban"))
    for (const event of room.events) {
      const authEvents = event.auth_events.map((id) => room.event(id)!)
      assert.isUndefined(draftRoomVersion.authoriseByAuthEvents(event, authEvents, noneRejected))
    }
  })

  it("An event must not rest on rejected events", () => {
    const room = TestRoom.created(alice)
    const event = room.build(messageProposal(alice))
    const authEvents = event.auth_events.map((id) => room.event(id)!)
    for (const rejected of event.auth_events) {
      const context = { create: undefined, isRejected: (id: string) => id === rejected }
      const rule = { rule: "An event must not rest on rejected events" }
      assert.deepStrictEqual(draftRoomVersion.authoriseByAuthEvents(event, authEvents, context), rule)
    }
  })

  it("The auth events of an event are state of its room that decides about it, one of each sort", () => {
    const room = TestRoom.created(alice)
    const event = room.build(messageProposal(alice))
    const own = event.auth_events.map((id) => room.event(id)!)
    const rule = { rule: "The auth events of an event are state of its room that decides about it, one of each sort" }
    const check = (authEvents: ReadonlyArray<Event>) =>
      draftRoomVersion.authoriseByAuthEvents(
        { ...event, auth_events: authEvents.map((authEvent) => authEvent.event_id) },
        authEvents,
        noneRejected
      )
    assert.isUndefined(check(own))
    assert.deepStrictEqual(check([...own, own[0]!]), rule)
    assert.deepStrictEqual(check([...own, room.state("m.room.join_rules", "")!]), rule)
    assert.deepStrictEqual(check([...own.slice(1), { ...own[0]!, room_id: "!other:one.example" as never }]), rule)
    assert.deepStrictEqual(draftRoomVersion.authoriseByAuthEvents(event, own.slice(1), noneRejected), rule)
    assert.deepStrictEqual(check(own.slice(1)), { rule: "A room begins with its m.room.create event" })
  })

  it("redacted events are allowed by redacted auth events", () => {
    const room = TestRoom.created(alice)
    const redacted = (event: Event): Event => draftRoomVersion.redact(event)
    for (const event of room.events) {
      const authEvents = event.auth_events.map((id) => redacted(room.event(id)!))
      assert.isUndefined(draftRoomVersion.authoriseByAuthEvents(redacted(event), authEvents, noneRejected))
    }
  })
})
