/**
 * Changes of users' keys, for the users that encrypt for them.
 *
 * An error of the database is a defect. Source: "Tracking the device list for a user" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import { isCompliantUserId, type UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { positionSql } from "./internal/positionSql.ts"
import { logKind } from "./LogKind.ts"
import type { LogRange } from "./LogSlice.ts"

/** The keys of a user changed: keys of a device were added, changed or removed, or the cross-signing keys changed. */
export const deviceListChanges = logKind<{ readonly userId: UserId }>("device_list_changes", { userId: "user_id" })

/** A user signed the keys of another one, or has a new user-signing key (then `userId` is the signer): it concerns only the signer. */
export const userSignatures = logKind<{ readonly signer: UserId; readonly userId: UserId }>("user_signatures", {
  signer: "signer",
  userId: "user_id"
})

export interface DeviceListNews {
  /**
   * Users whose keys changed, who share a room with the user now, or who were invited to one. After a join also the user, for other
   * devices.
   */
  readonly changed: ReadonlyArray<UserId>
  /** Users who no longer share a room with the user. */
  readonly left: ReadonlyArray<UserId>
}

interface NewsRow {
  readonly user_id: string
  readonly shares: boolean
  /** Changes of the membership in a room, and the event before them. Null if the user counts as changed in any case. */
  readonly bodies: ReadonlyArray<string> | null
  readonly former_body: string | null
}

/**
 * Up to how many transactions of the log are searched for changes of memberships as a whole. In more of them they are looked for room by
 * room, in all rooms of the user.
 */
const shortRange = 1_000

/**
 * How many membership events of one user in one room are read, and up to which size in bytes. A member who has more, or larger ones,
 * counts as changed.
 */
const maxEvents = 8
const maxEventBytes = 4 * 1024

/** PostgreSQL cannot parse the bodies, which may contain U+0000. */
const membershipIn = (body: string | null): unknown =>
  body === null ? undefined : (JSON.parse(body) as Event).content.membership

/**
 * Undefined for changes of profiles, which are membership events too. Clients may encrypt for users who are invited, before they are in
 * the room.
 */
const kindsOf = ({ bodies, former_body, shares }: NewsRow): ReadonlyArray<"changed" | "left"> => {
  const kind = shares ? "changed" : "left"
  if (bodies === null) return [kind]
  const before = membershipIn(former_body)
  return bodies.flatMap((body) => {
    const now = membershipIn(body)
    if (now === "invite" && before !== "join" && before !== "invite") return ["changed"]
    return (now === "join") === (before === "join") ? [] : [kind]
  })
}

export class DeviceListStore extends Context.Service<
  DeviceListStore,
  {
    /**
     * The changes of other users' devices, and of the user's own, in a part of the log. Users whose IDs clients must not receive outside of
     * events (`isCompliantUserId`) are left out.
     */
    readonly news: (userId: UserId, range: LogRange) => Effect.Effect<DeviceListNews>
    /** The `stream_id` of the last `m.device_list_update` of a local user; 0 before the first. */
    readonly lastUpdate: (userId: UserId) => Effect.Effect<number>
  }
>()("greenroom/store/DeviceListStore") {
  static readonly layer = Layer.effect(
    DeviceListStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const news = (userId: UserId, { after, upTo }: LogRange) => {
        const within = sql`(xid, nid) > ${positionSql(sql, after)} AND (xid, nid) <= ${positionSql(sql, upTo)}`
        const shares = (other: string) => sql`EXISTS (
          SELECT FROM memberships own JOIN memberships other USING (room_nid)
          WHERE own.user_id = ${userId} AND own.membership = 'join'
            AND other.user_id = ${sql.literal(other)} AND other.membership = 'join')`
        const wasIn = sql`SELECT room_nid FROM moved WHERE was_joined`
        /** Events of the rooms that the user is in, or was in. */
        const watched =
          upTo.xid - after.xid <= shortRange
            ? sql`(room_nid IN (${wasIn}) OR (
                SELECT membership = 'join' FROM memberships
                WHERE user_id = ${userId} AND memberships.room_nid = events.room_nid))`
            : sql`room_nid IN (
                SELECT room_nid FROM memberships WHERE user_id = ${userId} AND membership = 'join' UNION ${wasIn})`
        return sql<NewsRow>`
          WITH moved AS MATERIALIZED (
            SELECT room_nid, membership = 'join' AS is_joined, former.was_joined, room.was_out
            FROM (
              SELECT room_nid, bool_or(membership <> 'join') AS was_out FROM membership_changes
              WHERE user_id = ${userId} AND ${within} GROUP BY room_nid) AS room
            JOIN memberships USING (room_nid) CROSS JOIN LATERAL (
              SELECT coalesce((
                SELECT change.membership = 'join' FROM membership_changes change
                WHERE change.user_id = ${userId} AND change.room_nid = room.room_nid
                  AND (change.xid, change.nid) <= ${positionSql(sql, after)}
                ORDER BY change.xid DESC, change.nid DESC LIMIT 1), false) AS was_joined) AS former
            WHERE memberships.user_id = ${userId}),
          movers AS MATERIALIZED (
            SELECT change.user_id, CASE WHEN change.is_short AND coalesce(former.is_short, true) THEN change.bodies END AS bodies,
              former.body AS former_body
            FROM (
              SELECT room_nid, state_key AS user_id, array_agg(body) FILTER (WHERE octet_length(body) <= ${maxEventBytes}) AS bodies,
                count(*) <= ${maxEvents} AND max(octet_length(body)) <= ${maxEventBytes} AS is_short
              FROM events
              WHERE status = 0 AND type = 'm.room.member' AND ${within} AND ${watched}
              GROUP BY room_nid, state_key
            ) AS change
            LEFT JOIN LATERAL (
              SELECT CASE WHEN octet_length(body) <= ${maxEventBytes} THEN body END AS body,
                octet_length(body) <= ${maxEventBytes} AS is_short
              FROM events
              WHERE events.room_nid = change.room_nid AND type = 'm.room.member'
                AND state_key = change.user_id AND (xid, nid) <= ${positionSql(sql, after)}
              ORDER BY events.xid DESC, events.nid DESC LIMIT 1
            ) AS former ON true),
          met AS (
            SELECT DISTINCT user_id FROM memberships JOIN moved USING (room_nid)
            WHERE memberships.membership = 'join' AND (is_joined <> was_joined OR (is_joined AND was_out)))
          SELECT user_id, ${shares("met.user_id")} AS shares, NULL::text[] AS bodies, NULL AS former_body
          FROM met WHERE user_id <> ${userId} OR EXISTS (SELECT FROM moved WHERE is_joined AND NOT was_joined)
          UNION ALL
          SELECT user_id, ${shares("movers.user_id")}, bodies, former_body FROM movers WHERE user_id <> ${userId}
          UNION ALL
          SELECT user_id, true, NULL, NULL FROM device_list_changes
          WHERE ${within} AND (user_id = ${userId} OR ${shares("device_list_changes.user_id")})
          UNION ALL
          SELECT user_id, true, NULL, NULL FROM user_signatures WHERE signer = ${userId} AND ${within}`.pipe(
          Effect.map((rows) => {
            const compliant = rows.filter(({ user_id }) => isCompliantUserId(user_id))
            const users = (kind: "changed" | "left") => [
              ...new Set(compliant.filter((row) => kindsOf(row).includes(kind)).map((row) => row.user_id as UserId))
            ]
            return { changed: users("changed"), left: users("left") }
          }),
          Effect.orDie
        )
      }

      return DeviceListStore.of({
        news,
        lastUpdate: (userId) =>
          sql<{ updates: bigint }>`SELECT updates FROM device_list_changes WHERE user_id = ${userId}`.pipe(
            Effect.map((rows) => Number(rows[0]?.updates ?? 0)),
            Effect.orDie
          )
      })
    })
  )
}
