/**
 * The state of sliding sync connections: the rooms that were sent, with which settings, and up to which position.
 *
 * An answer that sends no other rooms than the one before writes nothing: a room that is live is sent up to the position
 * of the answer. A connection keeps two versions: the one that its client has acknowledged, and the newest.
 *
 * An error of the database is a defect. Source: "Connections" of MSC4186.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Clock, Context, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { bigints, integers, texts } from "./PgArrays.ts"
import type { StreamPosition } from "./StreamToken.ts"

/** The state of a room in the connection: what was sent. */
export interface SentRoom {
  /** The settings, as an index into those of the connection. */
  readonly config: number
  /** The position up to which the room was sent; undefined for a live room, which each answer sends up to its own position. */
  readonly upTo: StreamPosition | undefined
}

/** A connection as of one version. */
export interface SlidingConnection {
  readonly connection: number
  readonly version: number
  /** JSON texts. */
  readonly configs: ReadonlyArray<string>
  readonly rooms: ReadonlyMap<number, SentRoom>
}

/** The owner of a connection. The name is the client's `conn_id`, empty if it has none. */
export interface ConnectionKey {
  readonly userId: UserId
  readonly deviceId: string
  readonly name: string
}

/** How many connections a device has; the one that was not used for longest makes room. */
const maxConnections = 20

/** Connections that were not used for so long are removed, in milliseconds. */
const keptFor = 30 * 24 * 60 * 60_000

interface RoomRow {
  readonly room_nid: bigint
  readonly config: number
  readonly sent_xid: string | null
  readonly sent_nid: bigint | null
}

const toSent = ({ config, sent_nid, sent_xid }: RoomRow): SentRoom => ({
  config,
  upTo: sent_xid === null || sent_nid === null ? undefined : { xid: Number(sent_xid), nid: Number(sent_nid) }
})

export class SlidingConnectionStore extends Context.Service<
  SlidingConnectionStore,
  {
    /** A new connection in place of one of the same name. */
    readonly open: (key: ConnectionKey) => Effect.Effect<SlidingConnection>
    /** Undefined if the connection or the version was removed. */
    readonly read: (
      key: ConnectionKey,
      connection: number,
      version: number
    ) => Effect.Effect<Option.Option<SlidingConnection>>
    /**
     * Writes the changes of an answer as a new version after the one that it was made from, which is thereby acknowledged.
     * Undefined if that version was removed.
     */
    readonly write: (
      from: SlidingConnection,
      configs: ReadonlyArray<string>,
      changes: ReadonlyMap<number, SentRoom>
    ) => Effect.Effect<Option.Option<SlidingConnection>>
    /** Removes connections that were not used for a month, or whose device was removed. */
    readonly removeUnused: Effect.Effect<void>
  }
>()("greenroom/store/SlidingConnectionStore") {
  static readonly layer = Layer.effect(
    SlidingConnectionStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const open = Effect.fnUntraced(function* ({ deviceId, name, userId }: ConnectionKey) {
        const now = yield* Clock.currentTimeMillis
        // Locked before its rows, as by its deactivation.
        yield* sql`SELECT require_active_account(${userId})`
        yield* sql`
          DELETE FROM sliding_connections WHERE user_id = ${userId} AND device_id = ${deviceId} AND (
            name = ${name} OR connection IN (
              SELECT connection FROM sliding_connections WHERE user_id = ${userId} AND device_id = ${deviceId}
              ORDER BY used_at DESC, connection DESC OFFSET ${maxConnections - 1}))`
        const rows = yield* sql<{ connection: bigint }>`
          INSERT INTO sliding_connections (user_id, device_id, name, acknowledged, latest, used_at)
          VALUES (${userId}, ${deviceId}, ${name}, 0, 0, ${now})
          ON CONFLICT (user_id, device_id, name) DO UPDATE SET used_at = excluded.used_at
          RETURNING connection`
        return { connection: Number(rows[0]?.connection), version: 0, configs: [], rooms: new Map() }
      })

      const read = Effect.fnUntraced(function* (key: ConnectionKey, connection: number, version: number) {
        const found = yield* sql<{ configs: ReadonlyArray<string> }>`
          SELECT configs FROM sliding_connections
          WHERE connection = ${connection} AND user_id = ${key.userId} AND device_id = ${key.deviceId}
            AND name = ${key.name} AND ${version} IN (acknowledged, latest)`
        if (found[0] === undefined) return Option.none<SlidingConnection>()
        const rooms = yield* sql<RoomRow>`
          SELECT DISTINCT ON (room_nid) room_nid, config, sent_xid::text AS sent_xid, sent_nid FROM sliding_rooms
          WHERE connection = ${connection} AND version <= ${version}
          ORDER BY room_nid, version DESC`
        return Option.some<SlidingConnection>({
          connection,
          version,
          configs: found[0].configs,
          rooms: new Map(rooms.map((row) => [Number(row.room_nid), toSent(row)]))
        })
      }, Effect.orDie)

      const write = Effect.fnUntraced(
        function* (
          { connection, rooms, version }: SlidingConnection,
          configs: ReadonlyArray<string>,
          changes: ReadonlyMap<number, SentRoom>
        ) {
          const now = yield* Clock.currentTimeMillis
          const found = yield* sql<{ latest: bigint }>`
            UPDATE sliding_connections SET
              acknowledged = ${version}, latest = latest + 1, configs = ${JSON.stringify(configs)}::jsonb, used_at = ${now}
            WHERE connection = ${connection} AND ${version} IN (acknowledged, latest)
            RETURNING latest`
          if (found[0] === undefined) return Option.none<SlidingConnection>()
          const next = Number(found[0].latest)
          // The version's unacknowledged successor and its predecessor are not needed any more.
          yield* sql`
            DELETE FROM sliding_rooms WHERE connection = ${connection} AND (version > ${version} OR (
              version < ${version} AND room_nid IN (
                SELECT room_nid FROM sliding_rooms WHERE connection = ${connection} AND version = ${version})))`
          const rows = [...changes]
          yield* sql`
            INSERT INTO sliding_rooms (connection, room_nid, version, config, sent_xid, sent_nid)
            SELECT ${connection}::bigint, room_nid, ${next}::bigint, config, sent_xid::xid8, sent_nid
            FROM unnest(
              ${bigints(rows.map(([roomNid]) => roomNid))}::bigint[],
              ${integers(rows.map(([, { config }]) => config))}::integer[],
              ${texts(rows.map(([, { upTo }]) => (upTo === undefined ? null : String(upTo.xid))))}::text[],
              ${bigints(rows.map(([, { upTo }]) => upTo?.nid ?? null))}::bigint[]
            ) AS given (room_nid, config, sent_xid, sent_nid)`
          return Option.some<SlidingConnection>({
            connection,
            version: next,
            configs,
            rooms: new Map([...rooms, ...changes])
          })
        },
        sql.withTransaction,
        Effect.orDie
      )

      return SlidingConnectionStore.of({
        open: (key) => Effect.orDie(sql.withTransaction(open(key))),
        read,
        write,
        removeUnused: Effect.gen(function* () {
          const now = yield* Clock.currentTimeMillis
          yield* sql`
            DELETE FROM sliding_connections WHERE used_at < ${now - keptFor} OR NOT EXISTS (
              SELECT 1 FROM access_tokens
              WHERE access_tokens.user_id = sliding_connections.user_id
                AND access_tokens.device_id = sliding_connections.device_id)`
        }).pipe(Effect.orDie)
      })
    })
  )
}
