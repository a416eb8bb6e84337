/** The event formats of room versions 1 to 12: published vectors, event IDs, dropped PDUs, and redaction. */
import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { encodeOrThrow } from "@greenroom/room/CanonicalJson"
import { contentHash } from "@greenroom/room/ContentHash"
import { redactionV1, redactPdu } from "@greenroom/room/format/RedactionAlgorithm"
import type { EventProposal, RoomVersion } from "@greenroom/room/RoomVersion"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { decodeBase64, importSigningKey, signJson, verifyKeyOf } from "@greenroom/room/Signing"
import { Result } from "effect"

const key = Result.getOrThrow(
  importSigningKey("domain" as ServerName, "ed25519:1", decodeBase64("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1")!)
)
const keys = () => new Map([[key.keyId, verifyKeyOf(key)]])
const alice = "@alice:domain" as UserId
const ids = Array.from({ length: 12 }, (_, n) => `${n + 1}`)
const version = (id: string): RoomVersion => roomVersion(id)!

const createOf = (of: RoomVersion, now = 1): Event =>
  Result.getOrThrow(of.createRoom({ type: "m.room.create", state_key: "", sender: alice, content: {} }, key, now))

/** An event that follows the create event. */
const eventOf = (of: RoomVersion, changes: Partial<EventProposal> = {}): Event => {
  const create = createOf(of)
  const proposal = { room_id: create.room_id, type: "m.room.message", sender: alice, content: { body: "hello" } }
  const prev = { event_id: create.event_id, depth: 1, referenceHash: of.referenceHash(create) }
  const state = (type: string) => (type === "m.room.create" ? create : undefined)
  return of.build({ ...proposal, ...changes }, { prevEvents: [prev], state, now: 2 }, key)
}

const problem = (of: RoomVersion, pdu: unknown): string | undefined => {
  const read = of.fromPdu(pdu)
  if (Result.isSuccess(read)) return undefined
  return read.failure._tag === "Malformed" ? read.failure.reason : read.failure._tag
}

describe("The vectors of the specification", () => {
  const sign = (pdu: JsonObject): JsonObject => {
    const hashed = { ...pdu, hashes: { sha256: contentHash(pdu) } }
    const { signatures } = Result.getOrThrow(signJson(redactPdu(redactionV1, hashed), key))
    return { ...hashed, signatures: signatures! }
  }

  it("a minimal event has the published hash and signature", () => {
    const { hashes, signatures } = sign({
      room_id: "!x:domain",
      sender: "@a:domain",
      origin: "domain",
      origin_server_ts: 1000000,
      signatures: {},
      hashes: {},
      type: "X",
      content: {},
      prev_events: [],
      auth_events: [],
      depth: 3,
      unsigned: { age_ts: 1000000 }
    })
    assert.deepStrictEqual(hashes, { sha256: "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos" })
    assert.deepStrictEqual(signatures, {
      domain: {
        "ed25519:1": "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg"
      }
    })
  })

  it("an event with content that redaction strips has the published hash and signature", () => {
    const { hashes, signatures } = sign({
      content: { body: "Here is the message content" },
      event_id: "$0:domain",
      origin: "domain",
      origin_server_ts: 1000000,
      type: "m.room.message",
      room_id: "!r:domain",
      sender: "@u:domain",
      signatures: {},
      unsigned: { age_ts: 1000000 }
    })
    assert.deepStrictEqual(hashes, { sha256: "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g" })
    assert.deepStrictEqual(signatures, {
      domain: {
        "ed25519:1": "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA"
      }
    })
  })
})

describe("Event IDs", () => {
  const forms: { readonly [id: string]: RegExp } = { 1: /^\$\w+.*:domain$/, 2: /^\$.*:domain$/, 3: /^\$[\w+/]{43}$/ }

  it("event IDs are chosen in versions 1 and 2, and hashes later", () => {
    for (const id of ids) {
      const event = eventOf(version(id))
      assert.match(event.event_id, forms[id] ?? /^\$[\w-]{43}$/)
      const pdu = version(id).toPdu(event)
      assert.strictEqual(pdu.event_id, Number(id) < 3 ? event.event_id : undefined)
    }
  })

  it("event IDs that are hashes survive redaction, and depend on the protected keys", () => {
    for (const id of ids.slice(2)) {
      const of = version(id)
      const event = eventOf(of)
      const pdu = of.toPdu(event)
      assert.strictEqual(Result.getOrThrow(of.fromPdu(of.toPdu(of.redact(event)))).event_id, event.event_id)
      assert.notStrictEqual(Result.getOrThrow(of.fromPdu({ ...pdu, depth: 3 })).event_id, event.event_id)
      assert.strictEqual(Result.getOrThrow(of.fromPdu({ ...pdu, content: {} })).event_id, event.event_id)
    }
  })

  it("references to events are pairs of ID and hash in versions 1 and 2, and IDs later", () => {
    for (const id of ids) {
      const of = version(id)
      const pdu = of.toPdu(eventOf(of))
      const [reference] = pdu.prev_events as ReadonlyArray<Json>
      if (Number(id) > 2) assert.isString(reference)
      else assert.match(JSON.stringify(reference), /^\["\$.*:domain",\{"sha256":"[\w+/]{43}"\}\]$/)
      assert.deepStrictEqual(pdu.auth_events, Number(id) === 12 ? [] : pdu.prev_events)
    }
  })
})

describe("A new room", () => {
  it("m.room.create names the room version, and the creator before version 11", () => {
    for (const id of ids) {
      const { content } = createOf(version(id))
      assert.deepStrictEqual(content, { ...(Number(id) < 11 ? { creator: alice } : {}), room_version: id })
    }
  })

  it("room IDs are random before version 12, and in 12 the hash of m.room.create, which has no room_id", () => {
    for (const id of ids.slice(0, 11)) {
      assert.match(createOf(version(id)).room_id, /^![\w-]{22}:domain$/)
      assert.notStrictEqual(createOf(version(id)).room_id, createOf(version(id)).room_id)
    }
    const create = createOf(version("12"))
    assert.strictEqual(create.room_id, `!${create.event_id.slice(1)}` as RoomId)
    assert.strictEqual(version("12").createEventId(create.room_id), create.event_id)
    assert.isUndefined(version("12").toPdu(create).room_id)
    assert.strictEqual(createOf(version("12")).room_id, create.room_id)
    assert.notStrictEqual(createOf(version("12"), 2).room_id, create.room_id)
  })

  it("m.room.create with a room_id is refused in version 12, as is another event without one", () => {
    const of = version("12")
    const create = createOf(of)
    assert.strictEqual(problem(of, { ...of.toPdu(create), room_id: create.room_id }), "m.room.create has a room_id")
    const { room_id: _, ...without } = of.toPdu(eventOf(of))
    assert.strictEqual(problem(of, without), "room_id is not a room ID")
    assert.strictEqual(problem(of, { ...without, room_id: "!room:domain" }), "room_id is not a room ID")
  })
})

describe("Keys of a PDU", () => {
  it("unknown keys are kept and signed, whatever their names", () => {
    for (const id of ids) {
      const of = version(id)
      const others = JSON.parse(
        '{"wire":1,"unknown":{"a":[null]},"__proto__":{"b":1},"origin":"elsewhere","replaces_state":"$x"}'
      )
      const { hashes: _, signatures: __, ...pdu } = { ...of.toPdu(eventOf(of)), ...others }
      const hashed = { ...pdu, hashes: { sha256: contentHash(pdu) }, signatures: {} }
      const read = Result.getOrThrow(of.fromPdu(hashed))
      assert.strictEqual(read.origin, "domain" as ServerName)
      assert.isUndefined(read.replaces_state)
      assert.isTrue(Object.hasOwn(of.toPdu(of.sign(read, key)), "__proto__"))
      const signed = Result.getOrThrow(of.fromPdu(JSON.parse(JSON.stringify(of.toPdu(of.sign(read, key))))))
      assert.deepStrictEqual(Result.getOrThrow(of.verify(signed, keys)), signed)
      assert.strictEqual(of.toPdu(of.redact(signed)).origin, Number(id) < 11 ? "elsewhere" : undefined)
    }
  })

  it("unsigned is dropped", () => {
    for (const id of ids) {
      const of = version(id)
      const event = eventOf(of)
      const read = Result.getOrThrow(of.fromPdu({ ...of.toPdu(event), unsigned: { age: 1 } }))
      assert.deepStrictEqual(read, event)
    }
  })
})

describe("Hashes and signatures", () => {
  it("an event with a wrong hash and a valid signature is redacted", () => {
    for (const id of ids) {
      const of = version(id)
      const event = eventOf(of)
      const changed = Result.getOrThrow(of.fromPdu({ ...of.toPdu(event), content: { body: "changed" } }))
      assert.deepStrictEqual(Result.getOrThrow(of.verify(changed, keys)), of.redact(event))
    }
  })

  it("a change of a key that redaction keeps invalidates the signature", () => {
    for (const id of ids) {
      const of = version(id)
      const changed = Result.getOrThrow(of.fromPdu({ ...of.toPdu(eventOf(of)), depth: 9 }))
      assert.isTrue(Result.isFailure(of.verify(changed, keys)))
      assert.isTrue(Result.isFailure(of.verify(eventOf(of), () => new Map())))
    }
  })

  it("an event is verified with the same result right after it was read and later", () => {
    const proposals: ReadonlyArray<Partial<EventProposal>> = [
      {},
      { type: "m.room.member", state_key: alice, content: { membership: "join", displayname: "Ä\u{1F600}" } },
      { type: "m.room.power_levels", state_key: "", content: { ban: 50, invite: 0, else: { deep: [1, { a: "b" }] } } },
      { type: "m.room.redaction", content: {}, redacts: createOf(version("6")).event_id }
    ]
    for (const of of ids.map(version)) {
      for (const event of [createOf(of), ...proposals.map((changes) => eventOf(of, changes))]) {
        const pdu = of.toPdu(event)
        const hidden = { ...pdu, content: { ...event.content, added: "by another" } }
        for (const sent of [pdu, hidden, { ...pdu, depth: 7 }, { ...pdu, "\u{10FFFF}": 1, "\uFFFF": 2 }]) {
          const read = Result.getOrThrow(of.fromPdu(sent))
          const later = of.verify({ ...read }, keys)
          assert.deepStrictEqual(of.verify(read, keys), later)
          assert.deepStrictEqual(of.verify(read, keys), later)
        }
        assert.deepStrictEqual(of.verify(Result.getOrThrow(of.fromPdu(pdu)), keys), Result.succeed(event))
      }
    }
  })

  it("the sender's server signs, that of the event ID in versions 1 and 2, and that of the authorising user from 8", () => {
    const join = { membership: "join", join_authorised_via_users_server: "@bob:other" }
    for (const id of ids) {
      const of = version(id)
      const event = eventOf(of, { type: "m.room.member", state_key: alice, content: join })
      const expected = Number(id) < 8 ? ["domain"] : ["domain", "other"]
      assert.deepStrictEqual(of.signers(event) as ReadonlyArray<string>, expected)
    }
    for (const id of ids.filter((id) => Number(id) >= 3)) {
      const of = version(id)
      const signersOf = (content: JsonObject) =>
        of.signers(eventOf(of, { type: "m.room.member", state_key: alice, content })) as ReadonlyArray<string>
      const third_party_invite = { signed: {} }
      assert.deepStrictEqual(signersOf({ membership: "invite", third_party_invite }), [])
      // Otherwise everybody could let others join or leave.
      for (const membership of ["join", "leave", "ban", "knock"]) {
        assert.deepStrictEqual(signersOf({ membership, third_party_invite }), ["domain"], membership)
      }
      const message = eventOf(of, { type: "m.room.message", content: { membership: "invite", third_party_invite } })
      assert.deepStrictEqual(of.signers(message) as ReadonlyArray<string>, ["domain"], "only memberships are invites")
      assert.deepStrictEqual(
        signersOf({ ...join, membership: "leave" }),
        ["domain"],
        "only joins are authorised by others"
      )
    }
    const moved = { ...version("1").toPdu(eventOf(version("1"))), event_id: "$x:other" }
    const signers = version("1").signers(Result.getOrThrow(version("1").fromPdu(moved)))
    assert.deepStrictEqual(signers as ReadonlyArray<string>, ["domain", "other"])
  })
})

describe("Dropped PDUs", () => {
  const without = (pdu: JsonObject, name: string): JsonObject =>
    Object.fromEntries(Object.entries(pdu).filter(([key]) => key !== name))

  it("a PDU that lacks a required key, or has a malformed one, is dropped", () => {
    for (const id of ids) {
      const of = version(id)
      const pdu = of.toPdu(eventOf(of))
      assert.isUndefined(problem(of, pdu))
      const required = [
        "type",
        "sender",
        "content",
        "origin_server_ts",
        "depth",
        "prev_events",
        "auth_events",
        "hashes"
      ]
      for (const name of [...required, "signatures", "room_id"]) {
        assert.isDefined(problem(of, without(pdu, name)), name)
        assert.isDefined(problem(of, { ...pdu, [name]: null }), name)
      }
      for (const wrong of [[], null, "", 1]) assert.isDefined(problem(of, wrong))
      const voucher = { type: "m.room.member", state_key: alice, content: { join_authorised_via_users_server: 5 } }
      const membership = (membership: string) => ({ ...pdu, ...voucher, content: { ...voucher.content, membership } })
      // Before version 8 the key has no meaning.
      assert.strictEqual(problem(of, membership("join")) !== undefined, Number(id) >= 8, `version ${id}`)
      assert.isUndefined(problem(of, membership("leave")))
      assert.isDefined(problem(of, { ...pdu, state_key: null }))
      assert.isDefined(problem(of, { ...pdu, depth: -1 }))
    }
  })

  it("a PDU whose hash is not that of its content is redacted, whatever the length of the hash, and dropped if it is no base64", () => {
    for (const id of ids) {
      const of = version(id)
      const event = eventOf(of)
      const withHash = (sha256: string) => {
        const read = of.fromPdu({ ...of.toPdu(event), hashes: { sha256 } })
        if (Result.isFailure(read)) return "dropped"
        const { signatures } = Result.getOrThrow(signJson({ ...of.toPdu(of.redact(read.success)), unsigned: {} }, key))
        const signed = { ...read.success, signatures: signatures as Event["signatures"] }
        const verified = Result.getOrThrow(of.verify(signed, keys))
        return verified.content.body === "hello" ? "kept" : "redacted"
      }
      const right = event.hashes!.sha256
      const urlSafe = right.replaceAll("+", "-").replaceAll("/", "_")
      for (const hash of [right, `${right}=`, urlSafe]) assert.strictEqual(withHash(hash), "kept", `${id} ${hash}`)
      for (const hash of ["", "AAAA", "A".repeat(43), "A".repeat(1_000)]) {
        assert.strictEqual(withHash(hash), "redacted", `${id} ${hash}`)
      }
      for (const hash of ["!", "ä"]) assert.strictEqual(withHash(hash), "dropped", `${id} ${hash}`)
    }
  })

  it("a PDU with more than 20 predecessors or 10 auth events is dropped, unless it is of history", () => {
    for (const id of ids) {
      const of = version(id)
      const pdu = of.toPdu(eventOf(of))
      const name = (n: number): Json => (Number(id) < 3 ? [`$${n}:domain`, {}] : `$${"x".repeat(42)}${n % 10}`)
      const many = (count: number) => Array.from({ length: count }, (_, n) => name(n))
      assert.isUndefined(problem(of, { ...pdu, prev_events: many(20), auth_events: many(10) }))
      assert.strictEqual(problem(of, { ...pdu, prev_events: many(21) }), "prev_events has more than 20 entries")
      assert.strictEqual(problem(of, { ...pdu, auth_events: many(11) }), "auth_events has more than 10 entries")
      const many100 = { ...pdu, prev_events: many(100), auth_events: many(100) }
      assert.isTrue(Result.isSuccess(of.fromPdu(many100, true)))
      assert.isFalse(Result.isSuccess(of.fromPdu({ ...many100, auth_events: [1] }, true)))
    }
  })

  it("a PDU of more than 65,536 bytes is dropped, and so is one with a type or state key of more than 255 bytes, before version 11 characters", () => {
    for (const id of ids) {
      const of = version(id)
      const pdu = of.toPdu(eventOf(of))
      assert.strictEqual(problem(of, { ...pdu, content: { body: "x".repeat(65_536) } }), "TooLarge")
      assert.isUndefined(problem(of, { ...pdu, content: { body: "x".repeat(60_000) }, type: "t".repeat(255) }))
      // A character of two bytes: the limit counts bytes.
      const ofBytes = (bytes: number) => {
        const others = encodeOrThrow({ ...pdu, content: { body: "" } }).length
        const odd = (bytes - others) % 2
        return { ...pdu, content: { body: "ä".repeat((bytes - others - odd) / 2) + "x".repeat(odd) } }
      }
      assert.notStrictEqual(problem(of, ofBytes(65_536)), "TooLarge")
      assert.strictEqual(problem(of, ofBytes(65_537)), "TooLarge")
      assert.isDefined(problem(of, { ...pdu, type: "t".repeat(256) }))
      assert.strictEqual(problem(of, { ...pdu, state_key: "💥".repeat(70) }) === undefined, Number(id) < 11)
      assert.isDefined(problem(of, { ...pdu, state_key: "💥".repeat(256) }))
      assert.isDefined(problem(of, { ...pdu, sender: `@${"a".repeat(249)}:domain` }))
      const large = {
        room_id: "!x:domain" as RoomId,
        type: "m.x",
        sender: alice,
        content: { body: "x".repeat(65_400) }
      }
      const built = of.tryBuild(large, { prevEvents: [], state: () => undefined, now: 1 }, key.serverName, key)
      assert.strictEqual(Result.isFailure(built) ? built.failure._tag : "", "TooLarge")
    }
  })

  it("a PDU with numbers other than integers of 53 bits is dropped from version 6", () => {
    for (const id of ids) {
      const of = version(id)
      for (const number of [1.5, 2 ** 53, -(2 ** 53), 1e-7]) {
        const isAllowed = Number(id) < 6
        const result = problem(of, { ...of.toPdu(eventOf(of)), content: { number } })
        assert.strictEqual(result === undefined, isAllowed, `${number} in version ${id}`)
      }
    }
  })

  it("a PDU with control characters in its room ID or event IDs is dropped", () => {
    const of = version("1")
    const pdu = of.toPdu(eventOf(of))
    assert.isDefined(problem(of, { ...pdu, room_id: "!a\nb:domain" }))
    assert.isDefined(problem(of, { ...pdu, event_id: "$a\nb:domain" }))
    assert.isDefined(problem(of, { ...pdu, prev_events: [["$a\nb:domain", {}]] }))
    assert.isUndefined(problem(of, { ...pdu, sender: "@a\nb:domain" }))
  })
})

describe("Redaction", () => {
  const left = (id: string, type: string, content: JsonObject): JsonObject =>
    version(id).redact(eventOf(version(id), { type, state_key: "", content })).content

  const cases: ReadonlyArray<readonly [type: string, content: JsonObject, leaves: (id: number) => JsonObject]> = [
    ["m.room.message", { body: "x" }, () => ({})],
    ["m.room.aliases", { aliases: [], more: 1 }, (id) => (id < 6 ? { aliases: [] } : {})],
    [
      "m.room.join_rules",
      { join_rule: "x", allow: [] },
      (id) => ({ join_rule: "x", ...(id < 8 ? {} : { allow: [] }) })
    ],
    [
      "m.room.member",
      { membership: "join", displayname: "x", join_authorised_via_users_server: alice },
      (id) => ({ membership: "join", ...(id < 9 ? {} : { join_authorised_via_users_server: alice }) })
    ],
    [
      "m.room.member",
      { membership: "invite", third_party_invite: { display_name: "x", signed: { token: "t" } } },
      (id) => ({ membership: "invite", ...(id < 11 ? {} : { third_party_invite: { signed: { token: "t" } } }) })
    ],
    [
      "m.room.member",
      { membership: "join", join_authorised_via_users_server: alice, third_party_invite: { display_name: "x" } },
      (id) => ({
        membership: "join",
        ...(id < 9 ? {} : { join_authorised_via_users_server: alice }),
        ...(id < 11 ? {} : { third_party_invite: {} })
      })
    ],
    ["m.room.member", { membership: "invite", third_party_invite: "x" }, () => ({ membership: "invite" })],
    ["m.room.member", { membership: "invite", third_party_invite: null }, () => ({ membership: "invite" })],
    [
      "m.room.power_levels",
      { users: {}, invite: 1, more: 1 },
      (id) => ({ users: {}, ...(id < 11 ? {} : { invite: 1 }) })
    ],
    [
      "m.room.create",
      { creator: alice, room_version: "x", "m.federate": false },
      (id) => (id < 11 ? { creator: alice } : { creator: alice, room_version: "x", "m.federate": false })
    ],
    ["m.room.history_visibility", { history_visibility: "x", more: 1 }, () => ({ history_visibility: "x" })],
    ["m.room.redaction", { redacts: "$x", reason: "x" }, (id) => (id < 11 ? {} : { redacts: "$x" })]
  ]

  it("redaction keeps the keys that the version names", () => {
    for (const id of ids) {
      for (const [type, content, leaves] of cases) {
        assert.deepStrictEqual(left(id, type, content), leaves(Number(id)), `${type} in version ${id}`)
      }
    }
  })

  it("the keys of former event formats stay until version 10", () => {
    for (const id of ids) {
      const of = version(id)
      const former = { membership: "join", origin: "domain", prev_state: [] }
      const read = Result.getOrThrow(of.fromPdu({ ...of.toPdu(eventOf(of)), ...former, more: 1 }))
      const { membership, more, origin, prev_state } = of.toPdu(of.redact(read))
      const left = { membership, origin, prev_state, more }
      const none = { membership: undefined, origin: undefined, prev_state: undefined }
      assert.deepStrictEqual(left, { ...(Number(id) < 11 ? former : none), more: undefined }, `version ${id}`)
    }
  })

  it("`redacts` is a key of events in every version, and in PDUs from version 11 a key of the content", () => {
    for (const id of ids) {
      const of = version(id)
      const redacts = "$target:domain" as EventId
      const event = eventOf(of, { type: "m.room.redaction", content: { reason: "x" }, redacts })
      assert.strictEqual(event.redacts, redacts)
      const pdu = of.toPdu(event)
      assert.strictEqual(pdu.redacts, Number(id) < 11 ? redacts : undefined)
      assert.strictEqual((pdu.content as JsonObject).redacts, Number(id) < 11 ? undefined : redacts)
      assert.strictEqual(Result.getOrThrow(of.fromPdu(pdu)).redacts, redacts)
    }
  })
})

describe("Templates", () => {
  it("a template is completed with an ID, a time, a hash and a signature", () => {
    for (const id of ids) {
      const of = version(id)
      const template = of.toTemplate(
        eventOf(of, { type: "m.room.member", state_key: alice, content: { membership: "join" } })
      )
      const event = Result.getOrThrow(of.complete({ ...template, origin: "elsewhere", unsigned: {} }, key, 77))
      assert.strictEqual(event.origin_server_ts, 77)
      assert.deepStrictEqual(Result.getOrThrow(of.verify(event, keys)), event)
      assert.isTrue(Result.isFailure(of.complete({ ...template, type: 1 }, key, 77)))
      assert.isTrue(Result.isFailure(of.complete([], key, 77)))
      for (let length = 64_800; length < 65_536; length += 20) {
        const large = of.complete({ ...template, content: { membership: "join", reason: "x".repeat(length) } }, key, 77)
        const bytes = Result.isSuccess(large) ? encodeOrThrow(of.toPdu(large.success)).length : 0
        assert.isAtMost(bytes, 65_536, "with its hash and signature")
      }
    }
  })
})
