/**
 * All rooms, for administrators, and the removal of rooms and of their history (`internal/roomPurges.ts`).
 *
 * An error of the database is a defect. Times are milliseconds since 1970.
 */
import type { EventId, RoomAlias, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import { containing } from "./internal/containing.ts"
import { readPage } from "./internal/readPage.ts"
import { type HistoryPoint, makeRoomPurges } from "./internal/roomPurges.ts"
import { texts } from "./PgArrays.ts"
import type { StateRef } from "./StateRef.ts"

export type { HistoryPoint } from "./internal/roomPurges.ts"

export interface AdministeredRoom {
  readonly roomNid: number
  readonly roomId: RoomId
  readonly version: string
  readonly isPublic: boolean
  readonly name: string | undefined
  readonly topic: string | undefined
  readonly joinedMembers: number
  readonly joinedLocalMembers: number
  readonly createdAt: number
  readonly state: StateRef
}

const roomOrders = {
  name: "name",
  joined_members: "joined_members",
  joined_local_members: "joined_local_members",
  version: "version",
  public: "visibility",
  room_id: "room_id",
  created_at: "created_at"
} as const
export type RoomOrder = keyof typeof roomOrders

export interface RoomQuery {
  readonly from: number
  readonly limit: number
  readonly orderBy: RoomOrder
  readonly descending: boolean
  /** A part of the name, of an alias, or the whole room ID. */
  readonly search?: string | undefined
  readonly isPublic?: boolean | undefined
  readonly isEmpty?: boolean | undefined
}

export interface ForwardExtremity {
  readonly event_id: EventId
  readonly depth: number
  readonly received_ts: number
}

export class RoomAdministrationStore extends Context.Service<
  RoomAdministrationStore,
  {
    readonly find: (roomId: RoomId) => Effect.Effect<Option.Option<AdministeredRoom>>
    readonly list: (
      query: RoomQuery
    ) => Effect.Effect<{ readonly rooms: ReadonlyArray<AdministeredRoom>; readonly total: number }>
    /** Users with one of the memberships; `local` for those of this server alone. */
    readonly members: (
      roomNid: number,
      memberships: ReadonlyArray<string>,
      local: ServerName | undefined
    ) => Effect.Effect<ReadonlyArray<UserId>>
    readonly extremities: (roomId: RoomId) => Effect.Effect<ReadonlyArray<ForwardExtremity>>
    /** Up to `limit` bodies of events that name media, with event numbers below `before`; the highest first. */
    readonly bodiesWithMedia: (
      roomNid: number,
      before: number,
      limit: number
    ) => Effect.Effect<ReadonlyArray<{ readonly nid: number; readonly body: string }>>

    /** Takes all aliases of the room from the directory, and the room from the list of public rooms. */
    readonly unpublish: (roomId: RoomId) => Effect.Effect<ReadonlyArray<RoomAlias>>

    /** From now on the room does not exist for readers, and its writers are refused. Returns its number, if the room is known. */
    readonly hide: (roomId: RoomId) => Effect.Effect<number | undefined>
    /** How many events of a room are in the database, also while it is purged. */
    readonly eventsOf: (roomId: RoomId) => Effect.Effect<number>
    /** Removes everything of a hidden room, its row last. May be repeated. Returns the number of removed rows. */
    readonly purge: (roomNid: number, roomId: RoomId) => Effect.Effect<number>

    /** The position just before an event, or before a time; undefined if nothing precedes it. */
    readonly historyPoint: (
      roomId: RoomId,
      before: { readonly eventId: EventId } | { readonly time: number }
    ) => Effect.Effect<HistoryPoint | undefined>
    /** Removes events before a point, except state events and, with `local`, those of its users. Returns how many. */
    readonly purgeHistory: (
      roomNid: number,
      point: HistoryPoint,
      local: ServerName | undefined
    ) => Effect.Effect<number>
  }
>()("greenroom/store/RoomAdministrationStore") {
  static readonly layer = Layer.effect(
    RoomAdministrationStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const localMembers = sql.literal(
        `(SELECT count(*) FROM memberships AS own JOIN users ON users.user_id = own.user_id
          WHERE own.room_nid = rooms.room_nid AND own.membership = 'join')::integer`
      )

      const columns = sql`room_nid, room_id, version, visibility, name, topic, joined_members, ${localMembers}
        AS joined_local_members, created_at, current_chain, current_seq`

      interface RoomRow {
        readonly room_nid: bigint
        readonly room_id: string
        readonly version: string
        readonly visibility: string
        readonly name: string | null
        readonly topic: string | null
        readonly joined_members: number
        readonly joined_local_members: number
        readonly created_at: bigint
        readonly current_chain: bigint
        readonly current_seq: number
      }

      const toRoom = (row: RoomRow): AdministeredRoom => ({
        roomNid: Number(row.room_nid),
        roomId: row.room_id as RoomId,
        version: row.version,
        isPublic: row.visibility === "public",
        name: row.name ?? undefined,
        topic: row.topic ?? undefined,
        joinedMembers: row.joined_members,
        joinedLocalMembers: row.joined_local_members,
        createdAt: Number(row.created_at),
        state: { chain: Number(row.current_chain), seq: row.current_seq }
      })

      const find = (roomId: RoomId) =>
        sql<RoomRow>`
          SELECT ${columns} FROM rooms
          WHERE room_id = ${roomId} AND current_chain IS NOT NULL`.pipe(
          Effect.map((rows) => Option.map(Option.fromNullishOr(rows[0]), toRoom)),
          Effect.orDie
        )

      const list = Effect.fn("RoomAdministrationStore.list")(function* (query: RoomQuery) {
        const { descending, from, isEmpty, isPublic, limit, orderBy, search } = query
        const pattern = containing(search)
        const { rows, total } = yield* readPage<RoomRow>(sql, {
          rows: sql`
            SELECT ${columns} FROM rooms
            WHERE current_chain IS NOT NULL
              AND (${isPublic ?? null}::boolean IS NULL OR (visibility = 'public') = ${isPublic ?? null})
              AND (${isEmpty ?? null}::boolean IS NULL OR (joined_members = 0) = ${isEmpty ?? null})
              AND (${pattern}::text IS NULL OR room_id = ${search ?? null} OR lower(name) LIKE ${pattern} OR EXISTS (
                SELECT 1 FROM room_aliases WHERE room_aliases.room_id = rooms.room_id AND lower(alias) LIKE ${pattern}))`,
          order: sql.literal(`${roomOrders[orderBy]} ${descending ? "DESC NULLS LAST" : "ASC NULLS FIRST"}, room_nid`),
          from,
          limit
        })
        return { rooms: rows.map(toRoom), total }
      }, Effect.orDie)

      const members: RoomAdministrationStore["Service"]["members"] = (roomNid, memberships, local) =>
        sql<{ user_id: string }>`
          SELECT user_id FROM memberships
          WHERE room_nid = ${roomNid} AND membership = ANY (${texts(memberships)}::text[])
            AND (${local ?? null}::text IS NULL OR server = ${local ?? null})
          ORDER BY user_id`.pipe(
          Effect.map((rows) => rows.map(({ user_id }) => user_id as UserId)),
          Effect.orDie
        )

      const extremities = (roomId: RoomId) =>
        sql<{ event_id: string; depth: bigint; body: string }>`
          SELECT event_id, depth, body FROM events
          WHERE event_id = ANY (SELECT unnest(forward_extremities) FROM rooms WHERE room_id = ${roomId})`.pipe(
          Effect.map((rows) =>
            rows.map(({ body, depth, event_id }) => ({
              event_id: event_id as EventId,
              depth: Number(depth),
              received_ts: Number((JSON.parse(body) as { readonly origin_server_ts?: number }).origin_server_ts ?? 0)
            }))
          ),
          Effect.orDie
        )

      const unpublish = Effect.fnUntraced(
        function* (roomId: RoomId) {
          yield* sql`UPDATE rooms SET visibility = 'private' WHERE room_id = ${roomId} AND visibility <> 'private'`
          const rows = yield* sql<{ alias: string }>`
            DELETE FROM room_aliases WHERE room_id = ${roomId} RETURNING alias`
          return rows.map(({ alias }) => alias as RoomAlias)
        },
        sql.withTransaction,
        Effect.orDie
      )

      return RoomAdministrationStore.of({
        find,
        list,
        members,
        extremities,
        bodiesWithMedia: (roomNid, before, limit) =>
          sql<{ nid: bigint; body: string }>`
            SELECT nid, body FROM events
            WHERE room_nid = ${roomNid} AND nid < ${before} AND status <= 1 AND body LIKE '%mxc://%'
            ORDER BY nid DESC LIMIT ${limit}`.pipe(
            Effect.map((rows) => rows.map(({ body, nid }) => ({ nid: Number(nid), body }))),
            Effect.orDie
          ),
        unpublish,
        ...makeRoomPurges(sql)
      })
    })
  )
}
