/**
 * Logins, registrations and links in progress. They survive a restart and continue at any node. Secrets are stored as
 * hashes, so that a reader of the database cannot continue any of them.
 *
 * Every change names the version that it is based on, so that one of two concurrent requests wins (compare and swap). A guess is
 * counted before it is compared.
 *
 * Used by `LoginFlows` alone. An error of the database is a defect. Times are milliseconds since 1970.
 */
import { Clock, Context, Effect, Layer, Option, type Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { counted } from "./internal/counted.ts"
import { hashOfSecret } from "./Secrets.ts"

export interface LoginSession<Progress> {
  readonly sessionId: number
  readonly version: number
  readonly purpose: string
  readonly progress: Progress
  /** The network address of the first request. */
  readonly address: string
  readonly expiresAt: number
}

export interface NewLoginSession {
  readonly secret: Redacted.Redacted
  readonly purpose: string
  readonly progress: unknown
  readonly address: string
  readonly expiresAt: number
  /** The secret by which a link in a mail, or to the page that selects a service, finds the session. */
  readonly link?: Redacted.Redacted | undefined
  /** The state of an OAuth2 authorisation request. */
  readonly state?: Redacted.Redacted | undefined
}

/** The changed fields; undefined fields keep their value. */
export interface LoginSessionChange {
  readonly progress: unknown
  /** A new secret instead of the old one. */
  readonly secret?: Redacted.Redacted | undefined
  readonly link?: Redacted.Redacted | undefined
  readonly state?: Redacted.Redacted | undefined
  /** True to count tries from 0 again. */
  readonly freshTries?: boolean
  /** True for a session that has reached its end, and no longer counts against the address where it was begun. */
  readonly reached?: boolean
}

interface SessionRow {
  readonly session_id: bigint
  readonly version: number
  readonly purpose: string
  readonly progress: string
  readonly address: string
  readonly expires_at: bigint
}

const toSession = (row: SessionRow): LoginSession<never> => ({
  sessionId: Number(row.session_id),
  version: row.version,
  purpose: row.purpose,
  progress: JSON.parse(row.progress) as never,
  address: row.address,
  expiresAt: Number(row.expires_at)
})

const optionalHash = (secret: Redacted.Redacted | undefined) => (secret === undefined ? null : hashOfSecret(secret))

type Found = Effect.Effect<Option.Option<LoginSession<never>>>

export class LoginSessionStore extends Context.Service<
  LoginSessionStore,
  {
    /** False if the address has `most` unexpired sessions already. */
    readonly create: (session: NewLoginSession, most: number) => Effect.Effect<boolean>
    /** This and the next methods return none if there is no such session, or it has expired. */
    readonly find: (secret: Redacted.Redacted) => Found
    /** Finds a session by the secret of the link in its mail. */
    readonly findByLink: (link: Redacted.Redacted) => Found
    /** Finds a session once: the state is deleted. */
    readonly takeByState: (state: Redacted.Redacted) => Found
    /** Counts a guess. Returns none if there were `most` already. */
    readonly takeTry: (secret: Redacted.Redacted, most: number) => Found
    /** False if the session was changed since it was found, or has ended. */
    readonly update: (session: LoginSession<unknown>, change: LoginSessionChange) => Effect.Effect<boolean>
    /** Ends the session. False if it was changed since it was found, or has ended. */
    readonly end: (session: LoginSession<unknown>) => Effect.Effect<boolean>
    readonly removeExpired: Effect.Effect<void>
  }
>()("greenroom/store/LoginSessionStore") {
  static readonly layer = Layer.effect(
    LoginSessionStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const columns = sql.literal("session_id, version, purpose, progress, address, expires_at")
      const first = (rows: ReadonlyArray<SessionRow>) => Option.map(Option.fromNullishOr(rows[0]), toSession)

      const create = Effect.fn("LoginSessionStore.create")(function* (session: NewLoginSession, most: number) {
        const now = yield* Clock.currentTimeMillis
        const rows = yield* counted(sql)(`login sessions ${session.address}`)(sql`
          INSERT INTO login_sessions (session_hash, link_hash, state_hash, purpose, progress, address, expires_at)
          SELECT ${hashOfSecret(session.secret)}, ${optionalHash(session.link)}, ${optionalHash(session.state)},
                 ${session.purpose}, ${JSON.stringify(session.progress)}, ${session.address}, ${session.expiresAt}
          WHERE (
            SELECT count(*) FROM login_sessions
            WHERE address = ${session.address} AND expires_at > ${now} AND expires_at <= ${session.expiresAt}) < ${most}
          RETURNING 1`)
        return rows.length > 0
      }, Effect.orDie)

      const takeByState = Effect.fn("LoginSessionStore.takeByState")(function* (state: Redacted.Redacted) {
        const now = yield* Clock.currentTimeMillis
        return first(
          yield* sql<SessionRow>`
            UPDATE login_sessions SET state_hash = NULL, version = version + 1
            WHERE state_hash = ${hashOfSecret(state)} AND expires_at > ${now} RETURNING ${columns}`
        )
      }, Effect.orDie)

      const takeTry = Effect.fn("LoginSessionStore.takeTry")(function* (secret: Redacted.Redacted, most: number) {
        const now = yield* Clock.currentTimeMillis
        return first(
          yield* sql<SessionRow>`
            UPDATE login_sessions SET tries = tries + 1
            WHERE session_hash = ${hashOfSecret(secret)} AND expires_at > ${now} AND tries < ${most} RETURNING ${columns}`
        )
      }, Effect.orDie)

      const update = Effect.fn("LoginSessionStore.update")(function* (
        session: LoginSession<unknown>,
        change: LoginSessionChange
      ) {
        const rows = yield* sql`
          UPDATE login_sessions SET
            progress = ${JSON.stringify(change.progress)},
            version = version + 1,
            session_hash = coalesce(${optionalHash(change.secret)}::bytea, session_hash),
            link_hash = coalesce(${optionalHash(change.link)}::bytea, link_hash),
            state_hash = coalesce(${optionalHash(change.state)}::bytea, state_hash),
            address = CASE WHEN ${change.reached ?? false} THEN '' ELSE address END,
            tries = CASE WHEN ${change.freshTries ?? false} THEN 0 ELSE tries END
          WHERE session_id = ${session.sessionId} AND version = ${session.version} RETURNING 1`
        return rows.length > 0
      }, Effect.orDie)

      const findBy = (column: "session_hash" | "link_hash") => (secret: Redacted.Redacted) =>
        Effect.flatMap(
          Clock.currentTimeMillis,
          (now) => sql<SessionRow>`
            SELECT ${columns} FROM login_sessions WHERE ${sql(column)} = ${hashOfSecret(secret)} AND expires_at > ${now}`
        ).pipe(Effect.map(first), Effect.orDie)

      return LoginSessionStore.of({
        create,
        find: findBy("session_hash"),
        findByLink: findBy("link_hash"),
        takeByState,
        takeTry,
        update,
        end: (session) =>
          sql`
            DELETE FROM login_sessions WHERE session_id = ${session.sessionId} AND version = ${session.version}
            RETURNING 1`.pipe(
            Effect.map((rows) => rows.length > 0),
            Effect.orDie
          ),
        removeExpired: Effect.flatMap(
          Clock.currentTimeMillis,
          (now) => sql`DELETE FROM login_sessions WHERE expires_at <= ${now}`
        ).pipe(Effect.asVoid, Effect.orDie)
      })
    })
  )
}
