/**
 * Accounts as administrators list and search them, and how much each user has uploaded.
 *
 * An error of the database is a defect. Times are milliseconds since 1970.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { containing } from "./internal/containing.ts"
import { readPage } from "./internal/readPage.ts"

export interface AdministeredUser {
  readonly userId: UserId
  readonly admin: boolean
  readonly guest: boolean
  readonly erased: boolean
  readonly locked: boolean
  readonly suspended: boolean
  /** False while an account waits for approval. */
  readonly approved: boolean
  readonly deactivatedAt: number | undefined
  readonly createdAt: number
  readonly lastSeenAt: number | undefined
  readonly displayName: string | undefined
  readonly avatarUrl: string | undefined
}

const userOrders = {
  name: "user_id",
  is_guest: "guest",
  admin: "admin",
  deactivated: "deactivated_at IS NOT NULL",
  displayname: "displayname",
  avatar_url: "avatar_url",
  creation_ts: "created_at",
  last_seen_ts: "last_seen_at",
  locked: "locked"
} as const
export type UserOrder = keyof typeof userOrders

export interface UserQuery {
  readonly from: number
  readonly limit: number
  readonly orderBy: UserOrder
  readonly descending: boolean
  /** A part of the user ID. */
  readonly userId?: string | undefined
  /** A part of the user ID or of the display name. */
  readonly name?: string | undefined
  readonly admins?: boolean | undefined
  readonly guests?: boolean | undefined
  /** Whether the account is deactivated; undefined for both. */
  readonly deactivated: boolean | undefined
  /** Also locked accounts. */
  readonly locked: boolean
}

export interface UserMediaUsage {
  readonly userId: UserId
  readonly displayName: string | undefined
  readonly count: number
  readonly bytes: number
}

const usageOrders = {
  user_id: "user_id",
  displayname: "displayname",
  media_count: "count",
  media_length: "bytes"
} as const

export interface MediaUsageQuery {
  readonly from: number
  readonly limit: number
  readonly orderBy: keyof typeof usageOrders
  readonly descending: boolean
  readonly search?: string | undefined
  /** Uploads from and until a time, both included. */
  readonly since?: number | undefined
  readonly until?: number | undefined
}

interface Row {
  readonly user_id: string
  readonly admin: boolean
  readonly guest: boolean
  readonly erased: boolean
  readonly locked: boolean
  readonly suspended: boolean
  readonly approved: boolean
  readonly deactivated_at: bigint | null
  readonly created_at: bigint
  readonly last_seen_at: bigint | null
  readonly displayname: string | null
  readonly avatar_url: string | null
}

const text = (json: string | null): string | undefined => {
  const value: unknown = json === null ? undefined : JSON.parse(json)
  return typeof value === "string" ? value : undefined
}

const optional = (value: bigint | null): number | undefined => (value === null ? undefined : Number(value))

const toUser = (row: Row): AdministeredUser => ({
  userId: row.user_id as UserId,
  admin: row.admin,
  guest: row.guest,
  erased: row.erased,
  locked: row.locked,
  suspended: row.suspended,
  approved: row.approved,
  deactivatedAt: optional(row.deactivated_at),
  createdAt: Number(row.created_at),
  lastSeenAt: optional(row.last_seen_at),
  displayName: text(row.displayname),
  avatarUrl: text(row.avatar_url)
})

export class UserAdministrationStore extends Context.Service<
  UserAdministrationStore,
  {
    readonly list: (
      query: UserQuery
    ) => Effect.Effect<{ readonly users: ReadonlyArray<AdministeredUser>; readonly total: number }>
    readonly find: (userId: UserId) => Effect.Effect<AdministeredUser | undefined>
    /** How much users have uploaded. */
    readonly mediaUsage: (
      query: MediaUsageQuery
    ) => Effect.Effect<{ readonly users: ReadonlyArray<UserMediaUsage>; readonly total: number }>
  }
>()("greenroom/store/UserAdministrationStore") {
  static readonly layer = Layer.effect(
    UserAdministrationStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const users = sql.literal(`
        SELECT users.user_id, admin, guest, erased, deactivated_at, created_at, NOT awaiting_approval AS approved,
          coalesce(locked, false) AS locked, coalesce(suspended, false) AS suspended,
          (SELECT max(last_used_at) FROM access_tokens WHERE access_tokens.user_id = users.user_id) AS last_seen_at,
          (SELECT value FROM profile_fields WHERE profile_fields.user_id = users.user_id AND field = 'displayname') AS displayname,
          (SELECT value FROM profile_fields WHERE profile_fields.user_id = users.user_id AND field = 'avatar_url') AS avatar_url
        FROM users LEFT JOIN account_standings USING (user_id)`)

      const list = Effect.fn("UserAdministrationStore.list")(function* (query: UserQuery) {
        const { admins, deactivated, descending, from, guests, limit, locked, orderBy } = query
        const [userId, name] = [containing(query.userId), containing(query.name)]
        const { rows, total } = yield* readPage<Row>(sql, {
          rows: sql`
            SELECT * FROM (${users}) AS everybody
            WHERE (${admins ?? null}::boolean IS NULL OR admin = ${admins ?? null})
              AND (${guests ?? null}::boolean IS NULL OR guest = ${guests ?? null})
              AND (${deactivated ?? null}::boolean IS NULL OR (deactivated_at IS NOT NULL) = ${deactivated ?? null}) AND (${locked} OR NOT locked)
              AND (${userId}::text IS NULL OR user_id LIKE ${userId})
              AND (${name}::text IS NULL OR split_part(user_id, ':', 1) LIKE ${name} OR lower(displayname) LIKE ${name})`,
          order: sql.literal(`${userOrders[orderBy]} ${descending ? "DESC NULLS LAST" : "ASC NULLS FIRST"}, user_id`),
          from,
          limit
        })
        return { users: rows.map(toUser), total }
      }, Effect.orDie)

      const find = (userId: UserId) =>
        sql<Row>`SELECT * FROM (${users}) AS found WHERE user_id = ${userId}`.pipe(
          Effect.map(([row]) => (row === undefined ? undefined : toUser(row))),
          Effect.orDie
        )

      const mediaUsage: UserAdministrationStore["Service"]["mediaUsage"] = Effect.fnUntraced(function* (query) {
        const { descending, orderBy, since, until } = query
        const search = containing(query.search)
        const { rows, total } = yield* readPage<{
          readonly user_id: string
          readonly displayname: string | null
          readonly count: bigint
          readonly bytes: bigint
        }>(sql, {
          rows: sql`
            SELECT user_id, count(*) AS count, sum(size)::bigint AS bytes,
              (SELECT value FROM profile_fields WHERE profile_fields.user_id = media.user_id AND field = 'displayname') AS displayname
            FROM media
            WHERE user_id IS NOT NULL AND sha256 IS NOT NULL AND (${search}::text IS NULL OR user_id LIKE ${search})
              AND created_at BETWEEN ${since ?? 0} AND ${until ?? Number.MAX_SAFE_INTEGER}
            GROUP BY user_id`,
          order: sql.literal(`${usageOrders[orderBy]} ${descending ? "DESC NULLS LAST" : "ASC NULLS FIRST"}, user_id`),
          from: query.from,
          limit: query.limit
        })
        return {
          users: rows.map((row) => ({
            userId: row.user_id as UserId,
            displayName: text(row.displayname),
            count: Number(row.count),
            bytes: Number(row.bytes)
          })),
          total
        }
      }, Effect.orDie)

      return UserAdministrationStore.of({
        list,
        find,
        mediaUsage
      })
    })
  )
}
