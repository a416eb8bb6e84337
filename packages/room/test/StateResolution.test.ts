import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { draftRoomVersion } from "@greenroom/room/DraftRoomVersion"
import { powerLevelsIn, userLevel } from "@greenroom/room/PowerLevels"
import { type EventProposal, type StateConflict, type StateMap, stateKeyOf } from "@greenroom/room/RoomVersion"
import { resolveStates } from "@greenroom/room/StateConflict"
import * as fc from "fast-check"
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

const alice = user("alice")
const bob = user("bob", "two.example")
const carol = user("carol", "three.example")
const mallory = user("mallory", "two.example")

/** Two servers with the same room. Events that are made on one reach the other by `both` at once, or by `meet` later. */
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
  it("a ban on one side ends the banned user's actions on the other", () => {
    const split = new Split([bob, mallory], { [bob]: 50, [mallory]: 50 })
    split.on(split.two, stateProposal(mallory, "m.room.topic", { topic: "mallory was here" }))
    split.on(split.one, memberProposal(alice, mallory, "ban"))
    split.meet()
    assert.deepStrictEqual(split.content("m.room.member", mallory), { membership: "ban" })
    assert.isUndefined(split.content("m.room.topic"))
  })

  it("when two users remove people concurrently, the one with the higher level wins, whatever the timestamps are", () => {
    const dave = user("dave", "two.example")
    const split = new Split([bob, carol, dave], { [bob]: 60, [carol]: 50 })
    split.on(split.two, memberProposal(carol, dave, "leave"), 1)
    split.on(split.one, memberProposal(bob, carol, "ban"), 999_999)
    split.meet()
    assert.deepStrictEqual(split.content("m.room.member", carol), { membership: "ban" })
    assert.deepStrictEqual(split.content("m.room.member", dave), { membership: "join" })
  })

  it("the auth difference counts too: a moderator made on one side is not undone by an equal on the other", () => {
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

  it("of two names set at once the later stands", () => {
    const split = new Split([bob], { [bob]: 50 })
    split.on(split.one, stateProposal(alice, "m.room.name", { name: "early" }), 1_000)
    split.on(split.two, stateProposal(bob, "m.room.name", { name: "late" }), 2_000)
    split.meet()
    assert.deepStrictEqual(split.content("m.room.name"), { name: "late" })
  })

  it("a name set under newer power levels stands over one set under older ones, whatever the clocks say", () => {
    const split = new Split([bob], { [bob]: 50 })
    split.on(split.one, stateProposal(alice, "m.room.power_levels", { users: { [alice]: 100, [bob]: 50 }, invite: 10 }))
    split.on(split.one, stateProposal(alice, "m.room.name", { name: "new levels" }), 1)
    split.on(split.two, stateProposal(bob, "m.room.name", { name: "old levels" }), 999_999)
    split.meet()
    assert.deepStrictEqual(split.content("m.room.name"), { name: "new levels" })
  })

  it("keeps keys that were set on one side only", () => {
    const split = new Split([bob], { [bob]: 50 })
    split.on(split.one, stateProposal(alice, "m.room.name", { name: "name" }))
    split.on(split.two, stateProposal(bob, "m.room.topic", { topic: "topic" }))
    split.meet()
    assert.deepStrictEqual(
      [split.content("m.room.name"), split.content("m.room.topic")],
      [{ name: "name" }, { topic: "topic" }]
    )
  })

  it("a join on one side is weighed against the room that the other side closed", () => {
    const split = new Split([bob], { [bob]: 50 })
    split.on(split.one, stateProposal(alice, "m.room.join_rules", { join_rule: "invite" }))
    split.on(split.two, memberProposal(carol, carol, "join"))
    split.meet()
    assert.isUndefined(split.content("m.room.member", carol))
    assert.deepStrictEqual(split.content("m.room.join_rules"), { join_rule: "invite" })
  })
})

describe("Unconflicted state", () => {
  /** The states with and without the event, which is placed after `prev` and cites the state there. */
  const disputed = (split: Split, proposal: EventProposal, prev: EventId): StateMap => {
    const event = split.one.build(proposal, `$disputed:${serverOf(proposal.sender)}` as EventId, 1, [prev])
    split.one.receive(event)
    assert.isFalse(split.one.rejected.has(event.event_id))
    const without = split.two.state
    const having = new Map([...without, [stateKeyOf(event.type, event.state_key!), event.event_id]])
    return resolveStates(draftRoomVersion.stateResolution, [having, without], (id) => split.one.events.get(id))
  }

  it("decides about the rest: a topic under levels that all have left behind does not count", () => {
    const split = new Split([bob], { [bob]: 50 })
    const past = split.one.extremities[0]!
    split.both(stateProposal(alice, "m.room.power_levels", { users: { [alice]: 100 } }))
    const resolved = disputed(split, stateProposal(bob, "m.room.topic", { topic: "late" }), past)
    assert.deepStrictEqual([...resolved], [...split.two.state])
  })

  it("decides about the rest: a join rule that all sides have replaced lets no user in", () => {
    const split = new Split([bob])
    const past = split.one.extremities[0]!
    split.both(stateProposal(alice, "m.room.join_rules", { join_rule: "invite" }))
    const resolved = disputed(split, memberProposal(carol, carol, "join"), past)
    assert.deepStrictEqual([...resolved], [...split.two.state])
  })
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

const servers = ["one.example", "two.example", "three.example"]
const people = [alice, bob, carol, user("dave"), mallory]

/** The actor asks the server of the step for a membership, naming the events. */
const askHost = ({ actor, server, time }: Step, prevEvents: ReadonlyArray<Event>): EventProposal => {
  const sender = people[actor]!
  const content = { target_host: servers[server]! }
  const place = { prevEvents, state: () => undefined, now: time }
  const proposal = { room_id: roomId, sender, type: "m.room.invite_join", content }
  return draftRoomVersion.membershipFor(draftRoomVersion.build(proposal, place, keyOf(serverOf(sender))))
}

const proposalOf = (step: Step, named: ReadonlyArray<Event>): EventProposal => {
  const { action, actor, level, target } = step
  if (action === joinByHost) return askHost(step, named)
  const sender = people[actor]!
  const other = people[target]!
  const users = { [alice]: 100, [bob]: 50, [other]: level }
  return [
    memberProposal(sender, sender, "join"),
    memberProposal(sender, sender, "leave"),
    memberProposal(sender, other, "invite"),
    memberProposal(sender, other, "leave"),
    memberProposal(sender, other, "ban"),
    stateProposal(sender, "m.room.power_levels", { users: { ...users, [sender]: level } }),
    stateProposal(sender, "m.room.power_levels", { users, ban: level, state_default: level }),
    stateProposal(sender, "m.room.join_rules", { join_rule: level > 50 ? "invite" : "public" }),
    stateProposal(sender, "m.room.topic", { topic: String(level) }),
    stateProposal(sender, "m.room.name", { name: String(level) }),
    messageProposal(sender)
  ][action]!
}

/** The action by which a server makes a membership for the actor, who asked it to at some time. */
const joinByHost = 11

const steps = fc.array(
  fc.record<Step>({
    server: fc.nat(2),
    actor: fc.nat(people.length - 1),
    target: fc.nat(people.length - 1),
    action: fc.nat(joinByHost),
    level: fc.constantFrom(0, 10, 50, 51, 100, 101),
    time: fc.nat(20),
    hostile: fc.boolean(),
    prev: fc.array(fc.nat(), { minLength: 1, maxLength: 3 }),
    auth: fc.nat(),
    sync: fc.option(fc.tuple(fc.nat(2), fc.nat(2)), { nil: undefined })
  }),
  { maxLength: 40 }
)

const begin = (): ReadonlyArray<Event> => {
  const split = new Split([bob, carol, mallory], { [bob]: 50 })
  return [...split.one.events.values()]
}

const buildStep = (replica: Replica, step: Step, n: number): Event | undefined => {
  const known = [...replica.events.keys()]
  const present = replica.lookupIn(replica.state)("m.room.member", people[step.actor]!)
  const named = step.hostile ? replica.events.get(known[step.level % known.length]!) : present
  const proposal = proposalOf(step, named === undefined ? [] : [named])
  const origin = step.action === joinByHost ? servers[step.server]! : serverOf(proposal.sender)
  const prev = step.hostile ? [...new Set(step.prev.map((entry) => known[entry % known.length]!))] : replica.extremities
  const authState = step.hostile ? replica.stateAfter([known[step.auth % known.length]!]) : replica.stateAfter(prev)
  const id = `$s${(n * 7919) % 1000}x${n}:${origin}` as EventId
  const event = replica.build(proposal, id, step.time, prev, authState)
  return step.hostile || replica.wouldAllow(event) ? event : undefined
}

/** Takes the steps on three servers, which exchange events only where a step says so. */
const play = (story: ReadonlyArray<Step>): { replicas: ReadonlyArray<Replica>; events: ReadonlyArray<Event> } => {
  const events = [...begin()]
  const replicas = servers.map(() => new Replica())
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

/** The level of each user in the room where all events of the story arrived. */
const levelsAfter = (story: ReadonlyArray<Step>): ((userId: UserId) => number) => {
  const { replicas, events } = play(story)
  const replica = replicas[0]!
  for (const event of events) replica.receive(event)
  const levels = powerLevelsIn(replica.lookupIn(replica.state))
  return (userId) => userLevel(levels, userId)
}

describe("Convergence", () => {
  it("servers that have the same events have the same state, whatever the order of arrival", () => {
    fc.assert(
      fc.property(steps, fc.array(fc.nat(1_000), { minLength: 64, maxLength: 64 }), (story, luck) => {
        const { replicas, events } = play(story)
        for (const replica of replicas) for (const event of events) replica.receive(event)
        const shuffled = events
          .map((event, n) => [luck[n % luck.length]! * (n + 1), event] as const)
          .sort(([a], [b]) => (a % 101) - (b % 101))
          .map(([, event]) => event)
        const strangers = [new Replica(), new Replica()]
        for (const event of shuffled) strangers[0]!.receive(event)
        for (const event of [...events].reverse()) strangers[1]!.receive(event)
        const all = [...replicas, ...strangers]
        for (const replica of all) {
          assert.strictEqual(replica.events.size, events.length)
          assert.deepStrictEqual(replica.summary, all[0]!.summary)
          assert.deepStrictEqual([...replica.rejected].sort(), [...all[0]!.rejected].sort())
        }
      }),
      { numRuns: 150 }
    )
  })

  it("the order in which the states are given does not matter", () => {
    fc.assert(
      fc.property(steps, (story) => {
        const { replicas, events } = play(story)
        const states = replicas.map((replica) => replica.state)
        const lookup = new Map(events.map((event) => [event.event_id, event]))
        const resolve = (order: ReadonlyArray<StateMap>) =>
          [...resolveStates(draftRoomVersion.stateResolution, order, (id) => lookup.get(id))].sort()
        assert.deepStrictEqual(resolve(states), resolve([...states].reverse()))
        assert.deepStrictEqual(resolve([states[0]!, states[0]!]), [...states[0]!].sort())
      }),
      { numRuns: 60 }
    )
  })

  it("no fork, order or false citation gives power to users without it", () => {
    fc.assert(
      fc.property(steps, (story) => {
        // Mallory may try anything; the others never name mallory in the power levels.
        const named = (step: Step): Step =>
          step.actor !== 4 && people[step.target] === mallory ? { ...step, target: 3 } : step
        const levels = levelsAfter(story.map(named))
        assert.isAtMost(levels(mallory), 0)
        for (const person of people) assert.isAtMost(levels(person), 100)
      }),
      { numRuns: 150 }
    )
  })

  it("moderators who choose their auth events stay moderators, and the creator stays above them", () => {
    fc.assert(
      fc.property(steps, (story) => {
        const levels = levelsAfter(story.map((step) => (step.actor === 0 ? { ...step, action: 8 } : step)))
        assert.strictEqual(levels(alice), 100)
        for (const person of people) if (person !== alice) assert.isAtMost(levels(person), 50)
      }),
      { numRuns: 150 }
    )
  })
})

describe("Large rooms", () => {
  it("looks up the auth chain of a conflict, and of the unconflicted state only the deciding events", () => {
    const split = new Split([bob], { [bob]: 50 })
    const name = split.on(split.one, stateProposal(alice, "m.room.name", { name: "a" }))
    const other = split.on(split.two, stateProposal(bob, "m.room.name", { name: "b" }))
    const asked = new Set<string>()
    const key = stateKeyOf("m.room.name", "")
    const events = new Map([...split.two.events, ...split.one.events])
    const conflict: StateConflict = {
      conflicted: new Map([[key, [name.event_id, other.event_id]]]),
      fullConflictedSet: new Set([name.event_id, other.event_id]),
      unconflicted: (text) => {
        asked.add(text)
        return text === key ? undefined : split.one.state.get(text)
      }
    }
    const resolved = draftRoomVersion.stateResolution.resolve(conflict, (id) => events.get(id))
    assert.deepStrictEqual([...resolved.keys()], [key])
    const deciding = [
      stateKeyOf("m.room.create", ""),
      stateKeyOf("m.room.power_levels", ""),
      stateKeyOf("m.room.join_rules", ""),
      stateKeyOf("m.room.member", alice),
      stateKeyOf("m.room.member", bob)
    ]
    assert.isEmpty([...asked].filter((text) => text !== key && !deciding.includes(text)))
  })
})
