/**
 * Users of version 2 of the API: they prove their identity with an OpenID token of their home server, and get an access token of this
 * server. If there are terms, users must accept them first.
 *
 * Source: "Authentication" and "Terms of service" of the identity service specification.
 */
import { isServerName, isUserId, type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, parseJsonText } from "@greenroom/protocol/Json"
import { BadJson, Forbidden, type MatrixError, MissingParam, UnknownToken } from "@greenroom/protocol/MatrixError"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { HomeServers } from "./HomeServers.ts"
import { newToken, Secrets } from "./Secrets.ts"

/** The most access tokens of a user. A further one ends the oldest. */
const maxTokens = 100
const day = 24 * 60 * 60_000
/** The time after which an access token ends that is not used, in ms. */
const tokenLifetime = 90 * day
/** The most URLs of terms that a user may have accepted. */
const maxTerms = 100

const refused = new Forbidden({ error: "Your home server did not confirm your identity" })
const unknown = new UnknownToken({ error: "The access token is unknown, or was logged out" })

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const homeServers = yield* HomeServers
  const secrets = yield* Secrets
  const hashOf = (token: string) => secrets.hash("access token", token)

  /** The user, as their home server reports it. */
  const confirm = Effect.fnUntraced(function* (serverName: ServerName, token: string) {
    const path = `/_matrix/federation/v1/openid/userinfo?access_token=${encodeURIComponent(token)}`
    const answer = yield* Effect.catchTag(homeServers.get(serverName, path), "HomeServerUnreachable", () =>
      Effect.fail(refused)
    )
    const body = answer.status === 200 ? parseJsonText(answer.text) : undefined
    const sub = isJsonObject(body) ? body.sub : undefined
    const isTheirs = typeof sub === "string" && isUserId(sub) && serverNameOf(sub) === serverName
    return isTheirs ? (sub as UserId) : yield* refused
  })

  const register = Effect.fn("Accounts.register")(function* (body: unknown): Effect.fn.Return<string, MatrixError> {
    if (!isJsonObject(body)) return yield* new BadJson({ error: "The body is not a JSON object" })
    const { access_token, matrix_server_name } = body
    if (access_token === undefined || matrix_server_name === undefined) {
      return yield* new MissingParam({ error: "access_token and matrix_server_name: expected both" })
    }
    if (typeof access_token !== "string" || access_token.length > 1_000) {
      return yield* new BadJson({ error: "access_token: expected a string" })
    }
    if (typeof matrix_server_name !== "string" || !isServerName(matrix_server_name)) {
      return yield* new BadJson({ error: "matrix_server_name: expected the name of a server" })
    }
    const userId = yield* confirm(matrix_server_name as string as ServerName, access_token)
    const token = newToken()
    const now = yield* Clock.currentTimeMillis
    yield* Effect.orDie(sql`
      WITH surplus AS (
        DELETE FROM accounts WHERE token_hash IN (
          SELECT token_hash FROM accounts WHERE user_id = ${userId} ORDER BY created_at DESC OFFSET ${maxTokens - 1}))
      INSERT INTO accounts (token_hash, user_id, created_at, used_at)
      VALUES (${hashOf(token)}, ${userId}, ${now}, ${now})`)
    return token
  })

  const authenticate = Effect.fn("Accounts.authenticate")(function* (token: string) {
    const hash = hashOf(token)
    const now = yield* Clock.currentTimeMillis
    const rows = yield* Effect.orDie(sql<{ user_id: string }>`
      WITH used AS (UPDATE accounts SET used_at = ${now} WHERE token_hash = ${hash} AND used_at < ${now - day})
      SELECT user_id FROM accounts WHERE token_hash = ${hash}`)
    return rows[0] === undefined ? yield* unknown : (rows[0].user_id as UserId)
  })

  const forget = Effect.gen(function* () {
    yield* sql`DELETE FROM accounts WHERE used_at <= ${(yield* Clock.currentTimeMillis) - tokenLifetime}`
  }).pipe(Effect.orDie)

  return Accounts.of({
    register,
    authenticate,
    forget,
    logout: (token) => Effect.asVoid(Effect.orDie(sql`DELETE FROM accounts WHERE token_hash = ${hashOf(token)}`)),
    acceptTerms: (userId, urls) =>
      Effect.forEach(
        urls.slice(0, maxTerms),
        (url) => sql`
          INSERT INTO accepted_terms (user_id, url)
          SELECT ${userId}, ${url}
          WHERE (SELECT count(*) FROM accepted_terms WHERE user_id = ${userId}) < ${maxTerms}
          ON CONFLICT DO NOTHING`,
        { discard: true }
      ).pipe(Effect.orDie),
    acceptedTerms: (userId) =>
      sql<{ url: string }>`SELECT url FROM accepted_terms WHERE user_id = ${userId}`.pipe(
        Effect.map((rows) => new Set(rows.map(({ url }) => url))),
        Effect.orDie
      )
  })
})

export class Accounts extends Context.Service<
  Accounts,
  {
    /** An access token for the holder of this OpenID token. Errors: M_FORBIDDEN, M_BAD_JSON, M_MISSING_PARAM. */
    readonly register: (openIdToken: unknown) => Effect.Effect<string, MatrixError>
    /** Errors: M_UNKNOWN_TOKEN. */
    readonly authenticate: (token: string) => Effect.Effect<UserId, MatrixError>
    readonly logout: (token: string) => Effect.Effect<void>
    /** Deletes access tokens that were not used for 90 days. */
    readonly forget: Effect.Effect<void>
    readonly acceptTerms: (userId: UserId, urls: ReadonlyArray<string>) => Effect.Effect<void>
    /** The URLs of terms that the user has accepted. */
    readonly acceptedTerms: (userId: UserId) => Effect.Effect<ReadonlySet<string>>
  }
>()("greenroom/identity/Accounts") {
  static readonly layer = Layer.effect(Accounts, make)
}
