import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { draftRoomVersion } from "@greenroom/room/DraftRoomVersion"
import type { EventProposal } from "@greenroom/room/RoomVersion"
import { type VerifyKeys, verifyKeyOf } from "@greenroom/room/Signing"
import { Result } from "effect"
import * as fc from "fast-check"
import { Replica } from "../support/Replica.ts"
import {
  keyOf,
  memberProposal,
  noneRejected,
  roomId,
  serverOf,
  stateProposal,
  TestRoom,
  user
} from "../support/TestRoom.ts"

const { inviteJoinOf, membershipFor, redact, toPdu } = draftRoomVersion

const alice = user("alice")
const carol = user("carol", "two.example")
const mallory = user("mallory", "three.example")
const host = "one.example"

const notFromSender = { rule: "An event comes from the server of its sender" }
const notNew = {
  rule: "An m.room.invite_join names, in prev_pdus or auth_pdus, the membership that its sender has until then"
}

/** An m.room.invite_join, by which a user asks the host for a membership. `named`: the events that it names as predecessors. */
const ask = (
  sender: UserId,
  named: ReadonlyArray<Event> = [],
  content: JsonObject = { target_host: host },
  room_id = roomId
): Event =>
  draftRoomVersion.build(
    { room_id, type: "m.room.invite_join", sender, content },
    { prevEvents: named, state: () => undefined, now: 1 },
    keyOf(serverOf(sender))
  )

/** The membership that the server `by` makes. */
const make = (room: TestRoom, proposal: EventProposal, by = host): Event =>
  draftRoomVersion.build(
    proposal,
    { prevEvents: [room.events.at(-1)!], state: room.state, now: 1_500_000_000_000 },
    keyOf(by)
  )

const privateRoom = (): TestRoom => TestRoom.created(alice, "private")
const verified = (event: Event) =>
  draftRoomVersion.verify(
    event,
    (server: ServerName): VerifyKeys => new Map([["ed25519:1", verifyKeyOf(keyOf(server))]])
  )

describe("A membership that another server makes", () => {
  it("invited users may join, and any user may join a public room", () => {
    const room = privateRoom()
    const invite = room.allow(memberProposal(alice, carol, "invite"))
    const join = make(room, membershipFor(ask(carol, [invite])))
    assert.deepStrictEqual([join.sender, join.state_key, join.origin], [carol, carol, host as ServerName])
    assert.isUndefined(room.add(join))
    assert.isUndefined(TestRoom.created(alice).add(make(TestRoom.created(alice), membershipFor(ask(carol)))))
    const authEvents = join.auth_events.map((id) => room.event(id)!)
    assert.isUndefined(draftRoomVersion.authoriseByAuthEvents(join, authEvents, noneRejected))
  })

  it("users who could not join by themselves are refused", () => {
    const room = privateRoom()
    assert.include(room.add(make(room, membershipFor(ask(carol))))?.rule, "Users need an invite to join")
    const ban = room.allow(memberProposal(alice, carol, "ban"))
    assert.include(room.add(make(room, membershipFor(ask(carol, [ban]))))?.rule, "Banned users cannot join")
    const own = new TestRoom()
    own.allow(stateProposal(alice, "m.room.create", { creator: alice, "m.federate": false }))
    assert.include(own.add(make(own, membershipFor(ask(carol))))?.rule, "In a room with m.federate false")
  })

  it("the membership carries the m.room.invite_join of its user, for its room and to its server", () => {
    const room = TestRoom.created(alice)
    const { invite_join: _, ...bare } = membershipFor(ask(carol))
    const carrying = (inviteJoin: Event, more: Partial<Event> = {}) => ({
      ...bare,
      invite_join: toPdu({ ...inviteJoin, ...more } as Event)
    })
    const refused = [
      bare,
      { ...bare, invite_join: { pdu_type: "m.room.invite_join" } },
      carrying(ask(mallory)),
      carrying(ask(carol, [], { target_host: "three.example" })),
      carrying(ask(carol, [], {})),
      carrying(ask(carol, [], { target_host: host }, "!other:one.example" as never)),
      carrying(ask(carol), { type: "m.room.message" }),
      carrying(draftRoomVersion.build(ask(carol), { prevEvents: [], state: () => undefined, now: 1 }, keyOf(host)))
    ]
    for (const proposal of refused) assert.deepStrictEqual(room.add(make(room, proposal)), notFromSender)
    assert.deepStrictEqual(room.add(make(room, membershipFor(ask(carol)), "three.example")), notFromSender)
    const renamed = { ...make(room, membershipFor(ask(carol))), event_id: "$x:two.example" as EventId }
    assert.include(room.add(renamed)?.rule, "bears an event ID of that server")
  })

  it("an m.room.invite_join allows a join of its user, and no other event", () => {
    const room = TestRoom.created(alice)
    const asked = membershipFor(ask(carol))
    for (const membership of ["leave", "knock", "ban", "invite"]) {
      assert.deepStrictEqual(room.add(make(room, { ...asked, content: { membership } })), notFromSender)
    }
    assert.deepStrictEqual(room.add(make(room, { ...asked, type: "m.room.message" })), notFromSender)
    assert.deepStrictEqual(room.add(make(room, { ...asked, state_key: mallory })), {
      rule: "Users join for themselves only"
    })
    assert.isUndefined(room.add(make(room, asked)))
    assert.deepStrictEqual(room.add(make(room, { ...asked, content: { membership: "leave" } })), notFromSender)
  })

  it("an m.room.invite_join is used once, even if the user leaves, is removed, or is invited again", () => {
    const room = TestRoom.created(alice)
    const first = membershipFor(ask(carol))
    assert.isUndefined(room.add(make(room, first)))
    assert.deepStrictEqual(room.add(make(room, first)), notNew)
    const left = room.allow(memberProposal(carol, carol, "leave"))
    assert.deepStrictEqual(room.add(make(room, first)), notNew)

    const second = membershipFor(ask(carol, [left]))
    assert.isUndefined(room.add(make(room, second)))
    room.allow(memberProposal(alice, carol, "leave"))
    for (const old of [first, second]) assert.deepStrictEqual(room.add(make(room, old)), notNew)
    const invite = room.allow(memberProposal(alice, carol, "invite"))
    for (const old of [first, second]) assert.deepStrictEqual(room.add(make(room, old)), notNew)
    assert.isUndefined(room.add(make(room, membershipFor(ask(carol, [invite])))))
  })

  it("an m.room.invite_join stays used after a ban is lifted, whatever the depth of the events", () => {
    const room = TestRoom.created(alice)
    const old = membershipFor(ask(carol, [{ event_id: "$deep:two.example" as EventId, depth: 1_000_000 } as Event]))
    assert.isUndefined(room.add(make(room, old)))
    room.allow(memberProposal(alice, carol, "ban"))
    assert.isUndefined(room.add({ ...room.build(memberProposal(alice, carol, "leave")), depth: 1 }))
    assert.deepStrictEqual(room.add(make(room, old)), notNew)
  })

  it("an m.room.invite_join may name the membership among its auth events", () => {
    const room = privateRoom()
    room.allow(memberProposal(alice, carol, "invite"))
    const inviteJoin = draftRoomVersion.build(
      { room_id: roomId, type: "m.room.invite_join", sender: carol, content: { target_host: host } },
      { prevEvents: [room.events[0]!], state: room.state, now: 1 },
      keyOf("two.example")
    )
    assert.isUndefined(room.add(make(room, membershipFor(inviteJoin))))
  })
})

describe("Signatures of such a membership", () => {
  const room = TestRoom.created(alice)
  const inviteJoin = ask(carol, [], { target_host: host, displayname: "Carol", age: 7 })
  const join = make(room, membershipFor(inviteJoin))
  const carrying = (changed: Event, proposal = membershipFor(inviteJoin)) =>
    make(room, { ...proposal, invite_join: toPdu(changed) })

  it("the origin signs the membership, and the user's server the m.room.invite_join", () => {
    assert.deepStrictEqual(verified(join), Result.succeed(join))
    assert.deepStrictEqual(Result.getOrThrow(draftRoomVersion.fromPdu(toPdu(join))), join)
    assert.deepStrictEqual(inviteJoinOf(join), inviteJoin)
    assert.deepStrictEqual(join.content, { membership: "join", displayname: "Carol", age: 7 })
    const forged: ReadonlyArray<Event> = [
      { ...join, signatures: {} },
      carrying({ ...inviteJoin, signatures: {} }),
      carrying(draftRoomVersion.sign({ ...inviteJoin, signatures: {} }, keyOf(host))),
      carrying({ ...inviteJoin, prev_events: ["$other:one.example" as EventId] }),
      carrying({ ...ask(carol, [], { target_host: "three.example" }), content: { target_host: host } }),
      carrying({ ...ask(mallory), sender: carol, origin: "two.example" as ServerName })
    ]
    for (const event of forged) {
      const result = verified(event)
      assert.strictEqual(Result.isFailure(result) && result.failure._tag, "BadSignature")
    }
  })

  it("redaction keeps the signatures valid and the membership allowed", () => {
    const redacted = redact(join)
    assert.notInclude(JSON.stringify(redacted), "Carol")
    assert.deepStrictEqual(redact(redacted), redacted)
    assert.deepStrictEqual(verified(redacted), Result.succeed(redacted))
    assert.deepStrictEqual(inviteJoinOf(redacted), redact(inviteJoin))
    assert.isUndefined(draftRoomVersion.authorise(redacted, room.state))
  })

  it("a membership with other content than the user signed is redacted", () => {
    const asked = membershipFor(inviteJoin)
    for (const content of [
      { membership: "join", displayname: "Alice" },
      { membership: "join" },
      { ...asked.content, "org.example.note": "x" }
    ]) {
      const event = make(room, { ...asked, content })
      assert.deepStrictEqual(verified(event), Result.succeed(redact(event)))
    }
    const altered = { ...inviteJoin, content: { target_host: host, displayname: "Alice" } }
    const event = carrying(altered, membershipFor(altered))
    assert.deepStrictEqual(verified(event), Result.succeed(redact(event)))
  })

  it("no other event has an m.room.invite_join", () => {
    const elsewhere = [
      { ...room.build(memberProposal(carol, carol, "join")), invite_join: toPdu(inviteJoin) },
      { ...join, type: "m.room.message" },
      { ...join, invite_join: 5 },
      { ...join, invite_join: { ...toPdu(inviteJoin), depth: "deep" } }
    ]
    for (const event of elsewhere) {
      assert.isUndefined(inviteJoinOf(event))
      assert.isFalse(Object.hasOwn(redact(event), "invite_join"))
    }
  })
})

describe("A room whose servers are cut off from each other", () => {
  const buildAfter = (
    replica: Replica,
    proposal: EventProposal,
    by: string,
    id: string,
    now: number,
    prev: ReadonlyArray<EventId>
  ) => {
    const state = replica.lookupIn(replica.stateAfter(prev))
    const prevEvents = prev.map((entry) => replica.events.get(entry)!)
    const event = draftRoomVersion.build(proposal, { prevEvents, state, now }, keyOf(by))
    return { ...event, event_id: `$${id}:${by}` as EventId }
  }

  /** A time in ms after the creation of the room. */
  const timeAt = (offset: number): number => 1_400_000_010_000 + offset

  /** A room in which Carol joined by the host and has left or was removed, and the proposal by which the host joins her again. */
  const leaveAfterJoin = (isRemoved: boolean, wasInvited: boolean) => {
    const replica = new Replica()
    const add = (event: Event): Event => {
      replica.receive(event)
      assert.isFalse(replica.rejected.has(event.event_id))
      return event
    }
    const room = TestRoom.created(alice)
    room.allow(stateProposal(alice, "m.room.power_levels", { users: { [alice]: 100 } }))
    const invited = wasInvited ? [room.allow(memberProposal(alice, carol, "invite"))] : []
    for (const event of room.events) add(event)
    const again = membershipFor(ask(carol, invited))
    const join = add(buildAfter(replica, again, host, "join", timeAt(1_000), replica.extremities))
    const by = isRemoved ? alice : carol
    const left = add(
      buildAfter(replica, memberProposal(by, carol, "leave"), serverOf(by), "left", timeAt(2_000), [join.event_id])
    )
    return { replica, again, before: room.events.map(({ event_id }) => event_id), left }
  }

  it("replayed joins do not bring a user back, whatever their predecessors and time", () => {
    fc.assert(
      fc.property(
        fc.boolean(),
        fc.boolean(),
        fc.nat(5),
        fc.constantFrom(-1_000_000, 0, 999, 1_001, 1_999, 2_001, 9_999),
        (isRemoved, wasInvited, distance, offset) => {
          const { again, before, left, replica } = leaveAfterJoin(isRemoved, wasInvited)
          const prev = before.at(-1 - (distance % 3))!
          const replayed = buildAfter(replica, again, host, "again", timeAt(offset), [prev])
          replica.receive(replayed)
          const message = { room_id: roomId, type: "m.room.message", sender: alice, content: { body: "met" } }
          const both = [...new Set([left.event_id, ...replica.extremities])]
          replica.receive(buildAfter(replica, message, host, "met", timeAt(3_000), both))
          const state = replica.lookupIn(replica.state)
          assert.strictEqual(state("m.room.member", carol)?.event_id, left.event_id)

          const other = new Replica()
          for (const event of [...replica.events.values()].reverse()) other.receive(event)
          assert.deepStrictEqual(other.summary, replica.summary)
        }
      ),
      { numRuns: 100 }
    )
  })
})
