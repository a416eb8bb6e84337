/** A room of the draft's version, for tests. Each event follows the one before it, and the rules of the version allow or refuse it. */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { draftRoomVersion } from "@greenroom/room/DraftRoomVersion"
import { draftSeed, type RoomOptions, type Visibility } from "@greenroom/room/draft/RoomCreation"
import {
  type AuthContext,
  type EventProposal,
  type Refusal,
  type StateLookup,
  stateKeyOf
} from "@greenroom/room/RoomVersion"
import { generateSigningKey, type SigningKey } from "@greenroom/room/Signing"

export const user = (name: string, server = "one.example"): UserId => `@${name}:${server}` as UserId
export const roomId = "!room:one.example" as RoomId

const keys = new Map<string, SigningKey>()

/** The signing key of a server, the same in all tests of a file. */
export const keyOf = (server: string): SigningKey => {
  const key = keys.get(server) ?? generateSigningKey(server as ServerName, "ed25519:1")
  keys.set(server, key)
  return key
}

export const serverOf = (userId: UserId): string => userId.slice(userId.indexOf(":") + 1)

export const stateProposal = (sender: UserId, type: string, content: JsonObject, stateKey = ""): EventProposal => ({
  room_id: roomId,
  sender,
  type,
  content,
  state_key: stateKey
})

export const messageProposal = (sender: UserId, content: JsonObject = { msgtype: "m.text", body: "hello" }) => ({
  room_id: roomId,
  sender,
  type: "m.room.message",
  content
})

export const memberProposal = (sender: UserId, target: UserId, membership: string, more: JsonObject = {}) =>
  stateProposal(sender, "m.room.member", { ...more, membership }, target)

/** The first events of a room, in their order. */
export const initialProposals = (options: RoomOptions): ReadonlyArray<EventProposal> => {
  const { create, state } = draftSeed(options)
  return [{ type: "m.room.create", state_key: "", content: create }, ...state].map((event) => ({
    room_id: roomId,
    sender: options.creator,
    ...event
  }))
}

/** The context of an event with accepted auth events, in a version in which m.room.create is one of them. */
export const noneRejected: AuthContext = { create: undefined, isRejected: () => false }

export class TestRoom {
  readonly events: Array<Event> = []
  readonly current = new Map<string, Event>()
  readonly state: StateLookup = (type, stateKey) => this.current.get(stateKeyOf(type, stateKey))

  /** A room as a home server makes it. */
  static created(creator: UserId, visibility: Visibility = "public"): TestRoom {
    const room = new TestRoom()
    for (const proposal of initialProposals({ creator, visibility, roomVersion: draftRoomVersion.id })) {
      room.allow(proposal)
    }
    return room
  }

  build(proposal: EventProposal): Event {
    const last = this.events.at(-1)
    return draftRoomVersion.build(
      proposal,
      { prevEvents: last === undefined ? [] : [last], state: this.state, now: 1_400_000_000_000 + this.events.length },
      keyOf(serverOf(proposal.sender))
    )
  }

  /** Adds the event if it is allowed. Returns the refusal otherwise. */
  attempt(proposal: EventProposal): Refusal | undefined {
    return this.add(this.build(proposal))
  }

  add(event: Event): Refusal | undefined {
    const refusal = draftRoomVersion.authorise(event, this.state)
    if (refusal !== undefined) return refusal
    this.events.push(event)
    if (event.state_key !== undefined) this.current.set(stateKeyOf(event.type, event.state_key), event)
    return undefined
  }

  /** Adds an event that must be allowed. */
  allow(proposal: EventProposal): Event {
    const refusal = this.attempt(proposal)
    if (refusal !== undefined) throw new Error(`refused: ${refusal.rule}`)
    return this.events.at(-1)!
  }

  /** The rule that refuses an event that must not be allowed. */
  refuse(proposal: EventProposal): string {
    const refusal = this.attempt(proposal)
    if (refusal === undefined) throw new Error(`allowed: ${JSON.stringify(proposal)}`)
    return refusal.rule
  }

  event(id: EventId): Event | undefined {
    return this.events.find((event) => event.event_id === id)
  }
}
