/**
 * Reads the timelines of rooms, by ranges of positions. Used by `EventStore`.
 */
import type { EventId } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import type { SqlClient } from "effect/sql"
import { hasBody, readWhole, type SizedRow, sizedBody } from "../LargeReads.ts"
import { type EventRow, type StreamedEvent, toStreamedEvent } from "../LogSlice.ts"
import {
  inRange,
  rangeRows,
  readRanges,
  type SizedEventRow,
  sizedEvents,
  type TimelineRange
} from "../TimelineRange.ts"
import { positionSql } from "./positionSql.ts"

/** A page of timelines. */
export interface TimelinePage {
  readonly events: ReadonlyArray<StreamedEvent>
  /** `maxBytes` ended it, and there may be more events within `limit`. */
  readonly cut: boolean
  /** The bytes of its events as text, as they were counted. */
  readonly bytes: number
  /** False if the ranges, of which it is a part, have no gaps for sure. */
  readonly mayHaveGaps: boolean
}

/** `timelines`, `timelineIds`, `page` and `newestGap` of `EventStore`. */
export const makeTimelines = (sql: SqlClient.SqlClient) => {
  const orders = { f: sql.literal("ASC"), b: sql.literal("DESC") } as const

  const timelines = (
    ranges: ReadonlyArray<TimelineRange>,
    direction: "f" | "b",
    limit: number,
    maxBytes = Number.MAX_SAFE_INTEGER
  ) => {
    if (ranges.length === 0 || limit === 0) return Effect.succeed([])
    const order = orders[direction]
    const read = readRanges(
      ranges,
      maxBytes,
      (maxBytes) => sql<SizedEventRow>`
        SELECT hit.xid::text AS xid, hit.nid, range.room_nid, hit.body
        FROM ${rangeRows(sql, ranges)}
        CROSS JOIN LATERAL (${sizedEvents(sql, "", inRange(sql), order, { limit, maxBytes })}) AS hit
        ORDER BY hit.xid ${order}, hit.nid ${order}`
    )
    return read.pipe(
      Effect.map((rows) => rows.filter(hasBody).map(toStreamedEvent)),
      Effect.orDie
    )
  }

  const timelineIds = (range: TimelineRange, direction: "f" | "b", limit: number) => {
    const order = orders[direction]
    return sql<{ event_id: EventId }>`
      SELECT event_id FROM ${rangeRows(sql, [range])} CROSS JOIN LATERAL (
        SELECT xid, nid, event_id FROM events
        WHERE events.room_nid = range.room_nid AND status <= 1 AND ${inRange(sql)}
        ORDER BY xid ${order}, nid ${order} LIMIT ${limit}
      ) AS hit
      ORDER BY hit.xid ${order}, hit.nid ${order}`.pipe(
      Effect.map((rows) => rows.map(({ event_id }) => event_id)),
      Effect.orDie
    )
  }

  /** Whether there is a gap in the ranges, or directly after one of them. */
  const gapsIn = (ranges: ReadonlyArray<TimelineRange>) => sql`EXISTS (
    SELECT FROM ${rangeRows(sql, ranges)} JOIN timeline_gaps USING (room_nid)
    WHERE (xid, nid) > (range.after_xid::xid8, range.after_nid)
      AND (xid, nid) <= (range.up_to_xid::xid8, least(range.up_to_nid, ${Number.MAX_SAFE_INTEGER - 1}) + 1))`

  const page = (ranges: ReadonlyArray<TimelineRange>, direction: "f" | "b", limit: number, maxBytes: number) => {
    if (ranges.length === 0 || limit === 0)
      return Effect.succeed({ events: [], cut: false, bytes: 0, mayHaveGaps: false })
    const order = orders[direction]
    return readWhole(
      sql,
      (first) => sql<EventRow & SizedRow & { readonly may_have_gaps: boolean }>`
        SELECT sized.xid::text AS xid, sized.nid, sized.room_nid, ${gapsIn(ranges)} AS may_have_gaps, ${sizedBody(sql)}
        FROM (
          SELECT page.*, sum(octet_length(body)) OVER (ORDER BY xid ${order}, nid ${order} ROWS UNBOUNDED PRECEDING) AS bytes
          FROM (
            SELECT hit.* FROM ${rangeRows(sql, ranges)} CROSS JOIN LATERAL (
              SELECT xid, nid, room_nid, body FROM events
              WHERE events.room_nid = range.room_nid AND status <= 1 AND ${inRange(sql)}
              ORDER BY xid ${order}, nid ${order} LIMIT ${limit}
            ) AS hit
            ORDER BY hit.xid ${order}, hit.nid ${order} LIMIT ${limit}
          ) AS page ${first}
        ) AS sized
        WHERE sized.bytes - octet_length(sized.body) < ${maxBytes}
        ORDER BY sized.xid ${order}, sized.nid ${order}`
    ).pipe(
      Effect.map((rows) => {
        const bytes = Number(rows.at(-1)?.bytes ?? 0)
        return {
          events: rows.map(toStreamedEvent),
          cut: rows.length < limit && bytes >= maxBytes,
          bytes,
          mayHaveGaps: rows[0]?.may_have_gaps ?? true
        }
      }),
      Effect.orDie
    )
  }

  const newestGap = ({ after, roomNid, upTo }: TimelineRange) =>
    sql<EventRow>`
      SELECT gap.xid::text AS xid, gap.nid, events.room_nid, body
      FROM timeline_gaps AS gap JOIN events USING (nid)
      WHERE gap.room_nid = ${roomNid}
        AND (gap.xid, gap.nid) > ${positionSql(sql, { ...after, nid: after.nid + 1 })}
        AND (gap.xid, gap.nid) <= ${positionSql(sql, { ...upTo, nid: Math.min(upTo.nid + 1, Number.MAX_SAFE_INTEGER) })}
      ORDER BY gap.xid DESC, gap.nid DESC LIMIT 1`.pipe(
      Effect.map(([row]) => (row === undefined ? undefined : toStreamedEvent(row))),
      Effect.orDie
    )

  return { timelines, timelineIds, page, newestGap }
}
