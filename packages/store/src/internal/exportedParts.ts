/**
 * All that this server has of one user, piece by piece. Secrets (password hashes, tokens) are no part of it, nor are keys, which the
 * server cannot read.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type * as SqlClient from "effect/sql/SqlClient"

/** A line of an export. */
export interface ExportedPart extends JsonObject {
  readonly type: string
}

/** How many rows one statement reads. */
const batch = 500

/** How many contacts one statement reads: they have photos. */
const contactBatch = 20

/** Rows as parts. */
const read = <A extends object>(
  statement: Effect.Effect<ReadonlyArray<A>, unknown>,
  toPart: (row: A) => ExportedPart
): Stream.Stream<ExportedPart> =>
  Stream.fromIterableEffect(Effect.map(Effect.orDie(statement), (rows) => rows.map(toPart)))

/** The account, and what the user has said about themselves. */
const makeAccountParts = (sql: SqlClient.SqlClient) => {
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

  const links = (userId: UserId) =>
    read(
      sql<{ provider: string; subject: string; linked_at: bigint }>`
        SELECT provider, subject, linked_at FROM user_identities WHERE user_id = ${userId} ORDER BY linked_at`,
      ({ linked_at, provider, subject }) => ({
        type: "link",
        provider,
        subject: JSON.parse(subject),
        linked_ts: Number(linked_at)
      })
    )

  const bindings = (userId: UserId) =>
    read(
      sql<{ medium: string; address: string; id_server: string }>`
        SELECT medium, address, id_server FROM identity_bindings WHERE user_id = ${userId}`,
      (row) => ({ type: "identity_binding", ...row })
    )

  const presence = (userId: UserId) =>
    read(
      sql<{ state: string; status_msg: string | null; last_active_at: bigint | null }>`
        SELECT state, status_msg, last_active_at FROM presence WHERE user_id = ${userId}`,
      ({ last_active_at, state, status_msg }) => ({
        type: "presence",
        presence: state,
        status_msg: status_msg === null ? null : JSON.parse(status_msg),
        last_active_ts: last_active_at === null ? null : Number(last_active_at)
      })
    )

  const presenceList = (userId: UserId) =>
    read(
      sql<{ observed: string; accepted: boolean }>`
        SELECT observed, accepted FROM presence_lists WHERE observer = ${userId} ORDER BY observed`,
      ({ accepted, observed }) => ({ type: "presence_list", user_id: observed, accepted })
    )

  const pushers = (userId: UserId) =>
    read(
      sql<{ device_id: string; app_id: string; pushkey: string; kind: string; description: string }>`
        SELECT device_id, app_id, pushkey, kind, description FROM pushers WHERE user_id = ${userId} ORDER BY set_at`,
      ({ description, ...row }) => ({ type: "pusher", ...row, description: JSON.parse(description) })
    )

  return {
    account,
    profile,
    addresses,
    links,
    bindings,
    devices,
    accountData,
    contacts,
    presence,
    presenceList,
    pushers
  }
}

/** What the user has in rooms, and has sent to them. */
const makeRoomParts = (sql: SqlClient.SqlClient) => {
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

  const reports = (userId: UserId) =>
    read(
      sql<{
        room_id: string | null
        event_id: string | null
        user_id: string | null
        reason: string
        created_at: bigint
      }>`
        SELECT room_id, event_id, user_id, reason, created_at FROM reports WHERE reporter = ${userId} ORDER BY created_at`,
      ({ created_at, reason, ...about }) => ({
        type: "report",
        ...about,
        reason: JSON.parse(reason),
        created_ts: Number(created_at)
      })
    )

  /** Events that the user has scheduled. Those that were sent are among the events too. */
  const delayedEvents = (userId: UserId) =>
    read(
      sql<{
        room_id: string
        type: string
        state_key: string | null
        content: string
        scheduled_at: bigint
        delay: bigint
      }>`
        SELECT room_id, type, state_key, content, scheduled_at, delay FROM delayed_events
        WHERE user_id = ${userId} ORDER BY scheduled_at`,
      (row) => ({
        type: "delayed_event",
        room_id: row.room_id,
        event_type: row.type,
        state_key: row.state_key,
        content: JSON.parse(row.content),
        scheduled_ts: Number(row.scheduled_at),
        delay: Number(row.delay)
      })
    )

  const receiptsOfRoom = (userId: UserId, roomNid: bigint) =>
    read(
      sql<{ room_id: string; type: string; thread_id: string; event_id: string; ts: bigint }>`
        SELECT room_id, type, thread_id, event_id, ts FROM receipts JOIN rooms USING (room_nid)
        WHERE room_nid = ${roomNid} AND user_id = ${userId} ORDER BY ts`,
      ({ event_id, room_id, thread_id, ts, type }) => ({
        type: "receipt",
        receipt_type: type,
        room_id,
        event_id,
        ...(thread_id === "" ? {} : { thread_id }),
        ts: Number(ts)
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

  /** The parts of each room that the user is or was in. */
  const ofRooms =
    (partsOf: (userId: UserId, roomNid: bigint) => Stream.Stream<ExportedPart>) =>
    (userId: UserId): Stream.Stream<ExportedPart> =>
      Stream.fromIterableEffect(
        Effect.orDie(sql<{ room_nid: bigint }>`
          SELECT DISTINCT room_nid FROM memberships WHERE user_id = ${userId} ORDER BY room_nid`)
      ).pipe(Stream.flatMap(({ room_nid }) => partsOf(userId, room_nid)))

  return {
    memberships,
    media,
    reports,
    delayedEvents,
    receipts: ofRooms(receiptsOfRoom),
    events: ofRooms(eventsOfRoom)
  }
}

/** The parts of a user: the account first, the events of each room last. */
export const makeExportedParts = (sql: SqlClient.SqlClient): ((userId: UserId) => Stream.Stream<ExportedPart>) => {
  const parts = [...Object.values(makeAccountParts(sql)), ...Object.values(makeRoomParts(sql))]
  return (userId) => parts.map((part) => part(userId)).reduce((all, part) => Stream.concat(all, part))
}
