/**
 * The auth events of events, in every room version.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { bob, ids, room, say } from "../support/Line.ts"

describe("Auth events", () => {
  it("an event that rests on a rejected event is rejected", () => {
    for (const id of ids) {
      const line = room(id)
      const event = line.build(say(bob, "m.room.message"))
      const authEvents = event.auth_events.map(
        (entry) => [...line.current.values()].find(({ event_id }) => event_id === entry)!
      )
      for (const rejected of event.auth_events) {
        const context = { create: line.create, isRejected: (eventId: EventId) => eventId === rejected }
        const refusal = line.version.authoriseByAuthEvents(event, authEvents, context)
        assert.strictEqual(refusal?.rule, "An event must not rest on rejected events")
      }
    }
  })

  it("are of the room, known, each once, and state that decides about the event", () => {
    for (const id of ids) {
      const line = room(id)
      const event = line.build(say(bob, "m.room.message"))
      const authEvents = event.auth_events.map(
        (entry) => [...line.current.values()].find(({ event_id }) => event_id === entry)!
      )
      const context = { create: line.create, isRejected: () => false }
      const judge = (all: ReadonlyArray<Event>, named: Event["auth_events"] = all.map(({ event_id }) => event_id)) =>
        line.version.authoriseByAuthEvents({ ...event, auth_events: named }, all, context)?.rule
      const elsewhere = authEvents.map((authEvent) => ({ ...authEvent, room_id: room(id).create.room_id }))
      if (id !== "12") assert.strictEqual(judge(elsewhere), "The auth events of an event belong to its room")
      assert.strictEqual(judge(authEvents.slice(1), event.auth_events), "The auth events of an event must be known")
      assert.include(judge([...authEvents, line.state("m.room.join_rules", "")!]), "state that decides about it")
    }
  })
})
