import { assert, describe, it } from "@effect/vitest"
import { checkEvent, checkEventContent, checkEventType, maxContentDepth } from "@greenroom/protocol/EventCheck"
import fc from "fast-check"

const alice = "@alice:example.org"

const accepts = (type: string, content: unknown, isState = false) =>
  assert.isUndefined(checkEventContent(type, content, isState), JSON.stringify(content))

const refuses = (type: string, content: unknown, error: string | RegExp, isState = false) => {
  const found = checkEventContent(type, content, isState)
  assert.strictEqual(found?._tag, "M_BAD_JSON", JSON.stringify(content))
  if (typeof error === "string") assert.strictEqual(found?.error, error)
  else assert.match(found?.error ?? "", error)
}

describe("m.room.message", () => {
  it("m.room.message needs a msgtype", () => {
    refuses("m.room.message", { body: "hello" }, "msgtype: missing key")
    refuses("m.room.message", { msgtype: 5, body: "hello" }, "msgtype: expected a string")
  })

  it("m.room.message may have a msgtype that the draft does not define", () => {
    accepts("m.room.message", { msgtype: "org.example.poll" })
    accepts("m.room.message", { msgtype: "" })
    accepts("m.room.message", { msgtype: "constructor", anything: [1, { two: null }] })
  })

  it("m.room.message needs the required keys of each msgtype", () => {
    refuses("m.room.message", { msgtype: "m.text" }, "body: missing key")
    refuses("m.room.message", { msgtype: "m.emote" }, "body: missing key")
    refuses("m.room.message", { msgtype: "m.image" }, "url: missing key")
    refuses("m.room.message", { msgtype: "m.audio" }, "url: missing key")
    refuses("m.room.message", { msgtype: "m.video" }, "url: missing key")
    refuses("m.room.message", { msgtype: "m.location" }, "geo_uri: missing key")
    refuses("m.room.message", { msgtype: "m.text", body: null }, "body: expected a string")
    refuses("m.room.message", { msgtype: "m.location", geo_uri: 1 }, "geo_uri: expected a string")
  })

  it("m.room.message may have an encrypted file, whose URL is in `file`", () => {
    const file = { url: "mxc://example.org/fish", v: "v2", iv: "a", hashes: { sha256: "b" }, key: { k: "c" } }
    for (const msgtype of ["m.image", "m.audio", "m.video"]) accepts("m.room.message", { msgtype, body: "fish", file })
  })

  it("the examples of the draft are accepted", () => {
    accepts("m.room.message", { msgtype: "m.text", body: "I am a fish" })
    accepts("m.room.message", { msgtype: "m.emote", body: "tries to come up with a witty explanation" })
    accepts("m.room.message", {
      msgtype: "m.image",
      url: "http://example.org/fish.jpeg",
      info: { size: 1024, w: 640, h: 480, mimetype: "image/jpeg" },
      thumbnail_url: "http://example.org/small.jpeg",
      thumbnail_info: { size: 1, w: 2, h: 3, mimetype: "image/jpeg" },
      body: "image attachment"
    })
    accepts("m.room.message", {
      msgtype: "m.audio",
      url: "http://example.org/a.aac",
      info: { mimetype: "audio/aac", size: 1_563_685, duration: 2_140_786 }
    })
    accepts("m.room.message", {
      msgtype: "m.video",
      url: "http://example.org/a.mp4",
      info: { w: 1, h: 2, duration: 3, thumbnail_url: "http://example.org/t", thumbanil_info: { w: "whatever" } }
    })
    accepts("m.room.message", { msgtype: "m.location", geo_uri: "geo:51.5008,0.1247", body: "Big Ben, London, UK" })
  })

  it("the error of a wrong key in info has its path", () => {
    refuses("m.room.message", { msgtype: "m.image", body: "x", file: {} }, "file.url: missing key")
    refuses("m.room.message", { msgtype: "m.image", url: "u", info: { w: "wide" } }, /^info\.w: expected an integer/)
    refuses("m.room.message", { msgtype: "m.audio", url: "u", info: "long" }, /^info: expected/)
    refuses("m.room.message", { msgtype: "m.video", url: "u", info: { thumbnail_info: 1 } }, /^info\.thumbnail_info: /)
    refuses("m.room.message", { msgtype: "m.location", geo_uri: "geo:0,0", thumbnail_info: [] }, /^thumbnail_info: /)
  })

  it("sender_ts must be an integer with any msgtype", () => {
    accepts("m.room.message", { msgtype: "m.text", body: "hi", sender_ts: 1_404_838_188_000 })
    refuses("m.room.message", { msgtype: "m.text", body: "hi", sender_ts: "now" }, /^sender_ts: expected an integer/)
    refuses("m.room.message", { msgtype: "org.example.x", sender_ts: {} }, /^sender_ts: expected an integer/)
  })
})

describe("state events of the draft", () => {
  const state = (type: string, content: unknown) => accepts(type, content, true)
  const refusesState = (type: string, content: unknown, error: string | RegExp) => refuses(type, content, error, true)

  it("state events have the keys of the draft", () => {
    state("m.room.create", { creator: alice })
    state("m.room.name", { name: "The Pond" })
    state("m.room.topic", { topic: "" })
    state("m.room.member", { membership: "join", displayname: null, avatar_url: null })
    state("m.room.config", { visibility: "public" })
    state("m.room.join_rules", { join_rule: "private", may_join: [alice] })
    state("m.room.join_rules", {
      join_rule: "restricted",
      allow: [{ type: "m.room_membership", room_id: "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM" }]
    })
    state("m.room.join_rules", { join_rule: "restricted", allow: ["a condition that nobody knows"] })
    state("m.room.power_levels", { users: { [alice]: 100 }, events: { "m.room.name": 50 }, ban: 50, invite: -1 })
    state("m.room.aliases", { aliases: ["#pond:example.org"] })
    state("m.room.invite_join", { anything: "goes" })
  })

  it("state events with wrong keys are refused, with the keys in the error", () => {
    refusesState("m.room.create", {}, "creator: missing key")
    refusesState("m.room.create", { creator: "alice" }, /^creator: expected a user ID/)
    refusesState("m.room.name", { name: 1 }, "name: expected a string")
    refusesState("m.room.topic", {}, "topic: missing key")
    refusesState("m.room.member", { membership: "owner" }, /^membership: expected "invite" \| "join"/)
    refusesState("m.room.member", { membership: "join", displayname: 7 }, "displayname: expected string | null")
    refusesState("m.room.join_rules", { join_rule: "open" }, /^join_rule: expected/)
    refusesState("m.room.join_rules", { join_rule: "private", may_join: ["bob"] }, /^may_join\.0: expected a user ID/)
    refusesState("m.room.power_levels", { notifications: { room: "50" } }, /^notifications\.room: expected/)
    refusesState("m.room.power_levels", { users: { alice: 100 } }, /^users\.alice: expected a user ID/)
    refusesState(
      "m.room.power_levels",
      { users: { [alice]: "100" } },
      /^users\.@alice:example\.org: expected an integer/
    )
    refusesState("m.room.power_levels", { kick: null }, "kick: expected an integer")
    refusesState("m.room.aliases", { aliases: ["pond"] }, /^aliases\.0: expected a room alias/)
    refusesState("m.room.config", { visibility: "secret" }, /^visibility: expected/)
  })

  it("events of these types without a state key may have any content", () => {
    accepts("m.room.topic", { topic: "fish" })
    accepts("m.room.join_rules", { join_rule: 1 })
    refuses("m.room.join_rules", { join_rule: 1.5 }, /^join_rule: expected an integer/)
  })
})

describe("other events of the draft", () => {
  it("other events have the keys of the draft", () => {
    accepts("m.room.message.feedback", { type: "read", target_event_id: "$1:example.org" })
    accepts("m.room.redaction", { reason: "spam" })
    accepts("m.call.invite", { call_id: "1", version: 0, lifetime: 60_000, offer: { type: "offer", sdp: "v=0" } })
    accepts("m.call.candidates", {
      call_id: "1",
      version: 0,
      candidates: [{ candidate: "candidate:1", sdpMid: "audio", sdpMLineIndex: 0 }]
    })
    accepts("m.call.answer", { call_id: "1", version: 0, answer: { type: "answer", sdp: "v=0" } })
    accepts("m.call.hangup", { call_id: "1", version: 0 })
  })

  it("call events may have the version of current clients", () => {
    const call = { call_id: "1", party_id: "p", version: "1" }
    accepts("m.call.invite", { ...call, lifetime: 60_000, offer: { type: "offer", sdp: "v=0" }, invitee: alice })
    accepts("m.call.candidates", { ...call, candidates: [{ candidate: "" }, { candidate: "c", sdpMid: null }] })
    accepts("m.call.answer", { ...call, answer: { type: "answer", sdp: "v=0" } })
    accepts("m.call.hangup", { ...call, reason: "ice_failed" })
    refuses("m.call.hangup", { ...call, version: true }, /^version: expected/)
  })

  it("other events with wrong keys are refused", () => {
    refuses("m.room.message.feedback", { type: "eaten", target_event_id: "$1:example.org" }, /^type: expected/)
    refuses("m.room.message.feedback", { type: "read", target_event_id: "1" }, /^target_event_id: expected an event ID/)
    refuses("m.room.redaction", { reason: 1 }, "reason: expected a string")
    refuses("m.call.invite", { call_id: "1", offer: { type: "offer" } }, "offer.sdp: missing key")
    refuses("m.call.candidates", { call_id: "1", candidates: [{}] }, "candidates.0.candidate: missing key")
    refuses("m.call.answer", { answer: { type: "answer", sdp: "v=0" } }, "call_id: missing key")
    refuses("m.call.hangup", { call_id: 1 }, "call_id: expected a string")
  })

  it("presence and typing are not types of room events", () => {
    refuses("m.presence", { user_id: alice, state: "online" }, "type: m.presence is not an event of a room")
    refuses("m.typing", { user_ids: [alice] }, "type: m.typing is not an event of a room")
  })
})

describe("any content", () => {
  it("content must be a JSON object", () => {
    for (const content of [null, [], "text", 1, true, undefined]) {
      refuses("org.example.any", content, "content: expected a JSON object")
    }
  })

  it("numbers in content are integers of at most 53 bits", () => {
    accepts("org.example.any", { a: Number.MAX_SAFE_INTEGER, b: Number.MIN_SAFE_INTEGER, c: 0 })
    refuses("org.example.any", { point: { x: 0.5 } }, /^point\.x: expected an integer/)
    refuses("org.example.any", { list: [1, 2 ** 53] }, /^list\.1: expected an integer/)
    refuses("org.example.any", { huge: Number.POSITIVE_INFINITY }, /^huge: expected an integer/)
  })

  it("keys and strings in content are well-formed Unicode", () => {
    accepts("org.example.any", { "ключ 🔑": "😀\u0000" })
    refuses("org.example.any", { text: "\ud800" }, "text: expected well-formed Unicode")
    refuses("org.example.any", { "\udc00": 1 }, /: expected a key of well-formed Unicode$/)
  })

  it("the nesting of content is limited", () => {
    const nest = (levels: number): unknown => (levels === 1 ? {} : { in: nest(levels - 1) })
    const list = (levels: number): unknown => (levels === 1 ? [] : [list(levels - 1)])
    accepts("org.example.any", nest(maxContentDepth))
    refuses("org.example.any", nest(maxContentDepth + 1), /levels of nesting$/)
    refuses("org.example.any", { list: list(maxContentDepth) }, /levels of nesting$/)
  })

  it("deeply nested content does not exhaust the stack", () => {
    const deep = JSON.parse(`${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}`)
    assert.match(checkEventContent("org.example.any", deep, false)?.error ?? "", /levels of nesting$/)
  })

  it("the check does not change the content", () => {
    const content = Object.freeze({ msgtype: "m.text", body: "hi", extra: Object.freeze({ kept: 1 }) })
    accepts("m.room.message", content)
    assert.deepStrictEqual(content, { msgtype: "m.text", body: "hi", extra: { kept: 1 } })
  })

  it("errors quote only the beginning of long keys", () => {
    const error = checkEventContent("org.example.any", { ["k".repeat(60_000)]: 0.5 }, false)?.error ?? ""
    assert.isBelow(error.length, 300)
  })

  it("any JSON as content is accepted or refused without an exception", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(
          "m.room.message",
          "m.room.member",
          "m.room.power_levels",
          "m.call.candidates",
          "org.example.any"
        ),
        fc.jsonValue({ maxDepth: 6 }),
        fc.boolean(),
        (type, content, isState) => {
          const error = checkEventContent(type, content, isState)
          assert.isTrue(error === undefined || error._tag === "M_BAD_JSON")
        }
      )
    )
  })
})

describe("type and state key", () => {
  it("types and state keys have at most 255 bytes of UTF-8", () => {
    assert.isUndefined(checkEventType("a".repeat(255)))
    assert.isUndefined(checkEventType("ü".repeat(127)))
    assert.match(checkEventType("ü".repeat(128))?.error ?? "", /^type: /)
    assert.match(checkEventType("")?.error ?? "", /^type: /)
    assert.isUndefined(checkEvent("org.example.any", "k".repeat(255), {}))
    assert.match(checkEvent("org.example.any", "k".repeat(256), {})?.error ?? "", /^state_key: /)
    assert.isUndefined(checkEvent("org.example.any", "", {}))
  })

  it("types and state keys contain no U+0000 and no lone surrogates", () => {
    for (const text of ["a\u0000b", "\ud800", "x\udfff"]) {
      assert.match(checkEventType(text)?.error ?? "", /^type: /)
      assert.match(checkEvent("org.example.any", text, {})?.error ?? "", /^state_key: /)
    }
  })

  it("types and state keys match", () => {
    assert.match(
      checkEvent("m.room.member", "alice", { membership: "join" })?.error ?? "",
      /^state_key: expected a user ID/
    )
    assert.match(checkEvent("m.room.aliases", "!", { aliases: [] })?.error ?? "", /^state_key: expected a server name/)
    assert.isUndefined(checkEvent("m.room.member", alice, { membership: "join" }))
    assert.isUndefined(checkEvent("m.room.aliases", "example.org:8448", { aliases: [] }))
  })
})
