/**
 * Invariants of rooms of every version: servers that have the same events come to the same state, and no user gets a power
 * level that nobody with that level gave them.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { EventProposal, RoomVersion, StateMap } from "@greenroom/room/RoomVersion"
import { roomVersion, roomVersions } from "@greenroom/room/RoomVersions"
import { type VerifyKeys, verifyKeyOf } from "@greenroom/room/Signing"
import { resolveStates } from "@greenroom/room/StateConflict"
import { Result } from "effect"
import * as fc from "fast-check"
import { Replica } from "./support/Replica.ts"
import { keyOf, serverOf, user } from "./support/TestRoom.ts"

const alice = user("alice")
const bob = user("bob", "two.example")
const carol = user("carol", "three.example")
const dave = user("dave")
const mallory = user("mallory", "two.example")

const servers = ["one.example", "two.example", "three.example"]
const verifyKeysOf = (server: ServerName): VerifyKeys => new Map([["ed25519:1", verifyKeyOf(keyOf(server))]])
const people = [alice, bob, carol, dave, mallory]

const state = (roomId: RoomId, sender: UserId, type: string, content: JsonObject, stateKey = ""): EventProposal => ({
  room_id: roomId,
  sender,
  type,
  content,
  state_key: stateKey
})

const member = (roomId: RoomId, sender: UserId, target: UserId, membership: string, more: JsonObject = {}) =>
  state(roomId, sender, "m.room.member", { ...more, membership }, target)

/** A room of alice with bob as moderator, carol and mallory. */
const begin = (version: RoomVersion): Replica => {
  const replica = new Replica(version)
  const proposal = { type: "m.room.create", state_key: "", sender: alice, content: {} }
  const create = Result.getOrThrow(version.createRoom(proposal, keyOf("one.example"), 0))
  replica.receive(create)
  const { room_id } = create
  const first = [
    member(room_id, alice, alice, "join"),
    state(room_id, alice, "m.room.power_levels", levelsFor(version, { [bob]: 50 })),
    state(room_id, alice, "m.room.join_rules", { join_rule: "public" }),
    ...[bob, carol, mallory].map((entry) => member(room_id, entry, entry, "join"))
  ]
  for (const eventProposal of first)
    replica.receive(replica.make(eventProposal, serverOf(eventProposal.sender), replica.events.size))
  assert.strictEqual(replica.rejected.size, 0)
  assert.strictEqual(replica.events.size, 7)
  return replica
}

const levelsFor = (version: RoomVersion, users: JsonObject, more: JsonObject = {}): JsonObject => ({
  ...more,
  users: version.privilegesCreators ? users : { [alice]: 100, ...users }
})

/** An attempt of a user to send an event. Numbers choose among the users, events and values of that moment. */
interface Step {
  readonly server: number
  readonly actor: number
  readonly target: number
  readonly action: number
  readonly level: number
  readonly time: number
  /** Hostile: cites an old place in the graph, and the auth events of yet another. */
  readonly hostile: boolean
  readonly prev: ReadonlyArray<number>
  readonly auth: number
  /** Which server gets all events of which, afterwards. */
  readonly sync: readonly [to: number, from: number] | undefined
}

const joinRules = ["public", "invite", "knock", "restricted", "knock_restricted"]
const actions = 12

const steps = fc.array(
  fc.record<Step>({
    server: fc.nat(2),
    actor: fc.nat(people.length - 1),
    target: fc.nat(people.length - 1),
    action: fc.nat(actions - 1),
    level: fc.constantFrom(0, 10, 50, 51, 100, 101),
    time: fc.nat(20),
    hostile: fc.boolean(),
    prev: fc.array(fc.nat(), { minLength: 1, maxLength: 3 }),
    auth: fc.nat(),
    sync: fc.option(fc.tuple(fc.nat(2), fc.nat(2)), { nil: undefined })
  }),
  { maxLength: 30 }
)

const proposalOf = (version: RoomVersion, room: RoomId, step: Step): EventProposal => {
  const { action, actor, level, target, time } = step
  const sender = people[actor]!
  const other = people[target]!
  const creators = version.privilegesCreators ? [alice] : []
  const users = Object.fromEntries(
    Object.entries({ [bob]: 50, [other]: level }).filter(([userId]) => !creators.includes(userId as UserId))
  )
  const named = creators.includes(sender) ? users : { ...users, [sender]: level }
  return [
    member(room, sender, sender, "join"),
    member(room, sender, sender, "join", { join_authorised_via_users_server: other }),
    member(room, sender, sender, "knock"),
    member(room, sender, sender, "leave"),
    member(room, sender, other, "invite"),
    member(room, sender, other, "leave"),
    member(room, sender, other, "ban"),
    state(room, sender, "m.room.power_levels", levelsFor(version, named)),
    state(room, sender, "m.room.power_levels", levelsFor(version, users, { ban: level, state_default: level })),
    state(room, sender, "m.room.join_rules", { join_rule: joinRules[time % joinRules.length]! }),
    state(room, sender, "m.room.topic", { topic: `${level}` }),
    { room_id: room, sender, type: "m.room.message", content: { body: `${time}` } }
  ][action]!
}

const buildStep = (replica: Replica, step: Step, n: number): Event | undefined => {
  const known = [...replica.events.keys()]
  const room = [...replica.events.values()][0]!.room_id
  const proposal = proposalOf(replica.version, room, step)
  const prev = step.hostile ? [...new Set(step.prev.map((entry) => known[entry % known.length]!))] : replica.extremities
  const authState = step.hostile ? replica.stateAfter([known[step.auth % known.length]!]) : replica.stateAfter(prev)
  const event = replica.make(
    { ...proposal, content: { ...proposal.content, n } },
    serverOf(proposal.sender),
    step.time,
    prev,
    authState
  )
  return step.hostile || replica.wouldAllow(event) ? event : undefined
}

/** Takes the steps on three servers, which exchange events only where a step says so. */
const play = (version: RoomVersion, story: ReadonlyArray<Step>) => {
  const events = [...begin(version).events.values()]
  const replicas = servers.map(() => new Replica(version))
  for (const replica of replicas) for (const event of events) replica.receive(event)
  story.forEach((step, n) => {
    const replica = replicas[step.server]!
    const event = buildStep(replica, step, n)
    if (event !== undefined) {
      events.push(event)
      replica.receive(event)
    }
    if (step.sync !== undefined) {
      for (const entry of replicas[step.sync[1]]!.events.values()) replicas[step.sync[0]]!.receive(entry)
    }
  })
  return { replicas, events }
}

const levelsAfter = (version: RoomVersion, story: ReadonlyArray<Step>): ((userId: UserId) => number) => {
  const { replicas, events } = play(version, story)
  const replica = replicas[0]!
  for (const event of events) replica.receive(event)
  return version.levels(replica.lookupIn(replica.state)).user
}

const luck = fc.array(fc.nat(1_000), { minLength: 64, maxLength: 64 })
const numRuns = 25

for (const id of ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]) {
  describe(`Room version ${id}`, () => {
    const version = roomVersion(id)!

    it("comes to the same state on every server, whatever the order of arrival", () => {
      fc.assert(
        fc.property(steps, luck, (story, chance) => {
          const { replicas, events } = play(version, story)
          for (const replica of replicas) for (const event of events) replica.receive(event)
          const shuffled = events
            .map((event, n) => [chance[n % chance.length]! * (n + 1), event] as const)
            .sort(([a], [b]) => (a % 101) - (b % 101))
            .map(([, event]) => event)
          const strangers = [new Replica(version), new Replica(version)]
          for (const event of shuffled) strangers[0]!.receive(event)
          for (const event of [...events].reverse()) strangers[1]!.receive(event)
          const all = [...replicas, ...strangers]
          for (const replica of all) {
            assert.strictEqual(replica.events.size, events.length)
            assert.deepStrictEqual(replica.summary, all[0]!.summary)
            assert.deepStrictEqual([...replica.rejected].sort(), [...all[0]!.rejected].sort())
          }
        }),
        { numRuns }
      )
    })

    it("resolves states in any order to the same state, and a state with itself to itself", () => {
      fc.assert(
        fc.property(steps, (story) => {
          const { replicas, events } = play(version, story)
          const states = replicas.map((replica) => replica.state)
          const lookup = new Map(events.map((event) => [event.event_id, event]))
          const resolve = (order: ReadonlyArray<StateMap>) =>
            [...resolveStates(version.stateResolution, order, (eventId: EventId) => lookup.get(eventId))].sort()
          assert.deepStrictEqual(resolve(states), resolve([...states].reverse()))
          assert.deepStrictEqual(resolve([states[0]!, states[0]!]), [...states[0]!].sort())
        }),
        { numRuns }
      )
    })

    it("forks, orders and false citations give no power to users without it", () => {
      fc.assert(
        fc.property(steps, (story) => {
          // Mallory may try anything; the others never name mallory in the power levels.
          const named = (step: Step): Step =>
            step.actor !== 4 && people[step.target] === mallory ? { ...step, target: 3 } : step
          const levels = levelsAfter(version, story.map(named))
          assert.isAtMost(levels(mallory), 0)
          // A creator, who is above all levels, may give any level.
          const most = version.privilegesCreators ? 101 : 100
          for (const person of people.slice(1)) assert.isAtMost(levels(person), most)
        }),
        { numRuns }
      )
    })

    it("reads its own events from their PDUs, and verifies them, redacted or not", () => {
      fc.assert(
        fc.property(steps, (story) => {
          for (const event of play(version, story).events) {
            const { replaces_state: _, ...own } = event
            const read = Result.getOrThrow(version.fromPdu(JSON.parse(JSON.stringify(version.toPdu(event)))))
            assert.deepStrictEqual(read, own as Event)
            const signers = version.signers(read)
            const ofSender = signers.filter((signer) => signer === serverOf(event.sender))
            assert.deepStrictEqual(Object.keys(read.signatures), ofSender)
            // A voucher of another server has signed nothing here.
            const isSigned = ofSender.length === signers.length
            const verified = version.verify(read, verifyKeysOf)
            assert.deepStrictEqual(Result.getOrUndefined(verified), isSigned ? read : undefined)
            const redacted = version.redact(read)
            const verifiedRedacted = version.verify(redacted, verifyKeysOf)
            if (version.signers(redacted).length === ofSender.length)
              assert.deepStrictEqual(Result.getOrUndefined(verifiedRedacted), redacted)
            assert.strictEqual(Result.getOrThrow(version.fromPdu(version.toPdu(redacted))).event_id, event.event_id)
          }
        }),
        { numRuns: 10 }
      )
    })
  })
}

describe("The table of room versions", () => {
  it("has the draft's version and the versions 1 to 12, and no other", () => {
    const numbers = Array.from({ length: 12 }, (_, n) => `${n + 1}`)
    assert.deepStrictEqual([...roomVersions.keys()], ["1-draft", ...numbers])
    assert.isUndefined(roomVersion("13"))
    assert.isUndefined(roomVersion("constructor"))
  })

  it("lists the parts of a version", () => {
    const having = (has: (version: RoomVersion) => boolean) =>
      [...roomVersions.values()].filter(has).map((version) => version.id)
    const since = (first: number) => Array.from({ length: 13 - first }, (_, n) => `${n + first}`)
    assert.deepStrictEqual(
      having(({ namesReferenceHashes }) => namesReferenceHashes),
      ["1", "2"]
    )
    assert.deepStrictEqual(
      having(({ enforcesKeyValidity }) => enforcesKeyValidity),
      ["1-draft", ...since(5)]
    )
    assert.deepStrictEqual(
      having(({ knockRules }) => knockRules.size > 0),
      ["1-draft", ...since(7)]
    )
    assert.deepStrictEqual(
      having(({ restrictedRules }) => restrictedRules.size > 0),
      since(8)
    )
    assert.deepStrictEqual(
      having(({ restrictedRules }) => restrictedRules.has("knock_restricted")),
      since(10)
    )
    assert.deepStrictEqual(
      having(({ redactsInContent }) => redactsInContent),
      since(11)
    )
    assert.deepStrictEqual(
      having(({ namesCreator }) => !namesCreator),
      since(11)
    )
    assert.deepStrictEqual(
      having(({ privilegesCreators }) => privilegesCreators),
      ["12"]
    )
    assert.deepStrictEqual(
      having(({ createEventId }) => createEventId("!x" as RoomId) !== undefined),
      ["12"]
    )
  })
})
