/**
 * A slice of the event log: events and memberships in the order of their positions, and the position that they reach.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { positionOf } from "./internal/positionSql.ts"
import type { LogRows } from "./LogKind.ts"
import type { StateRef } from "./StateRef.ts"
import type { StreamPosition } from "./StreamToken.ts"

/** A part of the log: after `after`, up to and including `upTo`. */
export interface LogRange {
  readonly after: StreamPosition
  readonly upTo: StreamPosition
}

/** An event of the stream. */
export interface StreamedEvent {
  readonly position: StreamPosition
  readonly roomNid: number
  readonly event: Event
  /** The states before and after the event, unless the timeline has a gap before it. */
  readonly states?: { readonly before: StateRef; readonly after: StateRef }
}

export interface StreamedMembership {
  readonly position: StreamPosition
  readonly roomNid: number
  readonly roomId: RoomId
  readonly userId: UserId
  readonly membership: string
}

export interface LogSlice {
  readonly events: ReadonlyArray<StreamedEvent>
  readonly memberships: ReadonlyArray<StreamedMembership>
  /** The rows of other kinds: read them by `rowsOf`. */
  readonly rows: LogRows
  /** The position of the last row; undefined for a slice without any. */
  readonly last: StreamPosition | undefined
  /** The slice has all rows up to this position, which may be after the last row: at the low watermark. */
  readonly upTo: StreamPosition
  /** False if the slice was cut, and more rows can be read. */
  readonly complete: boolean
}

/** A row of `events`. */
export interface EventRow {
  readonly xid: string
  readonly nid: bigint
  readonly room_nid: bigint
  readonly body: string
}

export const toStreamedEvent = (row: EventRow): StreamedEvent => ({
  position: positionOf(row),
  roomNid: Number(row.room_nid),
  event: JSON.parse(row.body) as Event
})

/** A row of `membership_changes` with the ID of its room. */
export interface MembershipRow {
  readonly xid: string
  readonly nid: bigint
  readonly room_nid: bigint
  readonly room_id: string
  readonly user_id: string
  readonly membership: string
}

export const toStreamedMembership = (row: MembershipRow): StreamedMembership => ({
  position: positionOf(row),
  roomNid: Number(row.room_nid),
  roomId: row.room_id as RoomId,
  userId: row.user_id as UserId,
  membership: row.membership
})
