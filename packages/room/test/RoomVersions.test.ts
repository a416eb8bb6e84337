/**
 * Properties of rooms of every version: servers with the same events have the same state, and no user gets a power level that no
 * user with that level has given.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { EventProposal, RoomVersion } from "@greenroom/room/RoomVersion"
import { roomVersion, roomVersions } from "@greenroom/room/RoomVersions"
import { type VerifyKeys, verifyKeyOf } from "@greenroom/room/Signing"
import { Result } from "effect"
import * as fc from "fast-check"
import {
  type Attempt,
  alice,
  assertCommutativity,
  assertConvergence,
  bob,
  carol,
  levelsAfter,
  mallory,
  orders,
  positionOf,
  randomAttempts,
  type Simulation,
  simulate,
  users,
  withoutHelpForMallory
} from "./support/RandomHistory.ts"
import { Replica } from "./support/Replica.ts"
import { keyOf, serverOf } from "./support/TestRoom.ts"

const verifyKeysOf = (server: ServerName): VerifyKeys => new Map([["ed25519:1", verifyKeyOf(keyOf(server))]])

const state = (roomId: RoomId, sender: UserId, type: string, content: JsonObject, stateKey = ""): EventProposal => ({
  room_id: roomId,
  sender,
  type,
  content,
  state_key: stateKey
})

const member = (roomId: RoomId, sender: UserId, target: UserId, membership: string, more: JsonObject = {}) =>
  state(roomId, sender, "m.room.member", { ...more, membership }, target)

/** A room that alice created, with bob as moderator, carol and mallory. */
const begin = (version: RoomVersion): Replica => {
  const replica = new Replica(version)
  const creation = { type: "m.room.create", state_key: "", sender: alice, content: {} }
  const create = Result.getOrThrow(version.createRoom(creation, keyOf("one.example"), 0))
  replica.receive(create)
  const { room_id } = create
  const proposals = [
    member(room_id, alice, alice, "join"),
    state(room_id, alice, "m.room.power_levels", levelsFor(version, { [bob]: 50 })),
    state(room_id, alice, "m.room.join_rules", { join_rule: "public" }),
    ...[bob, carol, mallory].map((entry) => member(room_id, entry, entry, "join"))
  ]
  for (const proposal of proposals) {
    replica.receive(replica.make(proposal, serverOf(proposal.sender), replica.events.size))
  }
  assert.strictEqual(replica.rejected.size, 0)
  assert.strictEqual(replica.events.size, 7)
  return replica
}

const levelsFor = (version: RoomVersion, users: JsonObject, more: JsonObject = {}): JsonObject => ({
  ...more,
  users: version.privilegesCreators ? users : { [alice]: 100, ...users }
})

const joinRules = ["public", "invite", "knock", "restricted", "knock_restricted"]
const attempts = randomAttempts(12, 30)

const proposalOf = (version: RoomVersion, room: RoomId, attempt: Attempt): EventProposal => {
  const { action, level, target, time } = attempt
  const sender = users[attempt.sender]!
  const other = users[target]!
  const creators = version.privilegesCreators ? [alice] : []
  const changed = Object.fromEntries(
    Object.entries({ [bob]: 50, [other]: level }).filter(([userId]) => !creators.includes(userId as UserId))
  )
  const withSender = creators.includes(sender) ? changed : { ...changed, [sender]: level }
  return [
    member(room, sender, sender, "join"),
    member(room, sender, sender, "join", { join_authorised_via_users_server: other }),
    member(room, sender, sender, "knock"),
    member(room, sender, sender, "leave"),
    member(room, sender, other, "invite"),
    member(room, sender, other, "leave"),
    member(room, sender, other, "ban"),
    state(room, sender, "m.room.power_levels", levelsFor(version, withSender)),
    state(room, sender, "m.room.power_levels", levelsFor(version, changed, { ban: level, state_default: level })),
    state(room, sender, "m.room.join_rules", { join_rule: joinRules[time % joinRules.length]! }),
    state(room, sender, "m.room.topic", { topic: `${level}` }),
    { room_id: room, sender, type: "m.room.message", content: { body: `${time}` } }
  ][action]!
}

const simulationOf = (version: RoomVersion): Simulation => ({
  version,
  initialEvents: () => [...begin(version).events.values()],
  build: (replica, attempt, index) => {
    const room = [...replica.events.values()][0]!.room_id
    const proposal = proposalOf(version, room, attempt)
    const { authState, prev } = positionOf(replica, attempt)
    const content = { ...proposal.content, n: index }
    return replica.make({ ...proposal, content }, serverOf(proposal.sender), attempt.time, prev, authState)
  }
})

const numRuns = 25

for (const id of ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]) {
  describe(`Room version ${id}`, () => {
    const version = roomVersion(id)!

    const simulation = simulationOf(version)

    it("servers with the same events have the same state, whatever the order of arrival", () => {
      fc.assert(
        fc.property(attempts, orders, (history, order) => assertConvergence(simulation, history, order)),
        { numRuns }
      )
    })

    it("states are resolved to the same state in any order, and a state with itself to itself", () => {
      fc.assert(
        fc.property(attempts, (history) => assertCommutativity(simulation, history)),
        { numRuns }
      )
    })

    it("forks, orders and wrong auth events give no power to users without it", () => {
      fc.assert(
        fc.property(attempts, (history) => {
          const levels = levelsAfter(simulation, history.map(withoutHelpForMallory))
          assert.isAtMost(levels(mallory), 0)
          // A creator, who is above all levels, may give any level.
          const most = version.privilegesCreators ? 101 : 100
          for (const userId of users) if (userId !== alice) assert.isAtMost(levels(userId), most)
        }),
        { numRuns }
      )
    })

    it("events are read from their PDUs and verified, redacted or not", () => {
      fc.assert(
        fc.property(attempts, (history) => {
          for (const event of simulate(simulation, history).events) {
            const { replaces_state: _, ...own } = event
            const read = Result.getOrThrow(version.fromPdu(JSON.parse(JSON.stringify(version.toPdu(event)))))
            assert.deepStrictEqual(read, own as Event)
            const signers = version.signers(read)
            const ofSender = signers.filter((signer) => signer === serverOf(event.sender))
            assert.deepStrictEqual(Object.keys(read.signatures), ofSender)
            // The server of an authorising user has not signed.
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
  it("the table has the draft's version and the versions 1 to 12, and no other", () => {
    const numbers = Array.from({ length: 12 }, (_, n) => `${n + 1}`)
    assert.deepStrictEqual([...roomVersions.keys()], ["1-draft", ...numbers])
    assert.isUndefined(roomVersion("13"))
    assert.isUndefined(roomVersion("constructor"))
  })

  it("each part is listed in the versions that have it", () => {
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
      having(({ withholdsRedactions }) => withholdsRedactions),
      since(3)
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
