/**
 * `m.login.oauth2`: the user proves their identity at a provider. The stage answers with a `uri` to visit: that of the
 * provider, or of a page to select one of several. Only the redirect URI completes the stage, in the browser that opens it. The
 * session's secret is renewed there, so that nobody can begin a login, let another person confirm it, and take the result.
 *
 * An account is linked to the provider and the user's `subject` there, never to an address.
 *
 * Source: "OAuth2-based" of "Registration and login" of the draft.
 */
import { createHash } from "node:crypto"
import { clientPrefix } from "@greenroom/protocol/api/ClientApi"
import { Forbidden, type MatrixError } from "@greenroom/protocol/MatrixError"
import { newSecret } from "@greenroom/store/Secrets"
import type { ProviderSubject, UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Effect, Option, Redacted } from "effect"
import {
  expectedUser,
  type LoginProgress,
  type Outcome,
  type Purpose,
  prove,
  type StageRequest,
  withoutPending
} from "./LoginProgress.ts"
import type { OAuth2Client } from "./OAuth2Client.ts"

/** The page on which the user selects a provider. */
const servicesPath = `${clientPrefix}/login/oauth2/services`

/** The stored hash of the secret in the cookie of a browser. */
export const hashOfBrowserSecret = (secret: string): string => createHash("sha256").update(secret).digest("base64")

/** The stage `m.login.oauth2`. */
export const makeOAuth2Stage = (oauth2: OAuth2Client["Service"], identities: UserIdentityStore["Service"]) => {
  /** Sends the user to a provider. */
  const authorize = Effect.fnUntraced(function* (progress: LoginProgress, provider: string, publicUrl: string) {
    const { nonce, state, uri, verifier } = yield* oauth2.authorize(provider, publicUrl)
    const pending = { type: "m.login.oauth2", provider, verifier, nonce } as const
    return { passed: false, progress: { ...progress, pending }, uri, state } satisfies Outcome
  })

  /** Lets the user select a provider. */
  const select = (progress: LoginProgress, publicUrl: string) => {
    const ticket = newSecret()
    return {
      passed: false,
      progress: { ...progress, pending: { type: "m.login.oauth2" } },
      uri: `${publicUrl}${servicesPath}?ticket=${ticket}`,
      link: Redacted.make(ticket)
    } satisfies Outcome
  }

  /** Begins the stage. The browser of a fallback page gets a secret that identifies it when it returns. */
  const begin = Effect.fnUntraced(function* ({ body, progress, publicUrl }: StageRequest) {
    const browserSecret = body.fallback === true ? newSecret() : undefined
    const bound: LoginProgress =
      browserSecret === undefined ? progress : { ...progress, browserHash: hashOfBrowserSecret(browserSecret) }
    const [only] = oauth2.providers
    const outcome =
      oauth2.providers.length === 1 && only !== undefined
        ? yield* authorize(bound, only.id, publicUrl)
        : select(bound, publicUrl)
    return { ...outcome, ...(browserSecret === undefined ? {} : { browserSecret }) } satisfies Outcome
  })

  /** Completes the stage: the provider has identified the user. */
  const finish = Effect.fnUntraced(function* (
    purpose: Purpose,
    progress: LoginProgress,
    subject: ProviderSubject
  ): Effect.fn.Return<LoginProgress, MatrixError> {
    const owner = Option.getOrUndefined(yield* identities.userOfSubject(subject))
    const after = withoutPending({ ...progress, subject })
    if (purpose === "login") {
      if (owner === undefined)
        return yield* new Forbidden({ error: "No account of this server is linked to that account" })
      return yield* prove(after, owner, "That account is linked to another user")
    }
    if (owner !== undefined && owner !== expectedUser(progress)) {
      return yield* new Forbidden({ error: "That account is linked to a user already: log in with it instead" })
    }
    return after
  })

  return { begin, authorize, finish }
}
