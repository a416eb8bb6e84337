/** The rules about auth events, in the room versions 1 to 12. */
import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { Json } from "@greenroom/protocol/Json"
import { Result } from "effect"
import { alice, bob, ids, makeRoom, proposalOf } from "../support/LinearRoom.ts"

describe("Auth events", () => {
  it("an event with a rejected auth event is rejected", () => {
    for (const id of ids) {
      const room = makeRoom(id)
      const event = room.build(proposalOf(bob, "m.room.message"))
      const authEvents = room.authEventsOf(event)
      for (const rejected of event.auth_events) {
        const context = { create: room.create, isRejected: (eventId: EventId) => eventId === rejected }
        const refusal = room.version.authoriseByAuthEvents(event, authEvents, context)
        assert.strictEqual(refusal?.rule, "An event must not rest on rejected events")
      }
    }
  })

  it("auth events must belong to the room, be known, and be state that the rules read for the event", () => {
    for (const id of ids) {
      const room = makeRoom(id)
      const event = room.build(proposalOf(bob, "m.room.message"))
      const authEvents = room.authEventsOf(event)
      const context = { create: room.create, isRejected: () => false }
      const judge = (all: ReadonlyArray<Event>, named: Event["auth_events"] = all.map(({ event_id }) => event_id)) =>
        room.version.authoriseByAuthEvents({ ...event, auth_events: named }, all, context)?.rule
      const elsewhere = authEvents.map((authEvent) => ({ ...authEvent, room_id: makeRoom(id).create.room_id }))
      if (id !== "12") assert.strictEqual(judge(elsewhere), "The auth events of an event belong to its room")
      assert.strictEqual(judge(authEvents.slice(1), event.auth_events), "The auth events of an event must be known")
      const [first, ...others] = authEvents
      const instead = { ...first!, event_id: `${first!.event_id}x` as EventId }
      assert.strictEqual(judge([instead, ...others], event.auth_events), "The auth events of an event must be known")
      assert.include(judge([...authEvents, room.state("m.room.join_rules", "")!]), "state that decides about it")
      const levels = room.state("m.room.power_levels", "")!
      const second = { ...levels, event_id: `${levels.event_id}x` as EventId }
      assert.include(judge([...authEvents, second]), "one of each sort")
    }
  })

  it("an event that names an auth event twice is rejected", () => {
    for (const id of ids) {
      const room = makeRoom(id)
      const event = room.build(proposalOf(bob, "m.room.message"))
      const pdu = room.version.toPdu(event)
      const named = pdu.auth_events as ReadonlyArray<Json>
      const twice = Result.getOrThrow(room.version.fromPdu({ ...pdu, auth_events: [...named, named[0]!] }))
      const context = { create: room.create, isRejected: () => false }
      const refusal = room.version.authoriseByAuthEvents(twice, room.authEventsOf(event), context)
      assert.include(refusal?.rule, "one of each sort")
    }
  })

  it("the membership of the user who authorises a join is named once, also where that is the user who joins", () => {
    for (const id of ids.filter((id) => Number(id) >= 8)) {
      const keysOf = (voucher: UserId) =>
        makeRoom(id)
          .version.authEventKeys({
            ...proposalOf(bob, "m.room.member", { membership: "join", join_authorised_via_users_server: voucher }, bob),
            room_id: "!room:example.org" as RoomId
          })
          .filter(([type]) => type === "m.room.member")
          .map(([, stateKey]) => stateKey)
      assert.deepStrictEqual(keysOf(alice), [bob, alice])
      assert.deepStrictEqual(keysOf(bob), [bob])
    }
  })

  it("a membership names that of the other user, and the join rules unless it ends one", () => {
    for (const id of ids) {
      const room = makeRoom(id)
      for (const membership of ["join", "invite", "knock", "leave", "ban"]) {
        const keysOf = (target: UserId) =>
          room.version
            .authEventKeys({ ...room.member(alice, target, membership), room_id: room.create.room_id })
            .map((key) => key.join(" "))
        const rules = ["leave", "ban"].includes(membership) ? [] : ["m.room.join_rules "]
        const ofEvery = [...(id === "12" ? [] : ["m.room.create "]), "m.room.power_levels ", `m.room.member ${alice}`]
        assert.sameMembers(keysOf(bob), [...ofEvery, `m.room.member ${bob}`, ...rules], `${membership} in ${id}`)
        assert.sameMembers(keysOf(alice), [...ofEvery, ...rules], `${membership} in ${id}`)
      }
    }
  })
})
