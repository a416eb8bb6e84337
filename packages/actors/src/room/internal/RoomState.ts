/**
 * A room in the memory of its actor: current state, forward extremities, and where the next event goes. Steps are
 * synchronous, so that events get their order without locks; each gives the commit that makes it durable.
 */
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, type RoomId, type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { policyIn, type RoomPolicy } from "@greenroom/room/RoomPolicy"
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
  type StateDelta,
  type StateEntry,
  type StateRef
} from "@greenroom/store/StateStore"
import type { MemberPushRules } from "../MemberPushRules.ts"
import { KeptEvents } from "./KeptEvents.ts"
import { RoomPushes } from "./RoomPushes.ts"
import { StateBranches, type StateValue, sameRef } from "./StateBranches.ts"

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

/** The change of one key of the current state: the new event, or none. */
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

/** An event that none follows yet, with the state after it. */
export interface Extremity {
  readonly event_id: EventId
  readonly depth: number
  readonly after: StateRef
  /** The reference hash, in versions whose PDUs name events by it. */
  readonly referenceHash?: string | undefined
}

/** How an event other than a new one is logged. */
interface LogOptions {
  /** The number by which it was known as an outlier. */
  readonly outlierNid?: number | undefined
  readonly historyXid?: number | undefined
  /** The numbers of a state event's auth events. */
  readonly authNids?: ReadonlyArray<number> | undefined
  /** Some of the event's predecessors are not here. */
  readonly afterGap?: boolean | undefined
}

/** The changes of one or more steps, collected until they are committed together. */
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

const bytesOf = (event: Event | undefined): number => (event === undefined ? 0 : JSON.stringify(event).length)

const nobody: ReadonlySet<ServerName> = new Set()

/** The number of the m.room.create event that an event follows as its creator's join: their membership counts from it on. */
const creationBefore = (step: Step, event: Event): number | undefined => {
  const previous = step.events.at(-1)
  return previous?.event.type === "m.room.create" && event.state_key === previous.event.sender
    ? previous.nid
    : undefined
}

/** A room is listed as its m.room.config says; one without is not decided by its state. */
const visibilityIn = (state: StateLookup): Pick<RoomSummary, "visibility"> => {
  const config = state("m.room.config", "")
  return config === undefined ? {} : { visibility: config.content.visibility === "public" ? "public" : "private" }
}

/** Whether the state lets everybody join or read. */
const isOpenToAll = (state: StateLookup): boolean =>
  state("m.room.join_rules", "")?.content.join_rule === "public" ||
  state("m.room.history_visibility", "")?.content.history_visibility === "world_readable"

export class RoomState {
  readonly roomId: RoomId
  readonly roomNid: number
  readonly fence: number
  readonly version: RoomVersion
  readonly ours: ServerName
  readonly current: Map<string, CurrentEntry>
  extremities: ReadonlyArray<Extremity>
  ref: StateRef | undefined
  joinedMembers = 0
  /** The depth of the event by which this server joined last: events of less depth are history. 0 if it created the room. */
  joinedDepth: number
  /** How many joined members each server has: the servers that take part. */
  readonly servers = new Map<ServerName, number>()
  /** Rises with every step, so that a caller that prepared one sees whether the room has changed since. */
  generation = 0
  readonly recent = new Map<EventId, KnownEvent>()
  /** Events in conflict, which are asked for again when the next event forks. */
  readonly bodies = new KeptEvents()
  /** Other states than the current one, while the graph forks. */
  readonly branches = new StateBranches()
  /** The results of `lookup` in the current state. */
  private readonly found = new Map<string, Map<string, Event>>()
  /** The users that events notify by push rules; undefined where push rules are not evaluated. */
  readonly pushes: RoomPushes | undefined
  private described: (Pick<RoomSummary, "name" | "topic" | "visibility"> & { readonly isOpen: boolean }) | undefined
  /** Whether everybody finds the members in the user directory, by the last commit. */
  private showsMembers: boolean | undefined
  /** Counts of what the current state rests on, once they were asked for. */
  private cited: Map<EventId, number> | undefined
  /** The result of `stateBytes`, once it was computed. */
  private bytes: number | undefined
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
    ends: ReadonlyMap<number, ChainEnd>,
    pushRules?: MemberPushRules["Service"]
  ) {
    this.pushes = pushRules === undefined ? undefined : new RoomPushes(pushRules)
    this.roomId = roomId
    this.roomNid = opened.roomNid
    this.fence = opened.fence
    this.version = version
    this.ours = ours
    this.extremities = opened.forwardExtremities
    this.ref = opened.current
    this.joinedDepth = opened.joinedDepth
    this.showsMembers = opened.showsMembers
    this.current = new Map()
    this.noteEnds(ends)
    for (const { event, nid } of state) this.setCurrent(stateKeyOf(event.type, event.state_key!), { nid, event })
  }

  /** False until the room was created here or joined. */
  get exists(): boolean {
    return this.ref !== undefined
  }

  /** Whether this server takes part in the room: one of its users is joined, or no user is since the last of them left. */
  get isOurs(): boolean {
    return this.servers.has(this.ours) || (this.exists && this.servers.size === 0)
  }

  /** The servers that take part in the room, if this one does. */
  get takingPart(): ReadonlyArray<ServerName> {
    if (!this.isOurs) return []
    return this.servers.size === 0 ? [this.ours] : [...this.servers.keys()]
  }

  /** Looked up many times for every event, and most events do not change it: the result is cached without its key. */
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
    const position = { prevEvents: this.extremities, state: this.lookup, now }
    return this.version.tryBuild(proposal, position, this.ours, this.sealFor(proposal, key))
  }

  /** The key that signs the event of a proposal when it is made; none where it does not leave the server yet. */
  sealFor(proposal: EventProposal, key: SigningKey): SigningKey | undefined {
    return this.concernsOthers(proposal) ? key : undefined
  }

  beginStep(): Step {
    return { events: [], placed: [], chains: [], deltas: [], memberships: [], outgoing: [] }
  }

  /** Appends an event that follows all forward extremities in the current state: the next one of this server. */
  append(step: Step, event: Event, nid: number, newChain: () => number): void {
    const before = this.ref ?? this.beginChain(step, newChain(), this.wholeAt(undefined))
    this.ref = before
    const authNids = event.state_key === undefined ? undefined : this.authNidsOf(event)
    const servers = event.state_key === undefined ? nobody : new Set(this.servers.keys())
    if (event.state_key !== undefined) {
      const key = stateKeyOf(event.type, event.state_key)
      this.changeCurrent(step, [{ key, entry: { nid, event } }], creationBefore(step, event) ?? nid, newChain)
    }
    this.log(step, { nid, event, status: EventStatus.timeline, before, after: this.ref }, { authNids })
    this.extremities = [this.extremityOf(event, this.ref)]
    this.branches.clear()
    this.sendTo(step, nid, this.destinations(event, servers))
  }

  /** The policy server whose recommendation events need now. */
  get policy(): RoomPolicy | undefined {
    return policyIn(this.lookup, (server) => this.servers.has(server))
  }

  extremityOf(event: Event, after: StateRef): Extremity {
    const extremity = { event_id: event.event_id, depth: event.depth, after }
    return this.version.namesReferenceHashes
      ? { ...extremity, referenceHash: this.version.referenceHash(event) }
      : extremity
  }

  /** Writes an event with its place into the step, and remembers it. */
  log(
    step: Step,
    known: KnownEvent,
    { afterGap = false, authNids, historyXid = 0, outlierNid }: LogOptions = {}
  ): void {
    const { after, before, event, nid, status } = known
    const push = status === EventStatus.timeline ? this.pushes?.of(event, this) : undefined
    const isSame = after === undefined || sameRef(after, before)
    const logged: LoggedEvent = {
      nid,
      event,
      status,
      stateBefore: before ?? null,
      historyXid,
      ...(isSame ? {} : { stateAfter: after }),
      ...(push === undefined ? {} : { push }),
      ...(afterGap ? { afterGap } : {}),
      ...(authNids === undefined ? {} : { authNids: authNids.map((authNid) => this.numberNow(authNid)) })
    }
    if (outlierNid === undefined) step.events.push(logged)
    else {
      step.placed.push({ ...logged, outlierNid })
      this.renumber(event, outlierNid, nid)
    }
    this.recent.set(event.event_id, known)
    const kept = this.servers.size > 1 ? recentEvents : recentEventsAlone
    if (this.recent.size > kept) this.forgetRecent(kept)
    this.generation++
  }

  private forgetRecent(kept: number): void {
    for (const eventId of this.recent.keys()) {
      if (this.recent.size <= kept) return
      this.recent.delete(eventId)
    }
  }

  sendTo(step: Step, nid: number, destinations: Iterable<ServerName>): void {
    for (const destination of destinations) step.outgoing.push({ destination, nid })
  }

  /** The room begins, or begins again, with a state that is already written: publishes its members. */
  install(step: Step, changes: Iterable<CurrentChange>, causedBy: number): void {
    const steps = this.installSteps(step, changes, causedBy)
    while (steps.next().done !== true);
  }

  /** The same change by change, for a state of many events. */
  *installSteps(step: Step, changes: Iterable<CurrentChange>, causedBy: number): Generator<void, void> {
    for (const { entry, key } of changes) {
      const replaced = this.setCurrent(key, entry)
      this.logMembership(step, key, entry ?? replaced, entry !== undefined, causedBy)
      yield
    }
  }

  /** A de-outliered event gets a new nid. */
  private renumber(event: Event, from: number, nid: number): void {
    this.renumbered.set(from, nid)
    if (event.state_key === undefined) return
    const key = stateKeyOf(event.type, event.state_key)
    if (this.current.get(key)?.event.event_id === event.event_id) this.put(key, { nid, event })
  }

  /** Changes keys of the current state, on account of the event with the number `causedBy`. */
  changeCurrent(step: Step, changes: ReadonlyArray<CurrentChange>, causedBy: number, newChain: () => number): void {
    if (changes.length === 0) return
    const values = changes.map(({ entry, key }): readonly [string, StateValue] => [
      key,
      entry === undefined ? undefined : { id: entry.event.event_id, nid: entry.nid }
    ])
    const ref = this.advance(step, this.ref!, values, newChain)
    this.install(step, changes, causedBy)
    this.ref = ref
  }

  /**
   * The state that follows another by some changes: the next delta of its chain, or a chain of its own. Where that one is
   * not the current state, `branches` must know it.
   */
  advance(
    step: Step,
    ref: StateRef,
    changes: ReadonlyArray<readonly [key: string, value: StateValue]>,
    newChain: () => number
  ): StateRef {
    if (sameRef(ref, this.ref)) this.noteAtBase(ref, changes)
    const end = this.ends.get(ref.chain)
    const isTip = end?.tip === ref.seq
    const isLong = ref.seq > Math.max(snapshotAfter, 2 * this.current.size)
    if (isTip && !isLong) return this.delta(step, ref, { chain: ref.chain, seq: ref.seq + 1 }, changes, end.height)
    const height = (end?.height ?? maxChainHeight) + 1
    const chain = newChain()
    if (isTip || height > maxChainHeight) {
      const copy = this.beginChain(step, chain, this.wholeAt(ref), ref)
      return this.delta(step, copy, { chain, seq: 1 }, changes, 0)
    }
    step.chains.push({ chain, roomNid: this.roomNid, parent: ref, height })
    return this.delta(step, ref, { chain, seq: 1 }, changes, height)
  }

  /** Takes note of where chains end that were written before the room was opened. */
  noteEnds(ends: ReadonlyMap<number, ChainEnd>): void {
    for (const [chain, end] of ends) if (!this.ends.has(chain)) this.ends.set(chain, end)
  }

  knowsEnd(ref: StateRef): boolean {
    return this.ends.has(ref.chain)
  }

  /** The value of a key in a state. `branches` must know the state, if it is not the current one. */
  valueAt(ref: StateRef, key: string): StateValue {
    const changes = sameRef(ref, this.ref) ? undefined : this.branches.of(ref)
    if (changes === undefined) return this.currentValue(key)
    return changes.has(key) ? changes.get(key) : this.valueAtBase(key)
  }

  valueAtBase(key: string): StateValue {
    const isChanged = this.branches.of(this.ref!)?.has(key) ?? false
    return isChanged ? this.branches.atBase(key) : this.currentValue(key)
  }

  currentValue(key: string): StateValue {
    const entry = this.current.get(key)
    return entry === undefined ? undefined : { id: entry.event.event_id, nid: entry.nid }
  }

  /** A chain that begins with all of a state. */
  beginChain(step: Step, chain: number, whole: ReadonlyMap<string, number>, equals?: StateRef): StateRef {
    const copied = equals === undefined ? {} : { equals }
    step.chains.push({ chain, roomNid: this.roomNid, parent: null, height: 0, ...copied })
    if (equals !== undefined) this.branches.extend(equals, { chain, seq: 0 }, [])
    for (const [key, eventNid] of whole) step.deltas.push({ chain, seq: 0, key, eventNid: this.numberNow(eventNid) })
    this.ends.set(chain, { tip: 0, height: 0 })
    return { chain, seq: 0 }
  }

  /** More of the state with which a chain begins, where it is written in several steps. */
  continueChain(step: Step, { chain, seq }: StateRef, part: Iterable<readonly [key: string, nid: number]>): void {
    for (const [key, nid] of part) step.deltas.push({ chain, seq, key, eventNid: this.numberNow(nid) })
  }

  /** The commit of a step, with the room as it is after it. */
  commit(
    step: Step,
    also: {
      readonly transactions?: ReadonlyArray<ClientTransaction>
      readonly redactions?: ReadonlyArray<Event>
      readonly closedGaps?: ReadonlyArray<number>
    } = {}
  ): RoomCommit {
    const summary = this.summary()
    const changesDirectory = summary.showsMembers !== (this.showsMembers ?? false)
    this.showsMembers = summary.showsMembers
    return {
      roomNid: this.roomNid,
      roomId: this.roomId,
      fence: this.fence,
      ...step,
      transactions: also.transactions ?? [],
      redactions: also.redactions ?? [],
      ...(also.closedGaps === undefined ? {} : { closedGaps: also.closedGaps }),
      ...(changesDirectory ? { changesDirectory } : {}),
      summary
    }
  }

  /** The state events that a redaction strips are stripped in memory too. */
  applyRedaction(redacted: Event): void {
    this.bodies.delete(redacted.event_id)
    const recent = this.recent.get(redacted.event_id)
    if (recent !== undefined) this.recent.set(redacted.event_id, { ...recent, event: redacted })
    if (redacted.state_key === undefined) return
    const key = stateKeyOf(redacted.type, redacted.state_key)
    const entry = this.current.get(key)
    if (entry?.event.event_id === redacted.event_id) this.put(key, { nid: entry.nid, event: redacted })
  }

  /** All of a state by the numbers of its events. */
  private wholeAt(ref: StateRef | undefined): ReadonlyMap<string, number> {
    const whole = new Map(Array.from(this.current, ([key, entry]) => [key, entry.nid]))
    const apply = (key: string, value: StateValue) =>
      value === undefined ? whole.delete(key) : whole.set(key, value.nid)
    if (ref === undefined || sameRef(ref, this.ref)) return whole
    for (const key of this.branches.of(this.ref!)?.keys() ?? []) apply(key, this.branches.atBase(key))
    for (const [key, value] of this.branches.of(ref) ?? []) apply(key, value)
    return whole
  }

  /** The numbers of the auth events that an event has in the current state. */
  private authNidsOf(event: Event): ReadonlyArray<number> {
    const nids: Array<number> = []
    for (const [type, stateKey] of this.version.authEventKeys(event)) {
      const entry = this.current.get(stateKeyOf(type, stateKey))
      if (entry !== undefined && event.auth_events.includes(entry.event.event_id)) nids.push(entry.nid)
    }
    return nids
  }

  /** The other servers that an event concerns: those in the room before or after it, and that of its target. */
  destinations(event: Event, before: ReadonlySet<ServerName>): ReadonlySet<ServerName> {
    if (event.type !== "m.room.member" && before.size === 0 && this.isAlone) return nobody
    const destinations = new Set([...before, ...this.servers.keys()])
    if (event.type === "m.room.member" && event.state_key !== undefined) {
      destinations.add(serverNameOf(event.state_key as UserId))
    }
    destinations.delete(this.ours)
    return destinations
  }

  private numberNow(nid: number): number {
    return this.renumbered.get(nid) ?? nid
  }

  private delta(
    step: Step,
    from: StateRef,
    ref: StateRef,
    changes: ReadonlyArray<readonly [key: string, value: StateValue]>,
    height: number
  ): StateRef {
    for (const [key, value] of changes) {
      step.deltas.push({ key, eventNid: value === undefined ? null : this.numberNow(value.nid), ...ref })
    }
    this.ends.set(ref.chain, { tip: ref.seq, height })
    this.branches.extend(from, ref, changes)
    return ref
  }

  /** Moves the changes of the current state into the base. */
  private noteAtBase(ref: StateRef, changes: ReadonlyArray<readonly [key: string, value: StateValue]>): void {
    const known = this.branches.of(ref)
    if (known === undefined) return
    for (const [key] of changes) if (!known.has(key)) this.branches.setAtBase(key, this.currentValue(key))
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

  /** Sets or removes a key, and returns the former value. */
  private setCurrent(key: string, entry: CurrentEntry | undefined): CurrentEntry | undefined {
    const replaced = this.current.get(key)
    if (key.startsWith("m.room.member\0")) {
      const was = replaced?.event.content.membership === "join"
      const is = entry?.event.content.membership === "join"
      if (is !== was) this.countMember(key.slice("m.room.member\0".length) as UserId, is)
    }
    this.put(key, entry)
    return replaced
  }

  /** How many events of the current state name an event among their auth events. */
  citations(id: EventId): number {
    if (this.cited === undefined) {
      this.cited = new Map()
      for (const { event } of this.current.values()) this.cite(event, 1)
    }
    return this.cited.get(id) ?? 0
  }

  private cite(event: Event | undefined, by: 1 | -1): void {
    for (const id of event?.auth_events ?? []) {
      const times = (this.cited?.get(id) ?? 0) + by
      if (times > 0) this.cited?.set(id, times)
      else this.cited?.delete(id)
    }
  }

  /** How many bytes of JSON the current state has, about. */
  get stateBytes(): number {
    if (this.bytes === undefined) {
      this.bytes = 0
      for (const { event } of this.current.values()) this.bytes += bytesOf(event)
    }
    return this.bytes
  }

  private put(key: string, entry: CurrentEntry | undefined): void {
    if (this.bytes !== undefined) this.bytes += bytesOf(entry?.event) - bytesOf(this.current.get(key)?.event)
    if (this.cited !== undefined) {
      this.cite(this.current.get(key)?.event, -1)
      this.cite(entry?.event, 1)
    }
    if (entry === undefined) this.current.delete(key)
    else this.current.set(key, entry)
    if (this.found.size > 0) this.found.clear()
    this.described = undefined
  }

  private countMember(userId: UserId, isJoined: boolean): void {
    const server = serverNameOf(userId)
    this.count(server, isJoined ? 1 : -1)
    if (server !== this.ours) return
    if (isJoined) this.pushes?.memberJoined(userId)
    else this.pushes?.memberLeft(userId)
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
    const { state_key, type } = proposal
    return type === "m.room.member" && state_key !== undefined && serverNameOf(state_key as UserId) !== this.ours
  }

  private summary(): RoomSummary {
    const text = (type: string, field: string): string | null => {
      const value = this.lookup(type, "")?.content[field]
      // A column of text holds every character but NUL.
      return typeof value === "string" ? value.replaceAll("\0", "\u{fffd}") : null
    }
    this.described ??= {
      name: text("m.room.name", "name"),
      topic: text("m.room.topic", "topic"),
      ...visibilityIn(this.lookup),
      isOpen: isOpenToAll(this.lookup)
    }
    const { isOpen, ...described } = this.described
    return {
      forwardExtremities: this.extremities.map((extremity) => extremity.event_id),
      currentState: this.ref ?? null,
      ...described,
      showsMembers: isOpen && this.servers.has(this.ours),
      joinedMembers: this.joinedMembers,
      joinedDepth: this.joinedDepth
    }
  }
}
