/**
 * The home server as a confidential client of OAuth2 providers: the authorisation code flow with `state`, PKCE and, where
 * there are ID tokens, `nonce`. Of the provider's claims only the subject is used; others, such as an email address, are
 * ignored.
 *
 * Source: "OAuth2-based" of "Registration and login" of the draft.
 */
import { clientPrefix } from "@greenroom/protocol/api/ClientApi"
import { BadRequest, type MatrixError } from "@greenroom/protocol/MatrixError"
import { Context, Effect, Layer } from "effect"
import { LoginConfig } from "./LoginConfig.ts"
import type { OAuth2Provider } from "./LoginOptions.ts"
import type { Authorization, Return } from "./OAuth2Providers.ts"

/** The redirect URI, to which providers send users back. */
export const callbackPath = `${clientPrefix}/login/oauth2/callback`

const unknown = Effect.fail(new BadRequest({ error: "There is no such OAuth2 provider" }))

/** The service without any provider. */
const none = { providers: [], authorize: () => unknown, exchange: () => unknown }

/** Loads the library, which servers without providers do not need. */
const load = (providers: ReadonlyArray<OAuth2Provider>) =>
  Effect.flatMap(
    Effect.promise(() => import("./OAuth2Providers.ts")),
    ({ makeOAuth2Client }) => makeOAuth2Client(providers, callbackPath)
  )

/** Logins at OAuth2 providers, with this server as the client. */
export class OAuth2Client extends Context.Service<
  OAuth2Client,
  {
    /** The providers, with the names that users see. */
    readonly providers: ReadonlyArray<{ readonly id: string; readonly name: string }>
    /** The URL to which the user is sent. Errors: M_UNKNOWN if the provider cannot be reached. */
    readonly authorize: (provider: string, publicUrl: string) => Effect.Effect<Authorization, MatrixError>
    /** The user that returned from the provider. Errors: M_FORBIDDEN. */
    readonly exchange: (
      back: Return
    ) => Effect.Effect<{ readonly provider: string; readonly subject: string }, MatrixError>
  }
>()("greenroom/actors/OAuth2Client") {
  static readonly layer = Layer.effect(
    OAuth2Client,
    Effect.flatMap(LoginConfig, ({ providers = [] }) =>
      providers.length === 0 ? Effect.succeed(none) : load(providers)
    )
  )
}
