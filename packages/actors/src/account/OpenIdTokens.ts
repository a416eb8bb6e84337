/**
 * Tokens that prove the identity of a user to a third party, such as an identity server or a widget.
 *
 * Source: "OpenID" of the client-server specification.
 */
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, type MatrixError, UnknownToken } from "@greenroom/protocol/MatrixError"
import { OpenIdTokenStore } from "@greenroom/store/OpenIdTokenStore"
import { newSecret } from "@greenroom/store/Secrets"
import { Clock, Context, Effect, Layer, Option, Redacted } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import type { Session } from "../runtime/Session.ts"

/** The answer to a request for an OpenID token. */
export interface OpenIdToken {
  readonly access_token: string
  readonly token_type: "Bearer"
  readonly matrix_server_name: ServerName
  /** Seconds. */
  readonly expires_in: number
}

/** The lifetime of a token, in seconds. */
const lifetime = 3_600
/** The most valid tokens of a user. One more ends the oldest. */
const maxTokens = 100

/** OpenID tokens: created for a user, exchanged for the user ID by a third party. */
export class OpenIdTokens extends Context.Service<
  OpenIdTokens,
  {
    /** Creates a token. Callers: the user. Errors: M_FORBIDDEN. */
    readonly request: (session: Session, userId: UserId) => Effect.Effect<OpenIdToken, MatrixError>
    /** The user of a token. Callers: everyone who has the token. Errors: M_UNKNOWN_TOKEN. */
    readonly userInfo: (token: string) => Effect.Effect<{ readonly sub: UserId }, MatrixError>
  }
>()("greenroom/actors/OpenIdTokens") {
  static readonly layer = Layer.effect(
    OpenIdTokens,
    Effect.gen(function* () {
      const { serverName } = yield* HomeServerConfig
      const store = yield* OpenIdTokenStore

      const request = Effect.fn("OpenIdTokens.request")(function* (session: Session, userId: UserId) {
        if (session.userId !== userId)
          return yield* new Forbidden({ error: `userId: the access token belongs to ${session.userId}` })
        const token = `gro_${newSecret()}`
        const expiresAt = (yield* Clock.currentTimeMillis) + lifetime * 1_000
        yield* store.create(userId, Redacted.make(token), expiresAt, maxTokens)
        return {
          access_token: token,
          token_type: "Bearer" as const,
          matrix_server_name: serverName,
          expires_in: lifetime
        }
      })

      const userInfo = Effect.fn("OpenIdTokens.userInfo")(function* (token: string) {
        const user = yield* store.find(Redacted.make(token))
        if (Option.isSome(user)) return { sub: user.value }
        return yield* new UnknownToken({ error: "The token is unknown or has expired" })
      })

      return OpenIdTokens.of({ request, userInfo })
    })
  )
}
