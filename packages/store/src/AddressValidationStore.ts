/**
 * Validations of addresses: pending ones, and completed ones that are not used yet. Secrets are stored as hashes.
 *
 * Used by `AddressValidations` alone. An error of the database is a defect. Times are milliseconds since 1970.
 */
import type { Medium, ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import { Clock, Context, Effect, Layer, Option, type Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { hashOfSecret } from "./Secrets.ts"

/** The purpose: to register with the address, to reset a password by it, or to add it to an account. */
export type ValidationPurpose = "registration" | "password" | "account"

export interface NewValidation extends ThirdPartyId {
  readonly purpose: ValidationPurpose
  /** The ID of the session, if it is a new one. */
  readonly sid: string
  readonly clientSecret: Redacted.Redacted
  readonly token: Redacted.Redacted
  readonly sendAttempt: number
  readonly nextLink: string | undefined
  readonly expiresAt: number
}

export interface Validation extends ThirdPartyId {
  readonly purpose: ValidationPurpose
  readonly nextLink: string | undefined
  /** Undefined until the token was submitted. */
  readonly validatedAt: number | undefined
}

interface Row {
  readonly purpose: string
  readonly medium: string
  readonly address: string
  readonly next_link: string | null
  readonly validated_at: bigint | null
}

const toValidation = (row: Row): Validation => ({
  purpose: row.purpose as ValidationPurpose,
  medium: row.medium as Medium,
  address: row.address,
  nextLink: row.next_link ?? undefined,
  validatedAt: row.validated_at === null ? undefined : Number(row.validated_at)
})

export class AddressValidationStore extends Context.Service<
  AddressValidationStore,
  {
    /**
     * Begins a validation, or a further attempt of one. Returns the ID of the session, and whether the token must be sent (`fresh`):
     * not if this attempt or a later one was made before, or the address is validated.
     */
    readonly begin: (validation: NewValidation) => Effect.Effect<{ readonly sid: string; readonly fresh: boolean }>
    /** The validation of a link; none if it has ended or `most` of its links were tried. */
    readonly find: (sid: string, token: Redacted.Redacted, most: number) => Effect.Effect<Option.Option<Validation>>
    /**
     * Submits a token: the address is validated until `expiresAt`. A token for a password can be used once. Others can be submitted
     * again, because a program may open a link before the user does. Undefined as for `find`.
     */
    readonly validate: (
      sid: string,
      token: Redacted.Redacted,
      expiresAt: number,
      most: number
    ) => Effect.Effect<Option.Option<Validation>>
    /** The session with this client secret; none if it has ended. */
    readonly findBySecret: (sid: string, clientSecret: Redacted.Redacted) => Effect.Effect<Option.Option<Validation>>
    readonly removeExpired: Effect.Effect<void>
  }
>()("greenroom/store/AddressValidationStore") {
  static readonly layer = Layer.effect(
    AddressValidationStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const columns = sql.literal("purpose, medium, address, next_link, validated_at")
      const first = (rows: ReadonlyArray<Row>) => Option.map(Option.fromNullishOr(rows[0]), toValidation)

      const begin = Effect.fn("AddressValidationStore.begin")(function* (validation: NewValidation) {
        const now = yield* Clock.currentTimeMillis
        const secretHash = hashOfSecret(validation.clientSecret)
        const begun = yield* sql<{ sid: string }>`
          INSERT INTO address_validations AS v
            (sid, secret_hash, purpose, medium, address, token_hash, send_attempt, next_link, expires_at)
          VALUES (${validation.sid}, ${secretHash}, ${validation.purpose}, ${validation.medium}, ${validation.address},
            ${hashOfSecret(validation.token)}, ${validation.sendAttempt}, ${validation.nextLink ?? null}, ${validation.expiresAt})
          ON CONFLICT (secret_hash, medium, address) DO UPDATE SET purpose = excluded.purpose,
            sid = CASE WHEN v.expires_at <= ${now} THEN excluded.sid ELSE v.sid END,
            token_hash = excluded.token_hash, send_attempt = excluded.send_attempt, tries = 0,
            next_link = excluded.next_link, validated_at = NULL, expires_at = excluded.expires_at
          WHERE v.expires_at <= ${now} OR v.purpose <> excluded.purpose OR (v.send_attempt < excluded.send_attempt AND v.validated_at IS NULL)
          RETURNING sid`
        if (begun[0] !== undefined) return { sid: begun[0].sid, fresh: true }
        const known = yield* sql<{ sid: string }>`
          SELECT sid FROM address_validations
          WHERE secret_hash = ${secretHash} AND medium = ${validation.medium} AND address = ${validation.address}`
        return { sid: known[0]?.sid ?? validation.sid, fresh: false }
      }, Effect.orDie)

      /** Tries are counted before tokens are compared. */
      const countTry = (sid: string, now: number, most: number) => sql`
        UPDATE address_validations SET tries = tries + 1
        WHERE sid = ${sid} AND expires_at > ${now} AND tries < ${most} RETURNING 1`

      const find = Effect.fnUntraced(function* (sid: string, token: Redacted.Redacted, most: number) {
        const now = yield* Clock.currentTimeMillis
        if ((yield* countTry(sid, now, most)).length === 0) return Option.none<Validation>()
        return first(
          yield* sql<Row>`
            SELECT ${columns} FROM address_validations WHERE sid = ${sid} AND token_hash = ${hashOfSecret(token)}`
        )
      }, Effect.orDie)

      const validate = Effect.fnUntraced(function* (
        sid: string,
        token: Redacted.Redacted,
        expiresAt: number,
        most: number
      ) {
        const now = yield* Clock.currentTimeMillis
        if ((yield* countTry(sid, now, most)).length === 0) return Option.none<Validation>()
        return first(
          yield* sql<Row>`
            UPDATE address_validations SET
              validated_at = coalesce(validated_at, ${now}),
              token_hash = CASE WHEN purpose = 'password' THEN NULL ELSE token_hash END,
              expires_at = CASE WHEN validated_at IS NULL THEN ${expiresAt} ELSE expires_at END
            WHERE sid = ${sid} AND token_hash = ${hashOfSecret(token)} RETURNING ${columns}`
        )
      }, Effect.orDie)

      const findBySecret = Effect.fnUntraced(function* (sid: string, clientSecret: Redacted.Redacted) {
        const now = yield* Clock.currentTimeMillis
        return first(
          yield* sql<Row>`
            SELECT ${columns} FROM address_validations
            WHERE sid = ${sid} AND secret_hash = ${hashOfSecret(clientSecret)} AND expires_at > ${now}`
        )
      }, Effect.orDie)

      return AddressValidationStore.of({
        begin,
        find,
        validate,
        findBySecret,
        removeExpired: Effect.flatMap(
          Clock.currentTimeMillis,
          (now) => sql`DELETE FROM address_validations WHERE expires_at <= ${now}`
        ).pipe(Effect.asVoid, Effect.orDie)
      })
    })
  )
}
