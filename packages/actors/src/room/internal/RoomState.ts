/**
 * A room in the memory of its actor: current state, forward extremities, and where the next event goes. Steps are
 * synchronous, so that events get their order without locks; each gives the commit that makes it durable.
 *
 * The current state itself is in `CurrentState`, its form in the store in `StateChains`, the servers that take part in
 * `RoomServers`.
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
  type RoomCommit,
  type RoomSummary
} from "@greenroom/store/EventLog"
import type { OpenedRoom } from "@greenroom/store/RoomStore"
import type { StateEntry, StateRef } from "@greenroom/store/StateStore"
import type { Types } from "effect"
import type { MemberPushRules } from "../MemberPushRules.ts"
import { type CurrentEntry, CurrentState } from "./CurrentState.ts"
import { KeptEvents } from "./KeptEvents.ts"
import { RoomPushes } from "./RoomPushes.ts"
import { RoomServers } from "./RoomServers.ts"
import { emptyStep, type RoomStep } from "./RoomStep.ts"
import { type StateValue, sameRef } from "./StateBranches.ts"
import { type ChainEnd, StateChains } from "./StateChains.ts"

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

/** How many of its latest events a room keeps in memory: events of other servers follow them. */
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
  /** What is known of the state before a back-filled event. */
  readonly historyState?: StateRef | undefined
}

const noServers: ReadonlySet<ServerName> = new Set()

const memberPrefix = "m.room.member\0"

/** The number of the m.room.create event that an event follows as its creator's join: their membership counts from it on. */
const creationBefore = (step: RoomStep, event: Event): number | undefined => {
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
  readonly current = new CurrentState()
  readonly chains: StateChains
  extremities: ReadonlyArray<Extremity>
  /** The depth of the event by which this server joined last: events of less depth are history. 0 if it created the room. */
  joinedDepth: number
  /** Rises with every step, so that a caller that prepared one sees whether the room has changed since. */
  generation = 0
  readonly recent = new Map<EventId, KnownEvent>()
  /** Events in conflict, which are asked for again when the next event forks. */
  readonly bodies = new KeptEvents()
  private readonly participants: RoomServers
  /** The users that events notify by push rules; undefined if push rules are not evaluated. */
  private readonly pushes: RoomPushes | undefined
  /** Whether everybody finds the members in the user directory, by the last commit. */
  private showsMembers: boolean | undefined

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
    this.participants = new RoomServers(ours)
    this.extremities = opened.forwardExtremities
    this.joinedDepth = opened.joinedDepth
    this.showsMembers = opened.showsMembers
    this.chains = new StateChains(opened.roomNid, this.current, opened.current, ends)
    for (const { event, nid } of state) this.setCurrent(stateKeyOf(event.type, event.state_key!), { nid, event })
  }

  /** Whether no event of the room is stored: this is its first opening, and nothing has been logged since. */
  get isBlank(): boolean {
    return this.fence === 1 && this.generation === 0
  }

  /** The current state as it is stored; undefined until the room begins. */
  get ref(): StateRef | undefined {
    return this.chains.ref
  }

  /** False until the room was created here or joined. */
  get exists(): boolean {
    return this.ref !== undefined
  }

  /** The servers that take part: how many joined members each has. */
  get servers(): ReadonlyMap<ServerName, number> {
    return this.participants.byMembers
  }

  get joinedMembers(): number {
    return this.participants.joinedMembers
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

  /** The servers in the room before the next event, and that of a user whose invitation or knock it ends. */
  serversBefore(event: Event): ReadonlySet<ServerName> {
    const target = event.type === "m.room.member" ? this.lookup(event.type, event.state_key ?? "") : undefined
    return this.participants.before(event, target)
  }

  /** The other servers that an event concerns: those in the room after it, and those `before` it. */
  destinations(before: ReadonlySet<ServerName> = noServers): ReadonlySet<ServerName> {
    return this.participants.destinations(before)
  }

  get lookup(): StateLookup {
    return this.current.lookup
  }

  membershipOf(userId: UserId): string | undefined {
    const membership = this.lookup("m.room.member", userId)?.content.membership
    return typeof membership === "string" ? membership : undefined
  }

  /** The policy server whose recommendation events need now. */
  get policy(): RoomPolicy | undefined {
    return policyIn(this.lookup, (server) => this.servers.has(server))
  }

  /**
   * The event that a proposal makes. Hash and signature cost more than all the rest, so an event gets them only when it
   * leaves the server: at once where other servers take part, otherwise when the first of them asks for it.
   */
  propose(proposal: EventProposal, now: number, key: SigningKey) {
    const position = { prevEvents: this.extremities, state: this.lookup, now }
    return this.version.tryBuild(proposal, position, this.ours, this.sealFor(proposal, key))
  }

  /** The key that signs the event of a proposal when it is made; none if it does not leave the server yet. */
  sealFor(proposal: EventProposal, key: SigningKey): SigningKey | undefined {
    return this.participants.concernsOthers(proposal) ? key : undefined
  }

  beginStep(): RoomStep {
    return emptyStep()
  }

  /** Appends an event that follows all forward extremities in the current state: the next one of this server. */
  append(step: RoomStep, event: Event, nid: number, newChain: () => number): void {
    const before = this.ref ?? this.chains.begin(step, newChain)
    const authNids = event.state_key === undefined ? undefined : this.authNidsOf(event)
    const servers = event.state_key === undefined ? noServers : this.serversBefore(event)
    if (event.state_key !== undefined) {
      const key = stateKeyOf(event.type, event.state_key)
      this.changeCurrent(step, [{ key, entry: { nid, event } }], creationBefore(step, event) ?? nid, newChain)
    }
    const after = this.ref!
    this.log(step, { nid, event, status: EventStatus.timeline, before, after }, { authNids })
    this.follow(event, after, [])
    this.sendTo(step, nid, this.destinations(servers))
  }

  /** An event becomes a forward extremity beside others. The states that are not needed any more are forgotten. */
  follow(event: Event, after: StateRef, others: ReadonlyArray<Extremity>): void {
    const { branches } = this.chains
    this.extremities = [...others, this.extremityOf(event, after)]
    if (others.length === 0) branches.clear()
    else branches.retain([this.ref!, ...this.extremities.map((extremity) => extremity.after)])
  }

  extremityOf(event: Event, after: StateRef): Extremity {
    const extremity = { event_id: event.event_id, depth: event.depth, after }
    return this.version.namesReferenceHashes
      ? { ...extremity, referenceHash: this.version.referenceHash(event) }
      : extremity
  }

  /** Writes an event with its place into the step, and remembers it. */
  log(
    step: RoomStep,
    known: KnownEvent,
    { afterGap = false, authNids, historyState, historyXid = 0, outlierNid }: LogOptions = {}
  ): void {
    const { after, before, event, nid, status } = known
    const push = status === EventStatus.timeline ? this.pushes?.of(event, this) : undefined
    const logged: Types.Mutable<LoggedEvent> = { nid, event, status, stateBefore: before ?? null, historyXid }
    if (after !== undefined && !sameRef(after, before)) logged.stateAfter = after
    if (push !== undefined) logged.push = push
    if (afterGap) logged.afterGap = afterGap
    if (historyState !== undefined) logged.historyState = historyState
    if (authNids !== undefined) logged.authNids = authNids.map((authNid) => this.chains.numberNow(authNid))
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

  sendTo(step: RoomStep, nid: number, destinations: Iterable<ServerName>): void {
    for (const destination of destinations) step.outgoing.push({ destination, nid })
  }

  /** The room begins, or begins again, with a state that is already written: publishes its members. */
  install(step: RoomStep, changes: Iterable<CurrentChange>, causedBy: number): void {
    const steps = this.installSteps(step, changes, causedBy)
    while (steps.next().done !== true);
  }

  /** The same change by change, for a state of many events. */
  *installSteps(step: RoomStep, changes: Iterable<CurrentChange>, causedBy: number): Generator<void, void> {
    for (const { entry, key } of changes) {
      const replaced = this.setCurrent(key, entry)
      this.logMembership(step, key, entry ?? replaced, entry !== undefined, causedBy)
      yield
    }
  }

  /** A de-outliered event gets a new nid. */
  private renumber(event: Event, from: number, nid: number): void {
    this.chains.renumber(from, nid)
    if (event.state_key === undefined) return
    const key = stateKeyOf(event.type, event.state_key)
    if (this.current.get(key)?.event.event_id === event.event_id) this.current.set(key, { nid, event })
  }

  /** Changes keys of the current state, on account of the event with the number `causedBy`. */
  changeCurrent(step: RoomStep, changes: ReadonlyArray<CurrentChange>, causedBy: number, newChain: () => number): void {
    if (changes.length === 0) return
    const values = changes.map(({ entry, key }): readonly [string, StateValue] => [
      key,
      entry === undefined ? undefined : { id: entry.event.event_id, nid: entry.nid }
    ])
    const ref = this.chains.advance(step, this.ref!, values, newChain)
    this.install(step, changes, causedBy)
    this.chains.ref = ref
  }

  /** The commit of a step, with the room as it is after it. */
  commit(
    step: RoomStep,
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
    if (entry?.event.event_id === redacted.event_id) this.current.set(key, { nid: entry.nid, event: redacted })
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

  private logMembership(
    step: RoomStep,
    key: string,
    entry: CurrentEntry | undefined,
    isSet: boolean,
    causedBy: number
  ): void {
    if (entry === undefined || entry.event.type !== "m.room.member" || !key.startsWith(memberPrefix)) return
    const userId = entry.event.state_key as UserId
    step.memberships.push({
      userId,
      membership: isSet ? String(entry.event.content.membership) : "leave",
      sender: entry.event.sender,
      eventNid: this.chains.numberNow(entry.nid),
      causedBy,
      local: serverNameOf(userId) === this.ours
    })
  }

  /** Sets or removes a key, and returns the former value. */
  private setCurrent(key: string, entry: CurrentEntry | undefined): CurrentEntry | undefined {
    const replaced = this.current.get(key)
    if (key.startsWith(memberPrefix)) {
      const was = replaced?.event.content.membership === "join"
      const is = entry?.event.content.membership === "join"
      if (is !== was) this.countMember(key.slice(memberPrefix.length) as UserId, is)
    }
    this.current.set(key, entry)
    return replaced
  }

  private countMember(userId: UserId, isJoined: boolean): void {
    this.participants.count(userId, isJoined)
    if (serverNameOf(userId) !== this.ours) return
    if (isJoined) this.pushes?.memberJoined(userId)
    else this.pushes?.memberLeft(userId)
  }

  private summary(): RoomSummary {
    const { isOpen, name, topic, visibility } = this.current.description
    return {
      forwardExtremities: this.extremities.map((extremity) => extremity.event_id),
      currentState: this.ref ?? null,
      name,
      topic,
      ...(visibility === undefined ? {} : { visibility }),
      showsMembers: isOpen && this.servers.has(this.ours),
      joinedMembers: this.joinedMembers,
      joinedDepth: this.joinedDepth
    }
  }
}
