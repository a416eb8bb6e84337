/**
 * Reads of many rooms at once for `/sync`: the memberships of a user as of a position, the newest events of timelines with
 * the states around them, the state that a room had at a position. Each is one query for all rooms.
 *
 * An error of the database is a defect. Source: "Syncing" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import { isCompliantUserId, type RoomId, type UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { positionOf, positionSql } from "./internal/positionSql.ts"
import { stateRef } from "./internal/stateRows.ts"
import { hasBody, type Whole } from "./LargeReads.ts"
import { bigints, texts } from "./PgArrays.ts"
import type { StateRef } from "./StateRef.ts"
import type { StreamPosition } from "./StreamToken.ts"
import { inRange, rangeRows, readRanges, type SizedEventRow, sizedEvents, type TimelineRange } from "./TimelineRange.ts"

/** The membership of a user in a room as of a position. */
export interface MembershipAt {
  readonly roomNid: number
  readonly roomId: RoomId
  /** How many users are in the room now. */
  readonly members: number
  readonly membership: string
  /** The change by which it became so. */
  readonly changedAt: StreamPosition
  /** The membership at the earlier position; undefined if there was none, or no position was given. */
  readonly before: string | undefined
  /** For users that left or are banned: the membership right before the change. */
  readonly previous: string | undefined
}

/** An event of a timeline with the states around it. */
export interface TimelineEntry {
  readonly roomNid: number
  readonly position: StreamPosition
  readonly event: Event
  /** Undefined for back-filled history, whose state is not known. */
  readonly stateBefore: StateRef | undefined
  readonly stateAfter: StateRef | undefined
  /** Whether other events relate to it. */
  readonly isRelatedTo: boolean
}

interface MembershipRow {
  readonly room_nid: bigint
  readonly room_id: string
  readonly members: number
  readonly membership: string
  readonly xid: string
  readonly nid: bigint
  readonly before: string | null
  readonly previous: string | null
}

interface EntryRow extends SizedEventRow {
  readonly after_gap: boolean
  readonly state_chain: bigint | null
  readonly state_seq: number | null
  readonly after_chain: bigint | null
  readonly after_seq: number | null
  readonly is_related_to: boolean
}

const entryColumns = ", event_id, state_chain, state_seq, after_chain, after_seq"

const toEntry = (row: Whole<EntryRow>): TimelineEntry => {
  const stateBefore = stateRef(row.state_chain, row.state_seq)
  return {
    roomNid: Number(row.room_nid),
    position: positionOf(row),
    event: JSON.parse(row.body) as Event,
    stateBefore,
    stateAfter: stateRef(row.after_chain, row.after_seq) ?? stateBefore,
    isRelatedTo: row.is_related_to
  }
}

/** Whether the timeline of the room does not reach as far back as its range. */
const isCut = ({ after_gap, body }: EntryRow): boolean => after_gap || body === null

const toMembership = (row: MembershipRow): MembershipAt => ({
  roomNid: Number(row.room_nid),
  roomId: row.room_id as RoomId,
  members: row.members,
  membership: row.membership,
  changedAt: positionOf(row),
  before: row.before ?? undefined,
  previous: row.previous ?? undefined
})

export class SyncStore extends Context.Service<
  SyncStore,
  {
    /** The memberships of a user as of `at`, and what they were at `since`; of all rooms, or of some. */
    readonly memberships: (
      userId: UserId,
      at: StreamPosition,
      since?: StreamPosition,
      roomNids?: ReadonlyArray<number>
    ) => Effect.Effect<ReadonlyArray<MembershipAt>>
    /** The rooms, among the given, that have an event after a position, up to another one. */
    readonly roomsWithNews: (
      roomNids: ReadonlyArray<number>,
      after: StreamPosition,
      upTo: StreamPosition
    ) => Effect.Effect<ReadonlySet<number>>
    /**
     * The newest `limit` events of each range, oldest first, of at most `maxBytes` bytes in each room but at least one.
     * A timeline begins after its last gap. `cut` has the rooms where `maxBytes` or a gap left out some.
     */
    readonly timelines: (
      ranges: ReadonlyArray<TimelineRange>,
      limit: number,
      maxBytes: number
    ) => Effect.Effect<{ readonly entries: ReadonlyArray<TimelineEntry>; readonly cut: ReadonlySet<number> }>
    /** The state after the newest event of each room up to a position. Rooms without one are left out. */
    readonly statesAt: (
      rooms: ReadonlyArray<{ readonly roomNid: number; readonly at: StreamPosition }>
    ) => Effect.Effect<ReadonlyMap<number, StateRef>>
    /** How many users have or had a membership in each room. Rooms with more than `most` are left out. */
    readonly userCounts: (roomNids: ReadonlyArray<number>, most: number) => Effect.Effect<ReadonlyMap<number, number>>
    /** How many users of each room are joined and invited. */
    readonly memberCounts: (
      roomNids: ReadonlyArray<number>
    ) => Effect.Effect<ReadonlyMap<number, { readonly joined: number; readonly invited: number }>>
    /** Up to `limit` members of each room other than the user, joined and invited ones first, in a fixed order. */
    readonly heroes: (
      userId: UserId,
      roomNids: ReadonlyArray<number>,
      limit: number
    ) => Effect.Effect<ReadonlyMap<number, ReadonlyArray<UserId>>>
  }
>()("greenroom/store/SyncStore") {
  static readonly layer = Layer.effect(
    SyncStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      // The changes of one room are read by the primary key. PostgreSQL would also take the order from the index of all changes
      // of the user, and pass over those of all other rooms.
      const changesIn = (userId: UserId, room: string) => sql`(
        SELECT membership, xid, nid FROM membership_changes
        WHERE user_id = ${userId} AND room_nid = ${sql.literal(room)}.room_nid OFFSET 0) AS former`
      const newestFirst = sql.literal("ORDER BY former.xid DESC, former.nid DESC LIMIT 1")

      const latestOf = (userId: UserId, at: StreamPosition, roomNids: ReadonlyArray<number> | undefined) =>
        roomNids === undefined
          ? sql`(
              SELECT DISTINCT ON (room_nid) room_nid, membership, xid, nid FROM membership_changes
              WHERE user_id = ${userId} AND (xid, nid) <= ${positionSql(sql, at)}
              ORDER BY room_nid, xid DESC, nid DESC
            ) AS latest`
          : sql`unnest(${bigints([...new Set(roomNids)])}::bigint[]) AS room (room_nid) CROSS JOIN LATERAL (
              SELECT room.room_nid, membership, xid, nid FROM ${changesIn(userId, "room")}
              WHERE (former.xid, former.nid) <= ${positionSql(sql, at)} ${newestFirst}
            ) AS latest`

      const memberships = (
        userId: UserId,
        at: StreamPosition,
        since?: StreamPosition,
        roomNids?: ReadonlyArray<number>
      ) =>
        sql<MembershipRow>`
          SELECT latest.room_nid, rooms.room_id, rooms.joined_members AS members, latest.membership,
            latest.xid::text AS xid, latest.nid, ${
              since === undefined
                ? sql`NULL`
                : sql`(
                  SELECT membership FROM ${changesIn(userId, "latest")}
                  WHERE (former.xid, former.nid) <= ${positionSql(sql, since)} ${newestFirst})`
            } AS before,
          CASE WHEN latest.membership IN ('leave', 'ban') THEN (
            SELECT membership FROM ${changesIn(userId, "latest")}
            WHERE (former.xid, former.nid) < (latest.xid, latest.nid) ${newestFirst}) END AS previous
          FROM ${latestOf(userId, at, roomNids)}
          JOIN rooms ON rooms.room_nid = latest.room_nid`.pipe(
          Effect.map((rows) => rows.map(toMembership)),
          Effect.orDie
        )

      const roomsWithNews = (roomNids: ReadonlyArray<number>, after: StreamPosition, upTo: StreamPosition) =>
        roomNids.length === 0
          ? Effect.succeed(new Set<number>())
          : sql<{ room_nid: bigint }>`
              SELECT room.room_nid FROM unnest(${bigints(roomNids)}::bigint[]) AS room (room_nid)
              WHERE EXISTS (
                SELECT 1 FROM events
                WHERE events.room_nid = room.room_nid AND status <= 1
                  AND (xid, nid) > ${positionSql(sql, after)} AND (xid, nid) <= ${positionSql(sql, upTo)})`.pipe(
              Effect.map((rows) => new Set(rows.map((row) => Number(row.room_nid)))),
              Effect.orDie
            )

      /** The condition that a row lies in the range, after the newest gap. */
      const afterGap = sql`(xid, nid) > (beginning.after_xid, beginning.after_nid)
        AND (xid, nid) <= (range.up_to_xid::xid8, range.up_to_nid)`
      const descending = sql.literal("DESC")

      const timelines = (ranges: ReadonlyArray<TimelineRange>, limit: number, maxBytes: number) =>
        ranges.length === 0 || limit === 0
          ? Effect.succeed({ entries: [], cut: new Set<number>() })
          : readRanges(
              ranges,
              maxBytes,
              (maxBytes) => sql<EntryRow>`
              SELECT range.room_nid, hit.xid::text AS xid, hit.nid, hit.body, hit.state_chain, hit.state_seq, hit.after_chain,
                hit.after_seq, beginning.after_gap, EXISTS (
                  SELECT FROM events AS child WHERE child.relates_to = hit.event_id AND child.rel_type IS NOT NULL OFFSET 0
                ) AS is_related_to
              FROM ${rangeRows(sql, ranges)}
              LEFT JOIN LATERAL (
                SELECT xid, nid FROM timeline_gaps
                WHERE timeline_gaps.room_nid = range.room_nid
                  AND ${inRange(sql)}
                ORDER BY xid DESC, nid DESC LIMIT 1
              ) AS gap ON true
              CROSS JOIN LATERAL (
                SELECT gap.nid IS NOT NULL AS after_gap, coalesce(gap.xid, range.after_xid::xid8) AS after_xid,
                  coalesce(gap.nid - 1, range.after_nid) AS after_nid
              ) AS beginning
              CROSS JOIN LATERAL (${sizedEvents(sql, entryColumns, afterGap, descending, { limit, maxBytes })}) AS hit
              ORDER BY hit.xid, hit.nid`
            ).pipe(
              Effect.map((rows) => ({
                entries: rows.filter(hasBody).map(toEntry),
                cut: new Set(rows.filter(isCut).map(({ room_nid }) => Number(room_nid)))
              })),
              Effect.orDie
            )

      /**
       * Events of the timeline. With `status = 0`, PostgreSQL may read the log backwards until it meets the room: it takes a room for
       * more frequent than it is, where its statistics are from a time of fewer rooms.
       */
      const ofTimeline = sql.literal("status <= 1 AND status <> 1")

      const statesAt = (rooms: ReadonlyArray<{ readonly roomNid: number; readonly at: StreamPosition }>) =>
        rooms.length === 0
          ? Effect.succeed(new Map<number, StateRef>())
          : sql<{ room_nid: bigint; chain: bigint; seq: number }>`
              SELECT room.room_nid, newest.chain, newest.seq
              FROM unnest(
                ${bigints(rooms.map(({ roomNid }) => roomNid))}::bigint[],
                ${texts(rooms.map(({ at }) => String(at.xid)))}::text[],
                ${bigints(rooms.map(({ at }) => at.nid))}::bigint[]
              ) AS room (room_nid, xid, nid)
              CROSS JOIN LATERAL (
                SELECT coalesce(after_chain, state_chain) AS chain,
                       CASE WHEN after_chain IS NULL THEN state_seq ELSE after_seq END AS seq
                FROM events
                WHERE events.room_nid = room.room_nid AND ${ofTimeline}
                  AND (events.xid, events.nid) <= (room.xid::xid8, room.nid)
                ORDER BY events.xid DESC, events.nid DESC LIMIT 1
              ) AS newest
              WHERE newest.chain IS NOT NULL`.pipe(
              Effect.map((rows) => new Map(rows.map((row) => [Number(row.room_nid), stateRef(row.chain, row.seq)!]))),
              Effect.orDie
            )

      const userCounts = (roomNids: ReadonlyArray<number>, most: number) =>
        sql<{ room_nid: bigint; users: number }>`
          SELECT room.room_nid, counted.users FROM unnest(${bigints(roomNids)}::bigint[]) AS room (room_nid)
          CROSS JOIN LATERAL (
            SELECT count(*)::integer AS users FROM (
              SELECT FROM memberships WHERE memberships.room_nid = room.room_nid LIMIT ${most + 1}
            ) AS user_of_room
          ) AS counted
          WHERE counted.users <= ${most}`.pipe(
          Effect.map((rows) => new Map(rows.map(({ room_nid, users }) => [Number(room_nid), users]))),
          Effect.orDie
        )

      const memberCounts = (roomNids: ReadonlyArray<number>) =>
        roomNids.length === 0
          ? Effect.succeed(new Map<number, { joined: number; invited: number }>())
          : sql<{ room_nid: bigint; joined: number; invited: number }>`
              SELECT room_nid, joined_members AS joined, (
                SELECT count(*)::integer FROM memberships
                WHERE memberships.room_nid = rooms.room_nid AND membership = 'invite'
              ) AS invited
              FROM rooms WHERE room_nid = ANY (${bigints(roomNids)}::bigint[])`.pipe(
              Effect.map(
                (rows) => new Map(rows.map(({ invited, joined, room_nid }) => [Number(room_nid), { joined, invited }]))
              ),
              Effect.orDie
            )

      const heroes = (userId: UserId, roomNids: ReadonlyArray<number>, limit: number) =>
        roomNids.length === 0
          ? Effect.succeed(new Map<number, ReadonlyArray<UserId>>())
          : sql<{ room_nid: bigint; user_id: string }>`
              SELECT room.room_nid, member.user_id FROM unnest(${bigints(roomNids)}::bigint[]) AS room (room_nid)
              CROSS JOIN LATERAL (
                SELECT user_id FROM memberships
                WHERE memberships.room_nid = room.room_nid AND user_id <> ${userId}
                  AND membership IN ('join', 'invite', 'leave', 'ban')
                ORDER BY membership NOT IN ('join', 'invite'), event_nid LIMIT ${limit}
              ) AS member`.pipe(
              Effect.map((rows) => {
                const found = Map.groupBy(rows, (row) => Number(row.room_nid))
                return new Map(
                  [...found].map(([roomNid, members]) => [
                    roomNid,
                    members.map((row) => row.user_id as UserId).filter(isCompliantUserId)
                  ])
                )
              }),
              Effect.orDie
            )

      return SyncStore.of({ memberships, roomsWithNews, timelines, statesAt, userCounts, memberCounts, heroes })
    })
  )
}
