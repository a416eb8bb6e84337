/**
 * Events that Synapse would not make, one for each rule, with the verdict of Synapse: authorisation rules, formats, redactions.
 */
import { generateKeyPairSync } from "node:crypto"
import { stateKeyOf } from "./EventTables.ts"
import { type Attempt, type Draft, Forger } from "./Forger.ts"
import { verdictWithin } from "./Pair.ts"
import { levelsOf, type Scene, type Stage } from "./Scene.ts"
import { publicKey, signature } from "./SignedJson.ts"

type Content = { readonly [key: string]: unknown }

const tokenKey = generateKeyPairSync("ed25519").privateKey

/** A public room: bob has 100 like alice, andy and ben 50; carl is banned, dora invited, bea kicked, zoe a stranger. */
const createRoom = async (stage: Stage): Promise<string> => {
  const { pair, people, version } = stage
  const { alice, andy, bea, bella, ben, bob, carl, dora } = people
  const room = await alice.createRoom({
    room_version: `${version}`,
    preset: "public_chat",
    name: "Forgeries",
    power_level_content_override: { users: levelsOf(stage, { alice: 100 }) }
  })
  await alice.set(room, "m.room.power_levels", {
    users: levelsOf(stage, { alice: 100, andy: 50, bob: 100, ben: 50 }),
    invite: 50,
    events: { "m.room.name": 60, "m.room.power_levels": 90 },
    notifications: { room: 50 }
  })
  await andy.join(room)
  for (const joiner of [bob, ben, bella, bea]) await joiner.join(room, pair.a.name)
  await alice.ban(room, carl)
  await alice.invite(room, dora)
  await alice.kick(room, bea)
  await bob.set(room, "m.room.third_party_invite", { display_name: "z...", public_key: publicKey(tokenKey) }, "token")
  await pair.settle(room, alice, bob)
  return room
}

class Scribe {
  private readonly stage: Stage
  private readonly levels: Content
  constructor(stage: Stage, levels: Content) {
    this.stage = stage
    this.levels = levels
  }

  message = (sender: keyof Stage["people"], others: Partial<Draft> = {}): Draft => ({
    type: "m.room.message",
    sender: this.stage.people[sender].id,
    content: { msgtype: "m.text", body: "forged" },
    ...others
  })

  state = (sender: keyof Stage["people"], type: string, content: Content, state_key: unknown = ""): Draft => ({
    type,
    sender: this.stage.people[sender].id,
    content,
    state_key
  })

  member = (
    sender: keyof Stage["people"],
    membership: unknown,
    target: keyof Stage["people"] = sender,
    others: Content = {}
  ): Draft => this.state(sender, "m.room.member", { membership, ...others }, this.stage.people[target].id)

  /** Power levels with some replaced. */
  power = (sender: keyof Stage["people"], changed: Content): Draft =>
    this.state(sender, "m.room.power_levels", { ...this.levels, ...changed })

  /** Power levels with those of some users replaced. */
  users = (sender: keyof Stage["people"], changed: Content): Draft =>
    this.power(sender, { users: { ...(this.levels.users as Content), ...changed } })
}

const memberships = ({ member }: Scribe): ReadonlyArray<Attempt> => [
  ["join of a stranger to a public room", member("zoe", "join")],
  ["join of a banned user", member("carl", "join")],
  ["join of an invited user", member("dora", "join")],
  ["join of a kicked user to a public room", member("bea", "join")],
  ["join in the name of another", member("bob", "join", "zoe")],
  ["invite by a moderator", member("ben", "invite", "zoe")],
  ["invite below the level for it", member("bella", "invite", "zoe")],
  ["invite of a joined user", member("ben", "invite", "bella")],
  ["invite of a banned user", member("bob", "invite", "carl")],
  ["invite by a stranger", member("zoe", "invite", "bea")],
  ["leave of a stranger", member("zoe", "leave")],
  ["leave of an invited user", member("dora", "leave")],
  ["leave of a banned user", member("carl", "leave")],
  ["kick of an equal", member("ben", "leave", "andy")],
  ["kick of a lesser", member("ben", "leave", "bella")],
  ["kick below the level for it", member("bella", "leave", "dora")],
  ["kick of the creator", member("bob", "leave", "alice")],
  ["unban by a moderator", member("ben", "leave", "carl")],
  ["unban below the level for it", member("bella", "leave", "carl")],
  ["ban of an equal", member("ben", "ban", "andy")],
  ["ban of a stranger", member("ben", "ban", "zoe")],
  ["ban of oneself", member("ben", "ban")],
  ["ban below the level for it", member("bella", "ban", "zoe")],
  ["knock on a public room", member("zoe", "knock")],
  ["knock of a joined user", member("bella", "knock")],
  ["unknown membership", member("bella", "lurk")],
  ["membership that is no text", member("bella", 1)],
  ["membership that is missing", member("bella", undefined)],
  ["join again", member("bella", "join", "bella", { displayname: "Bella again" })],
  ["membership for something that is no user ID", { ...member("bob", "invite"), state_key: "nobody" }]
]

const powerLevels = ({ power, users }: Scribe, { people, version }: Stage): ReadonlyArray<Attempt> => [
  ["levels by the highest", users("bob", { [people.bella.id]: 10 })],
  ["levels below the level for it", users("ben", { [people.bella.id]: 10 })],
  ["levels that raise oneself", users("bob", { [people.bob.id]: 101 })],
  ["levels that lower oneself", users("bob", { [people.bob.id]: 99 })],
  ["levels that raise another above oneself", users("bob", { [people.ben.id]: 101 })],
  ["levels that lower an equal", users("bob", version < 12 ? { [people.alice.id]: 50 } : {})],
  ["levels that name a creator", users("bob", { [people.alice.id]: 100 })],
  ["level of a user as text", users("bob", { [people.bella.id]: "10" })],
  ["level of a user as text with spaces", users("bob", { [people.bella.id]: " 10 " })],
  ["level of a user as text that is no number", users("bob", { [people.bella.id]: "ten" })],
  ["level of a user as text with a fraction", users("bob", { [people.bella.id]: "10.5" })],
  ["level of a user as fraction", users("bob", { [people.bella.id]: 10.5 })],
  ["level of a user as boolean", users("bob", { [people.bella.id]: true })],
  ["level of a user as null", users("bob", { [people.bella.id]: null })],
  ["level of a user as list", users("bob", { [people.bella.id]: [10] })],
  ["level of a user, negative", users("bob", { [people.bella.id]: -10 })],
  ["level of a user, too large", users("bob", { [people.bella.id]: 2 ** 53 })],
  ["level of something that is no user ID", users("bob", { bella: 10 })],
  ["levels without users", power("bob", { users: undefined })],
  ["users that are a list", power("bob", { users: [] })],
  ["users that are text", power("bob", { users: "all" })],
  ["events that are a list", power("bob", { events: [] })],
  ["events that are null", power("bob", { events: null })],
  ["level of an event as text", power("bob", { events: { "m.room.name": "60" } })],
  ["level of an event above oneself", power("bob", { events: { "m.room.name": 101 } })],
  ["ban as text", power("bob", { ban: "50" })],
  ["ban above oneself", power("bob", { ban: 101 })],
  ["users_default as text", power("bob", { users_default: "0" })],
  ["notifications above oneself", power("bob", { notifications: { room: 101 } })],
  ["notifications as text", power("bob", { notifications: { room: "50" } })],
  ["notifications that are a list", power("bob", { notifications: [] })],
  ["levels that are empty", { ...power("bob", {}), content: {} }],
  ["levels with a state key", { ...power("bob", {}), state_key: "other" }]
]

const states = ({ message, state }: Scribe, { pair, people }: Stage): ReadonlyArray<Attempt> => [
  ["message of a member", message("bella")],
  ["message of a stranger", message("zoe")],
  ["message of a banned user", message("carl")],
  ["message of an invited user", message("dora")],
  ["state at the level for it", state("ben", "m.room.topic", { topic: "forged" })],
  ["state below the level for it", state("bella", "m.room.topic", { topic: "forged" })],
  ["state below the level of its type", state("ben", "m.room.name", { name: "forged" })],
  ["state of one's own key", state("ben", "org.example.note", {}, people.ben.id)],
  ["state of the key of another", state("bob", "org.example.note", {}, people.ben.id)],
  ["second create event", state("bob", "m.room.create", { creator: people.bob.id })],
  ["aliases of one's own server", state("bella", "m.room.aliases", { aliases: [] }, pair.b.name)],
  ["aliases of another server", state("bob", "m.room.aliases", { aliases: [] }, pair.a.name)],
  ["aliases without a state key", { ...message("bob"), type: "m.room.aliases", content: { aliases: [] } }],
  ["third-party invite below the level for it", state("bella", "m.room.third_party_invite", {}, "other")],
  ["join rules that are unknown", state("bob", "m.room.join_rules", { join_rule: "sometimes" })],
  ["member event without a state key", { ...message("bob"), type: "m.room.member", content: { membership: "join" } }]
]

/** Ways to choose `auth_events` wrongly. */
const authEvents = ({ message }: Scribe, { state }: Forger, { people, version }: Stage): ReadonlyArray<Attempt> => {
  const idOf = (type: string, stateKey = "") => state.get(stateKeyOf(type, stateKey)) ?? ""
  const create = version < 12 ? [idOf("m.room.create")] : []
  const levels = idOf("m.room.power_levels")
  const bella = idOf("m.room.member", people.bella.id)
  const attempt = (...authEvents: ReadonlyArray<string>) => message("bella", { authEvents })
  return [
    ["auth events with one that is not needed", attempt(...create, levels, bella, idOf("m.room.name"))],
    ["auth events with one of another member", attempt(...create, levels, bella, idOf("m.room.member", people.ben.id))],
    ["auth events with a duplicate", attempt(...create, levels, bella, bella)],
    ["auth events without the member", attempt(...create, levels)],
    ["auth events without the levels", attempt(...create, bella)],
    [
      "auth events without create, or with it where it must not be",
      attempt(...(version < 12 ? [] : [idOf("m.room.create")]), levels, bella)
    ],
    ["auth events that are empty", attempt()]
  ]
}

/** Canonical JSON, sizes, hashes and signatures. */
const forms = ({ message, state }: Scribe, { pair }: Stage): ReadonlyArray<Attempt> => [
  ["fraction in the content", message("bella", { content: { number: 1.5 } })],
  ["largest number", message("bella", { content: { number: 2 ** 53 - 1 } })],
  ["number that is too large", message("bella", { content: { number: 2 ** 53 } })],
  ["number that is too small", message("bella", { content: { number: -(2 ** 53) } })],
  ["text beyond ASCII", message("bella", { content: { ключ: '値\u0000\u2028🦊\\"/' } })],
  ["type of 255 bytes", message("bella", { type: "t".repeat(255) })],
  ["type of 256 bytes", message("bella", { type: "t".repeat(256) })],
  ["type of 255 characters and more bytes", message("bella", { type: "ü".repeat(200) })],
  ["state key of 256 bytes", state("bob", "org.example.note", {}, "k".repeat(256))],
  ["state key that is a number", state("bob", "org.example.note", {}, 1)],
  ["state key that is null", state("bob", "org.example.note", {}, null)],
  ["depth that is text", message("bella", { others: { depth: "20" } })],
  ["depth that is too large", message("bella", { others: { depth: 2 ** 53 } })],
  ["depth that is negative", message("bella", { others: { depth: -1 } })],
  ["keys that are unknown", message("bella", { others: { "org.example.key": { any: ["thing"] }, prev_state: [] } })],
  ["origin of another server", message("bella", { others: { origin: pair.a.name } })],
  ["without origin_server_ts", message("bella", { others: { origin_server_ts: undefined } })],
  ["wrong content hash", message("bella", { contentHash: "A".repeat(43) })],
  [
    "content changed after it was signed",
    message("bella", { tampered: (pdu) => ({ ...pdu, content: { body: "changed" } }) })
  ],
  [
    "kept key changed after it was signed",
    message("bella", { tampered: (pdu) => ({ ...pdu, depth: Number(pdu.depth) + 1 }) })
  ],
  ["without a signature", message("bella", { tampered: (pdu) => ({ ...pdu, signatures: {} }) })],
  [
    "without hashes",
    message("bella", { tampered: ({ hashes: _, ...pdu }) => pdu as typeof pdu & { type: string; content: Content } })
  ],
  ["sender of another server", message("andy")],
  ["content that is a list", message("bella", { content: [] as unknown as Content })]
]

const redactions = (
  { message }: Scribe,
  { redactable }: { readonly redactable: { readonly alices: string; readonly bens: string } }
): ReadonlyArray<Attempt> => {
  const redaction = (sender: "bella" | "ben" | "bob", redacts: unknown, where: "both" | "content" | "top"): Draft =>
    message(sender, {
      type: "m.room.redaction",
      content: { reason: where, ...(where === "top" ? {} : { redacts }) },
      ...(where === "content" ? {} : { others: { redacts } })
    })
  return [
    ["redaction of another's event below the level, other server", redaction("bella", redactable.alices, "both")],
    ["redaction of another's event below the level, same server", redaction("bella", redactable.bens, "both")],
    ["redaction of an unknown event", redaction("ben", "$unknown:localhost", "both")],
    ["redaction of something that is no event ID", redaction("ben", 1, "both")],
    ["redaction of nothing", message("ben", { type: "m.room.redaction", content: {} })],
    ["redaction named in the content only", redaction("ben", redactable.alices, "content")],
    ["redaction named at the top only", redaction("bob", redactable.alices, "top")]
  ]
}

const thirdParty = ({ member }: Scribe, { people }: Stage): ReadonlyArray<Attempt> => {
  const signed = (mxid: string, token = "token") => {
    const body = { mxid, token }
    return { ...body, signatures: { "id.localhost": { "ed25519:0": signature(body, tokenKey) } } }
  }
  const invite = (signed: unknown) =>
    member("bob", "invite", "zoe", { third_party_invite: { display_name: "z...", signed } })
  return [
    ["third-party invite", invite(signed(people.zoe.id))],
    ["third-party invite for another user", invite(signed(people.bea.id))],
    ["third-party invite with an unknown token", invite(signed(people.zoe.id, "unknown"))],
    ["third-party invite that is not signed", invite({ mxid: people.zoe.id, token: "token" })],
    [
      "third-party invite with a wrong signature",
      invite({ ...signed(people.zoe.id), signatures: signed(people.bea.id).signatures })
    ],
    [
      "third-party invite by a user other than the one who left the token",
      { ...invite(signed(people.zoe.id)), sender: people.ben.id }
    ],
    ["third-party invite without signed", invite(undefined)]
  ]
}

/** Events that follow or cite others that were rejected or soft-failed. */
const followers = ({ message }: Scribe, forger: Forger, { people, version }: Stage): ReadonlyArray<Attempt> => {
  const idOf = (type: string, stateKey = "") => forger.state.get(stateKeyOf(type, stateKey)) ?? ""
  const create = version < 12 ? [idOf("m.room.create")] : []
  const rejected = forger.idOf("levels below the level for it")
  const accepted = forger.idOf("levels by the highest")
  const bella = idOf("m.room.member", people.bella.id)
  return [
    ["message after a rejected event", message("bella", { prevEvents: [rejected] })],
    ["message that cites a rejected event", message("bella", { authEvents: [...create, rejected, bella] })],
    ["message that cites levels from a fork", message("bella", { authEvents: [...create, accepted, bella] })],
    ["message after two forks", message("bella", { prevEvents: [accepted, forger.idOf("ban above oneself")] })],
    ["message after a fork", message("bella", { prevEvents: [accepted], authEvents: [...create, accepted, bella] })]
  ]
}

/** A room that takes no part in federation. */
export const unfederated: Scene = {
  name: "unfederated",
  run: async (stage) => {
    const { alice, andy } = stage.people
    const room = await alice.createRoom({
      room_version: `${stage.version}`,
      preset: "public_chat",
      creation_content: { "m.federate": false }
    })
    await andy.join(room)
    const forger = await Forger.after(stage, room)
    const { member, message } = new Scribe(stage, {})
    await forger.attempt([
      ["join from another server", member("bob", "join")],
      ["message from another server", message("bob")]
    ])
    for (const { event_id } of forger.forgeries) await verdictWithin(stage.pair.a.tables, event_id)
    return { room, forgeries: forger.forgeries }
  }
}

/** Alice merges what was accepted, until one forward extremity is left. */
const merge = async ({ pair, people }: Stage, room: string) => {
  for (let round = 0; round < 20; round++) {
    const merged = await people.alice.sendText(room, "merged")
    const left = pair.a.tables.forwardExtremities(room)
    if (left.length === 1 && left[0] === merged) return
  }
  throw new Error(`${room} still has several forward extremities`)
}

/** Versions 2, 4 and 5 have the authorisation rules of the version before them. */
export const forgeries: Scene = {
  name: "forgeries",
  except: [2, 4, 5],
  run: async (stage) => {
    const { alice, ben, bob } = stage.people
    const room = await createRoom(stage)
    const redactable = { alices: await alice.sendText(room, "by alice"), bens: await ben.sendText(room, "by ben") }
    await stage.pair.settle(room, alice, bob)
    const levels = await alice.content(room, "m.room.power_levels")
    await stage.pair.cut()
    const forger = await Forger.after(stage, room)
    const scribe = new Scribe(stage, levels)
    await forger.send(states(scribe, stage))
    await forger.send(powerLevels(scribe, stage))
    await forger.send(memberships(scribe))
    await forger.send(authEvents(scribe, forger, stage))
    await forger.send(forms(scribe, stage))
    await forger.send(redactions(scribe, { redactable }))
    await forger.send(thirdParty(scribe, stage))
    await forger.send(followers(scribe, forger, stage))
    await merge(stage, room)
    return { room, forgeries: forger.forgeries }
  }
}

/** Memberships in a room with the rule `restricted`, whose members of a level of 50 may vouch for others. */
export const forgedJoins: Scene = {
  name: "forged-doors",
  from: 8,
  run: async (stage) => {
    const { pair, people } = stage
    const { alice, andy, bella, ben, bob, carl, dora } = people
    const room = await alice.createRoom({
      room_version: `${stage.version}`,
      preset: "public_chat",
      power_level_content_override: { users: levelsOf(stage, { alice: 100, andy: 50, bob: 100, ben: 50 }), invite: 50 }
    })
    await andy.join(room)
    for (const joiner of [bob, ben, bella]) await joiner.join(room, pair.a.name)
    await alice.ban(room, carl)
    await alice.invite(room, dora)
    const rules = { join_rule: "restricted", allow: [{ type: "m.room_membership", room_id: room }] }
    await alice.set(room, "m.room.join_rules", rules)
    await pair.settle(room, alice, bob)
    await pair.cut()
    const forger = await Forger.after(stage, room)
    const { member } = new Scribe(stage, {})
    const via = (whom: string, others: Partial<Draft> = {}, who: "carl" | "zoe" | "bella" | "dora" = "zoe"): Draft => ({
      ...member(who, "join", who, { join_authorised_via_users_server: whom }),
      ...others
    })
    await forger.send([
      ["restricted join by a user of one's own server", via(ben.id)],
      ["restricted join without a voucher", member("zoe", "join")],
      ["restricted join by a user below the level for it", via(bella.id)],
      ["restricted join by a user who is not in the room", via(dora.id)],
      ["restricted join by a user of another server that signs", via(andy.id, { alsoSignedBy: pair.a.signer })],
      ["restricted join by a user of another server that does not sign", via(andy.id)],
      ["restricted join by something that is no user ID", via("nobody")],
      ["restricted join of a banned user", via(ben.id, {}, "carl")],
      ["restricted join of a joined user without a voucher", member("bella", "join")],
      ["restricted join of an invited user without a voucher", member("dora", "join")],
      ["knock on a restricted room", member("zoe", "knock")]
    ])
    await merge(stage, room)
    return { room, forgeries: forger.forgeries }
  }
}
