/**
 * Everything that this server has of one user, piece by piece; and the exports of it that administrators have asked for.
 * Secrets (password hashes, tokens) are no part of it, nor are keys, which the server cannot read.
 *
 * An error of the database is a defect. Times are milliseconds since 1970.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as SqlClient from "effect/sql/SqlClient"

export interface DataExport {
  readonly exportId: string
  readonly userId: UserId
  readonly requestedBy: UserId
  readonly reason: string
  readonly requestedAt: number
  readonly approvedBy: UserId | undefined
  readonly expiresAt: number
}

/** A line of an export. */
export interface ExportedPart extends JsonObject {
  readonly type: string
}

interface Row {
  readonly export_id: string
  readonly user_id: string
  readonly requested_by: string
  readonly reason: string
  readonly requested_at: bigint
  readonly approved_by: string | null
  readonly expires_at: bigint
}

const toExport = (row: Row): DataExport => ({
  exportId: row.export_id,
  userId: row.user_id as UserId,
  requestedBy: row.requested_by as UserId,
  reason: JSON.parse(row.reason) as string,
  requestedAt: Number(row.requested_at),
  approvedBy: (row.approved_by ?? undefined) as UserId | undefined,
  expiresAt: Number(row.expires_at)
})

/** How many rows one statement reads. */
const batch = 500

/** How many contacts one statement reads: they have photos. */
const contactBatch = 20

export class UserExportStore extends Context.Service<
  UserExportStore,
  {
    /** All that is stored of the user, read in batches: the account first, the events of each room last. */
    readonly parts: (userId: UserId) => Stream.Stream<ExportedPart>
    readonly add: (request: Omit<DataExport, "requestedAt" | "approvedBy">) => Effect.Effect<void>
    /** False if it was approved already, has expired, or is of this administrator. */
    readonly approve: (exportId: string, by: UserId, expiresAt: number) => Effect.Effect<boolean>
    readonly find: (exportId: string) => Effect.Effect<DataExport | undefined>
    /** A page, the newest first. */
    readonly list: (page: { readonly from: number; readonly limit: number }) => Effect.Effect<ReadonlyArray<DataExport>>
  }
>()("greenroom/store/UserExportStore") {
  static readonly layer = Layer.effect(
    UserExportStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const read = <A extends object>(
        statement: Effect.Effect<ReadonlyArray<A>, unknown>,
        toPart: (row: A) => ExportedPart
      ): Stream.Stream<ExportedPart> =>
        Stream.fromIterableEffect(Effect.map(Effect.orDie(statement), (rows) => rows.map(toPart)))

      const account = (userId: UserId) =>
        read(
          sql<{ user_id: string; admin: boolean; created_at: bigint; deactivated_at: bigint | null }>`
            SELECT user_id, admin, created_at, deactivated_at FROM users WHERE user_id = ${userId}`,
          (row) => ({
            type: "account",
            user_id: row.user_id,
            admin: row.admin,
            created_ts: Number(row.created_at),
            deactivated_ts: row.deactivated_at === null ? null : Number(row.deactivated_at)
          })
        )

      const profile = (userId: UserId) =>
        read(
          sql<{ field: string; value: string; visibility: string }>`
            SELECT field, value, visibility FROM profile_fields WHERE user_id = ${userId} ORDER BY field`,
          ({ field, value, visibility }) => ({ type: "profile", field, value: JSON.parse(value), visibility })
        )

      const addresses = (userId: UserId) =>
        read(
          sql<{ medium: string; address: string; verified_at: bigint }>`
            SELECT medium, address, verified_at FROM user_threepids WHERE user_id = ${userId} ORDER BY verified_at`,
          ({ address, medium, verified_at }) => ({ type: "address", medium, address, verified_ts: Number(verified_at) })
        )

      const devices = (userId: UserId) =>
        read(
          sql<{
            device_id: string
            device_name: string | null
            created_at: bigint
            last_used_at: bigint
            last_seen_address: string | null
          }>`SELECT device_id, device_name, created_at, last_used_at, last_seen_address FROM access_tokens
             WHERE user_id = ${userId} ORDER BY created_at`,
          (row) => ({
            type: "device",
            device_id: row.device_id,
            display_name: row.device_name === null ? null : JSON.parse(row.device_name),
            created_ts: Number(row.created_at),
            last_seen_ts: Number(row.last_used_at),
            last_seen_ip: row.last_seen_address
          })
        )

      const accountData = (userId: UserId) =>
        read(
          sql<{ room_id: string; type: string; content: string }>`
            SELECT room_id, type, content FROM account_data WHERE user_id = ${userId} ORDER BY room_id, type`,
          ({ content, room_id, type }) => ({
            type: "account_data",
            ...(room_id === "" ? {} : { room_id }),
            data_type: type,
            content: JSON.parse(content)
          })
        )

      /** The address book, a page at a time. */
      const contacts = (userId: UserId) =>
        Stream.paginate("", (after) =>
          sql<{ contact_id: string; card: string; updated_at: bigint }>`
            SELECT contact_id, card, updated_at FROM contacts
            WHERE user_id = ${userId} AND contact_id > ${after} ORDER BY contact_id LIMIT ${contactBatch}`.pipe(
            Effect.orDie,
            Effect.map((rows) => [
              rows.map(
                ({ card, contact_id, updated_at }): ExportedPart => ({
                  type: "contact",
                  contact_id,
                  card: JSON.parse(card),
                  updated_ts: Number(updated_at)
                })
              ),
              rows.length < contactBatch ? Option.none() : Option.fromNullishOr(rows.at(-1)?.contact_id)
            ])
          )
        )

      const memberships = (userId: UserId) =>
        read(
          sql<{ room_id: string; membership: string; sender: string }>`
            SELECT room_id, membership, sender FROM memberships JOIN rooms USING (room_nid)
            WHERE user_id = ${userId} ORDER BY room_id`,
          ({ membership, room_id, sender }) => ({ type: "membership", room_id, membership, sender })
        )

      const media = (userId: UserId) =>
        read(
          sql<{
            origin: string
            media_id: string
            content_type: string | null
            file_name: string | null
            size: bigint | null
            created_at: bigint
          }>`SELECT origin, media_id, content_type, file_name, size, created_at FROM media
             WHERE user_id = ${userId} ORDER BY created_at`,
          (row) => ({
            type: "media",
            uri: `mxc://${row.origin}/${row.media_id}`,
            content_type: row.content_type,
            file_name: row.file_name,
            size: row.size === null ? null : Number(row.size),
            created_ts: Number(row.created_at)
          })
        )

      /** The events that the user has sent to one room, a page at a time. */
      const eventsOfRoom = (userId: UserId, roomNid: bigint) =>
        Stream.paginate({ xid: "0", nid: "-9223372036854775808" }, ({ nid, xid }) =>
          sql<{ xid: string; nid: bigint; body: string }>`
            SELECT xid::text AS xid, nid, body FROM events
            WHERE room_nid = ${roomNid} AND sender = ${userId} AND status <= 1
              AND (xid, nid) > (${xid}::xid8, ${nid}::bigint)
            ORDER BY events.xid, events.nid LIMIT ${batch}`.pipe(
            Effect.orDie,
            Effect.map((rows) => {
              const last = rows.at(-1)
              const parts = rows.map(({ body }): ExportedPart => ({ type: "event", event: JSON.parse(body) }))
              return [
                parts,
                last === undefined || rows.length < batch
                  ? Option.none()
                  : Option.some({ xid: last.xid, nid: String(last.nid) })
              ] as const
            })
          )
        )

      const events = (userId: UserId) =>
        Stream.fromIterableEffect(
          Effect.orDie(sql<{ room_nid: bigint }>`
            SELECT DISTINCT room_nid FROM memberships WHERE user_id = ${userId} ORDER BY room_nid`)
        ).pipe(Stream.flatMap(({ room_nid }) => eventsOfRoom(userId, room_nid)))

      return UserExportStore.of({
        parts: (userId) =>
          [profile, addresses, devices, accountData, contacts, memberships, media, events].reduce(
            (stream, part) => Stream.concat(stream, part(userId)),
            account(userId)
          ),
        add: Effect.fnUntraced(function* ({ expiresAt, exportId, reason, requestedBy, userId }) {
          const now = yield* Clock.currentTimeMillis
          yield* sql`
            INSERT INTO data_exports (export_id, user_id, requested_by, reason, requested_at, expires_at)
            VALUES (${exportId}, ${userId}, ${requestedBy}, ${JSON.stringify(reason)}, ${now}, ${expiresAt})`
        }, Effect.orDie),
        approve: Effect.fnUntraced(function* (exportId, by, expiresAt) {
          const now = yield* Clock.currentTimeMillis
          const rows = yield* sql`
            UPDATE data_exports SET approved_by = ${by}, approved_at = ${now}, expires_at = ${expiresAt}
            WHERE export_id = ${exportId} AND requested_by <> ${by} AND approved_by IS NULL AND expires_at > ${now}
            RETURNING 1`
          return rows.length > 0
        }, Effect.orDie),
        find: (exportId) =>
          sql<Row>`SELECT * FROM data_exports WHERE export_id = ${exportId}`.pipe(
            Effect.map(([row]) => (row === undefined ? undefined : toExport(row))),
            Effect.orDie
          ),
        list: ({ from, limit }) =>
          sql<Row>`
            SELECT * FROM data_exports ORDER BY requested_at DESC, export_id LIMIT ${limit} OFFSET ${from}`.pipe(
            Effect.map((rows) => rows.map(toExport)),
            Effect.orDie
          )
      })
    })
  )
}
