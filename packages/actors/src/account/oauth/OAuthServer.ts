/**
 * The OAuth 2.0 API: clients register themselves, a user approves a client on a page of this server, and the client gets an access
 * token and a refresh token. They are tokens of `Accounts`, like those of any other login.
 *
 * A pending authorisation is in `login_sessions`, under the hash of its secret: the secret of the page until the user has approved,
 * then the code, or the device code if a device shows a code to the user. It is changed by compare and swap, so that it gives
 * tokens once.
 *
 * A scope of Matrix contains a device ID that the client has chosen. `oidc-provider` accepts such scopes only with a resource server
 * for each request (`resourceIndicators`), and would keep tokens of its own beside those of `Accounts`. So this module implements
 * the parts of the RFCs that the specification names.
 *
 * Source: "OAuth 2.0 API" of the client-server specification; RFC 6749, 7009, 7591, 7636, 8628.
 */
import { randomBytes, randomInt } from "node:crypto"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { LimitExceeded } from "@greenroom/protocol/MatrixError"
import { OAuthClientStore } from "@greenroom/store/OAuthClientStore"
import { newSecret } from "@greenroom/store/Secrets"
import { Clock, Context, Effect, Layer, Option } from "effect"
import { PublicUrl } from "../../runtime/PublicUrl.ts"
import { periodicallyOnce } from "../../runtime/Singletons.ts"
import { Accounts } from "../Accounts.ts"
import { LoginConfig } from "../login/LoginConfig.ts"
import { loginDefaults } from "../login/LoginOptions.ts"
import type { BrowserUser } from "./BrowserSessions.ts"
import { deviceGrant, mayRedirect, readClientMetadata } from "./ClientMetadata.ts"
import { makeAuthorisations, type Progress, redirectTo } from "./internal/Authorisations.ts"
import { makeIdTokens } from "./internal/IdTokens.ts"
import { type Params, required } from "./internal/OAuthParameters.ts"
import { makeTokenGrants, pollInterval } from "./internal/TokenGrants.ts"
import { type OAuthError, oauthError } from "./OAuthError.ts"
import type {
  Begun,
  DeviceAnswer,
  IdTokenKeys,
  OAuthClient,
  Question,
  Reference,
  TokenAnswer
} from "./OAuthRequests.ts"
import { parseScope } from "./Scope.ts"

/** How long a device may wait for its user, in ms. */
const deviceTtl = 20 * 60_000
/** How long an unused registration is kept, in ms. */
const clientTtl = 30 * 24 * 3_600_000
const sweepInterval = "1 hour"
/** The most clients without a login, and how long one is kept if there are more, in ms. */
const maxUnusedClients = 10_000
const crowdedClientTtl = 3_600_000
/** The time after an approval in which a user may reset their cross-signing keys, in ms. */
const keysResetTtl = 10 * 60_000
/** Without vowels, to avoid words, and without characters that look alike. */
const userCodeLetters = "BCDFGHJKLMNPQRSTVWXZ"
/** The most characters of a state, and of a nonce. */
const maxStateLength = 2_048

const challengePattern = /^[A-Za-z0-9_-]{43}$/
const unknownClient = oauthError("invalid_client", "client_id: unknown, register first")
const tooManyClients = new LimitExceeded({ error: "Too many clients have registered", retry_after_ms: 60_000 })
const newUserCode = (): string =>
  Array.from({ length: 8 }, () => userCodeLetters[randomInt(userCodeLetters.length)]).join("")

const make = Effect.gen(function* () {
  const login = yield* LoginConfig
  const { maxSessionsPerAddress, sessionTtl } = { ...loginDefaults, ...login }
  const accounts = yield* Accounts
  const clients = yield* OAuthClientStore
  const idTokens = yield* makeIdTokens
  const authorisations = yield* makeAuthorisations(maxSessionsPerAddress)
  const publicUrl = yield* PublicUrl
  const { create, decide, find } = authorisations
  const { byCode, byDevice, byRefreshToken } = yield* makeTokenGrants(authorisations, idTokens)

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

  /** Checks the parts of an authorisation request whose errors go to the client. */
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
    const nonce = params.get("nonce") ?? undefined
    if ((nonce?.length ?? 0) > maxStateLength) {
      return yield* oauthError("invalid_request", `nonce: at most ${maxStateLength} characters`)
    }
    return { challenge, scope, nonce }
  })

  const authorise = Effect.fn("OAuthServer.authorise")(function* (
    params: Params,
    address: string
  ): Effect.fn.Return<Begun, OAuthError> {
    const client = yield* clientOf(params)
    const uri = yield* required(params, "redirect_uri")
    if (!mayRedirect(client, uri)) {
      return yield* oauthError("invalid_redirect_uri", "redirect_uri: not registered for the client")
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
      const { challenge, nonce, scope } = yield* readRequest(params, client, mode)
      const id = newSecret()
      const progress: Progress = {
        clientId: client.client_id,
        deviceId: scope.deviceId,
        scope: scope.granted,
        redirect,
        challenge,
        ...(scope.openid ? { openid: nonce === undefined ? {} : { nonce } } : {}),
        ...(params.get("prompt") === "create" ? { create: true } : {})
      }
      yield* create({ secret: id, progress, address, ttl: sessionTtl })
      return { id }
    })
    return yield* Effect.catchTag(begin, "OAuthError", ({ description, error }) =>
      Effect.succeed({
        refused: { description, back: redirectTo(publicUrl, redirect, { error, error_description: description }) }
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
        return yield* oauthError("unsupported_grant_type", "grant_type: not supported")
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
    const progress: Progress = {
      clientId: client.client_id,
      deviceId: scope.deviceId,
      scope: scope.granted,
      ...(scope.openid ? { openid: {} } : {})
    }
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
    approve: (reference, user) => decide(reference, user),
    refuse: (reference) => decide(reference, undefined),
    token,
    device,
    idTokenKeys: idTokens.keys,
    revoke: Effect.fn("OAuthServer.revoke")(function* (params: Params) {
      return yield* accounts.revokeSecret(yield* required(params, "token"))
    }),
    allowKeysReset: Effect.fn("OAuthServer.allowKeysReset")(function* (userId: UserId) {
      yield* clients.allowKeysReset(userId, (yield* Clock.currentTimeMillis) + keysResetTtl)
    })
  })
})

/** The OAuth 2.0 API: registration of clients, authorisation, tokens, revocation. */
export class OAuthServer extends Context.Service<
  OAuthServer,
  {
    /** Whether the API is served: not at all, beside `POST /login`, or instead of it. */
    readonly mode: "off" | "beside" | "on"
    /** Registers a client by its metadata. Errors: invalid_client_metadata, invalid_redirect_uri, M_LIMIT_EXCEEDED. */
    readonly register: (metadata: unknown) => Effect.Effect<OAuthClient, OAuthError | LimitExceeded>
    /**
     * Begins an authorisation by the query of the request. Errors are for the page. After a refused request the page has a link to a
     * URI that the client registered. It does not redirect, because anyone can register a client, and links to this server could
     * then lead anywhere (RFC 9700, 4.11.2).
     */
    readonly authorise: (params: Params, address: string) => Effect.Effect<Begun, OAuthError>
    /** The request that the user is asked to approve. Errors: invalid_request if it has ended. */
    readonly question: (reference: Reference) => Effect.Effect<Question, OAuthError>
    /** Approves in the name of the user who is logged in on the page. Returns the URI for the browser, unless a device waits. */
    readonly approve: (reference: Reference, user: BrowserUser) => Effect.Effect<string | undefined, OAuthError>
    readonly refuse: (reference: Reference) => Effect.Effect<string | undefined, OAuthError>
    /** Exchanges a code, a device code or a refresh token for tokens. */
    readonly token: (params: Params) => Effect.Effect<TokenAnswer, OAuthError>
    /** Begins an authorisation of a device that shows a code to its user. */
    readonly device: (params: Params, address: string) => Effect.Effect<DeviceAnswer, OAuthError>
    /** The keys that verify ID tokens. */
    readonly idTokenKeys: Effect.Effect<IdTokenKeys>
    /** Ends the session of an access token or a refresh token, for any bearer. Returns the IDs of the ended tokens. */
    readonly revoke: (params: Params) => Effect.Effect<ReadonlyArray<number>, OAuthError>
    /** Approves a reset of the cross-signing keys of the user, within the next ten minutes. */
    readonly allowKeysReset: (userId: UserId) => Effect.Effect<void>
  }
>()("greenroom/actors/OAuthServer") {
  static readonly layer = Layer.effect(OAuthServer, make)
}
