/**
 * Validation sessions: submitting the token that was sent to an address validates the address.
 *
 * A token can be used once, until it expires, and allows few attempts. Another message for the same session has a new token
 * and invalidates the previous one. The limit of messages per address limits the number of guesses too.
 *
 * Source: "Identity" of the draft, "Establishing associations" of the identity service specification.
 */
import {
  type MessageSendError,
  NoValidSession,
  SessionExpired,
  SessionNotValidated,
  TokenIncorrect
} from "@greenroom/protocol/identity/IdentityError"
import type { Medium, ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import type { SessionProof } from "@greenroom/protocol/identity/ValidationApi"
import type { LimitExceeded } from "@greenroom/protocol/MatrixError"
import { equalBytes } from "@greenroom/store/Secrets"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { IdentityOptions } from "./IdentityOptions.ts"
import { newCode, newToken, Secrets } from "./Secrets.ts"
import { SentMessages } from "./SentMessages.ts"

/** How many tokens a client may try for one message. */
export const maxTries = 5

interface BeginSession {
  readonly thirdPartyId: ThirdPartyId
  readonly clientSecret: string
  readonly sendAttempt: number
  readonly nextLink?: string | undefined
}

/** The content of a message: the session and the token. */
export interface Invitation {
  readonly sid: string
  readonly token: string
}

interface ValidatedSession extends ThirdPartyId {
  readonly validatedAt: number
}

interface SessionRow {
  readonly medium: Medium
  readonly address: string
  readonly token_hash: Uint8Array | null
  readonly tries: number
  readonly next_link: string | null
  readonly validated_at: bigint | null
  readonly expires_at: bigint
}

const noSession = new NoValidSession({ error: "There is no session with this sid and client_secret" })
const expired = new SessionExpired({ error: "The session has expired: request a new token" })
const notValidated = new SessionNotValidated({ error: "The token of this session has not been submitted yet" })
const used = new TokenIncorrect({ error: "The token was used already" })
const tooManyTries = new TokenIncorrect({ error: "Too many wrong tokens were tried: request a new one" })
const wrong = new TokenIncorrect({ error: "The token is wrong" })

type SubmitError = NoValidSession | SessionExpired | TokenIncorrect

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const secrets = yield* Secrets
  const messages = yield* SentMessages
  const options = yield* IdentityOptions

  const secretHash = (clientSecret: string) => secrets.hash("client_secret", clientSecret)
  const tokenHash = ({ address, medium }: ThirdPartyId, clientSecret: string, token: string) =>
    secrets.hash("token", medium, address, clientSecret, token)

  /** Stores the session with a new token. Returns no row if this attempt, or a later one, was made already. */
  const upsert = Effect.fnUntraced(function* (begin: BeginSession, token: string) {
    const { address, medium } = begin.thirdPartyId
    const now = yield* Clock.currentTimeMillis
    const lifetime = medium === "email" ? options.linkLifetime : options.codeLifetime
    const rows = yield* sql<{ sid: string }>`
      INSERT INTO validation_sessions AS s
        (sid, medium, address, client_secret_hash, token_hash, send_attempt, next_link, expires_at)
      VALUES (${newToken()}, ${medium}, ${address}, ${secretHash(begin.clientSecret)},
        ${tokenHash(begin.thirdPartyId, begin.clientSecret, token)}, ${begin.sendAttempt}, ${begin.nextLink ?? null},
        ${now + lifetime})
      ON CONFLICT (medium, address, client_secret_hash) DO UPDATE SET
        sid = CASE WHEN s.expires_at <= ${now} THEN excluded.sid ELSE s.sid END,
        token_hash = excluded.token_hash, send_attempt = excluded.send_attempt, tries = 0,
        next_link = excluded.next_link, validated_at = NULL, expires_at = excluded.expires_at
      WHERE s.expires_at <= ${now} OR (s.send_attempt < excluded.send_attempt AND s.validated_at IS NULL)
      RETURNING sid`
    return rows[0]?.sid
  })

  const existing = Effect.fnUntraced(function* (begin: BeginSession) {
    const { address, medium } = begin.thirdPartyId
    const rows = yield* sql<{ sid: string }>`
      SELECT sid FROM validation_sessions
      WHERE medium = ${medium} AND address = ${address} AND client_secret_hash = ${secretHash(begin.clientSecret)}`
    return rows[0]!.sid
  })

  /** Undoes the attempt of a message that could not be sent, so that the client may repeat it. */
  const undoAttempt = (sid: string) =>
    Effect.orDie(sql`UPDATE validation_sessions SET send_attempt = -1 WHERE sid = ${sid} AND validated_at IS NULL`)

  const begin: ValidationSessions["Service"]["begin"] = Effect.fn("ValidationSessions.begin")(function* (begin, send) {
    const token = begin.thirdPartyId.medium === "email" ? newToken() : newCode()
    const sid = yield* sql
      .withTransaction(
        Effect.tap(upsert(begin, token), (sid) =>
          sid === undefined ? Effect.void : messages.count(begin.thirdPartyId)
        )
      )
      .pipe(Effect.catchTag("SqlError", Effect.die))
    if (sid === undefined) return yield* Effect.orDie(existing(begin))
    yield* Effect.onError(send({ sid, token }), () => undoAttempt(sid))
    return sid
  })

  /** Attempts are counted before they are checked, so that concurrent ones cannot exceed the limit. */
  const countTry = Effect.fnUntraced(function* (proof: SessionProof) {
    const rows = yield* sql<SessionRow>`
      UPDATE validation_sessions SET tries = least(tries + 1, ${maxTries + 1})
      WHERE sid = ${proof.sid} AND client_secret_hash = ${secretHash(proof.client_secret)}
      RETURNING medium, address, token_hash, tries, next_link, validated_at, expires_at`
    return rows[0]
  }, Effect.orDie)

  const markValidated = Effect.fnUntraced(function* (sid: string, hash: Uint8Array, now: number) {
    const rows = yield* sql`
      UPDATE validation_sessions
      SET validated_at = ${now}, token_hash = NULL, expires_at = ${now + options.sessionLifetime}
      WHERE sid = ${sid} AND token_hash = ${hash} RETURNING sid`
    return rows.length === 1
  }, Effect.orDie)

  const submit = Effect.fn("ValidationSessions.submit")(function* (
    medium: Medium,
    proof: SessionProof,
    token: string
  ): Effect.fn.Return<string | undefined, SubmitError> {
    const now = yield* Clock.currentTimeMillis
    const session = yield* countTry(proof)
    if (session === undefined || session.medium !== medium) return yield* noSession
    if (Number(session.expires_at) <= now) return yield* expired
    if (session.token_hash === null) return yield* used
    if (session.tries > maxTries) return yield* tooManyTries
    const hash = tokenHash(session, proof.client_secret, token)
    if (!equalBytes(hash, session.token_hash)) return yield* wrong
    if (!(yield* markValidated(proof.sid, hash, now))) return yield* used
    return session.next_link ?? undefined
  })

  const validated: ValidationSessions["Service"]["validated"] = Effect.fn("ValidationSessions.validated")(
    function* (proof) {
      const rows = yield* Effect.orDie(sql<SessionRow>`
        SELECT medium, address, validated_at, expires_at FROM validation_sessions
        WHERE sid = ${proof.sid} AND client_secret_hash = ${secretHash(proof.client_secret)}`)
      const session = rows[0]
      if (session === undefined) return yield* noSession
      if (Number(session.expires_at) <= (yield* Clock.currentTimeMillis)) return yield* expired
      if (session.validated_at === null) return yield* notValidated
      return { medium: session.medium, address: session.address, validatedAt: Number(session.validated_at) }
    }
  )

  const forget = Effect.gen(function* () {
    const day = 24 * 60 * 60_000
    yield* sql`DELETE FROM validation_sessions WHERE expires_at <= ${(yield* Clock.currentTimeMillis) - day}`
  }).pipe(Effect.orDie)

  return ValidationSessions.of({ begin, submit, validated, forget })
})

export class ValidationSessions extends Context.Service<
  ValidationSessions,
  {
    /**
     * Begins a session, or finds the existing one, and calls `send` with its token, unless this attempt was made before. Returns the
     * `sid`. Errors: M_LIMIT_EXCEEDED, and those of `send`.
     */
    readonly begin: (
      begin: BeginSession,
      send: (invitation: Invitation) => Effect.Effect<void, MessageSendError>
    ) => Effect.Effect<string, LimitExceeded | MessageSendError>
    /** Validates the session. Returns the next page, if the client named one. */
    readonly submit: (
      medium: Medium,
      proof: SessionProof,
      token: string
    ) => Effect.Effect<string | undefined, SubmitError>
    /** The address that a session has validated. */
    readonly validated: (
      proof: SessionProof
    ) => Effect.Effect<ValidatedSession, NoValidSession | SessionExpired | SessionNotValidated>
    /** Deletes sessions that expired a day ago. */
    readonly forget: Effect.Effect<void>
  }
>()("greenroom/identity/ValidationSessions") {
  static readonly layer = Layer.effect(ValidationSessions, make)
}
