import { assert, describe, it } from "@effect/vitest"
import { redact, redactContent } from "@greenroom/room/draft/Redaction"
import { messageProposal, TestRoom, user } from "../support/TestRoom.ts"

const alice = user("alice")

describe("Redaction", () => {
  it("the protected keys of a content are kept, by event type", () => {
    assert.deepStrictEqual(redactContent("m.room.message", { body: "secret" }), {})
    assert.deepStrictEqual(redactContent("m.room.member", { membership: "join", displayname: "x" }), {
      membership: "join"
    })
    assert.deepStrictEqual(
      redactContent("m.room.create", { creator: alice, room_version: "1-draft", "m.federate": false, x: 1 }),
      { creator: alice, room_version: "1-draft", "m.federate": false }
    )
    assert.deepStrictEqual(redactContent("m.room.join_rules", { join_rule: "private", may_join: [alice], x: 1 }), {
      join_rule: "private",
      may_join: [alice]
    })
    assert.deepStrictEqual(redactContent("m.room.aliases", { aliases: [], x: 1 }), { aliases: [] })
    const levels = {
      users: { [alice]: 100 },
      users_default: 0,
      events: {},
      events_default: 0,
      state_default: 50,
      ban: 50,
      kick: 50,
      redact: 50,
      invite: 0
    }
    assert.deepStrictEqual(redactContent("m.room.power_levels", { ...levels, x: 1 }), levels)
  })

  it("content, unknown keys and prev_content are removed, the keys of the event graph are kept, and a second redaction changes nothing", () => {
    const event = TestRoom.created(alice).build(messageProposal(alice))
    const because = event.event_id
    const annotated = {
      ...event,
      "org.example.note": "secret",
      unsigned: { prev_content: { body: "secret" }, redacted_because: because }
    }
    const redacted = redact(annotated)
    assert.notInclude(JSON.stringify(redacted), "secret")
    assert.deepStrictEqual(redacted, { ...event, content: {}, unsigned: { redacted_because: because } })
    assert.deepStrictEqual(redact(redacted), redacted)
  })
})
