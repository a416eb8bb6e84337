/**
 * A room in the memory of its actor: current state, forward extremities, and where the next event goes. Steps are
 * synchronous, so that events get their order without locks; each gives the commit that makes it durable.
 */
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, type RoomId, type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { type EventProposal, type RoomVersion, type StateLookup, stateKeyOf } from "@greenroom/room/RoomVersion"
import type { SigningKey } from "@greenroom/room/Signing"
import {
  type ClientTransaction,
  EventStatus,
  type LoggedEvent,
  type MembershipChange,
  type PlacedEvent,
  type RoomCommit,
  type RoomSummary
} from "@greenroom/store/EventLog"
import type { OpenedRoom } from "@greenroom/store/RoomStore"
import {
  maxChainHeight,
  type NewChain,
  type StateChange,
  type StateDelta,
  type StateEntry,
  type StateRef
} from "@greenroom/store/StateStore"
import { Result } from "effect"

export interface CurrentEntry {
  readonly nid: number
  readonly event: Event
}

/** An event that has its place in the graph, or is known as an outlier (then without states). */
export interface KnownEvent extends CurrentEntry {
  readonly status: EventStatus
  readonly before: StateRef | undefined
  readonly after: StateRef | undefined
}

/** How a key of the current state changes: to an event, or away. */
export interface CurrentChange {
  readonly key: string
  readonly entry: CurrentEntry | undefined
}

/** Deltas that a chain may hold beyond the size of the state before a new chain with a snapshot follows it. */
const snapshotAfter = 1000

/** How many of its latest events a room keeps at hand, for those of other servers that follow them. */
const recentEvents = 500
/** The same where no other server takes part. */
const recentEventsAlone = 4

/** What one or more steps change, collected until they are committed together. */
export interface Step {
  readonly events: Array<LoggedEvent>
  readonly placed: Array<PlacedEvent>
  readonly chains: Array<NewChain>
  readonly deltas: Array<StateDelta>
  readonly memberships: Array<MembershipChange>
  readonly outgoing: Array<{ destination: ServerName; nid: number }>
}

interface ChainEnd {
  readonly tip: number
  readonly height: number
}

const nobody: ReadonlySet<ServerName> = new Set()

/** The number of the m.room.create event that an event follows as its creator's join: they are there from it on. */
const creationBefore = (step: Step, event: Event): number | undefined => {
  const previous = step.events.at(-1)
  return previous?.event.type === "m.room.create" && event.state_key === previous.event.sender
    ? previous.nid
    : undefined
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
  /** The depth of the event by which this server joined last: what is less deep is history. 0 where it made the room. */
  joinedDepth: number
  /** How many joined members each server has: the servers that take part. */
  readonly servers = new Map<ServerName, number>()
  /** Rises with every step, so that who prepared one sees whether the room has moved on meanwhile. */
  generation = 0
  readonly recent = new Map<EventId, KnownEvent>()
  /** What `lookup` has found in the current state. */
  private readonly found = new Map<string, Map<string, Event>>()
  private named: Pick<RoomSummary, "name" | "topic"> | undefined
  /** The ends of the chains that may be continued; every other state is continued by a chain of its own. */
  private readonly ends = new Map<number, ChainEnd>()
  /** Events that were known before they got their place have another number since: the new one, by the old. */
  private readonly renumbered = new Map<number, number>()

  constructor(
    roomId: RoomId,
    opened: OpenedRoom,
    version: RoomVersion,
    ours: ServerName,
    state: ReadonlyArray<StateEntry>,
    end: ChainEnd
  ) {
    this.roomId = roomId
    this.roomNid = opened.roomNid
    this.fence = opened.fence
    this.version = version
    this.ours = ours
    this.extremities = opened.forwardExtremities as RoomState["extremities"]
    this.ref = opened.current
    this.joinedDepth = opened.joinedDepth
    this.current = new Map()
    if (this.ref !== undefined) this.ends.set(this.ref.chain, end)
    for (const { event, nid } of state) this.setCurrent(stateKeyOf(event.type, event.state_key!), { nid, event })
  }

  /** False until the room was created here or joined. */
  get exists(): boolean {
    return this.ref !== undefined
  }

  /** Whether this server takes part in the room: one of its users is joined, or nobody is since the last of them left. */
  get isOurs(): boolean {
    return this.servers.has(this.ours) || (this.exists && this.servers.size === 0)
  }

  /** The servers that take part in the room, if this one does. */
  get takingPart(): ReadonlyArray<ServerName> {
    if (!this.isOurs) return []
    return this.servers.size === 0 ? [this.ours] : [...this.servers.keys()]
  }

  /** Asked many times for every event, and most events change nothing of it: what was found is found without its key. */
  readonly lookup: StateLookup = (type, stateKey) => {
    const found = this.found.get(type)?.get(stateKey)
    if (found !== undefined) return found
    const event = this.current.get(stateKeyOf(type, stateKey))?.event
    if (event !== undefined) {
      const ofType = this.found.get(type)
      if (ofType === undefined) this.found.set(type, new Map([[stateKey, event]]))
      else ofType.set(stateKey, event)
    }
    return event
  }

  membershipOf(userId: UserId): string | undefined {
    const membership = this.lookup("m.room.member", userId)?.content.membership
    return typeof membership === "string" ? membership : undefined
  }

  /**
   * The event that a proposal makes. Hash and signature cost more than all the rest, so an event gets them only when it
   * leaves the server: at once where other servers take part, otherwise when the first of them asks for it.
   */
  propose(proposal: EventProposal, now: number, key: SigningKey) {
    const sealed = this.concernsOthers(proposal) ? key : undefined
    const build = (prevEvents: RoomState["extremities"]): ReturnType<RoomVersion["tryBuild"]> => {
      const built = this.version.tryBuild(proposal, { prevEvents, state: this.lookup, now }, this.ours, sealed)
      const mayFit = Result.isFailure(built) && built.failure._tag === "TooLarge" && prevEvents.length > 1
      return mayFit ? build(prevEvents.slice(0, prevEvents.length >> 1)) : built
    }
    const { maxPrevEvents } = this.version
    if (this.extremities.length <= maxPrevEvents) return build(this.extremities)
    return build([...this.extremities].sort((a, b) => b.depth - a.depth).slice(0, maxPrevEvents))
  }

  beginStep(): Step {
    return { events: [], placed: [], chains: [], deltas: [], memberships: [], outgoing: [] }
  }

  /** Appends an event that follows all forward extremities in the current state: the next one of this server. */
  append(step: Step, event: Event, nid: number, newChain: () => number): void {
    const before = this.ref ?? this.beginChain(step, newChain(), this.currentNids())
    this.ref = before
    const servers = event.state_key === undefined ? nobody : new Set(this.servers.keys())
    if (event.state_key !== undefined) {
      const key = stateKeyOf(event.type, event.state_key)
      this.changeCurrent(step, [{ key, entry: { nid, event } }], creationBefore(step, event) ?? nid, newChain)
    }
    this.log(step, { nid, event, status: EventStatus.timeline, before, after: this.ref })
    this.extremities = [{ event_id: event.event_id, depth: event.depth }]
    this.sendTo(step, nid, this.destinations(event, servers))
  }

  /** Writes an event with its place into the step, and remembers it. */
  log(step: Step, known: KnownEvent, outlierNid?: number, historyXid = 0): void {
    const { after, before, event, nid, status } = known
    const stateBefore = before ?? null
    const isSame = after === undefined || (after.chain === before?.chain && after.seq === before.seq)
    const logged = isSame
      ? { nid, event, status, stateBefore, historyXid }
      : { nid, event, status, stateBefore, historyXid, stateAfter: after }
    if (outlierNid === undefined) step.events.push(logged)
    else {
      step.placed.push({ ...logged, outlierNid })
      this.renumber(event, outlierNid, nid)
    }
    this.recent.set(event.event_id, known)
    const kept = this.servers.size > 1 ? recentEvents : recentEventsAlone
    while (this.recent.size > kept) this.recent.delete(this.recent.keys().next().value!)
    this.generation++
  }

  sendTo(step: Step, nid: number, destinations: Iterable<ServerName>): void {
    for (const destination of destinations) step.outgoing.push({ destination, nid })
  }

  /** The room begins, or begins again, with a state that is written already: who is in it is told. */
  install(step: Step, changes: ReadonlyArray<CurrentChange>, causedBy: number): void {
    for (const { entry, key } of changes) {
      const replaced = this.setCurrent(key, entry)
      this.logMembership(step, key, entry ?? replaced, entry !== undefined, causedBy)
    }
  }

  /** An outlier has got its place, and with it another number. */
  private renumber(event: Event, from: number, nid: number): void {
    this.renumbered.set(from, nid)
    if (event.state_key === undefined) return
    const key = stateKeyOf(event.type, event.state_key)
    if (this.current.get(key)?.event.event_id === event.event_id) this.put(key, { nid, event })
  }

  /** The current state changes by these keys, on account of the event with the number `causedBy`. */
  changeCurrent(step: Step, changes: ReadonlyArray<CurrentChange>, causedBy: number, newChain: () => number): void {
    if (changes.length === 0) return
    this.install(step, changes, causedBy)
    this.ref = this.advance(
      step,
      this.ref!,
      changes.map(({ entry, key }) => ({ key, eventNid: entry?.nid ?? null })),
      newChain,
      () => this.currentNids()
    )
  }

  /** The state that follows another by some changes: the next delta of its chain, or a chain of its own. */
  advance(
    step: Step,
    ref: StateRef,
    changes: ReadonlyArray<StateChange>,
    newChain: () => number,
    whole: () => ReadonlyMap<string, number>
  ): StateRef {
    const end = this.ends.get(ref.chain)
    if (end?.tip === ref.seq) {
      if (ref.seq > Math.max(snapshotAfter, 2 * this.current.size)) return this.beginChain(step, newChain(), whole())
      return this.delta(step, { chain: ref.chain, seq: ref.seq + 1 }, changes, end.height)
    }
    const height = (end?.height ?? maxChainHeight) + 1
    if (height > maxChainHeight) return this.beginChain(step, newChain(), whole())
    const chain = newChain()
    step.chains.push({ chain, roomNid: this.roomNid, parent: ref, height })
    return this.delta(step, { chain, seq: 1 }, changes, height)
  }

  /** A chain that begins with all of a state. */
  beginChain(step: Step, chain: number, whole: ReadonlyMap<string, number>): StateRef {
    step.chains.push({ chain, roomNid: this.roomNid, parent: null, height: 0 })
    for (const [key, eventNid] of whole) step.deltas.push({ chain, seq: 0, key, eventNid: this.numberNow(eventNid) })
    this.ends.set(chain, { tip: 0, height: 0 })
    return { chain, seq: 0 }
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
    const recent = this.recent.get(redacted.event_id)
    if (recent !== undefined) this.recent.set(redacted.event_id, { ...recent, event: redacted })
    if (redacted.state_key === undefined) return
    const key = stateKeyOf(redacted.type, redacted.state_key)
    const entry = this.current.get(key)
    if (entry?.event.event_id === redacted.event_id) this.put(key, { nid: entry.nid, event: redacted })
  }

  currentNids(): ReadonlyMap<string, number> {
    return new Map(Array.from(this.current, ([key, entry]) => [key, entry.nid]))
  }

  /** The other servers that an event concerns: those in the room before or after it, and that of who it is about. */
  destinations(event: Event, before: ReadonlySet<ServerName>): ReadonlySet<ServerName> {
    if (event.type !== "m.room.member" && before.size === 0 && this.isAlone) return nobody
    const destinations = new Set([...before, ...this.servers.keys()])
    if (event.type === "m.room.member" && event.state_key !== undefined) {
      destinations.add(serverNameOf(event.state_key as UserId))
    }
    destinations.delete(this.ours)
    return destinations
  }

  private numberNow<N extends number | null>(nid: N): N | number {
    return nid === null ? nid : (this.renumbered.get(nid) ?? nid)
  }

  private delta(step: Step, ref: StateRef, changes: ReadonlyArray<StateChange>, height: number): StateRef {
    for (const { eventNid, key } of changes) step.deltas.push({ key, eventNid: this.numberNow(eventNid), ...ref })
    this.ends.set(ref.chain, { tip: ref.seq, height })
    return ref
  }

  private logMembership(step: Step, key: string, entry: CurrentEntry | undefined, isSet: boolean, causedBy: number) {
    if (entry === undefined || entry.event.type !== "m.room.member" || !key.startsWith("m.room.member\0")) return
    const userId = entry.event.state_key as UserId
    step.memberships.push({
      userId,
      membership: isSet ? String(entry.event.content.membership) : "leave",
      sender: entry.event.sender,
      eventNid: this.numberNow(entry.nid),
      causedBy,
      local: serverNameOf(userId) === this.ours
    })
  }

  /** Sets or removes a key, and gives what was there. */
  private setCurrent(key: string, entry: CurrentEntry | undefined): CurrentEntry | undefined {
    const replaced = this.current.get(key)
    if (key.startsWith("m.room.member\0")) {
      const was = replaced?.event.content.membership === "join"
      const is = entry?.event.content.membership === "join"
      if (is !== was) this.count(serverNameOf(key.slice("m.room.member\0".length) as UserId), is ? 1 : -1)
    }
    this.put(key, entry)
    return replaced
  }

  private put(key: string, entry: CurrentEntry | undefined): void {
    if (entry === undefined) this.current.delete(key)
    else this.current.set(key, entry)
    if (this.found.size > 0) this.found.clear()
    this.named = undefined
  }

  private count(server: ServerName, change: 1 | -1): void {
    this.joinedMembers += change
    const members = (this.servers.get(server) ?? 0) + change
    if (members > 0) this.servers.set(server, members)
    else this.servers.delete(server)
  }

  /** Whether no other server takes part. */
  private get isAlone(): boolean {
    return this.servers.size === 0 || (this.servers.size === 1 && this.servers.has(this.ours))
  }

  private concernsOthers(proposal: EventProposal): boolean {
    if (!this.isAlone) return true
    return proposal.type === "m.room.member" && serverNameOf(proposal.state_key as UserId) !== this.ours
  }

  private summary(): RoomSummary {
    const text = (type: string, field: string): string | null => {
      const value = this.lookup(type, "")?.content[field]
      // A column of text holds every character but NUL.
      return typeof value === "string" ? value.replaceAll("\0", "\u{fffd}") : null
    }
    this.named ??= { name: text("m.room.name", "name"), topic: text("m.room.topic", "topic") }
    return {
      forwardExtremities: this.extremities.map((each) => each.event_id),
      currentState: this.ref ?? null,
      name: this.named.name,
      topic: this.named.topic,
      joinedMembers: this.joinedMembers,
      joinedDepth: this.joinedDepth
    }
  }
}
