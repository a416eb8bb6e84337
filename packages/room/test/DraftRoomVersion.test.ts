import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, ServerName } from "@greenroom/protocol/Identifiers"
import { draftRoomVersion } from "@greenroom/room/DraftRoomVersion"
import { generateSigningKey, type VerifyKeys, verifyKeyOf } from "@greenroom/room/Signing"
import { Result } from "effect"
import { keyOf, memberProposal, messageProposal, roomId, stateProposal, TestRoom, user } from "./support/TestRoom.ts"

const alice = user("alice")
const carol = user("carol", "two.example")
const keys = (server: ServerName): VerifyKeys => new Map([["ed25519:1", verifyKeyOf(keyOf(server))]])
const verified = (event: Event) => draftRoomVersion.verify(event, keys)
const received = (pdu: unknown): Event => Result.getOrThrow(draftRoomVersion.fromPdu(JSON.parse(JSON.stringify(pdu))))
const room = TestRoom.created(alice)
const message = room.allow(messageProposal(alice))

describe("build", () => {
  it("a built event has an ID, predecessors, auth events, a hash and a signature", () => {
    const last = room.events.at(-1)!
    const event = room.build(stateProposal(alice, "m.room.topic", { topic: "x" }))
    assert.match(event.event_id, /^\$[A-Za-z0-9_-]{22}:one\.example$/)
    assert.deepStrictEqual(event.prev_events, [last.event_id])
    assert.strictEqual(event.depth, last.depth + 1)
    assert.deepStrictEqual(event.auth_events, [
      room.state("m.room.create", "")!.event_id,
      room.state("m.room.power_levels", "")!.event_id,
      room.state("m.room.member", alice)!.event_id
    ])
    assert.strictEqual(event.replaces_state, undefined)
    assert.deepStrictEqual(verified(event), Result.succeed(event))
  })

  it("no two built events have the same ID", () => {
    const ids = new Set(Array.from({ length: 600 }, () => room.build(messageProposal(alice)).event_id))
    assert.strictEqual(ids.size, 600)
  })

  it("the depth after an event of the greatest depth stays a safe integer", () => {
    const prevEvents = [{ event_id: message.event_id, depth: Number.MAX_SAFE_INTEGER }]
    const at = { prevEvents, state: room.state, now: 1 }
    const event = draftRoomVersion.build(messageProposal(alice), at, keyOf("one.example"))
    assert.strictEqual(event.depth, Number.MAX_SAFE_INTEGER)
  })

  it("tryBuild fails with TooLarge or Malformed", () => {
    const at = { prevEvents: [message], state: room.state, now: 1 }
    const attempt = (content: Event["content"]) =>
      draftRoomVersion.tryBuild(
        messageProposal(alice, content),
        at,
        keyOf("one.example").serverName,
        keyOf("one.example")
      )
    const tag = (content: Event["content"]) => Result.getOrUndefined(Result.flip(attempt(content)))?._tag
    assert.isTrue(Result.isSuccess(attempt({ body: "x" })))
    assert.strictEqual(tag({ body: "x".repeat(65_536) }), "TooLarge")
    assert.isTrue(Result.isSuccess(attempt({ body: "x".repeat(64_000) })))
    assert.isTrue(Result.isSuccess(attempt({ body: "\u65e5".repeat(21_000) })))
    assert.strictEqual(tag({ n: 1.5 }), "Malformed")
    assert.strictEqual(tag({ body: "\ud800" }), "Malformed")
  })

  it("tryBuild names all given predecessors, and counts the bytes of their IDs, which other servers chose", () => {
    const prevEvents = Array.from({ length: 50 }, (_, depth) => ({
      event_id: `$${String(depth).padEnd(240, "\u0001")}:evil.example` as EventId,
      depth
    }))
    const key = keyOf("one.example")
    const naming = (count: number) =>
      draftRoomVersion.tryBuild(
        messageProposal(alice),
        { prevEvents: prevEvents.slice(0, count), state: room.state, now: 1 },
        key.serverName,
        undefined
      )
    assert.isTrue(Result.isFailure(naming(50)))
    const event = Result.getOrThrow(naming(25))
    assert.deepStrictEqual(
      event.prev_events,
      prevEvents.slice(0, 25).map(({ event_id }) => event_id)
    )
    assert.isAtMost(JSON.stringify(draftRoomVersion.toPdu(draftRoomVersion.sign(event, key))).length, 65_536)
  })
})

describe("an event that has not left the server", () => {
  const proposal = messageProposal(alice, { msgtype: "m.text", body: "x" })
  const at = { prevEvents: [message], state: room.state, now: 1 }
  const unsealed = Result.getOrThrow(
    draftRoomVersion.tryBuild(proposal, at, keyOf("one.example").serverName, undefined)
  )

  it("an event is hashed and signed when it leaves the server", () => {
    assert.deepStrictEqual([unsealed.hashes, unsealed.signatures], [undefined, {}])
    const sealed = draftRoomVersion.sign(unsealed, keyOf("one.example"))
    assert.deepStrictEqual(verified(received(draftRoomVersion.toPdu(sealed))), Result.succeed(sealed))
  })

  it("redaction before signing does not change hash and signature", () => {
    const before = draftRoomVersion.sign(unsealed, keyOf("one.example"))
    const after = draftRoomVersion.sign(draftRoomVersion.redact(unsealed), keyOf("one.example"))
    assert.deepStrictEqual(after, draftRoomVersion.redact(before))
    assert.deepStrictEqual(verified(received(draftRoomVersion.toPdu(after))), Result.succeed(after))
  })
})

describe("verify", () => {
  it("PDUs as their origin signed them are accepted", () => {
    for (const event of room.events) {
      assert.deepStrictEqual(verified(received(draftRoomVersion.toPdu(event))), Result.succeed(event))
    }
  })

  it("redacted events keep a valid signature", () => {
    const levels = room.state("m.room.power_levels", "")!
    for (const event of [message, levels]) {
      const redacted = draftRoomVersion.redact(event)
      assert.deepStrictEqual(verified(received(draftRoomVersion.toPdu(redacted))), Result.succeed(redacted))
    }
  })

  it("an event with a wrong hash and a valid signature is redacted", () => {
    const altered = { ...message, content: { msgtype: "m.text", body: "forged" } }
    assert.deepStrictEqual(verified(altered), Result.succeed(draftRoomVersion.redact(message)))
    const added = { ...message, "org.example.note": "forged" }
    assert.deepStrictEqual(verified(added), Result.succeed(draftRoomVersion.redact(message)))
  })

  it("an event with altered protected keys is refused", () => {
    const member = room.state("m.room.member", alice)!
    const levels = room.state("m.room.power_levels", "")!
    const forged: ReadonlyArray<Event> = [
      { ...message, sender: user("mallory") },
      { ...message, type: "m.room.topic" },
      { ...message, depth: 1 },
      { ...message, origin_server_ts: 1 },
      { ...message, room_id: "!other:one.example" as never },
      { ...message, prev_events: [] },
      { ...message, auth_events: [] },
      { ...message, state_key: "" },
      { ...message, hashes: { sha256: levels.hashes!.sha256 } },
      { ...message, event_id: "$other:one.example" as EventId },
      { ...member, content: { membership: "ban" } },
      { ...member, state_key: carol },
      { ...levels, content: { users: { [carol]: 100 } } }
    ]
    for (const event of forged) {
      const result = verified(event)
      assert.strictEqual(Result.isFailure(result) && result.failure._tag, "BadSignature")
    }
  })

  it("events without a signature, or signed by another server or an unknown key, are refused", () => {
    const stranger = generateSigningKey("one.example" as ServerName, "ed25519:1")
    const refused = (event: Event) => assert.isTrue(Result.isFailure(verified(event)))
    refused({ ...message, signatures: {} })
    refused(draftRoomVersion.sign({ ...message, signatures: {} }, keyOf("two.example")))
    refused(draftRoomVersion.sign({ ...message, signatures: {} }, stranger))
    assert.isTrue(Result.isFailure(draftRoomVersion.verify(message, () => new Map())))
  })

  it("an invite keeps the countersignature of the invited user's server", () => {
    const invite = room.build(memberProposal(alice, carol, "invite"))
    const countersigned = received(draftRoomVersion.toPdu(draftRoomVersion.sign(invite, keyOf("two.example"))))
    assert.sameMembers(Object.keys(countersigned.signatures), ["one.example", "two.example"])
    assert.deepStrictEqual(verified(countersigned), Result.succeed(countersigned))
    assert.deepStrictEqual(draftRoomVersion.signers(countersigned), ["one.example" as ServerName])
  })

  it("the hash covers unknown keys", () => {
    const at = { prevEvents: [message], state: room.state, now: 1 }
    const event = draftRoomVersion.build(messageProposal(alice), at, keyOf("one.example"))
    const pdu = draftRoomVersion.toPdu(event)
    assert.deepStrictEqual(
      verified(received({ ...pdu, power_level: 3 })),
      Result.succeed(draftRoomVersion.redact(event))
    )
    assert.strictEqual(event.room_id, roomId)
  })
})
