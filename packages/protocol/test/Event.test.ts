import { assert, describe, it } from "@effect/vitest"
import { type Event, toClientEvent } from "@greenroom/protocol/Event"
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"

const event: Event = {
  event_id: "$1:example.org" as EventId,
  room_id: "!pond:example.org" as RoomId,
  type: "m.room.topic",
  sender: "@alice:example.org" as UserId,
  origin: "example.org" as ServerName,
  origin_server_ts: 1000,
  content: { topic: "fish", extra: true },
  state_key: "",
  prev_events: [],
  auth_events: [],
  depth: 1,
  hashes: { sha256: "" },
  signatures: {},
  unsigned: { prev_content: { topic: "frogs" } }
}

describe("the client form of an event", () => {
  it("an event has the keys of the draft and their successors, and its content unchanged", () => {
    assert.deepStrictEqual(toClientEvent(event, 1500) as object, {
      event_id: "$1:example.org",
      type: "m.room.topic",
      room_id: "!pond:example.org",
      user_id: "@alice:example.org",
      sender: "@alice:example.org",
      content: { topic: "fish", extra: true },
      ts: 1000,
      origin_server_ts: 1000,
      state_key: "",
      prev_content: { topic: "frogs" },
      age: 500
    })
  })

  it("an event for clients has no edges of the graph, hashes or signatures", () => {
    const keys = Object.keys(toClientEvent(event))
    for (const key of ["prev_events", "auth_events", "depth", "hashes", "signatures", "unsigned", "origin", "age"]) {
      assert.notInclude(keys, key)
    }
  })

  it("display names and avatars of members that are not strings are omitted", () => {
    const member = (content: Event["content"]) =>
      toClientEvent({ ...event, type: "m.room.member", state_key: event.sender, content }).content
    const odd = { membership: "join", displayname: { first: "M" }, avatar_url: 5, reason: "here" }
    assert.deepStrictEqual(member(odd), { membership: "join", reason: "here" })
    const plain = { membership: "join", displayname: "M", avatar_url: null }
    assert.strictEqual(member(plain), plain)
  })

  it("the age is not negative, also if the clock of a server is ahead", () => {
    assert.strictEqual(toClientEvent(event, 10).age, 0)
  })

  it("a redacted event has its redacted content and the redaction", () => {
    const { state_key: _, unsigned: __, ...rest } = event
    const redaction = toClientEvent({ ...rest, redacts: "$2:example.org" as EventId })
    assert.strictEqual(redaction.redacts, "$2:example.org" as EventId)
    const redacted = toClientEvent({ ...rest, unsigned: { redacted_because: "$3:example.org" as EventId } })
    assert.strictEqual(redacted.redacted_because, "$3:example.org" as EventId)
  })
})
