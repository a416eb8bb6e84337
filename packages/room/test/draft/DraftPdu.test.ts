import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { fromPdu, maxPrevEvents, toPdu } from "@greenroom/room/draft/DraftPdu"
import { maxPduBytes } from "@greenroom/room/PduSize"
import { Result } from "effect"
import * as fc from "fast-check"
import { memberProposal, messageProposal, roomId, stateProposal, TestRoom, user } from "../support/TestRoom.ts"

const alice = user("alice")
const roundTrip = (event: Event): Event => Result.getOrThrow(fromPdu(JSON.parse(JSON.stringify(toPdu(event)))))
const problem = (pdu: unknown): string | undefined => {
  const result = fromPdu(pdu)
  if (Result.isSuccess(result)) return undefined
  return result.failure._tag === "TooLarge" ? "TooLarge" : result.failure.reason
}

const room = TestRoom.created(alice)
room.allow(stateProposal(alice, "m.room.topic", { topic: "one" }))
const state = room.allow(stateProposal(alice, "m.room.topic", { topic: "two" }))
const message = room.allow(messageProposal(alice))
const pduOf = (event: Event): Record<string, Json> => ({ ...toPdu(event) })

describe("DraftPdu", () => {
  it("an event is written with the keys of the draft", () => {
    const pdu = pduOf(state)
    assert.deepStrictEqual(
      {
        context: pdu.context,
        pdu_type: pdu.pdu_type,
        user_id: pdu.user_id,
        origin: pdu.origin,
        is_state: pdu.is_state,
        state_key: pdu.state_key,
        power_level: pdu.power_level,
        depth: pdu.depth
      },
      {
        context: roomId,
        pdu_type: "m.room.topic",
        user_id: alice,
        origin: "one.example",
        is_state: true,
        state_key: "",
        power_level: 100,
        depth: state.depth
      }
    )
    assert.strictEqual(`$${pdu.pdu_id}:${pdu.origin}`, state.event_id)
    assert.strictEqual(`$${pdu.prev_state_id}:${pdu.prev_state_origin}`, state.replaces_state)
    assert.deepStrictEqual(pdu.prev_pdus, [[state.prev_events[0]!.slice(1, 23), "one.example"]])
    const redaction = room.build({
      room_id: roomId,
      sender: alice,
      type: "m.room.redaction",
      content: {},
      redacts: message.event_id
    })
    assert.deepStrictEqual(pduOf(redaction).redacts, [message.event_id.slice(1, 23), "one.example"])
    assert.strictEqual(pduOf(message).is_state, false)
    for (const key of ["event_id", "room_id", "sender", "type", "prev_events", "unsigned"]) assert.notProperty(pdu, key)
  })

  it("every event survives the way to a PDU and back", () => {
    for (const event of room.events) assert.deepStrictEqual(roundTrip(event), event)
  })

  it("unknown keys are kept and sent to other servers", () => {
    const known = new Set([...Object.keys(pduOf(state)), ...Object.keys(state), "redacts", "unsigned"])
    const unknown = fc.dictionary(
      fc.string().filter((key) => !known.has(key)),
      fc.oneof(fc.integer(), fc.boolean(), fc.string(), fc.array(fc.integer())),
      { noNullPrototype: true }
    )
    fc.assert(
      fc.property(unknown, (more) => {
        const pdu = { ...pduOf(state), ...more }
        assert.deepStrictEqual({ ...toPdu(Result.getOrThrow(fromPdu(pdu))) }, pdu)
      })
    )
    const proto = JSON.parse('{"__proto__":{"x":1}}')
    const pdu = { ...pduOf(message), ...proto }
    assert.deepStrictEqual({ ...toPdu(Result.getOrThrow(fromPdu(pdu))) }, pdu)
  })

  it("unsigned is neither sent nor accepted", () => {
    const annotated: Event = { ...message, unsigned: { prev_content: { a: 1 } } }
    assert.notProperty(toPdu(annotated), "unsigned")
    assert.deepStrictEqual(
      Result.getOrThrow(fromPdu({ ...pduOf(message), unsigned: { redacted_because: "$a:b" } })),
      message
    )
  })

  it("malformed PDUs are refused with their fault", () => {
    const wrong: ReadonlyArray<readonly [key: string, values: ReadonlyArray<Json | undefined>]> = [
      ["pdu_id", [undefined, "", "a:b", 5, "x".repeat(300), "\ud800"]],
      ["origin", [undefined, "", "not a server", "a b", ["one.example"]]],
      ["context", [undefined, "#alias:one.example", 1, `!${"x".repeat(300)}:one.example`]],
      ["pdu_type", [undefined, 1, "x".repeat(256), "a\0b"]],
      ["user_id", [undefined, "alice", "@alice", null]],
      ["ts", [undefined, -1, 1.5, "1"]],
      ["depth", [undefined, 0, -1, 2 ** 53, "1"]],
      ["content", [undefined, null, [], "x"]],
      ["is_state", [undefined, "true", 1, true]],
      ["state_key", [1, "x"]],
      ["prev_state_id", ["x"]],
      ["prev_pdus", [undefined, {}, ["x"], [["x"]], [["x", 1]], [["x", "one.example", "y"]]]],
      ["auth_pdus", [undefined, "x", Array.from({ length: 11 }, (_, i) => [`x${i}`, "one.example"])]],
      ["redacts", ["$x:one.example", [], ["x", "y z"]]],
      ["hashes", [undefined, {}, { sha256: 1 }, { sha256: "abc" }]],
      ["signatures", [undefined, [], { a: 1 }, { a: { b: 1 } }]],
      ["power_level", ["100", 1.5]],
      ["event_id", ["$x:one.example"]],
      ["sender", [alice]],
      ["room_id", [1]]
    ]
    for (const [key, values] of wrong) {
      for (const value of values) {
        const { [key]: _, ...rest } = pduOf(message)
        const pdu = value === undefined ? rest : { ...rest, [key]: value }
        assert.isString(problem(pdu), `${key}: ${JSON.stringify(value)}`)
      }
    }
    for (const value of [null, undefined, 1, "x", [], true]) assert.isString(problem(value))
  })

  it("too many predecessors and repeated ones are refused", () => {
    const many = Array.from({ length: maxPrevEvents + 1 }, (_, i) => [`x${i}`, "one.example"])
    assert.include(problem({ ...pduOf(message), prev_pdus: many }), "more than")
    assert.include(problem({ ...pduOf(message), prev_pdus: [many[0]!, many[0]!] }), "twice")
    assert.isUndefined(problem({ ...pduOf(message), prev_pdus: many.slice(1) }))
  })

  it("PDUs of more than 64 KiB are refused, as are numbers that other servers read differently", () => {
    const of = (body: string): JsonObject => ({ ...pduOf(message), content: { body } })
    assert.strictEqual(problem(of("x".repeat(maxPduBytes))), "TooLarge")
    assert.strictEqual(problem(of("é".repeat(maxPduBytes / 2))), "TooLarge")
    assert.isUndefined(problem(of("x".repeat(maxPduBytes - 2_000))))
    assert.include(problem({ ...pduOf(message), content: { n: 0.1 } }), "not an integer")
    assert.include(problem({ ...pduOf(message), content: JSON.parse("[".repeat(9_000) + "]".repeat(9_000)) }), "nested")
  })

  it("memberships of users of other servers survive the way to a PDU and back", () => {
    const invite = room.build(memberProposal(alice, user("bob", "[::1]:8448"), "invite"))
    assert.deepStrictEqual(roundTrip(invite), invite)
  })
})
