/**
 * Pushers of users, and the position of the log up to which each was notified.
 *
 * An error of the database is a defect. Source: "Push notifications" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Context, Effect, Layer, Option } from "effect"
import { SqlClient, type Statement } from "effect/sql"
import { counted } from "./internal/counted.ts"
import { positionSql } from "./internal/positionSql.ts"
import { logKind } from "./LogKind.ts"
import { bigints, texts } from "./PgArrays.ts"
import type { StreamPosition } from "./StreamToken.ts"

export type PusherKind = "http" | "email"

export interface NewPusher {
  readonly userId: UserId
  /** The device that set it. The pusher is deleted with the device. */
  readonly deviceId: string
  readonly appId: string
  readonly pushkey: string
  readonly kind: PusherKind
  /** The other fields of the request. */
  readonly description: JsonObject
  /** Milliseconds since 1970. */
  readonly setAt: number
}

export interface StoredPusher extends NewPusher {
  readonly pusherId: number
  /** The position up to which it was notified. */
  readonly seen: StreamPosition
  /** Since when every attempt has failed, in milliseconds since 1970. */
  readonly failingSince: number | undefined
  /** The last mail of a pusher that sends mails, and the shortest time until the next. */
  readonly lastMail: { readonly at: number; readonly interval: number } | undefined
}

/** The changes of pushers in the log. */
export const pusherChanges = logKind<{ readonly userId: UserId }>("pushers", { userId: "user_id" })

interface Row {
  readonly pusher_id: bigint
  readonly user_id: string
  readonly device_id: string
  readonly app_id: string
  readonly pushkey: string
  readonly kind: string
  readonly description: string
  readonly set_at: bigint
  readonly seen_xid: string
  readonly seen_nid: bigint
  readonly failing_since: bigint | null
  readonly mailed_at: bigint | null
  readonly mail_interval: bigint | null
}

const toPusher = (row: Row): StoredPusher => ({
  pusherId: Number(row.pusher_id),
  userId: row.user_id as UserId,
  deviceId: row.device_id,
  appId: row.app_id,
  pushkey: row.pushkey,
  kind: row.kind as PusherKind,
  description: JSON.parse(row.description) as JsonObject,
  setAt: Number(row.set_at),
  seen: { xid: Number(row.seen_xid), nid: Number(row.seen_nid) },
  failingSince: row.failing_since === null ? undefined : Number(row.failing_since),
  lastMail: row.mailed_at === null ? undefined : { at: Number(row.mailed_at), interval: Number(row.mail_interval) }
})

export class PusherStore extends Context.Service<
  PusherStore,
  {
    /**
     * Creates or changes a pusher. A new one starts after `seen`. With `alone`, pushers of other users with the same app and
     * key are removed. False if the user has `most` others already.
     */
    readonly set: (
      pusher: NewPusher,
      seen: StreamPosition,
      options: { readonly alone: boolean; readonly most: number }
    ) => Effect.Effect<boolean>
    readonly remove: (userId: UserId, appId: string, pushkey: string) => Effect.Effect<void>
    /** The pushers of these users, or of all users, whose devices still exist. */
    readonly list: (userIds?: ReadonlyArray<UserId>) => Effect.Effect<ReadonlyArray<StoredPusher>>
    readonly find: (pusherId: number) => Effect.Effect<Option.Option<StoredPusher>>
    /** Records that a pusher has sent a mail about notifications up to a position. Times are in milliseconds. */
    readonly noteMail: (
      pusherId: number,
      seen: StreamPosition,
      mail: { readonly at: number; readonly interval: number }
    ) => Effect.Effect<void>
    /** Records that pushers were notified up to a position, or have failed since a time. */
    readonly noteProgress: (
      pusherIds: ReadonlyArray<number>,
      seen: StreamPosition,
      failingSince?: number
    ) => Effect.Effect<void>
  }
>()("greenroom/store/PusherStore") {
  static readonly layer = Layer.effect(
    PusherStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const gone = sql.literal("kind = NULL, xid = log_xid(), nid = nextval('log_nids')")

      const set = Effect.fnUntraced(function* (
        { appId, description, deviceId, kind, pushkey, setAt, userId }: NewPusher,
        seen: StreamPosition,
        { alone, most }: { readonly alone: boolean; readonly most: number }
      ) {
        if (alone) {
          yield* sql`
            UPDATE pushers SET ${gone}
            WHERE app_id = ${appId} AND pushkey = ${pushkey} AND user_id <> ${userId} AND kind IS NOT NULL`
        }
        const before = yield* sql<{ kind: string | null }>`
          SELECT kind FROM pushers WHERE app_id = ${appId} AND pushkey = ${pushkey} AND user_id = ${userId} FOR UPDATE`
        const isNew = before[0]?.kind == null
        const [{ count } = { count: 0 }] = yield* sql<{ count: number }>`
          SELECT count(*)::integer AS count FROM pushers WHERE user_id = ${userId} AND kind IS NOT NULL`
        if (isNew && count >= most) return false
        const [row] = yield* sql<{ pusher_id: bigint }>`
          INSERT INTO pushers (user_id, device_id, app_id, pushkey, kind, description, set_at)
          VALUES (${userId}, ${deviceId}, ${appId}, ${pushkey}, ${kind}, ${JSON.stringify(description)}, ${setAt})
          ON CONFLICT (app_id, pushkey, user_id) DO UPDATE SET
            device_id = excluded.device_id, kind = excluded.kind, description = excluded.description,
            set_at = excluded.set_at, xid = excluded.xid, nid = excluded.nid
          RETURNING pusher_id`
        if (isNew) {
          yield* sql`
            INSERT INTO pusher_progress (pusher_id, seen_xid, seen_nid)
            VALUES (${Number(row!.pusher_id)}, ${String(seen.xid)}::xid8, ${seen.nid})
            ON CONFLICT (pusher_id) DO UPDATE SET
              seen_xid = excluded.seen_xid, seen_nid = excluded.seen_nid, failing_since = NULL`
        }
        return true
      })

      const select = (which: Statement.Fragment) =>
        sql<Row>`
          SELECT pusher_id, user_id, device_id, app_id, pushkey, kind, description, set_at,
            seen_xid::text AS seen_xid, seen_nid, failing_since, mailed_at, mail_interval
          FROM pushers JOIN pusher_progress USING (pusher_id)
          WHERE kind IS NOT NULL AND ${which}
            AND EXISTS (
              SELECT FROM access_tokens
              WHERE access_tokens.user_id = pushers.user_id AND access_tokens.device_id = pushers.device_id)
          ORDER BY pusher_id`.pipe(
          Effect.map((rows) => rows.map(toPusher)),
          Effect.orDie
        )

      return PusherStore.of({
        set: (pusher, seen, options) =>
          Effect.orDie(counted(sql)(`pushers ${pusher.userId}`, pusher.userId)(set(pusher, seen, options))),
        remove: (userId, appId, pushkey) =>
          sql`
            UPDATE pushers SET ${gone}
            WHERE user_id = ${userId} AND app_id = ${appId} AND pushkey = ${pushkey} AND kind IS NOT NULL`.pipe(
            Effect.asVoid,
            Effect.orDie
          ),
        list: (userIds) => select(userIds === undefined ? sql`true` : sql`user_id = ANY (${texts(userIds)}::text[])`),
        find: (pusherId) => Effect.map(select(sql`pusher_id = ${pusherId}`), (found) => Option.fromNullishOr(found[0])),
        noteMail: (pusherId, seen, { at, interval }) =>
          sql`
            UPDATE pusher_progress
            SET seen_xid = ${String(seen.xid)}::xid8, seen_nid = ${seen.nid}, failing_since = NULL,
              mailed_at = ${at}, mail_interval = ${interval}
            WHERE pusher_id = ${pusherId}`.pipe(Effect.asVoid, Effect.orDie),
        noteProgress: (pusherIds, seen, failingSince) =>
          sql`
            UPDATE pusher_progress
            SET seen_xid = ${String(seen.xid)}::xid8, seen_nid = ${seen.nid}, failing_since = ${failingSince ?? null}
            WHERE pusher_id = ANY (${bigints(pusherIds)}::bigint[])
              AND (seen_xid, seen_nid) <= ${positionSql(sql, seen)}`.pipe(Effect.asVoid, Effect.orDie)
      })
    })
  )
}
