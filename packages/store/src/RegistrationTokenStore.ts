/**
 * Registration tokens: secrets that allow registration. They are stored as hashes; operators refer to a token by its ID. An error of the database is a defect. Times are milliseconds since 1970.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { hashOfSecret } from "./Secrets.ts"

export interface RegistrationToken {
  /** The ID by which operators refer to the token. Not secret. */
  readonly tokenId: string
  /** How many times it may be used; undefined for any number. */
  readonly usesAllowed: number | undefined
  readonly uses: number
  readonly expiresAt: number | undefined
  readonly createdAt: number
}

export interface NewRegistrationToken {
  readonly token: Redacted.Redacted
  readonly tokenId: string
  readonly usesAllowed?: number | undefined
  readonly expiresAt?: number | undefined
}

interface TokenRow {
  readonly token_id: string
  readonly uses_allowed: number | null
  readonly uses: number
  readonly expires_at: bigint | null
  readonly created_at: bigint
}

const toToken = (row: TokenRow): RegistrationToken => ({
  tokenId: row.token_id,
  usesAllowed: row.uses_allowed ?? undefined,
  uses: row.uses,
  expiresAt: row.expires_at === null ? undefined : Number(row.expires_at),
  createdAt: Number(row.created_at)
})

export class RegistrationTokenStore extends Context.Service<
  RegistrationTokenStore,
  {
    /** False if the token or its ID exists already. */
    readonly create: (token: NewRegistrationToken) => Effect.Effect<boolean>
    readonly list: Effect.Effect<ReadonlyArray<RegistrationToken>>
    /** Finds a token by its ID or its secret. */
    readonly find: (idOrSecret: string) => Effect.Effect<RegistrationToken | undefined>
    /** Undefined fields keep their value; null removes the limit. False if there is no such token. */
    readonly update: (
      tokenId: string,
      change: { readonly usesAllowed?: number | null | undefined; readonly expiresAt?: number | null | undefined }
    ) => Effect.Effect<boolean>
    /** False if there is none. */
    readonly remove: (tokenId: string) => Effect.Effect<boolean>
    /** Whether the token with this hash could be used now. */
    readonly isValid: (tokenHash: Uint8Array) => Effect.Effect<boolean>
    /** Uses the token once. False if it is unknown, expired or used up. */
    readonly use: (tokenHash: Uint8Array) => Effect.Effect<boolean>
  }
>()("greenroom/store/RegistrationTokenStore") {
  static readonly layer = Layer.effect(
    RegistrationTokenStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const changed = (rows: ReadonlyArray<unknown>) => rows.length > 0
      const usable = (now: number) =>
        sql`(uses_allowed IS NULL OR uses < uses_allowed) AND (expires_at IS NULL OR expires_at > ${now})`

      const create = Effect.fn("RegistrationTokenStore.create")(function* (token: NewRegistrationToken) {
        const now = yield* Clock.currentTimeMillis
        return changed(
          yield* sql`
            INSERT INTO registration_tokens (token_hash, token_id, uses_allowed, expires_at, created_at)
            VALUES (${hashOfSecret(token.token)}, ${token.tokenId}, ${token.usesAllowed ?? null},
                    ${token.expiresAt ?? null}, ${now})
            ON CONFLICT DO NOTHING RETURNING 1`
        )
      }, Effect.orDie)

      return RegistrationTokenStore.of({
        create,
        list: sql<TokenRow>`
          SELECT token_id, uses_allowed, uses, expires_at, created_at FROM registration_tokens
          ORDER BY created_at, token_id`.pipe(
          Effect.map((rows) => rows.map(toToken)),
          Effect.orDie
        ),
        find: (idOrSecret) =>
          sql<TokenRow>`
            SELECT token_id, uses_allowed, uses, expires_at, created_at FROM registration_tokens
            WHERE token_id = ${idOrSecret} OR token_hash = ${hashOfSecret(Redacted.make(idOrSecret))}`.pipe(
            Effect.map(([row]) => (row === undefined ? undefined : toToken(row))),
            Effect.orDie
          ),
        update: (tokenId, { expiresAt, usesAllowed }) =>
          sql`
            UPDATE registration_tokens SET
              uses_allowed = CASE WHEN ${usesAllowed === undefined} THEN uses_allowed ELSE ${usesAllowed ?? null}::integer END,
              expires_at = CASE WHEN ${expiresAt === undefined} THEN expires_at ELSE ${expiresAt ?? null}::bigint END
            WHERE token_id = ${tokenId} RETURNING 1`.pipe(Effect.map(changed), Effect.orDie),
        remove: (tokenId) =>
          sql`DELETE FROM registration_tokens WHERE token_id = ${tokenId} RETURNING 1`.pipe(
            Effect.map(changed),
            Effect.orDie
          ),
        isValid: (tokenHash) =>
          Effect.flatMap(
            Clock.currentTimeMillis,
            (now) => sql`SELECT 1 FROM registration_tokens WHERE token_hash = ${tokenHash} AND ${usable(now)}`
          ).pipe(Effect.map(changed), Effect.orDie),
        use: (tokenHash) =>
          Effect.flatMap(
            Clock.currentTimeMillis,
            (now) => sql`
              UPDATE registration_tokens SET uses = uses + 1
              WHERE token_hash = ${tokenHash} AND ${usable(now)} RETURNING 1`
          ).pipe(Effect.map(changed), Effect.orDie)
      })
    })
  )
}
