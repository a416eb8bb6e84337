/**
 * The examples of the proposals about state resolution: MSC1442 for versions 2 to 11, MSC4297 for version 12, and the faults of
 * version 1 that they fix.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { type EventProposal, type StateMap, stateKeyOf } from "@greenroom/room/RoomVersion"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { resolveStates } from "@greenroom/room/testing/ResolveStates"
import { Result } from "effect"
import { Replica } from "./support/Replica.ts"
import { keyOf, serverOf, user } from "./support/TestRoom.ts"

const alice = user("alice")
const bob = user("bob", "two.example")
const charlie = user("charlie", "three.example")

const levelsKey = stateKeyOf("m.room.power_levels", "")
const rulesKey = stateKeyOf("m.room.join_rules", "")
const topicKey = stateKeyOf("m.room.topic", "")

class Example {
  readonly replica: Replica
  private clock = 0
  private readonly create: Event

  constructor(id: string, members: ReadonlyArray<UserId>) {
    const version = roomVersion(id)!
    this.replica = new Replica(version)
    const proposal = { type: "m.room.create", state_key: "", sender: alice, content: {} }
    this.create = Result.getOrThrow(version.createRoom(proposal, keyOf("one.example"), 0))
    this.replica.receive(this.create)
    this.member(alice, alice, "join")
    this.state(alice, "m.room.join_rules", { join_rule: "public" })
    for (const member of members) this.member(member, member, "join")
  }

  private add(proposal: Omit<EventProposal, "room_id">, prev: ReadonlyArray<EventId> | undefined, now: number): Event {
    const whole = { ...proposal, room_id: this.create.room_id }
    const event = this.replica.make(whole, serverOf(proposal.sender), now, prev)
    this.replica.receive(event)
    assert.isFalse(this.replica.rejected.has(event.event_id), JSON.stringify(proposal))
    return event
  }

  state(sender: UserId, type: string, content: JsonObject, after?: ReadonlyArray<Event>, now = ++this.clock): Event {
    return this.add(
      { type, sender, content, state_key: "" },
      after?.map(({ event_id }) => event_id),
      now
    )
  }

  member(sender: UserId, target: UserId, membership: string, after?: ReadonlyArray<Event>): Event {
    const proposal = { type: "m.room.member", sender, content: { membership }, state_key: target }
    return this.add(
      proposal,
      after?.map(({ event_id }) => event_id),
      ++this.clock
    )
  }

  /** Power levels; alice, who created the room, has 100 or more. */
  levels(sender: UserId, users: JsonObject, after?: ReadonlyArray<Event>): Event {
    const { privilegesCreators } = this.replica.version
    const all = privilegesCreators ? users : { [alice]: 100, ...users }
    return this.state(sender, "m.room.power_levels", { users: all }, after)
  }

  after(...events: ReadonlyArray<Event>): StateMap {
    return this.replica.stateAfter(events.map(({ event_id }) => event_id))
  }

  resolve(...states: ReadonlyArray<StateMap>): StateMap {
    return resolveStates(this.replica.version.stateResolution, states, (id) => this.replica.events.get(id))
  }
}

const since2 = Array.from({ length: 11 }, (_, n) => `${n + 2}`)

describe("MSC1442", () => {
  for (const id of since2) {
    it(`example 1 in version ${id}: topics are ordered by the power levels among their auth events`, () => {
      const example = new Example(id, [bob])
      example.levels(alice, { [bob]: 50 })
      const topic1 = example.state(alice, "m.room.topic", { topic: "1" })
      const topic2 = example.state(alice, "m.room.topic", { topic: "2" }, [topic1])
      const p2 = example.levels(alice, { [bob]: 0 }, [topic2])
      const p3 = example.levels(bob, { [bob]: 50, [charlie]: 10 }, [topic1])
      const topic3 = example.state(bob, "m.room.topic", { topic: "3" }, [p3])
      const message2 = example.after(p2, topic3)
      assert.strictEqual(message2.get(levelsKey), p2.event_id)
      assert.strictEqual(message2.get(topicKey), topic2.event_id)
      const topic4 = example.state(alice, "m.room.topic", { topic: "4" }, [p2], 1)
      const message3 = example.after(topic3, topic4)
      assert.strictEqual(message3.get(topicKey), topic4.event_id)
    })

    it(`power levels on which all states agree order topics, but not in version 12 (version ${id})`, () => {
      const example = new Example(id, [bob])
      const p1 = example.levels(alice, { [bob]: 50 })
      const late = example.state(bob, "m.room.topic", { topic: "late" }, [p1], 2_000)
      const p2 = example.levels(alice, { [bob]: 60 }, [late])
      const early = example.state(alice, "m.room.topic", { topic: "early" }, [p2], 1_000)
      const state = example.after(early)
      const other = new Map(state).set(topicKey, late.event_id)
      const resolved = example.resolve(state, other)
      assert.strictEqual(resolved.get(levelsKey), p2.event_id)
      assert.strictEqual(resolved.get(topicKey), (id === "12" ? late : early).event_id)
    })

    it(`the auth difference counts in version ${id}: bob, a new moderator, promotes charlie`, () => {
      const example = new Example(id, [bob, charlie])
      example.levels(alice, {})
      const before = example.state(alice, "m.room.topic", { topic: "before" })
      const made = example.levels(alice, { [bob]: 90 }, [before])
      const makes = example.levels(bob, { [bob]: 90, [charlie]: 50 }, [made])
      const changes = example.levels(charlie, { [bob]: 90, [charlie]: 50, [user("dave")]: 10 }, [makes])
      const elsewhere = example.state(alice, "m.room.topic", { topic: "elsewhere" }, [before])
      assert.strictEqual(example.after(changes, elsewhere).get(levelsKey), changes.event_id)
    })

    it(`topics are ordered by the power levels that the power events leave, also where all states agree on others (version ${id})`, () => {
      const example = new Example(id, [bob])
      const fork = example.levels(alice, { [bob]: 50 })
      const others = example.levels(alice, { [bob]: 51 }, [fork])
      const late = example.state(bob, "m.room.topic", { topic: "under others" }, [others])
      const agreed = example.levels(alice, { [bob]: 52 }, [fork])
      const later = example.state(bob, "m.room.topic", { topic: "under those agreed on" }, [agreed])
      const state = example.after(later)
      const resolved = example.resolve(state, new Map(state).set(topicKey, late.event_id))
      assert.strictEqual(resolved.get(topicKey), late.event_id)
      assert.strictEqual(resolved.get(levelsKey), agreed.event_id)
    })

    it(`only keys in conflict are resolved, though other events take part (version ${id})`, () => {
      const example = new Example(id, [bob])
      const fork = example.levels(alice, { [bob]: 50 })
      const older = example.levels(alice, { [bob]: 51 }, [fork])
      const byBob = example.state(bob, "m.room.topic", { topic: "bob's" }, [older])
      const newer = example.levels(alice, { [bob]: 52 }, [fork])
      const byAlice = example.state(alice, "m.room.topic", { topic: "alice's" }, [newer])
      const state = example.after(byAlice)
      const topics = [byAlice.event_id, byBob.event_id]
      const conflict = {
        conflicted: new Map([[topicKey, topics]]),
        fullConflictedSet: new Set([...topics, older.event_id]),
        unconflicted: (key: string) => (key === topicKey ? undefined : state.get(key))
      }
      const { events, version } = example.replica
      const resolved = version.stateResolution.resolve(conflict, (id) => events.get(id))
      assert.deepStrictEqual([...resolved.keys()], [topicKey])
    })

    it(`a topic from before the first power levels comes before those that rest on some (version ${id})`, () => {
      const example = new Example(id, [bob])
      const fork = example.state(alice, "m.room.name", { name: "new" })
      const without = example.state(alice, "m.room.topic", { topic: "without levels" }, [fork], 2_000)
      const levels = example.levels(alice, { [bob]: 50 }, [fork])
      const under = example.state(bob, "m.room.topic", { topic: "under levels" }, [levels], 1_000)
      assert.strictEqual(example.after(without, under).get(topicKey), under.event_id)
    })

    it(`the join on which a ban rests is ordered with the power events (version ${id})`, () => {
      const example = new Example(id, [charlie])
      const fork = example.levels(alice, { [bob]: 100, [charlie]: 50 })
      const joined = example.member(bob, bob, "join", [fork])
      const ban = example.member(bob, user("dave"), "ban", [joined])
      const closed = example.state(charlie, "m.room.join_rules", { join_rule: "invite" }, [fork])
      const state = example.after(ban, closed)
      assert.strictEqual(state.get(rulesKey), closed.event_id)
      assert.strictEqual(state.get(stateKeyOf("m.room.member", bob)), joined.event_id)
    })

    it(`join rules, kicks and bans come before what they forbid, whatever the timestamps are (version ${id})`, () => {
      const example = new Example(id, [bob])
      const fork = example.levels(alice, { [bob]: 50 })
      const join = example.member(charlie, charlie, "join", [fork])
      const closed = example.state(alice, "m.room.join_rules", { join_rule: "invite" }, [fork])
      assert.isUndefined(example.after(join, closed).get(stateKeyOf("m.room.member", charlie)))
      const topic = example.state(bob, "m.room.topic", { topic: "bob's" }, [fork])
      for (const membership of ["leave", "ban"]) {
        const removed = example.member(alice, bob, membership, [fork])
        assert.isUndefined(example.after(topic, removed).get(topicKey), membership)
      }
    })

    it(`a leave takes nothing back that the user has done before (version ${id})`, () => {
      const example = new Example(id, [bob])
      const fork = example.levels(alice, { [bob]: 50 })
      const topic = example.state(bob, "m.room.topic", { topic: "bob's" }, [fork])
      const left = example.member(bob, bob, "leave", [fork])
      const state = example.after(topic, left)
      assert.strictEqual(state.get(topicKey), topic.event_id)
      assert.strictEqual(state.get(stateKeyOf("m.room.member", bob)), left.event_id)
    })

    it(`of two events of the same time the one with the greater ID counts, of power events too (version ${id})`, () => {
      const example = new Example(id, [bob])
      const fork = example.levels(alice, { [bob]: 100 })
      const [topics, rules] = ["m.room.topic", "m.room.join_rules"].map((type) => {
        const pair = [alice, bob].map((sender) => example.state(sender, type, { join_rule: "invite" }, [fork], 1_000))
        const [one, two] = pair.map(({ event_id }) => event_id).sort()
        assert.notStrictEqual(one, two)
        return { pair, greater: two! }
      })
      for (const { greater, pair } of [topics!, rules!]) {
        const key = stateKeyOf(pair[0]!.type, "")
        // The sender with the higher power level comes first.
        const isLevelled = pair[0]!.type === "m.room.topic" || !example.replica.version.privilegesCreators
        const last = isLevelled ? greater : pair[1]!.event_id
        for (const order of [pair, pair.toReversed()]) assert.strictEqual(example.after(...order).get(key), last)
      }
    })

    it(`join rules of the auth difference decide on a join before those on which all states agree (version ${id})`, () => {
      const example = new Example(id, [bob])
      const open = example.state(alice, "m.room.join_rules", { join_rule: "public" })
      const joined = example.member(charlie, charlie, "join", [open])
      const closed = example.state(alice, "m.room.join_rules", { join_rule: "invite" }, [open])
      const state = example.after(closed)
      const charlieKey = stateKeyOf("m.room.member", charlie)
      const resolved = example.resolve(state, new Map(state).set(charlieKey, joined.event_id))
      assert.strictEqual(resolved.get(charlieKey), joined.event_id)
      assert.strictEqual(resolved.get(rulesKey), closed.event_id)
    })
  }

  it("only the events of the states count in version 1: the change of charlie is lost with that of bob", () => {
    const example = new Example("1", [bob, charlie])
    example.levels(alice, {})
    const before = example.state(alice, "m.room.topic", { topic: "before" })
    const made = example.levels(alice, { [bob]: 90 }, [before])
    const makes = example.levels(bob, { [bob]: 90, [charlie]: 50 }, [made])
    const elsewhere = example.state(alice, "m.room.topic", { topic: "elsewhere" }, [before])
    const state = example.after(makes, elsewhere)
    assert.strictEqual(state.get(topicKey), elsewhere.event_id)
    assert.notStrictEqual(state.get(levelsKey), makes.event_id)
  })
})

describe("Version 1", () => {
  it("the deeper of two topics wins in version 1, whatever their timestamps", () => {
    const example = new Example("1", [bob])
    const fork = example.levels(alice, { [bob]: 50 })
    const shallow = example.state(bob, "m.room.topic", { topic: "shallow" }, [fork], 999)
    const message = example.state(alice, "m.room.name", { name: "name" }, [fork])
    const deep = example.state(alice, "m.room.topic", { topic: "deep" }, [message], 1)
    assert.isAbove(deep.depth, shallow.depth)
    for (const order of [
      [shallow, deep],
      [deep, shallow]
    ]) {
      assert.strictEqual(example.after(...order).get(topicKey), deep.event_id)
    }
  })

  it("state that only one side has is no conflict in version 1", () => {
    const example = new Example("1", [bob])
    const fork = example.levels(alice, { [bob]: 50 })
    const topic = example.state(bob, "m.room.topic", { topic: "bob's" }, [fork])
    const ban = example.member(alice, bob, "ban", [fork])
    const state = example.after(topic, ban)
    assert.strictEqual(state.get(topicKey), topic.event_id)
    assert.strictEqual(state.get(stateKeyOf("m.room.member", bob)), ban.event_id)
    const example2 = new Example("2", [bob])
    const fork2 = example2.levels(alice, { [bob]: 50 })
    const topic2 = example2.state(bob, "m.room.topic", { topic: "bob's" }, [fork2])
    const ban2 = example2.member(alice, bob, "ban", [fork2])
    assert.isUndefined(example2.after(topic2, ban2).get(topicKey))
  })

  it("a membership that only one side has decides about power levels in version 1", () => {
    const example = new Example("1", [])
    const fork = example.levels(alice, { [bob]: 100 })
    const shallow = example.levels(alice, { [bob]: 100, [charlie]: 10 }, [fork])
    const join = example.member(bob, bob, "join", [fork])
    const deep = example.levels(bob, { [bob]: 100, [charlie]: 20 }, [join])
    assert.strictEqual(example.after(shallow, deep).get(levelsKey), deep.event_id)
  })

  it("of topics that are all refused in version 1, the least deep one wins", () => {
    const example = new Example("1", [bob])
    const fork = example.levels(alice, { [bob]: 50 })
    const shallow = example.state(bob, "m.room.topic", { topic: "shallow" }, [fork])
    const ban = example.member(alice, bob, "ban", [shallow])
    const name = example.state(alice, "m.room.name", { name: "name" }, [fork])
    const deep = example.state(bob, "m.room.topic", { topic: "deep" }, [name])
    assert.isAbove(deep.depth, shallow.depth)
    const state = example.after(ban, deep)
    assert.strictEqual(state.get(stateKeyOf("m.room.member", bob)), ban.event_id)
    assert.strictEqual(state.get(topicKey), shallow.event_id)
  })
})

describe("The authorisation events of version 1", () => {
  it("of three power levels of which the second is refused, the first wins, and not the third", () => {
    const example = new Example("1", [bob])
    const fork = example.levels(alice, { [bob]: 50 })
    const first = example.levels(alice, {}, [fork])
    const name = example.state(alice, "m.room.name", { name: "name" }, [fork])
    const second = example.levels(bob, { [bob]: 50, [charlie]: 10 }, [name])
    const topic = example.state(alice, "m.room.topic", { topic: "topic" }, [name])
    const third = example.levels(alice, { [bob]: 50, [charlie]: 20 }, [topic])
    assert.deepStrictEqual(
      [first, second, third].map(({ depth }) => depth - fork.depth),
      [1, 2, 3]
    )
    assert.strictEqual(example.after(first, second, third).get(levelsKey), first.event_id)
  })

  it("join rules are resolved before the memberships that they decide on", () => {
    const example = new Example("1", [])
    const invited = example.member(alice, bob, "invite")
    const closed = example.state(alice, "m.room.join_rules", { join_rule: "invite" }, [invited])
    const revoked = example.member(alice, bob, "leave", [closed])
    const name = example.state(alice, "m.room.name", { name: "name" }, [invited])
    const open = example.state(alice, "m.room.join_rules", { join_rule: "public" }, [name])
    const joined = example.member(bob, bob, "join", [open])
    const state = example.after(revoked, joined)
    assert.strictEqual(state.get(rulesKey), open.event_id)
    assert.strictEqual(state.get(stateKeyOf("m.room.member", bob)), joined.event_id)
  })

  it("memberships in conflict do not decide on one another", () => {
    const example = new Example("1", [bob])
    const fork = example.levels(alice, { [bob]: 50 })
    const name = example.state(alice, "m.room.name", { name: "name" }, [fork])
    const renamed = example.member(bob, bob, "join", [name])
    const joined = example.member(charlie, charlie, "join", [fork])
    const ban = example.member(bob, charlie, "ban", [renamed])
    // Bob's membership is in conflict and comes first, but is not in the state that decides about his ban of charlie.
    for (const order of [
      [ban, joined],
      [joined, ban]
    ]) {
      const state = example.after(...order)
      assert.strictEqual(state.get(stateKeyOf("m.room.member", bob)), renamed.event_id)
      assert.strictEqual(state.get(stateKeyOf("m.room.member", charlie)), joined.event_id)
    }
  })

  it("a key of which no event is known is left open", () => {
    const { stateResolution } = roomVersion("1")!
    const ids = ["$one", "$two"] as ReadonlyArray<string> as ReadonlyArray<EventId>
    const conflicted = new Map([levelsKey, topicKey].map((key) => [key, ids] as const))
    const conflict = { conflicted, fullConflictedSet: new Set(ids), unconflicted: () => undefined }
    assert.deepStrictEqual([...stateResolution.resolve(conflict, () => undefined)], [])
  })
})

describe("MSC4297", () => {
  /** A state in which an older event replaces a newer one: the answer of a server with an outdated state. */
  const outdated = (state: StateMap, key: string, event: Event): StateMap => new Map([...state, [key, event.event_id]])

  const joinRules = (id: string) => {
    const example = new Example(id, [bob])
    example.levels(alice, { [bob]: 50 })
    const older = example.state(alice, "m.room.join_rules", { join_rule: "invite" })
    const newer = example.state(alice, "m.room.join_rules", { join_rule: "knock" })
    example.member(alice, alice, "leave")
    const state = example.replica.state
    return { newer, resolved: example.resolve(state, outdated(state, rulesKey, older)) }
  }

  it("problem A: before version 12, join rules set by a user who left are lost", () => {
    assert.isUndefined(joinRules("11").resolved.get(rulesKey))
  })

  it("problem A: in version 12 join rules set by a user who left are kept", () => {
    const { newer, resolved } = joinRules("12")
    assert.strictEqual(resolved.get(rulesKey), newer.event_id)
  })

  const levels = (id: string) => {
    const example = new Example(id, [bob, charlie])
    const first = example.levels(alice, {})
    example.levels(alice, { [bob]: 100 })
    const third = example.levels(bob, { [bob]: 100, [charlie]: 50 })
    // Both sides have seen all levels, by the auth events of this one.
    example.state(charlie, "m.room.topic", { topic: "by a moderator" })
    const state = example.replica.state
    return { first, third, resolved: example.resolve(state, outdated(state, levelsKey, first)) }
  }

  it("problem B: before version 12 power levels fall back to older ones if those in between are not in conflict", () => {
    const { first, resolved } = levels("11")
    assert.strictEqual(resolved.get(levelsKey), first.event_id)
  })

  it("problem B: in version 12 the power levels in between are applied too", () => {
    const { resolved, third } = levels("12")
    assert.strictEqual(resolved.get(levelsKey), third.event_id)
  })

  it("m.room.create of version 12 is found by the room ID, without a reference to it", () => {
    const example = new Example("12", [bob])
    example.levels(alice, { [bob]: 50 })
    const fork = example.replica.extremities
    const byAlice = example.state(alice, "m.room.topic", { topic: "alice's" })
    example.replica.extremities = fork
    const byBob = example.state(bob, "m.room.topic", { topic: "bob's" })
    const resolved = example.resolve(example.after(byAlice), example.after(byBob))
    assert.strictEqual(resolved.get(topicKey), byBob.event_id)
  })
})
