/**
 * The request of a `/sync` answer as its parts read it: the positions between which the rooms are read, and the rooms whose
 * timelines are in the answer.
 */
import type { Filter } from "@greenroom/protocol/client-server/Filter"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { StreamPosition } from "@greenroom/store/StreamToken"
import type { MembershipAt } from "@greenroom/store/SyncStore"
import type { Reader } from "../../room/HistoryVisibility.ts"
import type { IgnoredUsers } from "../../room/IgnoredUsers.ts"
import type { Session } from "../../runtime/Session.ts"

/** The request, and the positions between which it reads. */
export interface SyncRange {
  readonly session: Session
  /** Undefined for the first answer. */
  readonly since: StreamPosition | undefined
  readonly upTo: StreamPosition
  readonly filter: Filter
  /** Sends the whole state of every room. */
  readonly fullState: boolean
  /** Sends the state at the end of the timeline instead of at its beginning. */
  readonly stateAfter: boolean
  /** The name of a device that gets a membership once (`lazyDevice`). */
  readonly lazyDevice?: string | undefined
  /** The rooms that have news, if that is known. */
  readonly roomNids?: ReadonlyArray<number> | undefined
}

/** How many reads of one answer are under way at a time: a first answer is large, others are many. */
export const concurrencyOf = ({ fullState, since }: Pick<SyncRange, "fullState" | "since">): number =>
  since === undefined || fullState ? 4 : 1

/** A range, with the users whose events are left out in all rooms. */
export interface RoomsRange extends SyncRange {
  readonly ignored: IgnoredUsers
}

/** A room whose timeline is in the answer. */
export interface Reading extends MembershipAt {
  /** The start of the answer: undefined if the room is new to the client. */
  readonly known: StreamPosition | undefined
  /** The last position of the timeline: the end of the answer, or the user's leave. */
  readonly end: StreamPosition
}

export const hasLeft = (membership: string): boolean => membership === "leave" || membership === "ban"

/** The user as a reader of the room. */
export const readerOf = (userId: UserId, { changedAt, membership, roomNid }: MembershipAt): Reader => ({
  userId,
  roomNid,
  isJoined: membership === "join",
  leftAt: hasLeft(membership) ? changedAt : undefined
})
