/**
 * A room in the memory of its actor: current state, forward extremities, and where the next event goes. Steps are
 * synchronous, so that events get their order without locks; each gives the commit that makes it durable.
 */
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, type RoomId, type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { type EventProposal, type RoomVersion, type StateLookup, stateKeyOf } from "@greenroom/room/RoomVersion"
import type { SigningKey } from "@greenroom/room/Signing"
import type {
  ClientTransaction,
  LoggedEvent,
  MembershipChange,
  RoomCommit,
  RoomSummary
} from "@greenroom/store/EventLog"
import type { OpenedRoom } from "@greenroom/store/RoomStore"
import type { NewChain, StateDelta, StateEntry, StateRef } from "@greenroom/store/StateStore"

export interface CurrentEntry {
  readonly nid: number
  readonly event: Event
}

/** Deltas that a chain may hold beyond the size of the state before a new chain with a snapshot follows it. */
const snapshotAfter = 1000

/** What one or more steps change, collected until they are committed together. */
interface Step {
  readonly events: Array<LoggedEvent>
  readonly chains: Array<NewChain>
  readonly deltas: Array<StateDelta>
  readonly memberships: Array<MembershipChange>
  readonly outgoing: Array<{ destination: ServerName; nid: number }>
}

export class RoomState {
  readonly roomId: RoomId
  readonly roomNid: number
  readonly fence: number
  readonly version: RoomVersion
  readonly ours: ServerName
  readonly current: Map<string, CurrentEntry>
  extremities: ReadonlyArray<{ readonly event_id: EventId; readonly depth: number }>
  ref: StateRef | undefined
  joinedMembers = 0
  /** How many joined members each server has: the servers that take part. */
  readonly servers = new Map<ServerName, number>()

  constructor(
    roomId: RoomId,
    opened: OpenedRoom,
    version: RoomVersion,
    ours: ServerName,
    state: ReadonlyArray<StateEntry>
  ) {
    this.roomId = roomId
    this.roomNid = opened.roomNid
    this.fence = opened.fence
    this.version = version
    this.ours = ours
    this.extremities = opened.forwardExtremities as RoomState["extremities"]
    this.ref = opened.current
    this.current = new Map()
    for (const { event, nid } of state) this.setCurrent(event, nid)
  }

  /** False until the room was created here or joined. */
  get exists(): boolean {
    return this.ref !== undefined
  }

  readonly lookup: StateLookup = (type, stateKey) => this.current.get(stateKeyOf(type, stateKey))?.event

  membershipOf(userId: UserId): string | undefined {
    const membership = this.lookup("m.room.member", userId)?.content.membership
    return typeof membership === "string" ? membership : undefined
  }

  /**
   * The event that a proposal makes. Signing costs more than all the rest, so an event is signed only when it leaves
   * the server: at once where other servers take part, otherwise when the first of them asks for it.
   */
  propose(proposal: EventProposal, now: number, key: SigningKey) {
    const place = { prevEvents: this.extremities, state: this.lookup, now }
    return this.version.tryBuild(proposal, place, this.ours, this.concernsOthers(proposal) ? key : undefined)
  }

  beginStep(): Step {
    return { events: [], chains: [], deltas: [], memberships: [], outgoing: [] }
  }

  /** Appends an event that follows all forward extremities: the next one of this server. */
  append(step: Step, event: Event, nid: number, newChain: () => number): void {
    this.ref ??= this.beginChain(step, newChain())
    step.events.push({ nid, event, status: 0, stateBefore: this.ref })
    const before = new Set(this.servers.keys())
    if (event.state_key !== undefined) this.setState(step, event, nid, newChain)
    this.extremities = [{ event_id: event.event_id, depth: event.depth }]
    for (const destination of this.destinations(event, before)) step.outgoing.push({ destination, nid })
  }

  /** The commit of a step, with the room as it is after it. */
  commit(
    step: Step,
    also: { readonly transactions?: ReadonlyArray<ClientTransaction>; readonly redactions?: ReadonlyArray<Event> } = {}
  ): RoomCommit {
    return {
      roomNid: this.roomNid,
      roomId: this.roomId,
      fence: this.fence,
      ...step,
      transactions: also.transactions ?? [],
      redactions: also.redactions ?? [],
      summary: this.summary()
    }
  }

  /** The state events that a redaction strips are stripped in memory too. */
  applyRedaction(redacted: Event): void {
    if (redacted.state_key === undefined) return
    const key = stateKeyOf(redacted.type, redacted.state_key)
    const entry = this.current.get(key)
    if (entry?.event.event_id === redacted.event_id) this.current.set(key, { nid: entry.nid, event: redacted })
  }

  private beginChain(step: Step, chain: number): StateRef {
    step.chains.push({ chain, roomNid: this.roomNid, parent: null, height: 0 })
    for (const [key, entry] of this.current) step.deltas.push({ chain, seq: 0, key, eventNid: entry.nid })
    return { chain, seq: 0 }
  }

  private setState(step: Step, event: Event, nid: number, newChain: () => number): void {
    const key = stateKeyOf(event.type, event.state_key!)
    if (event.type === "m.room.member") {
      step.memberships.push({
        userId: event.state_key as UserId,
        membership: String(event.content.membership),
        sender: event.sender,
        eventNid: nid,
        causedBy: nid,
        local: serverNameOf(event.state_key as UserId) === this.ours
      })
    }
    this.setCurrent(event, nid)
    const ref = this.ref!
    this.ref =
      ref.seq > Math.max(snapshotAfter, 2 * this.current.size)
        ? this.beginChain(step, newChain())
        : { chain: ref.chain, seq: ref.seq + 1 }
    if (this.ref.seq > 0) step.deltas.push({ chain: this.ref.chain, seq: this.ref.seq, key, eventNid: nid })
  }

  private setCurrent(event: Event, nid: number): void {
    const key = stateKeyOf(event.type, event.state_key!)
    if (event.type === "m.room.member") {
      const server = serverNameOf(event.state_key as UserId)
      const was = this.current.get(key)?.event.content.membership === "join"
      const is = event.content.membership === "join"
      if (is !== was) this.count(server, is ? 1 : -1)
    }
    this.current.set(key, { nid, event })
  }

  private count(server: ServerName, change: 1 | -1): void {
    this.joinedMembers += change
    const members = (this.servers.get(server) ?? 0) + change
    if (members > 0) this.servers.set(server, members)
    else this.servers.delete(server)
  }

  private concernsOthers(proposal: EventProposal): boolean {
    for (const server of this.servers.keys()) if (server !== this.ours) return true
    return proposal.type === "m.room.member" && serverNameOf(proposal.state_key as UserId) !== this.ours
  }

  /** The other servers that the event concerns: those in the room before or after it, and that of who it is about. */
  private destinations(event: Event, before: ReadonlySet<ServerName>): ReadonlySet<ServerName> {
    const destinations = new Set([...before, ...this.servers.keys()])
    if (event.type === "m.room.member") destinations.add(serverNameOf(event.state_key as UserId))
    destinations.delete(this.ours)
    return destinations
  }

  private summary(): RoomSummary {
    const text = (type: string, field: string): string | null => {
      const value = this.lookup(type, "")?.content[field]
      // A column of text holds every character but NUL.
      return typeof value === "string" ? value.replaceAll("\0", "\u{fffd}") : null
    }
    return {
      forwardExtremities: this.extremities.map((each) => each.event_id),
      currentState: this.ref!,
      name: text("m.room.name", "name"),
      topic: text("m.room.topic", "topic"),
      joinedMembers: this.joinedMembers
    }
  }
}
