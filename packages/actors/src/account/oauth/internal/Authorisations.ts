/**
 * Pending authorisations, in `login_sessions`: found by the secret of the page or the code that the user types, and changed by
 * compare and swap.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { type LoginSession, LoginSessionStore } from "@greenroom/store/LoginSessionStore"
import { newSecret } from "@greenroom/store/Secrets"
import { Clock, Effect, Option, Redacted } from "effect"
import { addressKey } from "../../../runtime/AddressKey.ts"
import { PublicUrl } from "../../../runtime/PublicUrl.ts"
import type { BrowserUser } from "../BrowserSessions.ts"
import { type OAuthError, oauthError } from "../OAuthError.ts"
import type { Reference } from "../OAuthRequests.ts"

/** An authorisation, as it is stored. */
export interface Progress {
  readonly clientId: string
  readonly deviceId: string
  readonly scope: string
  /** The URI to which the browser goes afterwards. Undefined for a device that shows a code. */
  readonly redirect?: { readonly uri: string; readonly mode: "query" | "fragment"; readonly state?: string }
  /** The SHA-256 of the code verifier. */
  readonly challenge?: string
  /** Whether the client wants an ID token, and the nonce that it puts into it. */
  readonly openid?: { readonly nonce?: string }
  /** Whether the client wants the user to register. */
  readonly create?: boolean
  /** The user who has approved, and a fingerprint of the password of the account. */
  readonly userId?: UserId
  readonly password?: string
  readonly denied?: boolean
  /** When the code expires. */
  readonly codeUntil?: number
  /** Whether the code was used. */
  readonly used?: boolean
  /** When the device polled last. */
  readonly polledAt?: number
}

export type Authorisation = LoginSession<Progress>

/** How long a code is valid, in ms. */
const codeTtl = 2 * 60_000

const purpose = "oauth"

const busy = oauthError("access_denied", "another request has changed the authorisation")
const unknownPage = oauthError(
  "invalid_request",
  "This authorisation is unknown, or has ended: start again in your client"
)

/** The canonical form of a typed code. */
const canonicalUserCode = (text: string): string => text.toUpperCase().replaceAll(/[^A-Z]/g, "")

/**
 * The redirect URI of the client with the parameters of the answer. A client of several servers sees by `iss` which of them answers
 * (RFC 9207).
 */
export const redirectTo = (
  publicUrl: PublicUrl["Service"],
  { mode, state, uri }: NonNullable<Progress["redirect"]>,
  answer: Record<string, string>
): string => {
  const iss = `${publicUrl.get()}/`
  const params = new URLSearchParams({ ...answer, ...(state === undefined ? {} : { state }), iss })
  if (mode === "fragment") return `${uri}#${params}`
  return `${uri}${uri.includes("?") ? "&" : "?"}${params}`
}

/** `maxPerAddress`: the most pending authorisations of one address. */
export const makeAuthorisations = Effect.fnUntraced(function* (maxPerAddress: number) {
  const sessions = yield* LoginSessionStore
  const publicUrl = yield* PublicUrl

  const create = Effect.fnUntraced(function* (options: {
    readonly secret: string
    readonly userCode?: string
    readonly progress: Progress
    readonly address: string
    readonly ttl: number
  }) {
    const created = yield* sessions.create(
      {
        secret: Redacted.make(options.secret),
        purpose,
        progress: options.progress,
        address: `oauth ${addressKey(options.address)}`,
        expiresAt: (yield* Clock.currentTimeMillis) + options.ttl,
        link: options.userCode === undefined ? undefined : Redacted.make(options.userCode)
      },
      maxPerAddress
    )
    if (!created) return yield* oauthError("access_denied", "too many authorisations are in progress from your address")
  })

  const ofOAuth = (found: Option.Option<LoginSession<never>>): Option.Option<Authorisation> =>
    Option.filter(found, (session) => session.purpose === purpose)

  const find = Effect.fnUntraced(function* (reference: Reference): Effect.fn.Return<Authorisation, OAuthError> {
    const found =
      "id" in reference
        ? yield* sessions.find(Redacted.make(reference.id))
        : yield* sessions.findByLink(Redacted.make(canonicalUserCode(reference.userCode)))
    const session = Option.getOrUndefined(ofOAuth(found))
    // The secret of a code or a device code must not open the page.
    const isPage = session !== undefined && ("userCode" in reference || session.progress.redirect !== undefined)
    return isPage && session.progress.userId === undefined && !session.progress.denied ? session : yield* unknownPage
  })

  /** Stores the decision of the user: undefined refuses. Returns the URI for the browser; undefined for a device that shows a code. */
  const decide = Effect.fnUntraced(function* (
    reference: Reference,
    user: BrowserUser | undefined
  ): Effect.fn.Return<string | undefined, OAuthError> {
    const session = yield* find(reference)
    const { progress } = session
    const { redirect } = progress
    if (redirect === undefined) {
      const decided: Progress = user === undefined ? { ...progress, denied: true } : { ...progress, ...user }
      if (!(yield* sessions.update(session, { progress: decided }))) return yield* busy
      return undefined
    }
    if (user === undefined) {
      if (!(yield* sessions.end(session))) return yield* busy
      return redirectTo(publicUrl, redirect, { error: "access_denied", error_description: "the user has refused" })
    }
    const code = newSecret()
    const codeUntil = (yield* Clock.currentTimeMillis) + codeTtl
    const change = { progress: { ...progress, ...user, codeUntil }, secret: Redacted.make(code) }
    return (yield* sessions.update(session, change)) ? redirectTo(publicUrl, redirect, { code }) : yield* busy
  })

  return { create, decide, find, ofOAuth }
})

export type Authorisations = Effect.Success<ReturnType<typeof makeAuthorisations>>
