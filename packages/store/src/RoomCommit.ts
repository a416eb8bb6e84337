/**
 * The changes of one step of a room, which `EventLog.append` commits, and the errors of a commit.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Schema } from "effect"
import type { StateRef } from "./StateRef.ts"
import type { NewChain, StateDelta } from "./StateStore.ts"

/**
 * The placement of an event. Only `timeline` events reach the stream; `backfilled` ones are history. `withheld` are redactions that have
 * stripped nothing: they are in the graph, and clients do not receive them.
 */
export const EventStatus = { timeline: 0, backfilled: 1, softFailed: 2, rejected: 3, outlier: 4, withheld: 5 } as const
export type EventStatus = (typeof EventStatus)[keyof typeof EventStatus]

/** The effect of an event on a user with own push rules. */
export interface OwnPush {
  readonly userId: UserId
  readonly highlight: boolean
  /** JSON text. */
  readonly actions: string
}

/** An event that notifies most of the joined members with rules of their own alike. */
export interface SharedPush extends Omit<OwnPush, "userId"> {
  /** The members with rules of their own who are not notified so. */
  readonly others: ReadonlyArray<UserId>
}

/** The push results of an event that its content does not show. */
export interface EventPush {
  /** The event mentions the room, and its sender may do so. */
  readonly mentionsRoom: boolean
  readonly own: ReadonlyArray<OwnPush>
  readonly shared?: SharedPush
}

/** An event with its number, the state before it, and the state after it if that is another. */
export interface LoggedEvent {
  readonly nid: number
  readonly event: Event
  readonly status: EventStatus
  readonly stateBefore: StateRef | null
  readonly stateAfter?: StateRef
  /** The numbers of a state event's auth events. */
  readonly authNids?: ReadonlyArray<number>
  /**
   * The number of the transaction before which back-filled history is ordered; 0, the default, is before all of them. Back-filled
   * events have negative numbers, which order them among themselves.
   */
  readonly historyXid?: number
  /** What is known of the state before a back-filled event, where `stateBefore` is null: visibility and memberships of our users. */
  readonly historyState?: StateRef
  readonly push?: EventPush
  /** Some of its predecessors are not here: the timeline has a gap before it. */
  readonly afterGap?: boolean
}

/** An outlier that joins the graph, and gets a new number. */
export interface PlacedEvent extends LoggedEvent {
  readonly outlierNid: number
}

export interface MembershipChange {
  readonly userId: UserId
  readonly membership: string
  readonly sender: UserId
  /** The m.room.member event. */
  readonly eventNid: number
  /** The event after which it holds: the m.room.member event, or one that made the rules choose another state. */
  readonly causedBy: number
  /** Whether the user is ours: only their changes are kept in stream order. */
  readonly local: boolean
}

/** The row of the rooms table after a commit. */
export interface RoomSummary {
  readonly forwardExtremities: ReadonlyArray<string>
  /** Null if we know of the room only by an invitation. */
  readonly currentState: StateRef | null
  readonly name: string | null
  readonly topic: string | null
  readonly joinedMembers: number
  /** The depth of the event by which this server joined last; 0, if absent, where it made the room. */
  readonly joinedDepth?: number
  /** Whether the room is listed, where its state says so. Absent: as it was. */
  readonly visibility?: "public" | "private"
  /** Whether everybody finds its members in the user directory. Absent: as it was. */
  readonly showsMembers?: boolean
}

/** Everything that one step of a room changes. */
export interface RoomCommit {
  readonly roomNid: number
  readonly roomId: RoomId
  /** The number under which the writer opened the room. */
  readonly fence: number
  readonly events: ReadonlyArray<LoggedEvent>
  readonly placed?: ReadonlyArray<PlacedEvent>
  readonly chains: ReadonlyArray<NewChain>
  readonly deltas: ReadonlyArray<StateDelta>
  readonly memberships: ReadonlyArray<MembershipChange>
  readonly transactions: ReadonlyArray<ClientTransaction>
  readonly outgoing: ReadonlyArray<{ readonly destination: ServerName; readonly nid: number }>
  /** Events whose stored body is replaced by their redacted form. */
  readonly redactions: ReadonlyArray<Event>
  /** The numbers of events before which there is no gap any more. */
  readonly closedGaps?: ReadonlyArray<number>
  /** The entries of all members in the user directory may have changed. */
  readonly changesDirectory?: boolean
  readonly summary: RoomSummary
}

/** The answer to a PUT with a transaction ID; `scope` is the room, `txnId` begins with the kind of request. */
export interface ClientTransaction {
  readonly tokenId: number
  readonly scope: string
  readonly txnId: string
  /** JSON text. */
  readonly response: string
}

/** Another writer has opened the room since: the actor must not write any more. */
export class StaleWriter extends Schema.TaggedError<StaleWriter>()("StaleWriter", {
  roomId: Schema.String,
  fence: Schema.Number
}) {
  override get message(): string {
    return `another writer has opened ${this.roomId} since writer ${this.fence}`
  }
}

/**
 * The commit failed. `untouched` says that nothing of it was stored for sure; otherwise the connection may have been
 * lost after PostgreSQL had committed, and the writer must look.
 */
export class CommitFailed extends Schema.TaggedError<CommitFailed>()("CommitFailed", {
  roomId: Schema.String,
  fence: Schema.Number,
  untouched: Schema.Boolean,
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `a commit of ${this.roomId} failed: ${this.cause}`
  }
}
