/**
 * A room of one of the versions 1 to 12, for tests. Each event follows the one before it, and the rules of the version allow or refuse it.
 */
import { assert } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { type EventProposal, type RoomVersion, type StateLookup, stateKeyOf } from "@greenroom/room/RoomVersion"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { Result } from "effect"
import { keyOf, serverOf, user } from "./TestRoom.ts"

export const alice = user("alice")
export const bob = user("bob", "two.example")
export const carol = user("carol", "three.example")
export const dave = user("dave", "two.example")

/** The IDs of the room versions 1 to 12. */
export const ids = Array.from({ length: 12 }, (_, n) => `${n + 1}`)
/** The IDs of the room versions from one on. */
export const since = (first: number) => ids.slice(first - 1)

export class LinearRoom {
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
    const position = { prevEvents: [{ depth, event_id }], state: this.state, now: depth }
    return this.version.build({ ...proposal, room_id: this.create.room_id }, position, keyOf(serverOf(proposal.sender)))
  }

  /** The auth events that an event of this room names. */
  authEventsOf(event: Event): ReadonlyArray<Event> {
    const byId = new Map([...this.current.values()].map((entry) => [entry.event_id, entry]))
    return event.auth_events.map((id) => byId.get(id)!)
  }

  /**
   * The rule that refuses the event; undefined if it is allowed. Asserts that the state of the room and the auth events of the event
   * give the same result.
   */
  refusal(proposal: Omit<EventProposal, "room_id">): string | undefined {
    const event = this.build(proposal)
    const context = { create: this.create, isRejected: () => false }
    const refusal = this.version.authorise(event, this.state)?.rule
    assert.strictEqual(this.version.authoriseByAuthEvents(event, this.authEventsOf(event), context)?.rule, refusal)
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

/** A public room that alice created, in which bob has the power level 50. */
export const makeRoom = (id: string, creation?: JsonObject): LinearRoom => {
  const room = new LinearRoom(id, creation)
  return room
    .allows(room.levels(alice, { [bob]: 50 }))
    .joinRule("public")
    .allows(room.member(bob, bob, "join"))
}

/** The proposal of an event of any type. */
export const proposalOf = (sender: UserId, type: string, content: JsonObject = {}, state_key?: string) => ({
  type,
  sender,
  content,
  ...(state_key === undefined ? {} : { state_key })
})

export const mustBeInvited = "Users need an invite to join"
