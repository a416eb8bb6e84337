/**
 * A room as one server has it, for tests. It receives events in any order, authorises each by its auth events and by the state before
 * it, and keeps the state after each. Signatures are not checked: they have tests of their own.
 */
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, serverPartOf } from "@greenroom/protocol/Identifiers"
import { draftRoomVersion } from "@greenroom/room/DraftRoomVersion"
import {
  type EventProposal,
  type RoomVersion,
  type StateLookup,
  type StateMap,
  stateKeyOf
} from "@greenroom/room/RoomVersion"
import { resolveStates } from "@greenroom/room/testing/ResolveStates"
import { keyOf } from "./TestRoom.ts"

export class Replica {
  readonly version: RoomVersion
  readonly events = new Map<EventId, Event>()
  readonly rejected = new Set<EventId>()
  readonly #statesAfter = new Map<EventId, StateMap>()
  readonly #waiting = new Set<Event>()
  extremities: ReadonlyArray<EventId> = []

  constructor(version: RoomVersion = draftRoomVersion) {
    this.version = version
  }

  readonly #event = (id: EventId): Event | undefined => (this.rejected.has(id) ? undefined : this.events.get(id))

  lookupIn(state: StateMap): StateLookup {
    return (type, stateKey) => {
      const id = state.get(stateKeyOf(type, stateKey))
      return id === undefined ? undefined : this.events.get(id)
    }
  }

  stateAfter(ids: ReadonlyArray<EventId>): StateMap {
    if (ids.length === 0) return new Map()
    return resolveStates(
      this.version.stateResolution,
      ids.map((id) => this.#statesAfter.get(id)!),
      this.#event
    )
  }

  get state(): StateMap {
    return this.stateAfter(this.extremities)
  }

  /** The current state as a plain object with sorted keys, for comparison. */
  get summary(): Readonly<Record<string, EventId>> {
    return Object.fromEntries([...this.state].sort(([a], [b]) => (a < b ? -1 : 1)))
  }

  /** An event that follows `prev`, with an ID and time that the test chooses. The ID names the server. Not received yet. */
  build(
    proposal: EventProposal,
    eventId: EventId,
    now: number,
    prev: ReadonlyArray<EventId> = this.extremities,
    authState: StateMap = this.stateAfter(prev)
  ): Event {
    return { ...this.make(proposal, serverPartOf(eventId)!, now, prev, authState), event_id: eventId }
  }

  /** An event that follows `prev`, with the ID that the room version gives it. Not received yet. */
  make(
    proposal: EventProposal,
    server: string,
    now: number,
    prev: ReadonlyArray<EventId> = this.extremities,
    authState: StateMap = this.stateAfter(prev)
  ): Event {
    const prevEvents = prev.map((id) => {
      const { depth, event_id } = this.events.get(id)!
      return { depth, event_id, referenceHash: this.version.referenceHash(this.events.get(id)!) }
    })
    return this.version.build(proposal, { prevEvents, state: this.lookupIn(authState), now }, keyOf(server))
  }

  /** Whether an honest server would let its user send the event now. */
  wouldAllow(event: Event): boolean {
    return this.version.authorise(event, this.lookupIn(this.stateAfter(event.prev_events))) === undefined
  }

  receive(event: Event): void {
    if (this.events.has(event.event_id)) return
    this.#waiting.add(event)
    for (let progress = true; progress; ) {
      progress = false
      for (const entry of this.#waiting) {
        if (![...entry.prev_events, ...entry.auth_events].every((id) => this.events.has(id))) continue
        this.#waiting.delete(entry)
        this.#accept(entry)
        progress = true
      }
    }
  }

  #isAllowed(event: Event, before: StateMap): boolean {
    const authEvents = event.auth_events.map((id) => this.events.get(id)!)
    const create = this.events.get(this.version.createEventId(event.room_id)!)
    const context = { create, isRejected: (id: EventId) => this.rejected.has(id) }
    return (
      this.version.authoriseByAuthEvents(event, authEvents, context) === undefined &&
      this.version.authorise(event, this.lookupIn(before)) === undefined
    )
  }

  #accept(event: Event): void {
    const before = this.stateAfter(event.prev_events)
    this.events.set(event.event_id, event)
    if (!this.#isAllowed(event, before)) {
      this.rejected.add(event.event_id)
      this.#statesAfter.set(event.event_id, before)
      return
    }
    const followed = new Set([...event.prev_events, event.event_id])
    this.extremities = [...[...this.extremities].filter((id) => !followed.has(id)), event.event_id]
    this.#statesAfter.set(
      event.event_id,
      event.state_key === undefined
        ? before
        : new Map([...before, [stateKeyOf(event.type, event.state_key), event.event_id]])
    )
  }
}
