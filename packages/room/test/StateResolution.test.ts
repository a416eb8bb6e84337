import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { draftRoomVersion } from "@greenroom/room/DraftRoomVersion"
import { type EventProposal, type StateConflict, type StateMap, stateKeyOf } from "@greenroom/room/RoomVersion"
import { resolveStates } from "@greenroom/room/testing/ResolveStates"
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
  servers,
  users,
  withoutHelpForMallory
} from "./support/RandomHistory.ts"
import { Replica } from "./support/Replica.ts"
import {
  initialProposals,
  keyOf,
  memberProposal,
  messageProposal,
  roomId,
  serverOf,
  stateProposal,
  user
} from "./support/TestRoom.ts"

/** Two servers with the same room. Events made with `both` reach the other server at once, events made with `on` reach it by `meet`. */
class Split {
  readonly one = new Replica()
  readonly two = new Replica()
  #count = 0

  constructor(members: ReadonlyArray<UserId>, users: Readonly<Record<string, number>> = {}) {
    for (const proposal of initialProposals({ creator: alice, visibility: "public", roomVersion: "1-draft" })) {
      this.both(proposal)
    }
    for (const member of members) this.both(memberProposal(member, member, "join"))
    this.both(stateProposal(alice, "m.room.power_levels", { users: { [alice]: 100, ...users } }))
  }

  on(replica: Replica, proposal: EventProposal, now = this.#count): Event {
    const event = replica.build(proposal, `$e${this.#count++}:${serverOf(proposal.sender)}` as EventId, now)
    assert.isTrue(replica.wouldAllow(event), `not allowed: ${JSON.stringify(proposal)}`)
    replica.receive(event)
    return event
  }

  both(proposal: EventProposal): void {
    this.two.receive(this.on(this.one, proposal))
  }

  meet(): void {
    const all = [...this.one.events.values(), ...this.two.events.values()]
    for (const event of all) this.one.receive(event)
    for (const event of all.reverse()) this.two.receive(event)
    assert.deepStrictEqual(this.one.summary, this.two.summary)
  }

  content(type: string, stateKey = ""): JsonObject | undefined {
    return this.one.lookupIn(this.one.state)(type, stateKey)?.content
  }
}

describe("A room split by servers that cannot see each other", () => {
  it("a ban on one side undoes what the banned user did on the other", () => {
    const split = new Split([bob, mallory], { [bob]: 50, [mallory]: 50 })
    split.on(split.two, stateProposal(mallory, "m.room.topic", { topic: "mallory was here" }))
    split.on(split.one, memberProposal(alice, mallory, "ban"))
    split.meet()
    assert.deepStrictEqual(split.content("m.room.member", mallory), { membership: "ban" })
    assert.isUndefined(split.content("m.room.topic"))
  })

  it("the ban by a user with a higher level wins over a concurrent kick by the banned user, whatever the timestamps are", () => {
    const dave = user("dave", "two.example")
    const split = new Split([bob, carol, dave], { [bob]: 60, [carol]: 50 })
    split.on(split.two, memberProposal(carol, dave, "leave"), 1)
    split.on(split.one, memberProposal(bob, carol, "ban"), 999_999)
    split.meet()
    assert.deepStrictEqual(split.content("m.room.member", carol), { membership: "ban" })
    assert.deepStrictEqual(split.content("m.room.member", dave), { membership: "join" })
  })

  it("the auth difference counts too: an equal on one side does not undo the promotion of a moderator on the other", () => {
    const split = new Split([bob, carol], { [carol]: 50 })
    const users = { [alice]: 100, [bob]: 50, [carol]: 50 }
    split.on(split.one, stateProposal(alice, "m.room.power_levels", { users }), 1)
    split.on(split.one, stateProposal(bob, "m.room.power_levels", { users, invite: 50 }), 999_999)
    split.on(
      split.two,
      stateProposal(carol, "m.room.power_levels", { users: { [alice]: 100, [carol]: 50 }, kick: 40 }),
      2
    )
    split.meet()
    assert.deepStrictEqual(split.content("m.room.power_levels"), { users, invite: 50 })
  })

  it("a user who lost power on one branch changes nothing on the other", () => {
    const split = new Split([bob, carol, mallory], { [mallory]: 50 })
    split.on(split.one, stateProposal(alice, "m.room.power_levels", { users: { [alice]: 100 } }))
    split.on(
      split.two,
      stateProposal(mallory, "m.room.power_levels", { users: { [alice]: 100, [mallory]: 50, [bob]: 50 } })
    )
    split.on(split.two, memberProposal(mallory, carol, "ban"), 0)
    split.meet()
    assert.deepStrictEqual(split.content("m.room.power_levels"), { users: { [alice]: 100 } })
    assert.deepStrictEqual(split.content("m.room.member", carol), { membership: "join" })
  })

  it("the later of two names that were set concurrently wins", () => {
    const split = new Split([bob], { [bob]: 50 })
    split.on(split.one, stateProposal(alice, "m.room.name", { name: "early" }), 1_000)
    split.on(split.two, stateProposal(bob, "m.room.name", { name: "late" }), 2_000)
    split.meet()
    assert.deepStrictEqual(split.content("m.room.name"), { name: "late" })
  })

  it("join rules under another state key are ordinary state: the later ones win", () => {
    const split = new Split([bob], { [bob]: 50 })
    const joinRules = (sender: UserId, join_rule: string) => ({
      ...stateProposal(sender, "m.room.join_rules", { join_rule }),
      state_key: "other"
    })
    split.on(split.two, joinRules(bob, "public"), 1_000)
    split.on(split.one, joinRules(alice, "invite"), 2_000)
    split.meet()
    assert.deepStrictEqual(split.content("m.room.join_rules", "other"), { join_rule: "invite" })
  })

  it("a name set under newer power levels wins over one set under older ones, whatever the timestamps are", () => {
    const split = new Split([bob], { [bob]: 50 })
    split.on(split.one, stateProposal(alice, "m.room.power_levels", { users: { [alice]: 100, [bob]: 50 }, invite: 10 }))
    split.on(split.one, stateProposal(alice, "m.room.name", { name: "new levels" }), 1)
    split.on(split.two, stateProposal(bob, "m.room.name", { name: "old levels" }), 999_999)
    split.meet()
    assert.deepStrictEqual(split.content("m.room.name"), { name: "new levels" })
  })

  it("state that was set on one side only is kept", () => {
    const split = new Split([bob], { [bob]: 50 })
    split.on(split.one, stateProposal(alice, "m.room.name", { name: "name" }))
    split.on(split.two, stateProposal(bob, "m.room.topic", { topic: "topic" }))
    split.meet()
    assert.deepStrictEqual(
      [split.content("m.room.name"), split.content("m.room.topic")],
      [{ name: "name" }, { topic: "topic" }]
    )
  })

  it("a join on one side is undone if the other side closed the room", () => {
    const split = new Split([bob], { [bob]: 50 })
    split.on(split.one, stateProposal(alice, "m.room.join_rules", { join_rule: "invite" }))
    split.on(split.two, memberProposal(carol, carol, "join"))
    split.meet()
    assert.isUndefined(split.content("m.room.member", carol))
    assert.deepStrictEqual(split.content("m.room.join_rules"), { join_rule: "invite" })
  })
})

describe("Unconflicted state", () => {
  /** Resolves a state with the event and one without it. The event follows `prev`, and its auth events are from the state there. */
  const disputed = (split: Split, proposal: EventProposal, prev: EventId): StateMap => {
    const event = split.one.build(proposal, `$disputed:${serverOf(proposal.sender)}` as EventId, 1, [prev])
    split.one.receive(event)
    assert.isFalse(split.one.rejected.has(event.event_id))
    const without = split.two.state
    const having = new Map([...without, [stateKeyOf(event.type, event.state_key!), event.event_id]])
    return resolveStates(draftRoomVersion.stateResolution, [having, without], (id) => split.one.events.get(id))
  }

  it("a topic set under power levels that all sides have replaced has no effect", () => {
    const split = new Split([bob], { [bob]: 50 })
    const past = split.one.extremities[0]!
    split.both(stateProposal(alice, "m.room.power_levels", { users: { [alice]: 100 } }))
    const resolved = disputed(split, stateProposal(bob, "m.room.topic", { topic: "late" }), past)
    assert.deepStrictEqual([...resolved], [...split.two.state])
  })

  it("a join under a join rule that all sides have replaced has no effect", () => {
    const split = new Split([bob])
    const past = split.one.extremities[0]!
    split.both(stateProposal(alice, "m.room.join_rules", { join_rule: "invite" }))
    const resolved = disputed(split, memberProposal(carol, carol, "join"), past)
    assert.deepStrictEqual([...resolved], [...split.two.state])
  })
})

/** The sender of the attempt asks the server of the attempt for a membership, naming the events. */
const askHost = (attempt: Attempt, prevEvents: ReadonlyArray<Event>): EventProposal => {
  const sender = users[attempt.sender]!
  const content = { target_host: servers[attempt.server]! }
  const position = { prevEvents, state: () => undefined, now: attempt.time }
  const proposal = { room_id: roomId, sender, type: "m.room.invite_join", content }
  return draftRoomVersion.membershipFor(draftRoomVersion.build(proposal, position, keyOf(serverOf(sender))))
}

/** The action by which a server makes a membership for the sender, at the sender's request. */
const joinByHost = 11

const proposalOf = (attempt: Attempt, named: ReadonlyArray<Event>): EventProposal => {
  const { action, level, target } = attempt
  if (action === joinByHost) return askHost(attempt, named)
  const sender = users[attempt.sender]!
  const other = users[target]!
  const levels = { [alice]: 100, [bob]: 50, [other]: level }
  return [
    memberProposal(sender, sender, "join"),
    memberProposal(sender, sender, "leave"),
    memberProposal(sender, other, "invite"),
    memberProposal(sender, other, "leave"),
    memberProposal(sender, other, "ban"),
    stateProposal(sender, "m.room.power_levels", { users: { ...levels, [sender]: level } }),
    stateProposal(sender, "m.room.power_levels", { users: levels, ban: level, state_default: level }),
    stateProposal(sender, "m.room.join_rules", { join_rule: level > 50 ? "invite" : "public" }),
    stateProposal(sender, "m.room.topic", { topic: String(level) }),
    stateProposal(sender, "m.room.name", { name: String(level) }),
    messageProposal(sender)
  ][action]!
}

const attempts = randomAttempts(joinByHost + 1, 40)

const simulation: Simulation = {
  version: draftRoomVersion,
  initialEvents: () => [...new Split([bob, carol, mallory], { [bob]: 50 }).one.events.values()],
  build: (replica, attempt, index) => {
    const known = [...replica.events.values()]
    const current = replica.lookupIn(replica.state)("m.room.member", users[attempt.sender]!)
    const named = attempt.hostile ? known[attempt.level % known.length]! : current
    const proposal = proposalOf(attempt, named === undefined ? [] : [named])
    const origin = attempt.action === joinByHost ? servers[attempt.server]! : serverOf(proposal.sender)
    const { authState, prev } = positionOf(replica, attempt)
    const id = `$s${(index * 7919) % 1000}x${index}:${origin}` as EventId
    return replica.build(proposal, id, attempt.time, prev, authState)
  }
}

describe("Convergence", () => {
  it("servers that have the same events have the same state, whatever the order of arrival", () => {
    fc.assert(
      fc.property(attempts, orders, (history, order) => assertConvergence(simulation, history, order)),
      { numRuns: 150 }
    )
  })

  it("the order in which the states are given does not matter", () => {
    fc.assert(
      fc.property(attempts, (history) => assertCommutativity(simulation, history)),
      { numRuns: 60 }
    )
  })

  it("forks, orders and wrong auth events give no power to users without it", () => {
    fc.assert(
      fc.property(attempts, (history) => {
        const levels = levelsAfter(simulation, history.map(withoutHelpForMallory))
        assert.isAtMost(levels(mallory), 0)
        for (const userId of users) assert.isAtMost(levels(userId), 100)
      }),
      { numRuns: 150 }
    )
  })

  it("moderators who choose their auth events stay moderators, and the creator stays above them", () => {
    fc.assert(
      fc.property(attempts, (history) => {
        const setTopic = 8
        const byOthers = history.map((attempt) => (attempt.sender === 0 ? { ...attempt, action: setTopic } : attempt))
        const levels = levelsAfter(simulation, byOthers)
        assert.strictEqual(levels(alice), 100)
        for (const userId of users) if (userId !== alice) assert.isAtMost(levels(userId), 50)
      }),
      { numRuns: 150 }
    )
  })
})

describe("Large rooms", () => {
  it("resolution reads the auth chains of a conflict, and of the unconflicted state only what decides about it", () => {
    const split = new Split([bob, carol], { [bob]: 50 })
    const name = split.on(split.one, stateProposal(alice, "m.room.name", { name: "a" }))
    const other = split.on(split.two, stateProposal(bob, "m.room.name", { name: "b" }))
    const [keysRead, eventsRead] = [new Set<string>(), new Set<string>()]
    const key = stateKeyOf("m.room.name", "")
    const events = new Map([...split.two.events, ...split.one.events])
    const conflict: StateConflict = {
      conflicted: new Map([[key, [name.event_id, other.event_id]]]),
      fullConflictedSet: new Set([name.event_id, other.event_id]),
      unconflicted: (text) => {
        keysRead.add(text)
        return text === key ? undefined : split.one.state.get(text)
      }
    }
    const resolved = draftRoomVersion.stateResolution.resolve(conflict, (id) => {
      eventsRead.add(id)
      return events.get(id)
    })
    assert.deepStrictEqual([...resolved], [[key, other.event_id]])
    const deciding = [
      stateKeyOf("m.room.create", ""),
      stateKeyOf("m.room.power_levels", ""),
      stateKeyOf("m.room.member", alice),
      stateKeyOf("m.room.member", bob)
    ]
    for (const entry of deciding) assert.include([...keysRead], entry)
    const carolsJoin = stateKeyOf("m.room.member", carol)
    assert.notInclude([...keysRead], carolsJoin)
    assert.notInclude([...eventsRead], split.one.state.get(carolsJoin))
  })
})
