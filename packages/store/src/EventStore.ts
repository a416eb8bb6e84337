/**
 * Events by ID and in pages: reading the timelines of rooms.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { positionSql } from "./internal/positionSql.ts"
import { stateRef } from "./internal/stateRows.ts"
import { makeTimelines, type TimelinePage } from "./internal/timelines.ts"
import { hasBody, readWhole, runningBytes, type SizedRow, sizedBody } from "./LargeReads.ts"
import {
  type EventRow,
  type MembershipRow,
  type StreamedEvent,
  type StreamedMembership,
  toStreamedEvent,
  toStreamedMembership
} from "./LogSlice.ts"
import { bigints, texts } from "./PgArrays.ts"
import type { EventStatus } from "./RoomCommit.ts"
import type { StateRef } from "./StateRef.ts"
import type { StreamPosition } from "./StreamToken.ts"
import type { TimelineRange } from "./TimelineRange.ts"

export type { TimelinePage } from "./internal/timelines.ts"
export type { TimelineRange } from "./TimelineRange.ts"

/** An event with its status and states. */
export interface StoredEvent extends StreamedEvent {
  readonly status: EventStatus
  readonly stateBefore: StateRef | undefined
  /** The state after the event, where it has a place in the graph. */
  readonly stateAfter: StateRef | undefined
}

/** The events by which a type and state key were set in a room. */
export interface StateHistory {
  readonly events: ReadonlyArray<Event>
  /** False where there are more events, or larger ones, than are read for every answer: then `events` lacks some. */
  readonly isWhole: boolean
}

/** How many events of a history are read, and up to which size in bytes. */
export const maxHistory = 10
export const maxHistoryBytes = 8 * 1024

/** The most feedback that is bundled into one page. */
const maxFeedback = 10_000
/** How many of the next events with the same type and state key are searched for replacements of a state event. */
const maxReplacements = 100

/** How many redactions of an event are looked at, from how many senders one is read, and how many bytes are read for all events. */
const maxNaming = 10_000
export const maxRedactions = 50
export const maxRedactionBytes = 8 * 1024 * 1024

export class EventStore extends Context.Service<
  EventStore,
  {
    /** The stored events with these IDs, unordered. */
    readonly byIds: (ids: ReadonlyArray<EventId>) => Effect.Effect<ReadonlyArray<StoredEvent>>
    /**
     * The states before the events. Those of back-filled events have nothing but the history visibility and the memberships of
     * local users; undefined if not even that is known.
     */
    readonly visibilityStates: (
      stored: ReadonlyArray<StoredEvent>
    ) => Effect.Effect<ReadonlyArray<StateRef | undefined>>
    /**
     * Of the events of a state of the room: those that are not stored, and those that set the history visibility or the membership of a
     * user of the server.
     */
    readonly visibilityPart: (
      roomNid: number,
      ids: ReadonlyArray<EventId>,
      serverName: ServerName
    ) => Effect.Effect<{ readonly unknown: ReadonlyArray<EventId>; readonly part: ReadonlyArray<EventId> }>
    /** What a type and state key were ever set to in the history of rooms, current or not. */
    readonly stateHistories: (
      roomNids: ReadonlyArray<number>,
      type: string,
      stateKey: string
    ) => Effect.Effect<ReadonlyMap<number, StateHistory>>
    /** The same of one room. */
    readonly stateHistory: (roomNid: number, type: string, stateKey: string) => Effect.Effect<StateHistory>
    /**
     * The oldest (`f`) or newest (`b`) `limit` events of each range, in that direction. With `maxBytes`, at most so many bytes of
     * each room, but at least one event.
     */
    readonly timelines: (
      ranges: ReadonlyArray<TimelineRange>,
      direction: "f" | "b",
      limit: number,
      maxBytes?: number
    ) => Effect.Effect<ReadonlyArray<StreamedEvent>>
    /** The IDs of the oldest (`f`) or newest (`b`) `limit` events of a range, in that direction. */
    readonly timelineIds: (
      range: TimelineRange,
      direction: "f" | "b",
      limit: number
    ) => Effect.Effect<ReadonlyArray<EventId>>
    /**
     * The oldest (`f`) or newest (`b`) `limit` events of all ranges together, in that direction, with at most `maxBytes` bytes, but at
     * least one event.
     */
    readonly page: (
      ranges: ReadonlyArray<TimelineRange>,
      direction: "f" | "b",
      limit: number,
      maxBytes: number
    ) => Effect.Effect<TimelinePage>
    /**
     * The newest event of a range that follows a gap in the timeline: predecessors that are not stored. The position of the gap is
     * directly before the event.
     */
    readonly newestGap: (range: TimelineRange) => Effect.Effect<StreamedEvent | undefined>
    /**
     * Feedback (m.room.message.feedback) on messages, by the message's ID, up to a position: the oldest, 10,000 and
     * `maxBytes` bytes at most.
     */
    readonly feedbackOn: (
      roomNid: number,
      targets: ReadonlyArray<EventId>,
      upTo: StreamPosition,
      maxBytes: number
    ) => Effect.Effect<ReadonlyArray<Event>>
    /**
     * The redactions in the room that name the events, withheld ones among them: of each sender the newest, `maxRedactions` for each event,
     * and `maxRedactionBytes` bytes at most.
     */
    readonly redactionsOf: (roomNid: number, ids: ReadonlyArray<EventId>) => Effect.Effect<ReadonlyArray<StoredEvent>>
    /** The state events that replaced a state event and carry its content as `prev_content`. */
    readonly replacementsOf: (replaced: StoredEvent) => Effect.Effect<ReadonlyArray<Event>>
    /** Every change of the user's memberships up to a position, in stream order: those in all rooms, or in one. */
    readonly membershipHistory: (
      userId: UserId,
      upTo: StreamPosition,
      roomNid?: number
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
          : readWhole(
              sql,
              (limit) => sql<StoredEventRow & SizedRow>`
                SELECT sized.xid::text AS xid, sized.nid, sized.room_nid, sized.status, sized.state_chain,
                  sized.state_seq, sized.after_chain, sized.after_seq, ${sizedBody(sql)}
                FROM (
                  SELECT events.*, ${sql.literal(runningBytes)} FROM events
                  WHERE event_id = ANY (${texts(ids)}::text[])
                  ${limit}
                ) AS sized`
            ).pipe(
              Effect.map((rows) => rows.map(toStoredEvent)),
              Effect.orDie
            )

      const visibilityStates = Effect.fnUntraced(function* (stored: ReadonlyArray<StoredEvent>) {
        const without = stored.filter(({ stateBefore }) => stateBefore === undefined)
        if (without.length === 0) return stored.map(({ stateBefore }) => stateBefore)
        const rows = yield* sql<{ nid: bigint; chain: bigint; seq: number }>`
          SELECT nid, chain, seq FROM history_states
          WHERE nid = ANY (${bigints(without.map(({ position }) => position.nid))}::bigint[])`
        const found = new Map(rows.map(({ chain, nid, seq }) => [Number(nid), { chain: Number(chain), seq }]))
        return stored.map(({ position, stateBefore }) => stateBefore ?? found.get(position.nid))
      }, Effect.orDie)

      const visibilityPart = Effect.fnUntraced(function* (
        roomNid: number,
        ids: ReadonlyArray<EventId>,
        serverName: ServerName
      ) {
        const rows = yield* sql<{ event_id: string; is_unknown: boolean }>`
          SELECT given.event_id, events.nid IS NULL AS is_unknown
          FROM unnest(${texts(ids)}::text[]) AS given (event_id)
          LEFT JOIN events ON events.event_id = given.event_id AND events.room_nid = ${roomNid}
          WHERE events.nid IS NULL OR (events.type = 'm.room.history_visibility' AND events.state_key = '')
            OR (events.type = 'm.room.member' AND right(events.state_key, ${serverName.length + 1}) = ${`:${serverName}`})`
        const of = (isUnknown: boolean) =>
          rows.flatMap((row) => (row.is_unknown === isUnknown ? [row.event_id as EventId] : []))
        return { unknown: of(true), part: of(false) }
      }, Effect.orDie)

      // State from before this server joined the room is an outlier: a part of the state with which it joined.
      const everInState = sql`status IN (0, 1, 4)`

      const stateHistories = (roomNids: ReadonlyArray<number>, type: string, stateKey: string) =>
        sql<{ room_nid: bigint; body: string | null }>`
          SELECT room.room_nid, set.body FROM unnest(${bigints(roomNids)}::bigint[]) AS room (room_nid)
          CROSS JOIN LATERAL (
            SELECT CASE WHEN octet_length(body) <= ${maxHistoryBytes} THEN body END AS body FROM events
            WHERE events.room_nid = room.room_nid AND type = ${type} AND state_key = ${stateKey}
              AND ${everInState}
            LIMIT ${maxHistory + 1}
          ) AS set`.pipe(
          Effect.map((rows) => {
            const found = Map.groupBy(rows, ({ room_nid }) => Number(room_nid))
            return new Map(roomNids.map((roomNid) => [roomNid, toHistory(found.get(roomNid) ?? [])]))
          }),
          Effect.orDie
        )

      const stateHistory = (roomNid: number, type: string, stateKey: string) =>
        Effect.map(stateHistories([roomNid], type, stateKey), (found) => found.get(roomNid)!)

      const feedbackOn = (roomNid: number, targets: ReadonlyArray<EventId>, upTo: StreamPosition, maxBytes: number) =>
        targets.length === 0
          ? Effect.succeed([])
          : sql<{ body: string }>`
              SELECT body FROM (
                SELECT xid, nid, body, sum(octet_length(body)) OVER (ORDER BY xid, nid) AS bytes FROM events
                WHERE relates_to = ANY (${texts(targets)}::text[]) AND room_nid = ${roomNid} AND status <= 1
                  AND type = 'm.room.message.feedback'
                  AND (xid, nid) <= ${positionSql(sql, upTo)}
                ORDER BY xid, nid LIMIT ${maxFeedback}
              ) AS feedback
              WHERE bytes <= ${maxBytes} ORDER BY xid, nid`.pipe(
              Effect.map((rows) => rows.map((row) => JSON.parse(row.body) as Event)),
              Effect.orDie
            )

      /** Any member can send any number of redactions of an event that is not here yet. */
      const redactionsOf = Effect.fnUntraced(function* (roomNid: number, ids: ReadonlyArray<EventId>) {
        if (ids.length === 0) return []
        const found = yield* sql<{ nid: bigint; size: number }>`
          SELECT found.nid, found.size FROM unnest(${texts(ids)}::text[]) AS target (id) CROSS JOIN LATERAL (
            SELECT nid, size, row_number() OVER (ORDER BY xid, nid) AS rank FROM (
              SELECT DISTINCT ON (sender) nid, xid, size FROM (
                SELECT nid, xid, sender, octet_length(body) AS size FROM events
                WHERE relates_to = target.id AND type = 'm.room.redaction' AND status IN (0, 1, 5) AND room_nid = ${roomNid}
                LIMIT ${maxNaming}
              ) AS naming ORDER BY sender, xid DESC, nid DESC
            ) AS newest ORDER BY xid, nid LIMIT ${maxRedactions}
          ) AS found ORDER BY found.rank`
        const nids: Array<number> = []
        let bytes = 0
        for (const { nid, size } of found) {
          bytes += size
          if (bytes > maxRedactionBytes) break
          nids.push(Number(nid))
        }
        if (nids.length === 0) return []
        const rows = yield* sql<StoredEventRow>`
          SELECT xid::text AS xid, nid, room_nid, status, state_chain, state_seq, after_chain, after_seq, body
          FROM events WHERE nid = ANY (${bigints(nids)}::bigint[])`
        return rows.map(toStoredEvent)
      }, Effect.orDie)

      const replacementsOf = (replaced: StoredEvent) =>
        sql<{ body: string }>`
          SELECT body FROM events
          WHERE room_nid = ${replaced.roomNid} AND type = ${replaced.event.type}
            AND state_key = ${replaced.event.state_key ?? null}
            AND (xid, nid) > ${positionSql(sql, replaced.position)}
          ORDER BY events.xid, events.nid LIMIT ${maxReplacements}`.pipe(
          Effect.map((rows) =>
            rows
              .map((row) => JSON.parse(row.body) as Event)
              .filter((event) => event.replaces_state === replaced.event.event_id && event.unsigned?.prev_content)
          ),
          Effect.orDie
        )

      const membershipHistory = (userId: UserId, upTo: StreamPosition, roomNid?: number) =>
        sql<MembershipRow>`
          SELECT xid::text AS xid, nid, room_nid, room_id, user_id, membership
          FROM membership_changes JOIN rooms USING (room_nid)
          WHERE user_id = ${userId} AND (xid, nid) <= ${positionSql(sql, upTo)}
            AND ${roomNid === undefined ? sql`true` : sql`room_nid = ${roomNid}`}
          ORDER BY membership_changes.xid, membership_changes.nid`.pipe(
          Effect.map((rows) => rows.map(toStreamedMembership)),
          Effect.orDie
        )

      return EventStore.of({
        byIds,
        visibilityStates,
        visibilityPart,
        stateHistories,
        stateHistory,
        ...makeTimelines(sql),
        feedbackOn,
        redactionsOf,
        replacementsOf,
        membershipHistory
      })
    })
  )
}

interface StoredEventRow extends EventRow {
  readonly status: number
  readonly state_chain: bigint | null
  readonly state_seq: number | null
  readonly after_chain: bigint | null
  readonly after_seq: number | null
}

const toHistory = (rows: ReadonlyArray<{ readonly body: string | null }>): StateHistory => {
  const events = rows.filter(hasBody).map(({ body }) => JSON.parse(body) as Event)
  return { events, isWhole: rows.length <= maxHistory && events.length === rows.length }
}

const toStoredEvent = (row: StoredEventRow): StoredEvent => ({
  ...toStreamedEvent(row),
  status: row.status as EventStatus,
  stateBefore: stateRef(row.state_chain, row.state_seq),
  stateAfter: stateRef(row.after_chain ?? row.state_chain, row.after_seq ?? row.state_seq)
})
