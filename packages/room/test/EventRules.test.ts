/**
 * The authorisation rules of room versions 1 to 12, rule by rule: what changed from version to version.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { type EventProposal, type RoomVersion, type StateLookup, stateKeyOf } from "@greenroom/room/RoomVersion"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { encodeBase64, exportVerifyKey, generateSigningKey, signJson, verifyKeyOf } from "@greenroom/room/Signing"
import { Result } from "effect"
import { keyOf, serverOf, user } from "./support/TestRoom.ts"

const alice = user("alice")
const bob = user("bob", "two.example")
const carol = user("carol", "three.example")
const dave = user("dave", "two.example")
const ids = Array.from({ length: 12 }, (_, n) => `${n + 1}`)
const since = (first: number) => ids.slice(first - 1)

/** A room of one version: a line of events. */
class Line {
  readonly version: RoomVersion
  readonly create: Event
  readonly current = new Map<string, Event>()
  readonly state: StateLookup = (type, stateKey) => this.current.get(stateKeyOf(type, stateKey))
  last: Event

  constructor(id: string, creation: JsonObject = {}) {
    this.version = roomVersion(id)!
    const proposal = { type: "m.room.create", state_key: "", sender: alice, content: creation }
    this.create = Result.getOrThrow(this.version.createRoom(proposal, keyOf("one.example"), 0))
    assert.isUndefined(this.version.authorise(this.create, () => undefined))
    this.last = this.create
    this.keep(this.create)
    this.allows(this.member(alice, alice, "join"))
  }

  private keep(event: Event): void {
    this.last = event
    if (event.state_key !== undefined) this.current.set(stateKeyOf(event.type, event.state_key), event)
  }

  member(sender: UserId, target: UserId, membership: Json, more: JsonObject = {}) {
    return { type: "m.room.member", sender, state_key: target as string, content: { ...more, membership } }
  }

  levels(sender: UserId, users: JsonObject, more: JsonObject = {}) {
    const all = this.version.privilegesCreators ? users : { [alice]: 100, ...users }
    return { type: "m.room.power_levels", sender, state_key: "", content: { ...more, users: all } }
  }

  build(proposal: Omit<EventProposal, "room_id">): Event {
    const { depth, event_id } = this.last
    const place = { prevEvents: [{ depth, event_id }], state: this.state, now: depth }
    return this.version.build({ ...proposal, room_id: this.create.room_id }, place, keyOf(serverOf(proposal.sender)))
  }

  /** Why the rules refuse the event: by the state of the room, which its own auth events must agree with. */
  refusal(proposal: Omit<EventProposal, "room_id">): string | undefined {
    const event = this.build(proposal)
    const byId = new Map([...this.current.values()].map((entry) => [entry.event_id, entry]))
    const authEvents = event.auth_events.map((id) => byId.get(id)!)
    const context = { create: this.create, isRejected: () => false }
    const refusal = this.version.authorise(event, this.state)?.rule
    assert.strictEqual(this.version.authoriseByAuthEvents(event, authEvents, context)?.rule, refusal)
    return refusal
  }

  allows(proposal: Omit<EventProposal, "room_id">): this {
    assert.isUndefined(this.refusal(proposal), `version ${this.version.id}: ${JSON.stringify(proposal)}`)
    this.keep(this.build(proposal))
    return this
  }

  refuses(proposal: Omit<EventProposal, "room_id">, rule: string): this {
    assert.include(this.refusal(proposal) ?? "allowed", rule, `version ${this.version.id}`)
    return this
  }

  joinRule(rule: string, more: JsonObject = {}): this {
    const content = { ...more, join_rule: rule }
    return this.allows({ type: "m.room.join_rules", sender: alice, state_key: "", content })
  }
}

const room = (id: string, creation?: JsonObject): Line => {
  const line = new Line(id, creation)
  return line
    .allows(line.levels(alice, { [bob]: 50 }))
    .joinRule("public")
    .allows(line.member(bob, bob, "join"))
}

const say = (sender: UserId, type: string, content: JsonObject = {}, state_key?: string) => ({
  type,
  sender,
  content,
  ...(state_key === undefined ? {} : { state_key })
})

const mustBeInvited = "Users need an invite to join"

describe("Knocking", () => {
  it("is for rooms with the join rule knock, from version 7", () => {
    for (const id of ids) {
      const line = room(id).joinRule("knock")
      const knock = line.member(carol, carol, "knock")
      if (Number(id) < 7) line.refuses(knock, "A membership is one of those that the room version knows")
      else line.allows(knock).refuses(line.member(carol, carol, "join"), mustBeInvited)
    }
  })

  it("knocking is refused under another join rule, for other users, and for users who are in the room, invited or banned", () => {
    for (const id of since(7)) {
      const line = room(id)
      line.refuses(line.member(carol, carol, "knock"), "One knocks at rooms whose join rule allows it")
      line.joinRule("knock")
      line.refuses(line.member(bob, carol, "knock"), "Users knock for themselves only")
      line.refuses(line.member(bob, bob, "knock"), "Users who are in the room, invited or banned cannot knock")
      line.allows(line.member(alice, carol, "invite"))
      line.refuses(line.member(carol, carol, "knock"), "Users who are in the room, invited or banned cannot knock")
      line.allows(line.member(alice, carol, "ban"))
      line.refuses(line.member(carol, carol, "knock"), "Users who are in the room, invited or banned cannot knock")
    }
  })

  it("can be taken back and denied", () => {
    for (const id of since(7)) {
      const line = room(id).joinRule("knock")
      line.allows(line.member(carol, carol, "knock")).allows(line.member(carol, carol, "leave"))
      line.allows(line.member(carol, carol, "knock")).allows(line.member(bob, carol, "leave"))
    }
  })
})

describe("Restricted rooms (MSC3083)", () => {
  const join = (line: Line, voucher: Json) =>
    line.member(carol, carol, "join", { join_authorised_via_users_server: voucher })

  it("let in whom a member with the level for invites vouches for, from version 8", () => {
    for (const id of ids) {
      const line = room(id).joinRule("restricted")
      if (Number(id) < 8) line.refuses(join(line, bob), mustBeInvited)
      else line.refuses(line.member(carol, carol, "join"), mustBeInvited).allows(join(line, bob))
    }
  })

  it("restricted joins authorised by strangers, or by users who may not invite, are refused", () => {
    for (const id of since(8)) {
      const line = room(id).joinRule("restricted")
      line.refuses(join(line, dave), mustBeInvited)
      line.allows(line.levels(alice, { [bob]: 50 }, { invite: 51 }))
      line.refuses(join(line, bob), mustBeInvited)
      line.allows(join(line, alice))
    }
  })

  it("invited and joined users need no authorising user", () => {
    for (const id of since(8)) {
      const line = room(id).joinRule("restricted")
      line.allows(line.member(bob, bob, "join", { displayname: "Bob" }))
      line.allows(line.member(bob, carol, "invite")).allows(line.member(carol, carol, "join"))
    }
  })

  it("the membership of the voucher is an auth event of the join", () => {
    for (const id of ids) {
      const line = room(id)
      const proposal = { ...join(line, bob), room_id: line.create.room_id }
      const keys = line.version.authEventKeys(proposal).map(([type, stateKey]) => stateKeyOf(type, stateKey))
      assert.strictEqual(keys.includes(stateKeyOf("m.room.member", bob)), Number(id) >= 8)
    }
  })
})

describe("Knocking at restricted rooms (MSC3787)", () => {
  it("goes by the join rule knock_restricted, from version 10", () => {
    for (const id of since(8)) {
      const line = room(id).joinRule("knock_restricted")
      const join = line.member(carol, carol, "join", { join_authorised_via_users_server: bob })
      const knock = line.member(carol, carol, "knock")
      if (Number(id) < 10) line.refuses(join, mustBeInvited).refuses(knock, "One knocks at rooms")
      else line.allows(knock).allows(join)
    }
  })
})

describe("Creators (MSC4289)", () => {
  it("stand above all levels in version 12, also those that m.room.create adds", () => {
    const line = room("12", { additional_creators: [carol] })
    line.allows(line.member(carol, carol, "join")).allows(line.member(dave, dave, "join"))
    line.allows(line.levels(alice, { [bob]: 100, [dave]: Number.MAX_SAFE_INTEGER }))
    assert.strictEqual(line.version.levels(line.state).user(carol), Number.POSITIVE_INFINITY)
    line.refuses(line.member(dave, carol, "leave"), "Users remove and ban only those with a lower power level")
    line.refuses(line.member(carol, alice, "ban"), "Users remove and ban only those with a lower power level")
    line.allows(line.levels(carol, {})).allows(line.member(carol, dave, "ban"))
  })

  it("have no levels in m.room.power_levels of version 12", () => {
    const line = room("12", { additional_creators: [carol] })
    for (const creator of [alice, carol]) {
      line.refuses(line.levels(alice, { [creator]: 100 }), "Power levels do not name the creators of the room")
    }
  })

  it("are user IDs in version 12, and mean nothing before", () => {
    for (const id of since(11)) {
      const version = roomVersion(id)!
      for (const wrong of ["@bob:two.example", ["bob"], [1]] as ReadonlyArray<Json>) {
        const proposal = {
          type: "m.room.create",
          state_key: "",
          sender: alice,
          content: { additional_creators: wrong }
        }
        const create = Result.getOrThrow(version.createRoom(proposal, keyOf("one.example"), 0))
        const refusal = version.authorise(create, () => undefined)
        assert.strictEqual(refusal?.rule, id === "12" ? "additional_creators is a list of user IDs" : undefined)
      }
    }
    const line = room("11", { additional_creators: [carol] }).allows(room("11").member(carol, carol, "join"))
    assert.strictEqual(line.version.levels(line.state).user(carol), 0)
  })

  it("before version 12 have 100 as long as no power levels say otherwise", () => {
    for (const id of ids) {
      const line = new Line(id)
      const { user: levelOf } = line.version.levels(line.state)
      assert.strictEqual(levelOf(alice), id === "12" ? Number.POSITIVE_INFINITY : 100)
      assert.strictEqual(levelOf(bob), 0)
      line.allows(line.levels(alice, { [bob]: 50, ...(id === "12" ? {} : { [alice]: 10 }) }))
      assert.strictEqual(line.version.levels(line.state).user(alice), id === "12" ? Number.POSITIVE_INFINITY : 10)
    }
  })
})

describe("m.room.create", () => {
  it("is not among the auth events of version 12, and must be among those of all others (MSC4291)", () => {
    for (const id of ids) {
      const line = room(id)
      const event = line.build(say(bob, "m.room.message"))
      assert.strictEqual(event.auth_events.includes(line.create.event_id), id !== "12")
      const authEvents = [line.state("m.room.power_levels", ""), line.state("m.room.member", bob)] as Array<Event>
      const bare = { ...event, auth_events: authEvents.map(({ event_id }) => event_id) }
      const isRejected = () => false
      const { version, create } = line
      assert.strictEqual(
        version.authoriseByAuthEvents(bare, authEvents, { create, isRejected }) === undefined,
        id === "12"
      )
      assert.isDefined(version.authoriseByAuthEvents(bare, authEvents, { create: undefined, isRejected }))
      const all = [...authEvents, create]
      const whole = { ...event, auth_events: all.map(({ event_id }) => event_id) }
      assert.strictEqual(version.authoriseByAuthEvents(whole, all, { create, isRejected }) === undefined, id !== "12")
    }
  })

  it("of version 12 must be accepted, and be that of the room", () => {
    const line = room("12")
    const other = new Line("12", { other: 1 })
    const event = line.build(say(bob, "m.room.message"))
    const authEvents = event.auth_events.map(
      (id) => [...line.current.values()].find(({ event_id }) => event_id === id)!
    )
    const judge = (create: Event, isRejected: (id: EventId) => boolean) =>
      line.version.authoriseByAuthEvents(event, authEvents, { create, isRejected })?.rule
    assert.isUndefined(judge(line.create, () => false))
    const rule = "A room begins with its m.room.create event"
    assert.strictEqual(
      judge(other.create, () => false),
      rule
    )
    assert.strictEqual(
      judge(line.create, (id) => id === line.create.event_id),
      rule
    )
  })

  it("keeps others out of a room with m.federate false", () => {
    for (const id of ids) {
      const line = new Line(id, { "m.federate": false }).joinRule("public")
      line.refuses(line.member(bob, bob, "join"), "only users of the creator's server take part")
      line.allows(line.member(user("anna"), user("anna"), "join"))
    }
  })

  it("comes first, once, for its own version, and before version 12 from the server that the room ID names", () => {
    for (const id of ids) {
      const line = room(id)
      const again = { ...line.create, prev_events: [line.last.event_id] } as Event
      assert.include(line.version.authorise(again, () => undefined)?.rule, "comes once")
      const otherVersion = { ...line.create, content: { creator: alice, room_version: "elsewhere" } } as Event
      assert.include(line.version.authorise(otherVersion, () => undefined)?.rule, "names the room version")
      const moved = { ...line.create, sender: bob } as Event
      assert.strictEqual(line.version.authorise(moved, () => undefined) === undefined, id === "12")
      const { creator: _, ...content } = line.create.content
      const nobodys = { ...line.create, content } as Event
      assert.strictEqual(line.version.authorise(nobodys, () => undefined) === undefined, Number(id) > 10)
    }
  })
})

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

describe("m.room.aliases", () => {
  it("belongs to a server before version 6, whatever the levels, and is like other state later", () => {
    for (const id of ids) {
      const line = room(id).allows(room(id).member(dave, dave, "join"))
      const own = say(dave, "m.room.aliases", { aliases: [] }, "two.example")
      const other = say(bob, "m.room.aliases", { aliases: [] }, "one.example")
      if (Number(id) < 6) line.allows(own).refuses(other, "The state key of m.room.aliases is the server of its sender")
      else line.allows(other).refuses(own, "An event takes the power level of its type")
    }
  })
})

describe("Power levels", () => {
  const change = (line: Line, changes: JsonObject) => {
    const { content } = line.state("m.room.power_levels", "")!
    return { type: "m.room.power_levels", sender: bob, state_key: "", content: { ...content, ...changes } }
  }

  const leveled = (id: string): Line => {
    const line = room(id)
    return line.allows(line.levels(alice, { [bob]: 50, [dave]: 50 }, { events: { "m.room.power_levels": 50, x: 60 } }))
  }

  it("are not given or taken beyond one's own", () => {
    for (const id of ids) {
      const line = leveled(id)
      const { users, events } = line.state("m.room.power_levels", "")!.content as {
        users: JsonObject
        events: JsonObject
      }
      const rule = "Users cannot give or take a power level above their own"
      const { x: _, ...withoutX } = events
      for (const changes of [
        { users: { ...users, [carol]: 51 } },
        { users: { ...users, [bob]: 51 } },
        { users: { ...users, [dave]: 0 } },
        { events: { ...events, y: 51 } },
        { events: { ...events, x: 10 } },
        { events: withoutX },
        { ban: 51 },
        { users_default: 51 }
      ] as ReadonlyArray<JsonObject>) {
        line.refuses(change(line, changes), rule)
      }
      line.allows(change(line, { users: { ...users, [carol]: 50 }, ban: 50, kick: 10 }))
      line.allows(change(line, { users: { ...users, [carol]: 50, [bob]: 49 } }))
    }
  })

  it("of notifications are checked from version 6", () => {
    for (const id of ids) {
      const line = leveled(id)
      const above = change(line, { notifications: { room: 51 } })
      if (Number(id) < 6) line.allows(above)
      else line.refuses(above, "Users cannot give or take a power level above their own")
    }
  })

  it("are integers from version 10; before also text, and in versions 1 to 5 fractions", () => {
    for (const id of ids) {
      const line = leveled(id)
      for (const [level, read] of [
        ["10", 10],
        [" +0010 ", 10],
        ["-5", -5]
      ] as const) {
        const text = change(line, { users_default: level })
        if (Number(id) >= 10) line.refuses(text, "Power levels are integers")
        else assert.strictEqual(line.allows(text).version.levels(line.state).user(carol), read)
      }
      for (const wrong of ["ten", "1.5", "", "1e1", null, [1], {}] as ReadonlyArray<Json>) {
        line.refuses(change(line, { kick: wrong }), "Power levels are integers")
      }
    }
    for (const id of ids.slice(0, 5)) {
      const line = leveled(id)
      const content = { ...line.state("m.room.power_levels", "")!.content, users_default: 9.99 }
      const event = { ...line.build(change(line, {})), content } as Event
      assert.isUndefined(line.version.authorise(event, line.state))
      assert.strictEqual(line.version.levels((type) => (type === "m.room.create" ? line.create : event)).user(carol), 9)
    }
  })

  it("name users by their IDs", () => {
    for (const id of ids) {
      const line = leveled(id)
      for (const users of [{ carol: 1 }, { "@carol": 1 }, [], "x", { [carol]: null }] as ReadonlyArray<Json>) {
        line.refuses(change(line, { users }), "Power levels name users by their IDs")
      }
    }
  })
})

describe("Redactions", () => {
  const strips = (line: Line, sender: UserId, target: Event): string | undefined => {
    const redaction = line.build({ type: "m.room.redaction", sender, content: {}, redacts: target.event_id })
    return line.version.authoriseRedaction(redaction, target, line.state)?.rule
  }

  it("take the level `redact`, or an event of the sender's server", () => {
    for (const id of ids) {
      const line = room(id)
      line.allows(line.member(carol, carol, "join")).allows(line.member(dave, dave, "join"))
      const ofBob = line.build(say(bob, "m.room.message"))
      assert.isUndefined(strips(line, bob, line.build(say(carol, "m.room.message"))))
      assert.isUndefined(strips(line, dave, ofBob))
      assert.include(strips(line, carol, ofBob), "takes the power level `redact`")
      assert.strictEqual(strips(line, alice, line.create), "m.room.create cannot be redacted")
      const elsewhere = { ...ofBob, room_id: room("1").create.room_id }
      assert.strictEqual(strips(line, alice, elsewhere), "A redaction strips an event of its own room")
    }
  })

  it("are refused in versions 1 and 2 where they may not take effect, and allowed later", () => {
    for (const id of ids) {
      const line = room(id)
      line.allows(line.member(carol, carol, "join"))
      const target = line.build(say(bob, "m.room.message"))
      const redaction = { type: "m.room.redaction", sender: carol, content: {}, redacts: target.event_id }
      if (Number(id) < 3) line.refuses(redaction, "Users redact events of their own server")
      else line.allows(redaction)
    }
  })
})

describe("Invites by a token", () => {
  const identityKey = generateSigningKey("id.example" as ServerName, "ed25519:0")
  const publicKey = encodeBase64(exportVerifyKey(verifyKeyOf(identityKey)))

  const signed = (mxid: string, token = "token"): JsonObject =>
    Result.getOrThrow(signJson({ mxid, token }, identityKey))

  const invite = (line: Line, by: UserId, proof: Json, whom = carol) =>
    line.member(by, whom, "invite", { third_party_invite: { display_name: "c...", signed: proof } })

  const withToken = (id: string, content: JsonObject = { public_key: publicKey }): Line =>
    room(id).allows(say(bob, "m.room.third_party_invite", content, "token"))

  it("are signed by a key that was left with the token", () => {
    for (const id of ids) {
      for (const content of [
        { public_key: publicKey },
        { public_keys: [{ public_key: "A".repeat(43) }, { public_key: publicKey }] },
        { public_key: publicKey.replaceAll("+", "-").replaceAll("/", "_") }
      ]) {
        withToken(id, content).allows(invite(withToken(id, content), bob, signed(carol)))
      }
      const other = withToken(id, { public_key: "A".repeat(43) })
      other.refuses(invite(other, bob, signed(carol)), "is signed by a key that the token names")
    }
  })

  it("third-party invites are valid for the user that the identity server names, from the sender of the token, and not for banned users", () => {
    for (const id of ids) {
      const line = withToken(id)
      const ofToken = "An invite by a token comes from the user who stored the token"
      line.refuses(invite(line, bob, signed(dave)), "what an identity server signed for the invited user")
      line.refuses(invite(line, bob, null), "what an identity server signed for the invited user")
      line.refuses(invite(line, bob, signed(carol, "other")), ofToken)
      line.refuses(invite(line, alice, signed(carol)), ofToken)
      line.refuses(invite(line, bob, { ...signed(carol), more: 1 }), ofToken)
      line.allows(line.member(alice, carol, "ban"))
      line.refuses(invite(line, bob, signed(carol)), "Banned users cannot be invited")
    }
  })

  it("are tried with 32 keys and signatures at most", () => {
    const others = Array.from({ length: 40 }, (_, n) =>
      encodeBase64(exportVerifyKey(verifyKeyOf(generateSigningKey("x" as ServerName, `ed25519:${n}`))))
    )
    const listed = (...keys: ReadonlyArray<string>) => ({ public_keys: keys.map((public_key) => ({ public_key })) })
    const within = withToken("12", listed(...others.slice(0, 30), publicKey))
    within.allows(invite(within, bob, signed(carol)))
    const beyond = withToken("12", listed(...others, publicKey))
    beyond.refuses(invite(beyond, bob, signed(carol)), "is signed by a key that the token names")
  })

  it("third-party invites need the power to invite", () => {
    for (const id of ids) {
      const line = room(id)
      line.allows(line.member(carol, carol, "join")).allows(line.levels(alice, { [bob]: 50 }, { invite: 50 }))
      line.refuses(say(carol, "m.room.third_party_invite", {}, "token"), "Inviting takes the power level `invite`")
    }
  })
})
