/**
 * Accounts and their logins. The store has only the SHA-256 hashes of access tokens and refresh tokens, so that a reader of the
 * database cannot log in. Tokens have 32 random bytes, so a slow hash would add no protection.
 *
 * A device is a login, so devices and logins are the same rows of `access_tokens`. `tokenId` identifies a login as
 * long as the device is logged in, whatever its current secrets. Device names come from clients and are kept as JSON,
 * which escapes what PostgreSQL cannot hold.
 *
 * Used by `Accounts` alone. An error of the database is a defect. Times are milliseconds since 1970.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { UserInUse } from "@greenroom/protocol/MatrixError"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import {
  type AccessToken,
  type DeviceRow,
  makeAccountLogins,
  type NewLogin,
  type NewLoginToken,
  type NewToken,
  type NextTokens,
  tokenIds,
  type Usage
} from "./internal/accountLogins.ts"
import { texts } from "./PgArrays.ts"
import { signalWork } from "./WorkSignals.ts"

export type { LoginGrantor } from "./internal/accountLogins.ts"

export interface Account {
  readonly userId: UserId
  /** Undefined for an account without password login. */
  readonly passwordHash: Redacted.Redacted | undefined
  readonly admin: boolean
  /** Whether it is the account of a guest, who never registered. */
  readonly guest: boolean
  /** When the account was deactivated, undefined while it is active. */
  readonly deactivatedAt: number | undefined
  /** Whether the account must be approved by an administrator before it can log in. */
  readonly awaitingApproval: boolean
  readonly createdAt: number
}

interface AccountRow {
  readonly user_id: string
  readonly password_hash: string | null
  readonly admin: boolean
  readonly guest: boolean
  readonly deactivated_at: bigint | null
  readonly awaiting_approval: boolean
  readonly created_at: bigint
}

const optionalNumber = (value: bigint | null): number | undefined => (value === null ? undefined : Number(value))

const toAccount = (row: AccountRow): Account => ({
  userId: row.user_id as UserId,
  passwordHash: row.password_hash === null ? undefined : Redacted.make(row.password_hash),
  admin: row.admin,
  guest: row.guest,
  deactivatedAt: optionalNumber(row.deactivated_at),
  awaitingApproval: row.awaiting_approval,
  createdAt: Number(row.created_at)
})

/** The initial values of an account. */
export interface NewAccountOptions {
  readonly passwordHash?: Redacted.Redacted | undefined
  readonly admin?: boolean | undefined
  readonly guest?: boolean | undefined
  readonly awaitingApproval?: boolean | undefined
  /** The display name of the new profile. */
  readonly displayName?: string | undefined
}

/** The tables whose rows are deleted with the account. */
const ownedTables = [
  "user_threepids",
  "user_identities",
  "identity_bindings",
  "login_tokens",
  "openid_tokens",
  "account_data",
  "push_rules",
  "push_actions",
  "mentions",
  "filters",
  "pushers",
  "one_time_keys",
  "fallback_keys",
  "device_keys",
  "cross_signing_keys",
  "user_signatures",
  "to_device_messages",
  "key_backups",
  "sliding_connections",
  "contacts",
  "contact_books"
]

export class AccountStore extends Context.Service<
  AccountStore,
  {
    /** Creates an account. Errors: M_USER_IN_USE, also for a deactivated account. */
    readonly create: (userId: UserId, options?: NewAccountOptions) => Effect.Effect<void, UserInUse>
    /** Turns the account of a guest into a regular one. False if it is not the account of a guest. */
    readonly upgradeGuest: (
      userId: UserId,
      options: Pick<NewAccountOptions, "passwordHash" | "awaitingApproval">
    ) => Effect.Effect<boolean>
    /** The administrators whose accounts are active. */
    readonly admins: Effect.Effect<ReadonlyArray<UserId>>
    /** Accounts that wait for approval, the oldest first. */
    readonly awaitingApproval: (limit: number) => Effect.Effect<ReadonlyArray<Account>>
    /** Approves or rejects an account that waits. False if it does not wait. */
    readonly decide: (userId: UserId, approved: boolean) => Effect.Effect<boolean>
    /** Guests who are in a room. */
    readonly guestsIn: (roomNid: number) => Effect.Effect<ReadonlyArray<UserId>>
    /** The rooms with guests. */
    readonly roomsOfGuests: Effect.Effect<ReadonlyArray<RoomId>>
    readonly find: (userId: UserId) => Effect.Effect<Option.Option<Account>>
    /** One of these users without an account or with a deactivated one; none if all have an active one. */
    readonly findAbsent: (userIds: ReadonlyArray<UserId>) => Effect.Effect<Option.Option<UserId>>
    /** Accounts in the order of their user IDs, after the one given, deactivated ones too. */
    readonly list: (options: {
      readonly after?: UserId | undefined
      readonly limit: number
    }) => Effect.Effect<ReadonlyArray<Account>>
    /** Sets the hash. With `replacing`, only if the present hash is that one. False if it was not set. */
    readonly setPasswordHash: (
      userId: UserId,
      passwordHash: Redacted.Redacted,
      replacing?: Redacted.Redacted
    ) => Effect.Effect<boolean>
    /**
     * Sets the hash, and in the same commit ends the login tokens of the user and all access tokens but `except`. Returns the IDs of
     * the ended tokens.
     */
    readonly replacePassword: (
      userId: UserId,
      passwordHash: Redacted.Redacted,
      options?: { readonly except?: number }
    ) => Effect.Effect<ReadonlyArray<number>>
    readonly setAdmin: (userId: UserId, admin: boolean) => Effect.Effect<void>
    /**
     * Ends the account and all its tokens, and deletes its password, addresses, provider accounts, keys and account data. The user
     * ID cannot be registered again. With `erase`, users who were not in the room see its events without content. Returns the IDs of the ended
     * tokens.
     */
    readonly deactivate: (userId: UserId, erase?: boolean) => Effect.Effect<ReadonlyArray<number>>
    /**
     * Deactivated accounts that still have memberships, a presence or a profile: the unfinished work of a process that ended, or of a
     * request that was under way. Of all accounts, or of one.
     */
    readonly unfinishedDeactivations: (userId?: UserId) => Effect.Effect<ReadonlyArray<UserId>>
    /** Signals a node to finish interrupted deactivations. */
    readonly signalDeactivations: Effect.Effect<void>
    /** A unique number, for the localpart of a user who did not choose one. */
    readonly allocateLocalpart: Effect.Effect<string>

    /**
     * Logs in a new or known device; undefined if the account does not exist, is deactivated or waits for approval, or has another
     * password than the one that was verified.
     */
    readonly createToken: (token: NewToken) => Effect.Effect<Option.Option<NewLogin>>
    /**
     * The session of a token; undefined if the token is unknown or revoked, or its account is deactivated. The first use of
     * a token from a refresh ends the former token.
     */
    readonly findToken: (token: Redacted.Redacted) => Effect.Effect<Option.Option<AccessToken>>
    /** Whether the last refresh of a login replaced this access token. */
    readonly wasReplaced: (token: Redacted.Redacted) => Effect.Effect<boolean>
    /** Whether there is a login with this family of refresh tokens. */
    readonly hasRefreshFamily: (family: Redacted.Redacted) => Effect.Effect<boolean>
    /** Issues the next tokens of a session. Undefined if the refresh token is unknown, used or revoked. */
    readonly refresh: (
      refreshToken: Redacted.Redacted,
      next: NextTokens,
      clientId?: string
    ) => Effect.Effect<Option.Option<{ readonly tokenId: number; readonly userId: UserId; readonly deviceId: string }>>
    /** Ends the login of an OAuth 2.0 client with this family of refresh tokens, and returns its ID, if there was one. */
    readonly revokeFamily: (family: Redacted.Redacted, clientId: string) => Effect.Effect<ReadonlyArray<number>>
    /** Ends the login of an access token or a refresh token, and returns its ID, if there was one. */
    readonly revokeSecret: (secret: Redacted.Redacted) => Effect.Effect<ReadonlyArray<number>>
    /**
     * Creates a token for one login of the user. Deletes the oldest tokens of a user with more than `limit`. False if the session that
     * grants it has ended, or the password was replaced.
     */
    readonly createLoginToken: (token: NewLoginToken, limit: number) => Effect.Effect<boolean>
    /**
     * Consumes a login token and returns its user, with the hash of the password that a login by it has to find unchanged; none if it is
     * unknown, used or expired.
     */
    readonly takeLoginToken: (
      token: Redacted.Redacted
    ) => Effect.Effect<Option.Option<{ readonly userId: UserId; readonly passwordHash: Redacted.Redacted | undefined }>>
    /** Ends one token of the user. False if there is none. */
    readonly revoke: (userId: UserId, tokenId: number) => Effect.Effect<boolean>
    /** Ends all tokens of the user, or all but one, and returns the IDs of the ended ones. */
    readonly revokeAll: (userId: UserId, options?: { readonly except?: number }) => Effect.Effect<ReadonlyArray<number>>
    /** Deletes expired tokens, and returns their IDs. */
    readonly removeExpired: Effect.Effect<ReadonlyArray<number>>
    /** The sessions of the user, the most recently used first. */
    readonly devices: (userId: UserId) => Effect.Effect<ReadonlyArray<DeviceRow>>
    /** The devices beyond `limit`, which were used longest ago. */
    readonly surplusDevices: (userId: UserId, limit: number) => Effect.Effect<ReadonlyArray<string>>
    /** Sets or removes the name of a device. False if there is no such device. */
    readonly renameDevice: (userId: UserId, deviceId: string, name: string | undefined) => Effect.Effect<boolean>
    /** Stores when logins were used last, by token ID. Called with batches, not per request. */
    readonly touch: (used: ReadonlyMap<number, Usage>) => Effect.Effect<void>
  }
>()("greenroom/store/AccountStore") {
  static readonly layer = Layer.effect(
    AccountStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const logins = makeAccountLogins(sql)
      const columns = sql.literal("user_id, password_hash, admin, guest, deactivated_at, awaiting_approval, created_at")

      const setPasswordHash = (userId: UserId, passwordHash: Redacted.Redacted, replacing?: Redacted.Redacted) =>
        Effect.map(
          sql`
            UPDATE users SET password_hash = ${Redacted.value(passwordHash)}
            WHERE user_id = ${userId} AND deactivated_at IS NULL
              AND ${replacing === undefined ? sql`true` : sql`password_hash = ${Redacted.value(replacing)}`}
            RETURNING 1`,
          (rows) => rows.length > 0
        )

      const create = Effect.fn("AccountStore.create")(function* (userId: UserId, options: NewAccountOptions = {}) {
        const passwordHash = options.passwordHash === undefined ? null : Redacted.value(options.passwordHash)
        const now = yield* Clock.currentTimeMillis
        const displayName = options.displayName === undefined ? null : JSON.stringify(options.displayName)
        const rows = yield* Effect.orDie(sql`
          WITH created AS (
            INSERT INTO users (user_id, password_hash, admin, guest, awaiting_approval, created_at)
            VALUES (${userId}, ${passwordHash}, ${options.admin ?? false}, ${options.guest ?? false},
                    ${options.awaitingApproval ?? false}, ${now})
            ON CONFLICT (user_id) DO NOTHING RETURNING user_id),
          named AS (
            INSERT INTO profile_fields (user_id, field, value, visibility)
            SELECT user_id, 'displayname', ${displayName}::text, 'public' FROM created
            WHERE ${displayName}::text IS NOT NULL)
          SELECT 1 FROM created`)
        if (rows.length === 0) return yield* new UserInUse({ error: `${userId} is taken` })
      })

      const deactivate = Effect.fn("AccountStore.deactivate")(function* (userId: UserId, erase = false) {
        const now = yield* Clock.currentTimeMillis
        return yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* sql`
              UPDATE users SET deactivated_at = coalesce(deactivated_at, ${now}), password_hash = NULL,
                erased = erased OR ${erase}
              WHERE user_id = ${userId}`
            if (erase) yield* sql`INSERT INTO erasures (user_id) VALUES (${userId}) ON CONFLICT DO NOTHING`
            for (const table of ownedTables) yield* sql`DELETE FROM ${sql(table)} WHERE user_id = ${userId}`
            const rows = yield* sql<{ token_id: bigint }>`
              DELETE FROM access_tokens WHERE user_id = ${userId} RETURNING token_id`
            return tokenIds(rows)
          })
        )
      }, Effect.orDie)

      return AccountStore.of({
        create,
        find: (userId) =>
          sql<AccountRow>`
            SELECT ${columns} FROM users WHERE user_id = ${userId}`.pipe(
            Effect.map((rows) => Option.map(Option.fromNullishOr(rows[0]), toAccount)),
            Effect.orDie
          ),
        findAbsent: (userIds) =>
          sql<{ user_id: string }>`
            SELECT given.user_id FROM unnest(${texts(userIds)}::text[]) AS given (user_id)
            LEFT JOIN users USING (user_id)
            WHERE users.created_at IS NULL OR users.deactivated_at IS NOT NULL LIMIT 1`.pipe(
            Effect.map((rows) => Option.map(Option.fromNullishOr(rows[0]), (row) => row.user_id as UserId)),
            Effect.orDie
          ),
        list: ({ after, limit }) =>
          sql<AccountRow>`
            SELECT ${columns} FROM users
            WHERE user_id COLLATE "C" > ${after ?? ""} ORDER BY user_id COLLATE "C" LIMIT ${limit}`.pipe(
            Effect.map((rows) => rows.map(toAccount)),
            Effect.orDie
          ),
        setPasswordHash: (userId, passwordHash, replacing) =>
          Effect.orDie(setPasswordHash(userId, passwordHash, replacing)),
        replacePassword: (userId, passwordHash, options) =>
          // The tokens are read by a statement of their own: the update waits for logins under way, which its snapshot does not show.
          sql
            .withTransaction(
              Effect.andThen(
                setPasswordHash(userId, passwordHash),
                Effect.andThen(
                  sql`DELETE FROM login_tokens WHERE user_id = ${userId}`,
                  logins.revokeAll(userId, options)
                )
              )
            )
            .pipe(Effect.orDie),
        setAdmin: (userId, admin) =>
          sql`UPDATE users SET admin = ${admin} WHERE user_id = ${userId}`.pipe(Effect.asVoid, Effect.orDie),
        admins: sql<{ user_id: UserId }>`
          SELECT user_id FROM users WHERE admin AND deactivated_at IS NULL ORDER BY user_id`.pipe(
          Effect.map((rows) => rows.map(({ user_id }) => user_id)),
          Effect.orDie
        ),
        awaitingApproval: (limit) =>
          sql<AccountRow>`
            SELECT ${columns} FROM users
            WHERE awaiting_approval AND deactivated_at IS NULL ORDER BY created_at, user_id LIMIT ${limit}`.pipe(
            Effect.map((rows) => rows.map(toAccount)),
            Effect.orDie
          ),
        decide: Effect.fnUntraced(function* (userId, approved) {
          const deactivatedAt = approved ? null : yield* Clock.currentTimeMillis
          const rows = yield* sql`
            UPDATE users SET awaiting_approval = false, deactivated_at = ${deactivatedAt}
            WHERE user_id = ${userId} AND awaiting_approval AND deactivated_at IS NULL RETURNING 1`
          return rows.length > 0
        }, Effect.orDie),
        upgradeGuest: (userId, { awaitingApproval = false, passwordHash }) =>
          sql`
            UPDATE users SET guest = false, awaiting_approval = ${awaitingApproval},
              password_hash = ${passwordHash === undefined ? null : Redacted.value(passwordHash)}
            WHERE user_id = ${userId} AND guest AND deactivated_at IS NULL RETURNING 1`.pipe(
            Effect.map((rows) => rows.length > 0),
            Effect.orDie
          ),
        guestsIn: (roomNid) =>
          sql<{ user_id: UserId }>`
            SELECT user_id FROM memberships JOIN users USING (user_id)
            WHERE room_nid = ${roomNid} AND membership = 'join' AND guest`.pipe(
            Effect.map((rows) => rows.map(({ user_id }) => user_id)),
            Effect.orDie
          ),
        roomsOfGuests: sql<{ room_id: RoomId }>`
          SELECT DISTINCT room_id FROM users JOIN memberships USING (user_id) JOIN rooms USING (room_nid)
          WHERE guest AND membership = 'join'`.pipe(
          Effect.map((rows) => rows.map(({ room_id }) => room_id)),
          Effect.orDie
        ),
        deactivate,
        unfinishedDeactivations: (userId) =>
          sql<{ user_id: string }>`
            SELECT user_id FROM users
            WHERE deactivated_at IS NOT NULL AND ${userId === undefined ? sql`true` : sql`user_id = ${userId}`} AND (
              EXISTS (SELECT 1 FROM memberships
                      WHERE memberships.user_id = users.user_id AND membership IN ('join', 'invite', 'knock'))
              OR EXISTS (SELECT 1 FROM presence WHERE presence.user_id = users.user_id)
              OR EXISTS (SELECT 1 FROM profile_fields WHERE profile_fields.user_id = users.user_id)
            )`.pipe(
            Effect.map((rows) => rows.map((row) => row.user_id as UserId)),
            Effect.orDie
          ),
        signalDeactivations: Effect.asVoid(Effect.orDie(signalWork(sql, "deactivations"))),
        allocateLocalpart: sql<{ number: string }>`SELECT nextval('allocated_localparts')::text AS number`.pipe(
          Effect.map((rows) => rows[0]!.number),
          Effect.orDie
        ),
        ...logins
      })
    })
  )
}
