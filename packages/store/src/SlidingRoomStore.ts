/**
 * Reads of rooms for sliding sync: the rooms of a user with their last events, and some state of the rooms that are shown.
 * Each is one query for all rooms.
 *
 * An error of the database is a defect. Source: MSC4186.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Array as Arr, Context, Effect, Layer } from "effect"
import { SqlClient, type Statement } from "effect/sql"
import { maxHistory, maxHistoryBytes } from "./EventStore.ts"
import { positionOf, positionSql } from "./internal/positionSql.ts"
import { readWhole, runningBytes, type SizedRow, sizedBody } from "./LargeReads.ts"
import { bigints, integers, texts } from "./PgArrays.ts"
import type { StateRef } from "./StateRef.ts"
import { parentOf } from "./StateStore.ts"
import type { StreamPosition } from "./StreamToken.ts"

/** A room that a user is in, was invited to, knocks at, or was thrown out of. */
export interface ListedRoom {
  readonly roomNid: number
  readonly roomId: RoomId
  readonly membership: string
  /** The last event of a joined room, or the membership change of another room. */
  readonly position: StreamPosition
}

/** A key of the state of one room. */
export interface WantedKey {
  readonly roomNid: number
  readonly ref: StateRef
  readonly type: string
  readonly stateKey: string
}

export interface FoundKey {
  readonly roomNid: number
  readonly event: Event
}

/** How many m.room.create events are read at once. */
const createEventsAtOnce = 100

/** Events that count as activity, for the order in which clients show rooms. */
const bumpTypes = [
  "m.room.create",
  "m.room.message",
  "m.room.encrypted",
  "m.sticker",
  "m.call.invite",
  "m.poll.start",
  "org.matrix.msc3381.poll.start",
  "m.beacon_info",
  "org.matrix.msc3672.beacon_info"
]

/** The most events of a room that are searched for one that counts as activity. */
const bumpWindow = 500

interface ListRow {
  readonly room_nid: bigint
  readonly room_id: string
  readonly membership: string
  readonly xid: string
  readonly nid: bigint
}

const toListed = (row: ListRow): ListedRoom => ({
  roomNid: Number(row.room_nid),
  roomId: row.room_id as RoomId,
  membership: row.membership,
  position: positionOf(row)
})

export class SlidingRoomStore extends Context.Service<
  SlidingRoomStore,
  {
    /** The rooms of a user's lists. Rooms that the user has left, or never was in when banned, are none of them. */
    readonly roomsOf: (userId: UserId) => Effect.Effect<ReadonlyArray<ListedRoom>>
    /** The senders of the user's invitations, by room. */
    readonly inviters: (userId: UserId) => Effect.Effect<ReadonlyMap<number, UserId>>
    /** The types of rooms, null for rooms without one. */
    readonly typesOf: (roomNids: ReadonlyArray<number>) => Effect.Effect<ReadonlyMap<number, string | null>>
    /** The rooms, among the given, that are encrypted. */
    readonly encrypted: (roomNids: ReadonlyArray<number>) => Effect.Effect<ReadonlyArray<number>>
    /** The rooms, among the given, whose history was, or may have been, hidden from members at some time. */
    readonly withHiddenHistory: (roomNids: ReadonlyArray<number>) => Effect.Effect<ReadonlySet<number>>
    /** The transactions of the last events that count as activity, up to a position. */
    readonly bumpStamps: (
      roomNids: ReadonlyArray<number>,
      upTo: StreamPosition
    ) => Effect.Effect<ReadonlyMap<number, number>>
    /** Single keys of states; those that a state does not have are left out. */
    readonly stateKeys: (keys: ReadonlyArray<WantedKey>) => Effect.Effect<ReadonlyArray<FoundKey>>
  }
>()("greenroom/store/SlidingRoomStore") {
  static readonly layer = Layer.effect(
    SlidingRoomStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      // Users who were never in a room must not learn when something happens there.
      const roomsOf = (userId: UserId) =>
        sql<ListRow>`
          SELECT own.room_nid, rooms.room_id, own.membership,
                 coalesce(change.xid, rooms.latest_xid)::text AS xid, coalesce(change.nid, rooms.latest_nid) AS nid
          FROM memberships own JOIN rooms USING (room_nid)
          LEFT JOIN LATERAL (
            SELECT xid, nid FROM membership_changes
            WHERE own.membership <> 'join' AND user_id = ${userId} AND membership_changes.room_nid = own.room_nid
            ORDER BY xid DESC, nid DESC LIMIT 1
          ) AS change ON true
          WHERE own.user_id = ${userId} AND coalesce(change.nid, rooms.latest_nid) IS NOT NULL
            AND (own.membership IN ('join', 'invite', 'knock') OR (
              own.sender <> ${userId}
              AND EXISTS (
                SELECT 1 FROM membership_changes
                WHERE user_id = ${userId} AND membership_changes.room_nid = own.room_nid AND membership = 'join')
              AND NOT EXISTS (
                SELECT 1 FROM forgotten_rooms
                WHERE forgotten_rooms.user_id = ${userId} AND forgotten_rooms.room_nid = own.room_nid
                  AND forgotten_rooms.xid > change.xid)))`.pipe(
          Effect.map((rows) => rows.map(toListed)),
          Effect.orDie
        )

      /** The newest state event of a type, with an empty state key, of each room. */
      const newest = (roomNids: ReadonlyArray<number>, type: string, column: "body" | "nid") => sql`
        SELECT room.room_nid, newest.${sql.literal(column)} FROM unnest(${bigints(roomNids)}::bigint[]) AS room (room_nid)
        CROSS JOIN LATERAL (
          SELECT ${sql.literal(column)} FROM events
          WHERE events.room_nid = room.room_nid AND type = ${type} AND state_key = '' AND status IN (0, 1, 4)
          ORDER BY xid DESC, nid DESC LIMIT 1
        ) AS newest`

      // A few at a time: each event may have 64 KiB, of which one word is wanted.
      const typesOf = (roomNids: ReadonlyArray<number>) =>
        Effect.map(
          Effect.forEach(Arr.chunksOf(roomNids, createEventsAtOnce), (some) =>
            Effect.map(
              newest(some, "m.room.create", "body") as Statement.Statement<{ room_nid: bigint; body: string }>,
              (rows) =>
                rows.map((row): readonly [number, string | null] => {
                  const { type } = (JSON.parse(row.body) as Event).content
                  return [Number(row.room_nid), typeof type === "string" ? type : null]
                })
            )
          ),
          (parts) => new Map(parts.flat())
        ).pipe(Effect.orDie)

      const encrypted = (roomNids: ReadonlyArray<number>) =>
        roomNids.length === 0
          ? Effect.succeed([])
          : (newest(roomNids, "m.room.encryption", "nid") as Statement.Statement<{ room_nid: bigint }>).pipe(
              Effect.map((rows) => rows.map((row) => Number(row.room_nid))),
              Effect.orDie
            )

      // The events are searched as text: JSON may have strings that PostgreSQL's text cannot hold, and within a string the quotation marks
      // of a member would be escaped. A member of this name elsewhere in the event counts too. So do events of which there are many, or
      // large ones, because they would be searched for every answer.
      const withHiddenHistory = (roomNids: ReadonlyArray<number>) =>
        roomNids.length === 0
          ? Effect.succeed(new Set<number>())
          : sql<{ room_nid: bigint }>`
              SELECT room.room_nid FROM unnest(${bigints(roomNids)}::bigint[]) AS room (room_nid)
              CROSS JOIN LATERAL (
                SELECT count(*) > ${maxHistory} OR bool_or(CASE WHEN octet_length(body) <= ${maxHistoryBytes}
                  THEN strpos(body, '"history_visibility":"joined"') > 0 OR strpos(body, '"history_visibility":"invited"') > 0
                  ELSE true END) AS is_hidden
                FROM (
                  SELECT body FROM events
                  WHERE events.room_nid = room.room_nid AND type = 'm.room.history_visibility' AND state_key = ''
                  LIMIT ${maxHistory + 1}
                ) AS set
              ) AS history
              WHERE history.is_hidden`.pipe(
              Effect.map((rows) => new Set(rows.map((row) => Number(row.room_nid)))),
              Effect.orDie
            )

      const bumpStamps = (roomNids: ReadonlyArray<number>, upTo: StreamPosition) =>
        roomNids.length === 0
          ? Effect.succeed(new Map<number, number>())
          : sql<{ room_nid: bigint; xid: string }>`
              SELECT room.room_nid, coalesce(
                (SELECT recent.xid FROM (
                  SELECT xid, nid, type FROM events
                  WHERE events.room_nid = room.room_nid AND status <= 1
                    AND (xid, nid) <= ${positionSql(sql, upTo)}
                  ORDER BY xid DESC, nid DESC LIMIT ${bumpWindow}
                ) AS recent
                WHERE type = ANY (${texts(bumpTypes)}::text[]) ORDER BY xid DESC, nid DESC LIMIT 1),
                '0')::text AS xid
              FROM unnest(${bigints(roomNids)}::bigint[]) AS room (room_nid)`.pipe(
              Effect.map((rows) => new Map(rows.map((row) => [Number(row.room_nid), Number(row.xid)]))),
              Effect.orDie
            )

      const stateKeys = Effect.fnUntraced(function* (keys: ReadonlyArray<WantedKey>) {
        if (keys.length === 0) return []
        const refs = new Map(keys.map(({ ref, roomNid }) => [roomNid, ref]))
        const query = (limit: Statement.Fragment) => sql<SizedRow & { readonly room_nid: bigint }>`
          WITH RECURSIVE walk (room_nid, chain, seq, height) AS (
            SELECT room_nid, chain, seq, 0 FROM unnest(
              ${bigints([...refs.keys()])}::bigint[],
              ${bigints(Array.from(refs.values(), ({ chain }) => chain))}::bigint[],
              ${integers(Array.from(refs.values(), ({ seq }) => seq))}::integer[]
            ) AS given (room_nid, chain, seq)
            UNION ALL
            SELECT walk.room_nid, parent.chain, parent.seq, walk.height + 1 FROM walk ${sql.literal(parentOf("walk"))}
          ), stretch (room_nid, chains, seqs) AS MATERIALIZED (
            SELECT room_nid, array_agg(chain ORDER BY height), array_agg(seq ORDER BY height) FROM walk GROUP BY room_nid
          )
          SELECT sized.room_nid, sized.nid, ${sizedBody(sql)} FROM (SELECT key.room_nid, events.nid, events.body, ${sql.literal(runningBytes)}
          FROM unnest(
            ${bigints(keys.map(({ roomNid }) => roomNid))}::bigint[],
            ${texts(keys.map(({ type }) => type))}::text[],
            ${texts(keys.map(({ stateKey }) => stateKey))}::text[]
          ) AS key (room_nid, type, state_key)
          JOIN stretch ON stretch.room_nid = key.room_nid
          CROSS JOIN LATERAL (
            SELECT newest.event_nid
            FROM unnest(stretch.chains, stretch.seqs) WITH ORDINALITY AS walked (chain, seq, height)
            CROSS JOIN LATERAL (
              SELECT delta.event_nid FROM state_deltas delta
              WHERE delta.chain = walked.chain AND delta.type = key.type AND delta.state_key = key.state_key
                AND delta.seq <= walked.seq
              ORDER BY delta.seq DESC LIMIT 1
            ) AS newest
            ORDER BY walked.height LIMIT 1
          ) AS found
          CROSS JOIN LATERAL (SELECT nid, body FROM events WHERE events.nid = found.event_nid OFFSET 0) AS events ${limit}) AS sized`
        const rows = yield* readWhole(sql, query)
        return rows.map((row): FoundKey => ({ roomNid: Number(row.room_nid), event: JSON.parse(row.body) as Event }))
      }, Effect.orDie)

      const inviters = (userId: UserId) =>
        sql<{ room_nid: bigint; sender: string }>`
          SELECT room_nid, sender FROM memberships WHERE user_id = ${userId} AND membership = 'invite'`.pipe(
          Effect.map((rows) => new Map(rows.map(({ room_nid, sender }) => [Number(room_nid), sender as UserId]))),
          Effect.orDie
        )

      return SlidingRoomStore.of({
        inviters,
        roomsOf,
        typesOf,
        encrypted,
        withHiddenHistory,
        bumpStamps,
        stateKeys
      })
    })
  )
}
