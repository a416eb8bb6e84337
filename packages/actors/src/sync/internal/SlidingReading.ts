/**
 * What of a room an answer of sliding sync reads: from where on its timeline is sent, and whether all of the wanted state is.
 *
 * Source: "Room results" of MSC4186.
 */
import { comparePositions, positionBefore, type StreamPosition } from "@greenroom/store/StreamToken"
import type { MembershipAt } from "@greenroom/store/SyncStore"
import type { UserRoom } from "./RoomOrders.ts"
import type { RoomConfig } from "./SlidingRequest.ts"
import { hasLeft } from "./SyncRange.ts"

/** A room that is part of an answer. */
export interface ShownRoom {
  readonly room: UserRoom
  readonly config: RoomConfig
  /** The lists that match the room. */
  readonly lists: ReadonlyArray<string>
  /** The position up to which the client has the room; undefined for a room that it does not have. */
  readonly known: StreamPosition | undefined
  /** The configuration with which the room was sent last. */
  readonly former: RoomConfig | undefined
}

/** A room whose timeline and state are sent. */
export interface SlidingReading extends ShownRoom {
  readonly roomNid: number
  readonly at: MembershipAt
  /** The last position of the room for the user: the end of the answer, or the user's leave. */
  readonly end: StreamPosition
  /** Whether the client is to forget what it has of the room. */
  readonly initial: boolean
  /** Sends the last events again, because more of them are wanted than before. */
  readonly expanded: boolean
  /** Looks for all of the wanted state, and not only for what changed. */
  readonly wholeState: boolean
  /** Whether the user was not in the room when this membership began: an invitation or a knock was declined, for example. */
  readonly isOutside: boolean
}

const grew = (former: RoomConfig | undefined, config: RoomConfig) =>
  former !== undefined && config.timelineLimit > former.timelineLimit

const wantsMore = (former: RoomConfig | undefined, { sets }: RoomConfig) => {
  if (former === undefined) return false
  const had = new Set(former.sets.map((set) => JSON.stringify(set)))
  return sets.some((set) => !had.has(JSON.stringify(set)))
}

/** Whether a room must be sent for the sake of its settings, without any news. */
export const isExpanded = (former: RoomConfig | undefined, config: RoomConfig): boolean =>
  grew(former, config) || wantsMore(former, config)

/**
 * Users must not see events from the time in which they were not in the room. Their membership is known as of `since`
 * only. Users that were outside to the end see the change of their own membership and nothing else.
 */
export const toReading = (
  shown: ShownRoom,
  at: MembershipAt,
  since: StreamPosition | undefined,
  upTo: StreamPosition
): SlidingReading => {
  const { config, former, known, room } = shown
  const isOutside = hasLeft(at.membership) && at.previous !== "join"
  const wasThere =
    at.before === "join" && known !== undefined && since !== undefined && comparePositions(known, since) >= 0
  const cameBack =
    at.membership === "join" && known !== undefined && comparePositions(at.changedAt, known) > 0 && !wasThere
  const beforeChange = positionBefore(at.changedAt)
  return {
    ...shown,
    known: isOutside ? beforeChange : cameBack ? undefined : known,
    roomNid: room.roomNid,
    at,
    initial: known === undefined || cameBack,
    end: hasLeft(at.membership) ? at.changedAt : upTo,
    expanded: !isOutside && !cameBack && known !== undefined && grew(former, config),
    wholeState: !isOutside && (cameBack || known === undefined || wantsMore(former, config)),
    isOutside
  }
}
