/**
 * The memberships of users in rooms, as rows of `memberships`. Used by `RoomStore`.
 */
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Option } from "effect"
import type { SqlClient, Statement } from "effect/sql"
import { readMany } from "../LargeReads.ts"
import { texts } from "../PgArrays.ts"
import type { StateRef } from "../StateRef.ts"
import type { StreamPosition } from "../StreamToken.ts"
import { positionSql } from "./positionSql.ts"
import { stateRef } from "./stateRows.ts"

/** The membership of a user in a room, with the room. */
export interface RoomMembership {
  readonly roomNid: number
  readonly roomId: RoomId
  readonly membership: string
  readonly sender: UserId
  readonly visibility: "public" | "private"
  /** Undefined for an invitation to a room of which this server knows no more. */
  readonly current: StateRef | undefined
  /** The end of the user's last time in the room; undefined for users who are joined, or never were. */
  readonly ended: EndOfMembership | undefined
}

/** A room that a user is joined to. */
export interface RoomOfUser {
  readonly userId: UserId
  readonly roomId: RoomId
  readonly roomNid: number
  readonly current: StateRef | undefined
}

/** The end of a user's time in a room. Later changes of the membership (an invitation, a ban) do not move it. */
export interface EndOfMembership {
  readonly at: StreamPosition
  /** The state after it: with the membership that ended it. */
  readonly state: StateRef
}

interface MembershipRow {
  readonly room_nid: bigint
  readonly room_id: string
  readonly visibility: string
  readonly current_chain: bigint | null
  readonly current_seq: number | null
  readonly membership: string
  readonly sender: string
  readonly ended_xid: string | null
  readonly ended_nid: bigint
  readonly state_chain: bigint | null
  readonly state_seq: number | null
}

const endOf = (row: MembershipRow): EndOfMembership | undefined => {
  const state = stateRef(row.state_chain, row.state_seq)
  return row.ended_xid === null || state === undefined
    ? undefined
    : { at: { xid: Number(row.ended_xid), nid: Number(row.ended_nid) }, state }
}

const toRoomMembership = (row: MembershipRow): RoomMembership => ({
  roomNid: Number(row.room_nid),
  roomId: row.room_id as RoomId,
  membership: row.membership,
  sender: row.sender as UserId,
  visibility: row.visibility === "public" ? "public" : "private",
  current: stateRef(row.current_chain, row.current_seq),
  ended: endOf(row)
})

/** The queries of `RoomStore` about memberships. */
export const makeRoomMemberships = (sql: SqlClient.SqlClient) => {
  const memberships = (condition: Statement.Fragment) =>
    sql<MembershipRow>`
      SELECT rooms.room_nid, rooms.room_id, rooms.visibility, rooms.current_chain, rooms.current_seq,
        memberships.membership, memberships.sender,
        ended.xid::text AS ended_xid, ended.nid AS ended_nid,
        COALESCE(events.after_chain, events.state_chain) AS state_chain,
        COALESCE(events.after_seq, events.state_seq) AS state_seq
      FROM memberships
      JOIN rooms ON rooms.room_nid = memberships.room_nid
      LEFT JOIN LATERAL (
        SELECT change.xid, change.nid FROM membership_changes change
        WHERE memberships.membership <> 'join'
          AND change.user_id = memberships.user_id AND change.room_nid = memberships.room_nid
          AND (change.xid, change.nid) > (
            SELECT joined.xid, joined.nid FROM membership_changes joined
            WHERE joined.user_id = memberships.user_id AND joined.room_nid = memberships.room_nid
              AND joined.membership = 'join'
            ORDER BY joined.xid DESC, joined.nid DESC LIMIT 1)
        ORDER BY change.xid, change.nid LIMIT 1
      ) AS ended ON true
      LEFT JOIN events ON events.nid = ended.nid
      WHERE ${condition} AND (rooms.current_chain IS NOT NULL OR memberships.membership IN ('invite', 'knock'))`.pipe(
      Effect.map((rows) => rows.map(toRoomMembership)),
      Effect.orDie
    )

  const userIds = (rows: ReadonlyArray<{ user_id: string }>) => rows.map((row) => row.user_id as UserId)

  return {
    membership: (userId: UserId, roomId: RoomId) =>
      Effect.map(memberships(sql`memberships.user_id = ${userId} AND rooms.room_id = ${roomId}`), (rows) =>
        Option.fromNullishOr(rows[0])
      ),
    joinedOf: (named: ReadonlyArray<{ readonly userId: UserId; readonly roomId: RoomId }>) =>
      sql<Pick<MembershipRow, "room_nid" | "room_id" | "current_chain" | "current_seq"> & { user_id: string }>`
        SELECT memberships.user_id, rooms.room_id, rooms.room_nid, rooms.current_chain, rooms.current_seq
        FROM unnest(
          ${texts(named.map(({ userId }) => userId))}::text[],
          ${texts(named.map(({ roomId }) => roomId))}::text[]
        ) AS named (user_id, room_id)
        JOIN rooms ON rooms.room_id = named.room_id
        JOIN memberships ON memberships.room_nid = rooms.room_nid AND memberships.user_id = named.user_id
        WHERE memberships.membership = 'join'`.pipe(
        Effect.map((rows) =>
          rows.map((row) => ({
            userId: row.user_id as UserId,
            roomId: row.room_id as RoomId,
            roomNid: Number(row.room_nid),
            current: stateRef(row.current_chain, row.current_seq)
          }))
        ),
        Effect.orDie
      ),
    ownLeave: (userId: UserId, roomId: RoomId) =>
      sql<{ event_id: string }>`
        SELECT events.event_id FROM memberships
        JOIN rooms ON rooms.room_nid = memberships.room_nid
        JOIN events ON events.nid = memberships.event_nid
        WHERE memberships.user_id = ${userId} AND rooms.room_id = ${roomId}
          AND memberships.membership = 'leave' AND memberships.sender = ${userId}`.pipe(
        Effect.map((rows) => Option.map(Option.fromNullishOr(rows[0]), (row) => row.event_id as EventId)),
        Effect.orDie
      ),
    membershipsOf: (userId: UserId, wanted: ReadonlyArray<string>) =>
      memberships(sql`memberships.user_id = ${userId} AND memberships.membership = ANY (${texts(wanted)}::text[])`),
    joinedRooms: (userId: UserId) =>
      sql<{ room_id: string }>`
        SELECT rooms.room_id FROM memberships JOIN rooms USING (room_nid)
        WHERE memberships.user_id = ${userId} AND memberships.membership = 'join'`.pipe(
        Effect.map((rows) => rows.map((row) => row.room_id as RoomId)),
        Effect.orDie
      ),
    joinedRoomsOfAll: (userIds: ReadonlyArray<UserId>) =>
      sql<{ user_id: string; room_id: string }>`
        SELECT memberships.user_id, rooms.room_id FROM memberships JOIN rooms USING (room_nid)
        WHERE memberships.user_id = ANY (${texts(userIds)}::text[]) AND memberships.membership = 'join'`.pipe(
        Effect.map((rows) => {
          const found = new Map<UserId, Array<RoomId>>(userIds.map((userId) => [userId, []]))
          for (const row of rows) found.get(row.user_id as UserId)?.push(row.room_id as RoomId)
          return found
        }),
        Effect.orDie
      ),
    countMemberships: (userId: UserId, wanted: ReadonlyArray<string>) =>
      sql<{ count: number }>`
        SELECT count(*)::integer AS count FROM memberships
        WHERE user_id = ${userId} AND membership = ANY (${texts(wanted)}::text[])`.pipe(
        Effect.map((rows) => rows[0]!.count),
        Effect.orDie
      ),
    countInvitations: (userId: UserId, server: ServerName) =>
      sql<{ all: number; of_server: number }>`
        SELECT count(*)::integer AS all,
          (count(*) FILTER (WHERE substr(sender, strpos(sender, ':') + 1) = ${server}))::integer AS of_server
        FROM memberships WHERE user_id = ${userId} AND membership = 'invite'`.pipe(
        Effect.map(([row]) => ({ all: row!.all, ofServer: row!.of_server })),
        Effect.orDie
      ),
    shareRoom: (a: UserId, b: UserId) =>
      sql`SELECT 1 FROM memberships a JOIN memberships b USING (room_nid)
          WHERE a.user_id = ${a} AND b.user_id = ${b} AND a.membership = 'join' AND b.membership = 'join'
          LIMIT 1`.pipe(
        Effect.map((rows) => rows.length > 0),
        Effect.orDie
      ),
    roommates: (userId: UserId) =>
      readMany(
        sql,
        (limit) => sql<{ user_id: string }>`
          SELECT DISTINCT other.user_id FROM memberships mine JOIN memberships other USING (room_nid)
          WHERE mine.user_id = ${userId} AND mine.membership = 'join' AND other.membership = 'join'
          ${limit}`
      ).pipe(Effect.map(userIds), Effect.orDie),
    joinedMembers: (roomNid: number) =>
      sql<{ user_id: string }>`
        SELECT user_id FROM memberships WHERE room_nid = ${roomNid} AND membership = 'join'`.pipe(
        Effect.map(userIds),
        Effect.orDie
      ),
    joinedAt: (roomNid: number, position: StreamPosition) =>
      sql<{ user_id: string }>`
        SELECT user_id FROM memberships CROSS JOIN LATERAL (
          SELECT change.membership FROM membership_changes change
          WHERE change.user_id = memberships.user_id AND change.room_nid = memberships.room_nid
            AND (change.xid, change.nid) <= ${positionSql(sql, position)}
          ORDER BY change.xid DESC, change.nid DESC LIMIT 1
        ) AS last
        WHERE memberships.room_nid = ${roomNid} AND last.membership = 'join'`.pipe(Effect.map(userIds), Effect.orDie)
  }
}
