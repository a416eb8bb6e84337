/**
 * The list of public rooms, in pages: the rooms with the most members first.
 *
 * A page is bounded in rooms and in bytes, because names, topics and aliases may be long.
 */
import type { RoomAlias, RoomId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer, Option } from "effect"
import { SqlClient, type Statement } from "effect/sql"

/** The position of a room in the list. */
export interface PublicRoomPosition {
  readonly joinedMembers: number
  readonly roomNid: number
}

/** The start of a page: after a room, or, with `backwards`, before it. */
export interface PublicRoomStart extends PublicRoomPosition {
  readonly backwards?: boolean
}

export interface PublicRoomRow {
  readonly roomId: RoomId
  readonly name: string | undefined
  readonly topic: string | undefined
  readonly joinedMembers: number
  readonly aliases: ReadonlyArray<RoomAlias>
}

export interface PublicRoomPage {
  readonly rooms: ReadonlyArray<PublicRoomRow>
  /** The position of the last room of the page, undefined if no rooms follow it. */
  readonly next: PublicRoomPosition | undefined
  /** The position of the first room of the page, undefined if no rooms come before it. */
  readonly previous: PublicRoomPosition | undefined
  /** How many rooms all pages have together; undefined for an empty page that is not the first. */
  readonly total: number | undefined
}

/** A network of an application service, with a list of rooms of its own. */
export interface RoomNetwork {
  readonly serviceId: string
  readonly networkId: string
}

/** The lists to read: that of this server, that of one network, or all of them. */
export type RoomLists = "own" | "all" | RoomNetwork

/** The most bytes of names, topics and aliases of a page, without those of its first room. */
const maxPageBytes = 1024 * 1024

interface Row {
  readonly room_nid: bigint
  readonly room_id: string
  readonly name: string | null
  readonly topic: string | null
  readonly joined_members: number
  readonly aliases: string
  readonly remaining: bigint
  readonly total: bigint
}

const toRoom = (row: Row): PublicRoomRow => ({
  roomId: row.room_id as RoomId,
  name: row.name ?? undefined,
  topic: row.topic ?? undefined,
  joinedMembers: row.joined_members,
  aliases: JSON.parse(row.aliases)
})

const positionOf = (row: Row): PublicRoomPosition => ({
  joinedMembers: row.joined_members,
  roomNid: Number(row.room_nid)
})

/** The page of rows, which are in the order of reading. Where a page was asked for from, there is a room. */
const toPage = (rows: ReadonlyArray<Row>, start: PublicRoomStart | undefined): PublicRoomPage => {
  const [first, last] = [rows.at(0), rows.at(-1)]
  if (first === undefined || last === undefined) {
    return { rooms: [], next: undefined, previous: undefined, total: start === undefined ? 0 : undefined }
  }
  const total = Number(first.total)
  const beyond = rows.length === Number(first.remaining) ? undefined : positionOf(last)
  return start?.backwards === true
    ? { rooms: rows.toReversed().map(toRoom), next: positionOf(first), previous: beyond, total }
    : { rooms: rows.map(toRoom), next: beyond, previous: start === undefined ? undefined : positionOf(first), total }
}

/** Whether a room has a text in its name, topic or an alias. */
const contains = (sql: SqlClient.SqlClient, search: string) => {
  const pattern = `%${search.replaceAll(/[\\%_]/g, "\\$&")}%`
  return sql`(name ILIKE ${pattern} OR topic ILIKE ${pattern} OR EXISTS (
    SELECT 1 FROM room_aliases WHERE room_aliases.room_id = rooms.room_id AND alias ILIKE ${pattern}))`
}

const isInLists = (sql: SqlClient.SqlClient, lists: RoomLists) => {
  if (lists === "own") return sql`visibility = 'public'`
  const inNetwork = (condition: Statement.Fragment) => sql`EXISTS (
    SELECT 1 FROM app_service_rooms WHERE app_service_rooms.room_id = rooms.room_id AND ${condition})`
  return lists === "all"
    ? sql`(visibility = 'public' OR ${inNetwork(sql`true`)})`
    : inNetwork(sql`service_id = ${lists.serviceId} AND network_id = ${lists.networkId}`)
}

export class PublicRoomStore extends Context.Service<
  PublicRoomStore,
  {
    /**
     * At most `limit` public rooms that have members, from after a position on, or before it; with `search`, those that have the text in
     * their name, topic or an alias, in whatever case.
     */
    readonly page: (
      start: PublicRoomStart | undefined,
      limit: number,
      search?: string,
      lists?: RoomLists
    ) => Effect.Effect<PublicRoomPage>
    /** Whether the room is in the list; none if there is no such room here. */
    readonly isListed: (roomId: RoomId) => Effect.Effect<Option.Option<boolean>>
    /** The rooms among these that are in the list. */
    readonly listedOf: (roomIds: ReadonlyArray<RoomId>) => Effect.Effect<ReadonlySet<RoomId>>
    /** Whether the room directory of this server has the room. Does nothing for an unknown room. */
    readonly setListed: (roomId: RoomId, listed: boolean) => Effect.Effect<void>
    /** Adds a room to the list of a network, or removes it. */
    readonly setListedIn: (network: RoomNetwork, roomId: RoomId, listed: boolean) => Effect.Effect<void>
  }
>()("greenroom/store/PublicRoomStore") {
  static readonly layer = Layer.effect(
    PublicRoomStore,
    Effect.map(SqlClient.SqlClient, (sql) =>
      PublicRoomStore.of({
        isListed: (roomId) =>
          sql<{ visibility: string }>`
            SELECT visibility FROM rooms WHERE room_id = ${roomId} AND current_chain IS NOT NULL`.pipe(
            Effect.map((rows) => Option.map(Option.fromNullishOr(rows[0]), (row) => row.visibility === "public")),
            Effect.orDie
          ),
        listedOf: (roomIds) =>
          sql<{ room_id: RoomId }>`
            SELECT room_id FROM rooms WHERE room_id = ANY(${[...roomIds]}::text[]) AND visibility = 'public'`.pipe(
            Effect.map((rows) => new Set(rows.map(({ room_id }) => room_id))),
            Effect.orDie
          ),
        setListedIn: ({ networkId, serviceId }, roomId, listed) =>
          (listed
            ? sql`
                INSERT INTO app_service_rooms (service_id, network_id, room_id)
                VALUES (${serviceId}, ${networkId}, ${roomId}) ON CONFLICT DO NOTHING`
            : sql`
                DELETE FROM app_service_rooms
                WHERE service_id = ${serviceId} AND network_id = ${networkId} AND room_id = ${roomId}`
          ).pipe(Effect.asVoid, Effect.orDie),
        setListed: (roomId, listed) =>
          sql`UPDATE rooms SET visibility = ${listed ? "public" : "private"} WHERE room_id = ${roomId}`.pipe(
            Effect.asVoid,
            Effect.orDie
          ),
        page: (start, limit, search, lists = "own") => {
          const [isBeyond, order] =
            start?.backwards === true
              ? [sql`>`, sql`joined_members, room_nid DESC`]
              : [sql`<`, sql`joined_members DESC, room_nid`]
          const isListed = sql`${isInLists(sql, lists)} AND current_chain IS NOT NULL AND joined_members > 0
            AND ${search === undefined ? sql`true` : contains(sql, search)}`
          const total =
            start === undefined ? sql`count(*) OVER ()` : sql`(SELECT count(*) FROM rooms WHERE ${isListed})`
          return sql<Row>`
            WITH listed AS (
              SELECT room_nid, room_id, name, topic, joined_members, count(*) OVER () AS remaining, ${total} AS total
              FROM rooms
              WHERE ${isListed}
                AND (joined_members, -room_nid) ${isBeyond} (${start?.joinedMembers ?? 2 ** 31 - 1}, ${-(start?.roomNid ?? 0)})
              ORDER BY ${order} LIMIT ${limit}
            ), named AS (
              SELECT listed.*, (
                SELECT coalesce(json_agg(alias ORDER BY alias), '[]')::text FROM room_aliases
                WHERE room_aliases.room_id = listed.room_id
              ) AS aliases
              FROM listed
            ), sized AS (
              SELECT *, octet_length(concat(name, topic, aliases)) AS bytes FROM named
            ), summed AS (
              SELECT *, sum(bytes) OVER (ORDER BY ${order}) - bytes AS bytes_before FROM sized
            )
            SELECT * FROM summed WHERE bytes_before < ${maxPageBytes} ORDER BY ${order}`.pipe(
            Effect.map((rows) => toPage(rows, start)),
            Effect.orDie
          )
        }
      })
    )
  )
}
