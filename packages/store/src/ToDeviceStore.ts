/**
 * Messages to devices, in the order in which they were sent, until the device has acknowledged them by the token of its
 * next `/sync`.
 *
 * An error of the database is a defect. Source: "Send-to-Device messaging" of the client-server specification.
 */
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { takeBytes } from "./LargeReads.ts"
import { logKind } from "./LogKind.ts"
import { texts } from "./PgArrays.ts"
import type { StreamPosition } from "./StreamToken.ts"

/** For a device that has a message. */
export const toDeviceMessages = logKind<{ readonly userId: UserId; readonly deviceId: string }>("to_device_messages", {
  userId: "user_id",
  deviceId: "device_id"
})

/** Every device of a user. */
export const allDevices = "*"

export interface OutgoingMessage {
  readonly userId: UserId
  /** A device, or `allDevices`. */
  readonly deviceId: string
  /** JSON text. */
  readonly content: string
}

export interface WaitingMessage {
  readonly position: StreamPosition
  readonly sender: UserId
  readonly type: string
  readonly content: JsonObject
}

/** An EDU for the server of some devices. */
export interface OutgoingEdu {
  readonly destination: ServerName
  /** JSON text. */
  readonly content: string
}

/** A request that is done once. */
export interface SendTransaction {
  readonly tokenId: number
  readonly txnId: string
  /** Milliseconds since 1970. */
  readonly at: number
}

interface Row {
  readonly xid: string
  readonly nid: bigint
  readonly sender: string
  readonly type: string
  readonly content: string
}

export class ToDeviceStore extends Context.Service<
  ToDeviceStore,
  {
    /**
     * Stores messages for the devices that are there, and EDUs for those of other servers, once for a transaction. Durable when
     * it returns.
     */
    readonly send: (
      sender: UserId,
      type: string,
      messages: ReadonlyArray<OutgoingMessage>,
      transaction: SendTransaction,
      edus?: ReadonlyArray<OutgoingEdu>
    ) => Effect.Effect<void>
    /** The first `limit` messages for a device after a position, up to another one. */
    readonly read: (
      userId: UserId,
      deviceId: string,
      after: StreamPosition,
      upTo: StreamPosition,
      limit: number
    ) => Effect.Effect<ReadonlyArray<WaitingMessage>>
    /** The device has all messages up to a position: they are deleted. */
    readonly acknowledge: (userId: UserId, deviceId: string, upTo: StreamPosition) => Effect.Effect<void>
    /** Leaves the newest `most` messages of each device; gives how many were deleted. */
    readonly trim: (most: number) => Effect.Effect<number>
  }
>()("greenroom/store/ToDeviceStore") {
  static readonly layer = Layer.effect(
    ToDeviceStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const place = ({ nid, xid }: StreamPosition) => sql`(${String(xid)}::xid8, ${String(nid)}::bigint)`

      return ToDeviceStore.of({
        send: (sender, type, messages, { at, tokenId, txnId }, edus = []) =>
          sql`
            WITH sent AS (
              INSERT INTO client_transactions (token_id, scope, txn_id, response, created_at)
              VALUES (${tokenId}, ${`sendToDevice ${type}`}, ${txnId}, '{}', ${at})
              ON CONFLICT DO NOTHING RETURNING 1),
            queued AS (
              INSERT INTO outgoing_edus (destination, edu_type, content)
              SELECT destination, 'm.direct_to_device', content FROM unnest(
                ${texts(edus.map(({ destination }) => destination))}::text[],
                ${texts(edus.map(({ content }) => content))}::text[]
              ) AS given (destination, content)
              WHERE EXISTS (SELECT FROM sent))
            INSERT INTO to_device_messages (user_id, device_id, sender, type, content)
            SELECT device.user_id, device.device_id, ${sender}, ${type}, given.content
            FROM unnest(
              ${texts(messages.map(({ userId }) => userId))}::text[],
              ${texts(messages.map(({ deviceId }) => deviceId))}::text[],
              ${texts(messages.map(({ content }) => content))}::text[]
            ) AS given (user_id, device_id, content)
            JOIN access_tokens device
              ON device.user_id = given.user_id AND given.device_id IN (device.device_id, ${allDevices})
            WHERE EXISTS (SELECT FROM sent)
            FOR KEY SHARE OF device`.pipe(Effect.asVoid, Effect.orDie),
        read: (userId, deviceId, after, upTo, limit) =>
          sql<Row>`
            SELECT xid::text AS xid, nid, sender, type, content FROM to_device_messages
            WHERE user_id = ${userId} AND device_id = ${deviceId}
              AND (xid, nid) > ${place(after)} AND (xid, nid) <= ${place(upTo)}
            ORDER BY to_device_messages.xid, to_device_messages.nid LIMIT ${limit}`.pipe(
            Effect.tap((rows) => takeBytes(rows.reduce((sum, { content }) => sum + content.length, 0))),
            Effect.map((rows) =>
              rows.map(
                (row): WaitingMessage => ({
                  position: { xid: Number(row.xid), nid: Number(row.nid) },
                  sender: row.sender as UserId,
                  type: row.type,
                  content: JSON.parse(row.content) as JsonObject
                })
              )
            ),
            Effect.orDie
          ),
        acknowledge: (userId, deviceId, upTo) =>
          sql`
            DELETE FROM to_device_messages
            WHERE user_id = ${userId} AND device_id = ${deviceId} AND (xid, nid) <= ${place(upTo)}`.pipe(
            Effect.asVoid,
            Effect.orDie
          ),
        trim: (most) =>
          sql<{ dropped: number }>`
            WITH crowded AS (
              SELECT user_id, device_id FROM to_device_messages GROUP BY user_id, device_id HAVING count(*) > ${most}),
            dropped AS (
              DELETE FROM to_device_messages message USING crowded CROSS JOIN LATERAL (
                SELECT xid, nid FROM to_device_messages waiting
                WHERE waiting.user_id = crowded.user_id AND waiting.device_id = crowded.device_id
                ORDER BY xid DESC, nid DESC OFFSET ${most} LIMIT 1) AS newest
              WHERE message.user_id = crowded.user_id AND message.device_id = crowded.device_id
                AND (message.xid, message.nid) <= (newest.xid, newest.nid)
              RETURNING 1)
            SELECT count(*)::integer AS dropped FROM dropped`.pipe(
            Effect.map((rows) => rows[0]?.dropped ?? 0),
            Effect.orDie
          )
      })
    })
  )
}
