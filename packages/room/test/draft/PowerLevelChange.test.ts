import { assert, describe, it } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { membershipOf } from "@greenroom/room/draft/Authorisation"
import { eventLevel, levelFor, type PowerLevels, powerLevelsIn, userLevel } from "@greenroom/room/draft/PowerLevels"
import { levelKeys } from "@greenroom/room/LevelKeys"
import type { EventProposal } from "@greenroom/room/RoomVersion"
import * as fc from "fast-check"
import { memberProposal, messageProposal, stateProposal, TestRoom, user } from "../support/TestRoom.ts"

const userIds = ["alice", "bob", "carol", "dave"].map((name) => user(name))
const alice = userIds[0]!
const types = ["m.room.name", "m.room.message", "m.room.power_levels", "org.example.other"]

const level = fc.constantFrom(-1, 0, 10, 30, 50, 51, 99, 100, 101)
const users = fc.dictionary(fc.constantFrom(...userIds), level, { noNullPrototype: true })
const content: fc.Arbitrary<JsonObject> = fc.record(
  {
    users,
    events: fc.dictionary(fc.constantFrom(...types), level, { noNullPrototype: true }),
    ...Object.fromEntries(levelKeys.map((key) => [key, level]))
  },
  { requiredKeys: [], noNullPrototype: true }
)

const userId = fc.constantFrom(...userIds)
const action: fc.Arbitrary<EventProposal> = fc.oneof(
  fc.tuple(userId, content).map(([sender, change]) => stateProposal(sender, "m.room.power_levels", change)),
  // A small change of the levels, which is allowed more often than random ones.
  fc
    .tuple(userId, userId, level)
    .map(([sender, target, given]) =>
      stateProposal(sender, "m.room.power_levels", { users: { [alice]: 100, [sender]: 50, [target]: given } })
    ),
  fc
    .tuple(userId, userId, fc.constantFrom("invite", "leave", "ban"))
    .map(([sender, target, membership]) => memberProposal(sender, target, membership)),
  userId.map((sender) => memberProposal(sender, sender, "join")),
  userId.map((sender) => messageProposal(sender)),
  userId.map((sender) => stateProposal(sender, "m.room.name", { name: "x" }))
)

/** The effective levels that actions and events require. */
const requirements = (levels: PowerLevels): ReadonlyArray<number> => [
  ...levelKeys.filter((key) => key !== "users_default").map((key) => levelFor(levels, key)),
  ...types.flatMap((type) => [eventLevel(levels, type, true), eventLevel(levels, type, false)])
]

const checkLevels = (sender: UserId, before: PowerLevels, after: PowerLevels): void => {
  const own = userLevel(before, sender)
  for (const entry of userIds) {
    const was = userLevel(before, entry)
    const will = userLevel(after, entry)
    if (was === will) continue
    assert.isAtMost(will, own, "a user is not raised above the sender")
    assert.isAtMost(was, own, "a user above the sender is not lowered")
  }
  const were = requirements(before)
  requirements(after).forEach((will, index) => {
    const was = were[index]!
    if (was === will) return
    assert.isAtMost(was, own, "a requirement above the sender is not lowered")
    assert.isAtMost(will, own, "a requirement is not raised above the sender")
  })
}

const checkMembership = (proposal: EventProposal, levels: PowerLevels, was: string, now: string): void => {
  const target = proposal.state_key!
  const own = userLevel(levels, proposal.sender)
  if (was === now) return
  if (was === "ban")
    assert.isAtLeast(own, levelFor(levels, "ban"), "bans are lifted by users with the power level `ban`")
  if (target === proposal.sender) {
    assert.notStrictEqual(was, "ban")
    return
  }
  assert.notStrictEqual(now, "join", "users do not join others")
  if (now !== "invite") assert.isBelow(userLevel(levels, target), own, "users do not remove or ban an equal")
}

describe("Power", () => {
  it("no sequence of events lets a user exceed their power", () => {
    let changes = 0
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const room = TestRoom.created(alice)
        for (const entry of userIds) if (entry !== alice) room.allow(memberProposal(entry, entry, "join"))
        for (const proposal of actions) {
          const before = powerLevelsIn(room.state)
          const was = membershipOf(room.state, proposal.state_key ?? "")
          const senderWas = membershipOf(room.state, proposal.sender)
          if (room.attempt(proposal) !== undefined) continue
          if (proposal.type === "m.room.member") {
            checkMembership(proposal, before, was, membershipOf(room.state, proposal.state_key!))
            continue
          }
          assert.strictEqual(senderWas, "join")
          const needed = eventLevel(before, proposal.type, proposal.state_key !== undefined)
          assert.isAtLeast(userLevel(before, proposal.sender), needed)
          if (proposal.type === "m.room.power_levels") changes++
          checkLevels(proposal.sender, before, powerLevelsIn(room.state))
        }
      }),
      { numRuns: 200 }
    )
    assert.isAbove(changes, 20)
  })
})
