/**
 * Events by ID and in pages: reading the timelines of rooms.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import {
  type EventStatus,
  type MembershipRow,
  type StreamedEvent,
  type StreamedMembership,
  toStreamedMembership
} from "./EventLog.ts"
import { bigints, texts } from "./PgArrays.ts"
import type { StateRef } from "./StateStore.ts"
import type { StreamPosition } from "./StreamToken.ts"

/** An event with what the store knows of it. */
export interface StoredEvent extends StreamedEvent {
  readonly status: EventStatus
  readonly stateBefore: StateRef | undefined
}

/** A stretch of a room's timeline: after `after`, up to and including `upTo`. */
export interface TimelineRange {
  readonly roomNid: number
  readonly after: StreamPosition
  readonly upTo: StreamPosition
}

export class EventStore extends Context.Service<
  EventStore,
  {
    /** The events that are known, in no order. */
    readonly byIds: (ids: ReadonlyArray<EventId>) => Effect.Effect<ReadonlyArray<StoredEvent>>
    /** The oldest (`f`) or newest (`b`) `limit` events of each range, in that direction. */
    readonly timelines: (
      ranges: ReadonlyArray<TimelineRange>,
      direction: "f" | "b",
      limit: number
    ) => Effect.Effect<ReadonlyArray<StreamedEvent>>
    /** Feedback (m.room.message.feedback) on messages, by the message's ID. */
    readonly feedbackOn: (roomNid: number, targets: ReadonlyArray<EventId>) => Effect.Effect<ReadonlyArray<Event>>
    /** Every change of the user's memberships up to a position, in stream order. */
    readonly membershipHistory: (
      userId: UserId,
      upTo: StreamPosition
    ) => Effect.Effect<ReadonlyArray<StreamedMembership>>
  }
>()("greenroom/store/EventStore") {
  static readonly layer = Layer.effect(
    EventStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const byIds = (ids: ReadonlyArray<EventId>) =>
        ids.length === 0
          ? Effect.succeed([])
          : sql<EventRow>`
              SELECT xid::text AS xid, nid, room_nid, status, state_chain, state_seq, body FROM events
              WHERE event_id = ANY (${texts(ids)}::text[])`.pipe(
              Effect.map((rows) => rows.map(toStoredEvent)),
              Effect.orDie
            )

      const timelines = (ranges: ReadonlyArray<TimelineRange>, direction: "f" | "b", limit: number) => {
        if (ranges.length === 0 || limit === 0) return Effect.succeed([])
        const order = sql.literal(direction === "f" ? "ASC" : "DESC")
        return sql<EventRow>`
          SELECT page.xid, page.nid, page.room_nid, page.body FROM unnest(
            ${bigints(ranges.map((range) => range.roomNid))}::bigint[],
            ${texts(ranges.map((range) => String(range.after.xid)))}::text[],
            ${bigints(ranges.map((range) => range.after.nid))}::bigint[],
            ${texts(ranges.map((range) => String(range.upTo.xid)))}::text[],
            ${bigints(ranges.map((range) => range.upTo.nid))}::bigint[]
          ) AS range (room_nid, after_xid, after_nid, up_to_xid, up_to_nid)
          CROSS JOIN LATERAL (
            SELECT events.xid::text AS xid, events.nid, events.room_nid, events.body, events.xid AS place FROM events
            WHERE events.room_nid = range.room_nid AND events.status <= 1
              AND (events.xid, events.nid) > (range.after_xid::xid8, range.after_nid)
              AND (events.xid, events.nid) <= (range.up_to_xid::xid8, range.up_to_nid)
            ORDER BY events.xid ${order}, events.nid ${order} LIMIT ${limit}
          ) AS page
          ORDER BY page.place ${order}, page.nid ${order}`.pipe(
          Effect.map((rows) => rows.map(toStreamedEvent)),
          Effect.orDie
        )
      }

      const feedbackOn = (roomNid: number, targets: ReadonlyArray<EventId>) =>
        targets.length === 0
          ? Effect.succeed([])
          : sql<{ body: string }>`
              SELECT body FROM events
              WHERE relates_to = ANY (${texts(targets)}::text[]) AND room_nid = ${roomNid} AND status <= 1
              ORDER BY xid, nid`.pipe(
              Effect.map((rows) => rows.map((row) => JSON.parse(row.body) as Event)),
              Effect.orDie
            )

      const membershipHistory = (userId: UserId, upTo: StreamPosition) =>
        sql<MembershipRow>`
          SELECT xid::text AS xid, nid, room_nid, room_id, user_id, membership
          FROM membership_changes JOIN rooms USING (room_nid)
          WHERE user_id = ${userId} AND (xid, nid) <= (${String(upTo.xid)}::xid8, ${String(upTo.nid)}::bigint)
          ORDER BY membership_changes.xid, membership_changes.nid`.pipe(
          Effect.map((rows) => rows.map(toStreamedMembership)),
          Effect.orDie
        )

      return EventStore.of({ byIds, timelines, feedbackOn, membershipHistory })
    })
  )
}

interface EventRow {
  readonly xid: string
  readonly nid: bigint
  readonly room_nid: bigint
  readonly status: number
  readonly state_chain: bigint | null
  readonly state_seq: number | null
  readonly body: string
}

const toStreamedEvent = (row: EventRow): StreamedEvent => ({
  position: { xid: Number(row.xid), nid: Number(row.nid) },
  roomNid: Number(row.room_nid),
  event: JSON.parse(row.body) as Event
})

const toStoredEvent = (row: EventRow): StoredEvent => ({
  ...toStreamedEvent(row),
  status: row.status as EventStatus,
  stateBefore: row.state_chain === null ? undefined : { chain: Number(row.state_chain), seq: row.state_seq ?? 0 }
})
