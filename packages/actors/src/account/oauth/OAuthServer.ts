/**
 * The OAuth 2.0 API: clients register themselves, a user lets one of them in on a page of this server, and the client gets
 * an access token and a refresh token. They are those of `Accounts`, so everything else knows no difference.
 *
 * An authorisation under way lies in `login_sessions`, found by the hash of its secret: that of the page until the user has
 * agreed, then the code, or for a device that shows a code to the user its device code. It is changed by compare and swap,
 * so that it gives tokens once.
 *
 * A scope of Matrix names a device that the client makes up. A provider library takes such scopes only as those of a resource
 * server that is made up for each request (`oidc-provider`: `resourceIndicators`), and would keep tokens of its own beside
 * ours; so this is our own code, for the parts of the RFCs that the specification names.
 *
 * Source: "OAuth 2.0 API" of the client-server specification; RFC 6749, 7009, 7591, 7636, 8628.
 */
import { createHash, randomBytes, randomInt, timingSafeEqual } from "node:crypto"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { LimitExceeded } from "@greenroom/protocol/MatrixError"
import { type LoginSession, LoginSessionStore } from "@greenroom/store/LoginSessionStore"
import { OAuthClientStore } from "@greenroom/store/OAuthClientStore"
import { Clock, Context, Effect, Layer, Option, Redacted } from "effect"
import { addressKey } from "../../runtime/AddressKey.ts"
import { periodicallyOnce } from "../../runtime/Singletons.ts"
import { Accounts } from "../Accounts.ts"
import type { Credentials, RefreshedTokens } from "../Credentials.ts"
import { LoginConfig } from "../login/LoginConfig.ts"
import { loginDefaults } from "../login/LoginOptions.ts"
import { type ClientMetadata, deviceGrant, mayRedirect, readClientMetadata } from "./ClientMetadata.ts"
import { type OAuthError, oauthError } from "./OAuthError.ts"
import { parseScope } from "./Scope.ts"

/** A client with the ID that it registered under. */
export interface OAuthClient extends ClientMetadata {
  readonly client_id: string
}

/** An authorisation, as it is stored. */
interface Progress {
  readonly clientId: string
  readonly deviceId: string
  readonly scope: string
  /** The URI to which the browser goes afterwards. Undefined for a device that shows a code. */
  readonly redirect?: { readonly uri: string; readonly mode: "query" | "fragment"; readonly state?: string }
  /** Of the code verifier, with SHA-256. */
  readonly challenge?: string
  /** Whether the user is to make an account. */
  readonly create?: boolean
  /** The user that has agreed. */
  readonly userId?: UserId
  readonly denied?: boolean
  /** When the code ends. */
  readonly codeUntil?: number
  /** Whether the code was used. */
  readonly used?: boolean
  /** When the device asked last. */
  readonly polledAt?: number
}

type Authorisation = LoginSession<Progress>

/** How a page names its authorisation: by its secret, or by the code that the user types. */
export type Reference = { readonly id: string } | { readonly userCode: string }

/** The request that a user is asked to approve. */
export interface Question {
  readonly client: OAuthClient
  readonly deviceId: string
  /** The origin to which the browser goes afterwards; undefined for a device that shows a code. */
  readonly redirectUri: string | undefined
  readonly create: boolean
}

/** An authorisation request that is refused. */
export interface RefusedRequest {
  readonly description: string
  /** The URI of the client by which it learns of the error. */
  readonly back: string
}

/** The outcome of an authorisation request: a page asks the user, or says why not. */
export type Begun = { readonly id: string } | { readonly refused: RefusedRequest }

export interface TokenAnswer {
  readonly access_token: string
  readonly token_type: "Bearer"
  /** Seconds. */
  readonly expires_in: number
  readonly refresh_token: string
  readonly scope: string
}

export interface DeviceAnswer {
  readonly device_code: string
  readonly user_code: string
  /** Seconds. */
  readonly expires_in: number
  readonly interval: number
}

type Params = URLSearchParams

/** How long a code is good for, and how long a device may wait for its user, in ms. */
const codeTtl = 2 * 60_000
const deviceTtl = 20 * 60_000
/** Seconds between two polls of a device. */
const pollInterval = 5
/** How often a code may be tried. */
const maxTries = 5
/** How long an unused registration is kept, in ms. */
const clientTtl = 30 * 24 * 3_600_000
const sweepInterval = "1 hour"
/** How many clients without a login there may be, and how long one is kept where there are too many, in ms. */
const maxUnusedClients = 10_000
const crowdedClientTtl = 3_600_000
/** How long a user who agreed to it may reset their cross-signing keys, in ms. */
const keysResetTtl = 10 * 60_000
/** Without vowels, so that no words appear, and without characters that look alike. */
const userCodeLetters = "BCDFGHJKLMNPQRSTVWXZ"
const maxStateLength = 2_048

const challengePattern = /^[A-Za-z0-9_-]{43}$/
const verifierPattern = /^[A-Za-z0-9._~-]{43,128}$/

const purpose = "oauth"

const unknownClient = oauthError("invalid_client", "client_id: unknown, register first")
const badCode = oauthError("invalid_grant", "the code is unknown, was used, or has expired")
const tooManyClients = new LimitExceeded({ error: "Too many clients have registered", retry_after_ms: 60_000 })
const busy = oauthError("access_denied", "another request was faster")
const unknownPage = oauthError(
  "invalid_request",
  "This authorisation is unknown, or has ended: begin anew in your client"
)

const newSecret = () => randomBytes(32).toString("base64url")

const newUserCode = (): string =>
  Array.from({ length: 8 }, () => userCodeLetters[randomInt(userCodeLetters.length)]).join("")

/** A code as people type it. */
const canonicalUserCode = (text: string): string => text.toUpperCase().replaceAll(/[^A-Z]/g, "")

const required = (params: Params, key: string): Effect.Effect<string, OAuthError> => {
  const values = params.getAll(key)
  const [value] = values
  return value !== undefined && value !== "" && values.length === 1
    ? Effect.succeed(value)
    : Effect.fail(oauthError("invalid_request", `${key}: expected once`))
}

const redirectTo = (
  { mode, state, uri }: NonNullable<Progress["redirect"]>,
  answer: Record<string, string>
): string => {
  const params = new URLSearchParams({ ...answer, ...(state === undefined ? {} : { state }) })
  if (mode === "fragment") return `${uri}#${params}`
  return `${uri}${uri.includes("?") ? "&" : "?"}${params}`
}

const isVerified = (verifier: string, challenge: string): boolean =>
  verifierPattern.test(verifier) &&
  timingSafeEqual(createHash("sha256").update(verifier).digest(), Buffer.from(challenge, "base64url"))

const make = Effect.gen(function* () {
  const login = yield* LoginConfig
  const { maxSessionsPerAddress, sessionTtl } = { ...loginDefaults, ...login }
  const accounts = yield* Accounts
  const clients = yield* OAuthClientStore
  const sessions = yield* LoginSessionStore

  // --- Clients ----------------------------------------------------------------------------------------------------------

  const register = Effect.fn("OAuthServer.register")(function* (value: unknown) {
    const metadata = yield* readClientMetadata(value)
    const id = randomBytes(12).toString("base64url")
    const add = clients.register(id, JSON.stringify(metadata), maxUnusedClients)
    let added = yield* add
    if (Option.isNone(added)) {
      yield* clients.removeUnused((yield* Clock.currentTimeMillis) - crowdedClientTtl)
      added = yield* add
    }
    if (Option.isNone(added)) return yield* tooManyClients
    const client_id = added.value
    return { client_id, ...metadata } satisfies OAuthClient
  })

  const clientOf = Effect.fnUntraced(function* (params: Params): Effect.fn.Return<OAuthClient, OAuthError> {
    const client_id = yield* required(params, "client_id")
    const metadata = yield* clients.find(client_id)
    return Option.isSome(metadata) ? { client_id, ...JSON.parse(metadata.value) } : yield* unknownClient
  })

  // --- Authorisations ---------------------------------------------------------------------------------------------------

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
      maxSessionsPerAddress
    )
    if (!created) return yield* oauthError("access_denied", "too many authorisations are under way from your address")
  })

  const ofOAuth = (found: Option.Option<LoginSession<never>>): Option.Option<Authorisation> =>
    Option.filter(found, (session) => session.purpose === purpose)

  const find = Effect.fnUntraced(function* (reference: Reference): Effect.fn.Return<Authorisation, OAuthError> {
    const found =
      "id" in reference
        ? yield* sessions.find(Redacted.make(reference.id))
        : yield* sessions.findByLink(Redacted.make(canonicalUserCode(reference.userCode)))
    const session = Option.getOrUndefined(ofOAuth(found))
    // Looking up a code or a device code shows no page.
    const isPage = session !== undefined && ("userCode" in reference || session.progress.redirect !== undefined)
    return isPage && session.progress.userId === undefined && !session.progress.denied ? session : yield* unknownPage
  })

  /** The parts of an authorisation request that can be refused to the client itself. */
  const readRequest = Effect.fnUntraced(function* (params: Params, client: OAuthClient, mode: string) {
    if ((yield* required(params, "response_type")) !== "code") {
      return yield* oauthError("unsupported_response_type", "response_type: must be code")
    }
    if (!client.grant_types.includes("authorization_code")) {
      return yield* oauthError("invalid_request", "the client is not registered for authorization_code")
    }
    if (mode !== "query" && mode !== "fragment") {
      return yield* oauthError("invalid_request", "response_mode: must be query or fragment")
    }
    const challenge = yield* required(params, "code_challenge")
    if ((yield* required(params, "code_challenge_method")) !== "S256" || !challengePattern.test(challenge)) {
      return yield* oauthError("invalid_request", "code_challenge: expected S256, in base64url")
    }
    const scope = parseScope(params.get("scope") ?? "")
    if (scope === undefined) {
      return yield* oauthError("invalid_scope", "scope: expected the client API and exactly one device")
    }
    return { challenge, scope }
  })

  const authorise = Effect.fn("OAuthServer.authorise")(function* (
    params: Params,
    address: string
  ): Effect.fn.Return<Begun, OAuthError> {
    const client = yield* clientOf(params)
    const uri = yield* required(params, "redirect_uri")
    if (!mayRedirect(client, uri)) {
      return yield* oauthError("invalid_redirect_uri", "redirect_uri: is not among those of the client")
    }
    const state = params.get("state") ?? undefined
    if ((state?.length ?? 0) > maxStateLength) {
      return yield* oauthError("invalid_request", `state: at most ${maxStateLength} characters`)
    }
    const mode = params.get("response_mode") ?? "query"
    const redirect = {
      uri,
      mode: mode === "fragment" ? ("fragment" as const) : ("query" as const),
      ...(state === undefined ? {} : { state })
    }
    const begin = Effect.gen(function* () {
      const { challenge, scope } = yield* readRequest(params, client, mode)
      const id = newSecret()
      const progress: Progress = {
        clientId: client.client_id,
        deviceId: scope.deviceId,
        scope: scope.granted,
        redirect,
        challenge,
        ...(params.get("prompt") === "create" ? { create: true } : {})
      }
      yield* create({ secret: id, progress, address, ttl: sessionTtl })
      return { id }
    })
    return yield* Effect.catchTag(begin, "OAuthError", ({ description, error }) =>
      Effect.succeed({
        refused: { description, back: redirectTo(redirect, { error, error_description: description }) }
      })
    )
  })

  const question = Effect.fn("OAuthServer.question")(function* (reference: Reference) {
    const { progress } = yield* find(reference)
    const client = yield* clientOf(new URLSearchParams({ client_id: progress.clientId }))
    return {
      client,
      deviceId: progress.deviceId,
      redirectUri: progress.redirect?.uri,
      create: progress.create ?? false
    } satisfies Question
  })

  /** The user has decided. Where the browser goes now; undefined for a device that shows a code. */
  const decide = Effect.fnUntraced(function* (
    reference: Reference,
    userId: UserId | undefined
  ): Effect.fn.Return<string | undefined, OAuthError> {
    const session = yield* find(reference)
    const { progress } = session
    const { redirect } = progress
    if (redirect === undefined) {
      const decided: Progress = userId === undefined ? { ...progress, denied: true } : { ...progress, userId }
      if (!(yield* sessions.update(session, { progress: decided }))) return yield* busy
      return undefined
    }
    if (userId === undefined) {
      if (!(yield* sessions.end(session))) return yield* busy
      return redirectTo(redirect, { error: "access_denied", error_description: "the user has refused" })
    }
    const code = newSecret()
    const codeUntil = (yield* Clock.currentTimeMillis) + codeTtl
    const change = { progress: { ...progress, userId, codeUntil }, secret: Redacted.make(code) }
    return (yield* sessions.update(session, change)) ? redirectTo(redirect, { code }) : yield* busy
  })

  // --- Tokens -----------------------------------------------------------------------------------------------------------

  const toAnswer = (tokens: Credentials | RefreshedTokens, scope: string): TokenAnswer => ({
    access_token: tokens.access_token,
    token_type: "Bearer",
    expires_in: Math.floor((tokens.expires_in_ms ?? 0) / 1_000),
    refresh_token: tokens.refresh_token ?? "",
    scope
  })

  const logIn = Effect.fnUntraced(function* (client: OAuthClient, { deviceId, scope }: Progress, userId: UserId) {
    const credentials = yield* Effect.mapError(
      accounts.openSession(userId, {
        deviceId,
        deviceName: client.client_name,
        refresh: true,
        clientId: client.client_id
      }),
      ({ error }) => oauthError("access_denied", error)
    )
    return toAnswer(credentials, scope)
  })

  /** A code that is used twice was stolen, or two parties have it: the login that it gave ends. */
  const endReplayed = ({ deviceId, userId }: Progress) =>
    userId === undefined ? Effect.void : Effect.ignore(accounts.logoutDevice(userId, deviceId))

  const byCode = Effect.fnUntraced(function* (params: Params, client: OAuthClient) {
    const code = Redacted.make(yield* required(params, "code"))
    const session = Option.getOrUndefined(ofOAuth(yield* sessions.takeTry(code, maxTries)))
    if (session === undefined) return yield* badCode
    const { progress } = session
    const { challenge, codeUntil = 0, redirect, userId } = progress
    if (userId === undefined || redirect === undefined || challenge === undefined) return yield* badCode
    if (progress.clientId !== client.client_id) return yield* badCode
    if (progress.used) {
      yield* endReplayed(progress)
      return yield* badCode
    }
    if (codeUntil <= (yield* Clock.currentTimeMillis)) return yield* badCode
    if ((yield* required(params, "redirect_uri")) !== redirect.uri) {
      return yield* oauthError("invalid_grant", "redirect_uri: is not that of the authorisation")
    }
    if (!isVerified(yield* required(params, "code_verifier"), challenge)) {
      return yield* oauthError("invalid_grant", "code_verifier: does not fit the code_challenge")
    }
    if (!(yield* sessions.update(session, { progress: { ...progress, used: true } }))) return yield* badCode
    return yield* logIn(client, progress, userId)
  })

  const byDevice = Effect.fnUntraced(function* (params: Params, client: OAuthClient) {
    const secret = Redacted.make(yield* required(params, "device_code"))
    const session = Option.getOrUndefined(ofOAuth(yield* sessions.find(secret)))
    if (session === undefined || session.progress.redirect !== undefined) {
      return yield* oauthError("expired_token", "the device code is unknown, was used, or has expired")
    }
    const { progress } = session
    if (progress.clientId !== client.client_id)
      return yield* oauthError("invalid_grant", "device_code: of another client")
    if (progress.userId !== undefined || progress.denied) {
      if (!(yield* sessions.end(session))) return yield* oauthError("expired_token", "the device code was used")
      return progress.userId === undefined
        ? yield* oauthError("access_denied", "the user has refused")
        : yield* logIn(client, progress, progress.userId)
    }
    const now = yield* Clock.currentTimeMillis
    const early = progress.polledAt !== undefined && now - progress.polledAt < (pollInterval - 1) * 1_000
    // The user may decide at the same moment: then the next poll gets the decision.
    if (!early) yield* sessions.update(session, { progress: { ...progress, polledAt: now } })
    return yield* early
      ? oauthError("slow_down", `ask every ${pollInterval} seconds`)
      : oauthError("authorization_pending", "the user has not decided yet")
  })

  const byRefreshToken = Effect.fnUntraced(function* (params: Params, client: OAuthClient) {
    const refreshToken = yield* required(params, "refresh_token")
    const tokens = yield* Effect.mapError(accounts.refresh(refreshToken, client.client_id), ({ error }) =>
      oauthError("invalid_grant", error)
    )
    return toAnswer(tokens, `urn:matrix:client:api:* urn:matrix:client:device:${tokens.device_id}`)
  })

  const token = Effect.fn("OAuthServer.token")(function* (params: Params): Effect.fn.Return<TokenAnswer, OAuthError> {
    const grant = yield* required(params, "grant_type")
    const client = yield* clientOf(params)
    switch (grant) {
      case "authorization_code":
        return yield* byCode(params, client)
      case "refresh_token":
        return yield* byRefreshToken(params, client)
      case deviceGrant:
        return yield* byDevice(params, client)
      default:
        return yield* oauthError("unsupported_grant_type", "grant_type: is not supported")
    }
  })

  const device = Effect.fn("OAuthServer.device")(function* (
    params: Params,
    address: string
  ): Effect.fn.Return<DeviceAnswer, OAuthError> {
    const client = yield* clientOf(params)
    if (!client.grant_types.includes(deviceGrant)) {
      return yield* oauthError("invalid_request", `the client is not registered for ${deviceGrant}`)
    }
    const scope = parseScope(params.get("scope") ?? "")
    if (scope === undefined) {
      return yield* oauthError("invalid_scope", "scope: expected the client API and exactly one device")
    }
    const [secret, userCode] = [newSecret(), newUserCode()]
    const progress: Progress = { clientId: client.client_id, deviceId: scope.deviceId, scope: scope.granted }
    yield* create({ secret, userCode, progress, address, ttl: deviceTtl })
    return {
      device_code: secret,
      user_code: `${userCode.slice(0, 4)}-${userCode.slice(4)}`,
      expires_in: deviceTtl / 1_000,
      interval: pollInterval
    }
  })

  yield* periodicallyOnce(
    "Deleting unused OAuth clients",
    sweepInterval,
    Effect.flatMap(Clock.currentTimeMillis, (now) => clients.removeUnused(now - clientTtl))
  )

  return OAuthServer.of({
    mode: login.oauth ?? "off",
    register,
    authorise,
    question,
    approve: (reference, userId) => decide(reference, userId),
    refuse: (reference) => decide(reference, undefined),
    token,
    device,
    revoke: Effect.fn("OAuthServer.revoke")(function* (params: Params) {
      return yield* accounts.revokeSecret(yield* required(params, "token"))
    }),
    allowKeysReset: Effect.fn("OAuthServer.allowKeysReset")(function* (userId: UserId) {
      yield* clients.allowKeysReset(userId, (yield* Clock.currentTimeMillis) + keysResetTtl)
    })
  })
})

export class OAuthServer extends Context.Service<
  OAuthServer,
  {
    /** Whether the API is served: not, beside the login of clients by themselves, or in its place. */
    readonly mode: "off" | "beside" | "on"
    /** Registers a client by its metadata. Errors: invalid_client_metadata, invalid_redirect_uri, M_LIMIT_EXCEEDED. */
    readonly register: (metadata: unknown) => Effect.Effect<OAuthClient, OAuthError | LimitExceeded>
    /**
     * Begins an authorisation by the query of the request. Errors are for the page. A request that is refused leads back to a URI
     * that the client registered, and the user decides whether to go there: anybody can register a client, so a redirect would
     * make each link to this server a link to anywhere (RFC 9700, 4.11.2).
     */
    readonly authorise: (params: Params, address: string) => Effect.Effect<Begun, OAuthError>
    /** The request that the user is asked to approve. Errors: invalid_request if it has ended. */
    readonly question: (reference: Reference) => Effect.Effect<Question, OAuthError>
    /** The user, who is logged in on the page, agrees. Where the browser goes, unless a device waits. */
    readonly approve: (reference: Reference, userId: UserId) => Effect.Effect<string | undefined, OAuthError>
    readonly refuse: (reference: Reference) => Effect.Effect<string | undefined, OAuthError>
    /** Gives tokens for a code, a device code or a refresh token. */
    readonly token: (params: Params) => Effect.Effect<TokenAnswer, OAuthError>
    /** Begins an authorisation of a device that shows a code to its user. */
    readonly device: (params: Params, address: string) => Effect.Effect<DeviceAnswer, OAuthError>
    /** Ends the session of an access token or a refresh token, for any bearer. Returns the IDs of the ended tokens. */
    readonly revoke: (params: Params) => Effect.Effect<ReadonlyArray<number>, OAuthError>
    /** The user agrees to a reset of their cross-signing keys: it can be done within ten minutes. */
    readonly allowKeysReset: (userId: UserId) => Effect.Effect<void>
  }
>()("greenroom/actors/OAuthServer") {
  static readonly layer = Layer.effect(OAuthServer, make)
}
