/**
 * The logins of accounts, as rows of `access_tokens`: access tokens, refresh tokens and devices. Only SHA-256 hashes of secrets are
 * stored. Used by `AccountStore`.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as SqlClient from "effect/sql/SqlClient"
import { bigints, texts } from "../PgArrays.ts"
import { hashOfSecret } from "../Secrets.ts"

/** The session of an access token. */
export interface AccessToken {
  readonly tokenId: number
  readonly userId: UserId
  readonly deviceId: string
  /** The client of the OAuth 2.0 API that logged in, if it was one. */
  readonly clientId?: string
  readonly admin: boolean
  readonly guest: boolean
  /** May be in the past: the login can be renewed by its refresh token then, or is about to be removed. */
  readonly expiresAt: number | undefined
  /** The position in the log of the login on this device, as the `xid` of `session_revocations` are. */
  readonly since: number
  /** It has just ended the former token, as the first use of a token from a refresh. */
  readonly replaces?: boolean
}

export interface DeviceRow {
  readonly tokenId: number
  readonly deviceId: string
  readonly name: string | undefined
  readonly createdAt: number
  readonly lastUsedAt: number
  /** The network address of its last use. */
  readonly lastSeenAddress: string | undefined
}

export interface NewToken {
  readonly userId: UserId
  /** The secret itself. */
  readonly token: Redacted.Redacted
  readonly deviceId: string
  /** Ignored where the device is known. */
  readonly deviceName?: string | undefined
  readonly expiresAt?: number | undefined
  readonly refreshToken?: Redacted.Redacted | undefined
  /** The secret that all refresh tokens of this login have in common. */
  readonly refreshFamily?: Redacted.Redacted | undefined
  /** The network address from which the login came, if known. */
  readonly address?: string | undefined
  /** The client of the OAuth 2.0 API that logs in. */
  readonly clientId?: string | undefined
  /** The hash of the password that was verified. */
  readonly passwordHash?: Redacted.Redacted | undefined
}

/** A token for one login, which `grantedBy` lets its user make. */
export interface NewLoginToken {
  readonly userId: UserId
  readonly token: Redacted.Redacted
  readonly expiresAt: number
  /** The session that asks for the token, or the hash of the password that was verified. Absent for logins at other services. */
  readonly grantedBy?: LoginGrantor | undefined
}

export interface LoginGrantor {
  readonly tokenId?: number | undefined
  readonly passwordHash?: Redacted.Redacted | undefined
}

/** A login that was made. */
export interface NewLogin {
  readonly tokenId: number
  /** Whether the device was logged in before: its former tokens are revoked then. */
  readonly replaced: boolean
}

/** The pair of tokens that a refresh gives. */
export interface NextTokens {
  readonly token: Redacted.Redacted
  readonly refreshToken: Redacted.Redacted
  readonly refreshFamily: Redacted.Redacted
  readonly expiresAt: number | undefined
}

/** When and where from a login was used last. */
export interface Usage {
  readonly at: number
  readonly address: string | undefined
}

interface TokenRow {
  readonly token_id: bigint
  readonly user_id: string
  readonly device_id: string
  readonly client_id: string | null
  readonly admin: boolean
  readonly guest: boolean
  readonly expires_at: bigint | null
  readonly since: string
}

const toAccessToken = (row: TokenRow): AccessToken => ({
  tokenId: Number(row.token_id),
  userId: row.user_id as UserId,
  deviceId: row.device_id,
  ...(row.client_id === null ? {} : { clientId: row.client_id }),
  admin: row.admin,
  guest: row.guest,
  expiresAt: row.expires_at === null ? undefined : Number(row.expires_at),
  since: Number(row.since)
})

interface DeviceTableRow {
  readonly token_id: bigint
  readonly device_id: string
  readonly device_name: string | null
  readonly created_at: bigint
  readonly last_used_at: bigint
  readonly last_seen_address: string | null
}

const toDevice = (row: DeviceTableRow): DeviceRow => ({
  tokenId: Number(row.token_id),
  deviceId: row.device_id,
  name: row.device_name === null ? undefined : JSON.parse(row.device_name),
  createdAt: Number(row.created_at),
  lastUsedAt: Number(row.last_used_at),
  lastSeenAddress: row.last_seen_address ?? undefined
})

/** How long the end of a session stays in the log, in ms: see `SessionRevocation`. */
const revocationsKeptFor = 24 * 60 * 60 * 1000

const optionalHash = (token: Redacted.Redacted | undefined) => (token === undefined ? null : hashOfSecret(token))
const nameText = (name: string | undefined) => (name === undefined ? null : JSON.stringify(name))

/** The IDs of the tokens in rows. */
export const tokenIds = (rows: ReadonlyArray<{ token_id: bigint }>): ReadonlyArray<number> =>
  rows.map((row) => Number(row.token_id))

export const makeAccountLogins = (sql: SqlClient.SqlClient) => {
  /** While a password was verified, it may have been replaced. */
  const hasPassword = (hash: Redacted.Redacted | undefined) =>
    hash === undefined ? sql`true` : sql`password_hash = ${Redacted.value(hash)}`

  // The row lock makes a login and a deactivation, or a change of the password, at the same time happen one after the other.
  const createToken = Effect.fn("AccountStore.createToken")(function* (token: NewToken) {
    const now = yield* Clock.currentTimeMillis
    const rows = yield* sql<{ token_id: bigint; replaced: boolean }>`
      INSERT INTO access_tokens
        (token_hash, refresh_hash, refresh_family, user_id, device_id, device_name, created_at, last_used_at, expires_at,
         last_seen_address, client_id)
      SELECT ${hashOfSecret(token.token)}, ${optionalHash(token.refreshToken)}::bytea,
             ${optionalHash(token.refreshFamily)}::bytea, user_id, ${token.deviceId}, ${nameText(token.deviceName)}, ${now}, ${now}, ${token.expiresAt ?? null},
             ${token.address ?? null}, ${token.clientId ?? null}
      FROM users WHERE user_id = ${token.userId} AND deactivated_at IS NULL AND NOT awaiting_approval
        AND ${hasPassword(token.passwordHash)} FOR SHARE
      ON CONFLICT (user_id, device_id) DO UPDATE SET
        token_hash = excluded.token_hash, refresh_hash = excluded.refresh_hash,
        refresh_family = excluded.refresh_family, expires_at = excluded.expires_at,
        next_token_hash = NULL, next_refresh_hash = NULL, next_expires_at = NULL, former_token_hash = NULL,
        last_used_at = excluded.last_used_at, since = excluded.since, client_id = excluded.client_id,
        last_seen_address = coalesce(excluded.last_seen_address, access_tokens.last_seen_address)
      RETURNING token_id, xmax <> 0 AS replaced`
    return Option.map(Option.fromNullishOr(rows[0]), ({ replaced, token_id }) => ({
      tokenId: Number(token_id),
      replaced
    }))
  }, Effect.orDie)

  /** The next tokens of a login become its present ones, unless another request was faster. */
  const promote = (tokenId: number, nextTokenHash: Uint8Array) => sql`
    UPDATE access_tokens SET
      former_token_hash = token_hash, token_hash = next_token_hash, refresh_hash = next_refresh_hash, expires_at = next_expires_at,
      next_token_hash = NULL, next_refresh_hash = NULL, next_expires_at = NULL
    WHERE token_id = ${tokenId} AND next_token_hash = ${nextTokenHash}`

  const findToken = Effect.fn("AccountStore.findToken")(function* (token: Redacted.Redacted) {
    const tokenHash = hashOfSecret(token)
    const rows = yield* sql<TokenRow & { readonly is_next: boolean }>`
      SELECT token_id, user_id, device_id, client_id, admin, guest, since::text AS since, token_hash <> ${tokenHash} AS is_next,
             CASE WHEN token_hash = ${tokenHash} THEN expires_at ELSE next_expires_at END AS expires_at
      FROM access_tokens JOIN users USING (user_id)
      WHERE (token_hash = ${tokenHash} OR next_token_hash = ${tokenHash}) AND deactivated_at IS NULL`
    const row = rows[0]
    if (row === undefined) return Option.none()
    if (row.is_next) yield* promote(Number(row.token_id), tokenHash)
    return Option.some({ ...toAccessToken(row), ...(row.is_next ? { replaces: true } : {}) })
  }, Effect.orDie)

  const wasReplaced = Effect.fn("AccountStore.wasReplaced")(function* (token: Redacted.Redacted) {
    const rows = yield* sql`SELECT 1 FROM access_tokens WHERE former_token_hash = ${hashOfSecret(token)}`
    return rows.length > 0
  }, Effect.orDie)

  const hasRefreshFamily = Effect.fn("AccountStore.hasRefreshFamily")(function* (family: Redacted.Redacted) {
    const rows = yield* sql`SELECT 1 FROM access_tokens WHERE refresh_family = ${hashOfSecret(family)}`
    return rows.length > 0
  }, Effect.orDie)

  const refresh = Effect.fn("AccountStore.refresh")(function* (
    refreshToken: Redacted.Redacted,
    next: NextTokens,
    clientId?: string
  ) {
    const refreshHash = hashOfSecret(refreshToken)
    const rows = yield* sql<{ token_id: bigint; user_id: string; device_id: string }>`
      UPDATE access_tokens SET
        former_token_hash = CASE WHEN next_refresh_hash = ${refreshHash} THEN token_hash ELSE former_token_hash END,
        token_hash = CASE WHEN next_refresh_hash = ${refreshHash} THEN next_token_hash ELSE token_hash END,
        refresh_hash = CASE WHEN next_refresh_hash = ${refreshHash} THEN next_refresh_hash ELSE refresh_hash END,
        expires_at = CASE WHEN next_refresh_hash = ${refreshHash} THEN next_expires_at ELSE expires_at END,
        next_token_hash = ${hashOfSecret(next.token)}, next_refresh_hash = ${hashOfSecret(next.refreshToken)},
        refresh_family = ${hashOfSecret(next.refreshFamily)},
        next_expires_at = ${next.expiresAt ?? null}
      WHERE (refresh_hash = ${refreshHash} OR next_refresh_hash = ${refreshHash})
        AND client_id IS NOT DISTINCT FROM ${clientId ?? null}
      RETURNING token_id, user_id, device_id`
    return Option.map(Option.fromNullishOr(rows[0]), (row) => ({
      tokenId: Number(row.token_id),
      userId: row.user_id as UserId,
      deviceId: row.device_id
    }))
  }, Effect.orDie)

  const revokeFamily = Effect.fn("AccountStore.revokeFamily")(function* (family: Redacted.Redacted, clientId: string) {
    const rows = yield* sql<{ token_id: bigint }>`
      DELETE FROM access_tokens WHERE refresh_family = ${hashOfSecret(family)} AND client_id = ${clientId} RETURNING token_id`
    return tokenIds(rows)
  }, Effect.orDie)

  const revokeSecret = Effect.fn("AccountStore.revokeSecret")(function* (secret: Redacted.Redacted) {
    const secretHash = hashOfSecret(secret)
    const rows = yield* sql<{ token_id: bigint }>`
      DELETE FROM access_tokens
      WHERE token_hash = ${secretHash} OR refresh_hash = ${secretHash}
        OR next_token_hash = ${secretHash} OR next_refresh_hash = ${secretHash}
      RETURNING token_id`
    return tokenIds(rows)
  }, Effect.orDie)

  // The row locks are those of `createToken`: what ends the logins of the user ends this token too, or prevents it.
  const createLoginToken = Effect.fn("AccountStore.createLoginToken")(function* (made: NewLoginToken, limit: number) {
    const { expiresAt, grantedBy = {}, token, userId } = made
    const { passwordHash, tokenId } = grantedBy
    const rows = yield* sql`
      WITH surplus AS (DELETE FROM login_tokens WHERE token_hash IN (
        SELECT token_hash FROM login_tokens WHERE user_id = ${userId} ORDER BY expires_at DESC OFFSET ${limit - 1}))
      INSERT INTO login_tokens (token_hash, user_id, expires_at)
      SELECT ${hashOfSecret(token)}, users.user_id, ${expiresAt}::bigint
      FROM users ${tokenId === undefined ? sql`` : sql`JOIN access_tokens USING (user_id)`}
      WHERE users.user_id = ${userId} AND ${hasPassword(passwordHash)}
        AND ${tokenId === undefined ? sql`true` : sql`token_id = ${tokenId}`} FOR SHARE
      RETURNING 1`
    return rows.length > 0
  }, Effect.orDie)

  const takeLoginToken = Effect.fn("AccountStore.takeLoginToken")(function* (token: Redacted.Redacted) {
    const now = yield* Clock.currentTimeMillis
    const rows = yield* sql<{ user_id: string; expires_at: bigint; password_hash: string | null }>`
      DELETE FROM login_tokens USING users
      WHERE token_hash = ${hashOfSecret(token)} AND users.user_id = login_tokens.user_id
      RETURNING users.user_id, expires_at, password_hash`
    const row = rows[0]
    if (row === undefined || Number(row.expires_at) <= now) return Option.none()
    const passwordHash = row.password_hash === null ? undefined : Redacted.make(row.password_hash)
    return Option.some({ userId: row.user_id as UserId, passwordHash })
  }, Effect.orDie)

  const removeExpired = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    return tokenIds(
      yield* sql<{ token_id: bigint }>`
        WITH login_tokens AS (DELETE FROM login_tokens WHERE expires_at <= ${now}),
          revocations AS (DELETE FROM session_revocations WHERE ended_at <= ${now - revocationsKeptFor})
        DELETE FROM access_tokens WHERE expires_at <= ${now} AND refresh_hash IS NULL RETURNING token_id`
    )
  }).pipe(Effect.orDie)

  const touch = Effect.fnUntraced(function* (used: ReadonlyMap<number, Usage>) {
    const rows = [...used]
    if (rows.length === 0) return
    const now = yield* Clock.currentTimeMillis
    // A time to come is of a clock that was set back.
    yield* sql`
      UPDATE access_tokens SET
        last_used_at = CASE WHEN last_used_at > ${now} THEN used.at ELSE greatest(last_used_at, used.at) END,
        last_seen_address = coalesce(used.address, last_seen_address)
      FROM unnest(
        ${bigints(rows.map(([tokenId]) => tokenId))}::bigint[],
        ${bigints(rows.map(([, { at }]) => at))}::bigint[],
        ${texts(rows.map(([, { address }]) => address ?? null))}::text[]
      ) AS used (token_id, at, address)
      WHERE access_tokens.token_id = used.token_id`
  }, Effect.orDie)

  return {
    createToken,
    findToken,
    wasReplaced,
    hasRefreshFamily,
    refresh,
    revokeFamily,
    revokeSecret,
    createLoginToken,
    takeLoginToken,
    revoke: (userId: UserId, tokenId: number) =>
      sql`DELETE FROM access_tokens WHERE user_id = ${userId} AND token_id = ${tokenId} RETURNING 1`.pipe(
        Effect.map((rows) => rows.length > 0),
        Effect.orDie
      ),
    revokeAll: (userId: UserId, options?: { readonly except?: number }) =>
      sql<{ token_id: bigint }>`
        DELETE FROM access_tokens WHERE user_id = ${userId} AND token_id <> ${options?.except ?? 0}
        RETURNING token_id`.pipe(Effect.map(tokenIds), Effect.orDie),
    removeExpired,
    devices: (userId: UserId) =>
      sql<DeviceTableRow>`
        SELECT token_id, device_id, device_name, created_at, last_used_at, last_seen_address FROM access_tokens
        WHERE user_id = ${userId} ORDER BY last_used_at DESC, token_id DESC`.pipe(
        Effect.map((rows) => rows.map(toDevice)),
        Effect.orDie
      ),
    surplusDevices: (userId: UserId, limit: number) =>
      sql<{ device_id: string }>`
        SELECT device_id FROM access_tokens WHERE user_id = ${userId}
        ORDER BY last_used_at DESC, token_id DESC OFFSET ${limit}`.pipe(
        Effect.map((rows) => rows.map((row) => row.device_id)),
        Effect.orDie
      ),
    renameDevice: (userId: UserId, deviceId: string, name: string | undefined) =>
      sql`
        UPDATE access_tokens SET device_name = ${nameText(name)}
        WHERE user_id = ${userId} AND device_id = ${deviceId} RETURNING 1`.pipe(
        Effect.map((rows) => rows.length > 0),
        Effect.orDie
      ),
    touch
  }
}
