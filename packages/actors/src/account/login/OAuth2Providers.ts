/**
 * The part of `OAuth2Client` for configured providers. Loaded only if there are any.
 */
import { BadRequest, Forbidden, type MatrixError } from "@greenroom/protocol/MatrixError"
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { Duration, Effect, Exit, Redacted } from "effect"
import * as client from "openid-client"
import { ByteCollector } from "../../runtime/ByteCollector.ts"
import { Departure } from "../../runtime/Departure.ts"
import type { OAuth2Provider } from "./LoginOptions.ts"

/** How long a provider may take to answer, in seconds. */
const requestTimeout = 10

/** The largest answer of a provider that is read, in bytes after decompression. */
const maxAnswer = 1024 * 1024

/** The longest name of a user at a provider, in characters. */
const maxSubjectLength = 1_024

/** The state to keep until the user returns. */
export interface Authorization {
  readonly state: Redacted.Redacted
  readonly verifier: string
  readonly nonce: string
  /** The Authorization Request URI. */
  readonly uri: string
}

/** The kept state, and the parameters with which the user returned. */
export interface Return {
  readonly provider: string
  readonly state: Redacted.Redacted
  readonly verifier: string
  readonly nonce: string
  readonly publicUrl: string
  /** The query of the redirect URI. */
  readonly query: string
}

const hasEndpoints = (provider: OAuth2Provider): boolean =>
  provider.authorizationEndpoint !== undefined && provider.tokenEndpoint !== undefined

const authenticationOf = (provider: OAuth2Provider): client.ClientAuth => {
  const secret = Redacted.value(provider.clientSecret)
  return provider.authentication === "client_secret_post"
    ? client.ClientSecretPost(secret)
    : client.ClientSecretBasic(secret)
}

/** `fetch` that reads the whole answer, and fails where it is too large. */
const boundedFetch: client.CustomFetch = async (url, options) => {
  const { body, headers, status, statusText } = await fetch(url, options as RequestInit)
  const bytes = new ByteCollector()
  for await (const { buffer, byteOffset, length } of body ?? []) {
    bytes.add(Buffer.from(buffer, byteOffset, length))
    if (bytes.length > maxAnswer) throw new Error("the answer is too large")
  }
  return new Response(body === null ? null : new Uint8Array(bytes.take()), { status, statusText, headers })
}

const configure = (provider: OAuth2Provider, configuration: client.Configuration): client.Configuration => {
  configuration.timeout = requestTimeout
  configuration[client.customFetch] = boundedFetch
  if (provider.allowHttp) client.allowInsecureRequests(configuration)
  return configuration
}

const withEndpoints = (provider: OAuth2Provider): client.Configuration => {
  const metadata: Record<string, string> = { issuer: provider.issuer }
  if (provider.authorizationEndpoint !== undefined) metadata.authorization_endpoint = provider.authorizationEndpoint
  if (provider.tokenEndpoint !== undefined) metadata.token_endpoint = provider.tokenEndpoint
  if (provider.userinfoEndpoint !== undefined) metadata.userinfo_endpoint = provider.userinfoEndpoint
  return new client.Configuration(
    metadata as unknown as client.ServerMetadata,
    provider.clientId,
    undefined,
    authenticationOf(provider)
  )
}

const discover = (provider: OAuth2Provider): Promise<client.Configuration> =>
  client.discovery(new URL(provider.issuer), provider.clientId, undefined, authenticationOf(provider), {
    timeout: requestTimeout,
    [client.customFetch]: boundedFetch,
    ...(provider.allowHttp ? { execute: [client.allowInsecureRequests] } : {})
  })

const maxReasonLength = 500

/** The message of a library's error, without the request. The provider, or the browser that returns from it, writes a part of it. */
const describe = (error: unknown): string => {
  const { cause, code, error: reason, message } = error as { readonly [key: string]: unknown }
  const { code: below } = (cause ?? {}) as { readonly code?: unknown }
  const parts = [...new Set([message, code, reason, below])].filter((part) => typeof part === "string")
  return parts
    .join(", ")
    .replaceAll(/[\s\p{Cc}]+/gu, " ")
    .slice(0, maxReasonLength)
}

const unavailable = (provider: OAuth2Provider) => (error: { readonly cause?: unknown }) =>
  Effect.andThen(
    Effect.logWarning(`The OAuth2 provider ${provider.id} cannot be used: ${describe(error.cause)}`),
    Effect.fail(new BadRequest({ error: `${provider.name} cannot be reached, try again later` }))
  )

/** The subject: from the ID token if there is one, else from the provider's user info endpoint. */
const subjectOf = async (
  provider: OAuth2Provider,
  configuration: client.Configuration,
  tokens: client.TokenEndpointResponse & client.TokenEndpointResponseHelpers
): Promise<unknown> => {
  const claims = tokens.claims()
  if (claims !== undefined && provider.subjectClaim === undefined) return claims.sub
  const endpoint = provider.userinfoEndpoint ?? configuration.serverMetadata().userinfo_endpoint
  if (endpoint === undefined) return undefined
  const headers = new Headers({ accept: "application/json" })
  const response = await client.fetchProtectedResource(
    configuration,
    tokens.access_token,
    new URL(endpoint),
    "GET",
    undefined,
    headers
  )
  if (!response.ok) return undefined
  const answer = (await response.json()) as { readonly [claim: string]: unknown }
  return answer[provider.subjectClaim ?? "sub"]
}

const toSubject = (value: unknown): string | undefined => {
  const text = typeof value === "number" && Number.isSafeInteger(value) ? String(value) : value
  return typeof text === "string" && text.length > 0 && text.length <= maxSubjectLength ? text : undefined
}

/** The client of these providers, which send users back to `callbackPath`. */
export const makeOAuth2Client = Effect.fnUntraced(function* (
  providers: ReadonlyArray<OAuth2Provider>,
  callbackPath: string
) {
  const { whileStaying } = yield* Departure

  const find = (id: string): Effect.Effect<OAuth2Provider, MatrixError> => {
    const provider = providers.find((candidate) => candidate.id === id)
    return provider === undefined
      ? Effect.fail(new BadRequest({ error: "There is no such OAuth2 provider" }))
      : Effect.succeed(provider)
  }

  /** Discovered when they are first needed, once for all logins that wait for one, and again if that failed. */
  const configurations = yield* MonotonicCache.makeWith(
    (id: string): Effect.Effect<client.Configuration, MatrixError> =>
      Effect.flatMap(find(id), (provider) =>
        Effect.map(
          hasEndpoints(provider)
            ? Effect.succeed(withEndpoints(provider))
            : Effect.catch(whileStaying(Effect.tryPromise(() => discover(provider))), unavailable(provider)),
          (found) => configure(provider, found)
        )
      ),
    { capacity: Math.max(1, providers.length), timeToLive: (exit) => (Exit.isSuccess(exit) ? Duration.infinity : 0) }
  )
  const configurationOf = ({ id }: OAuth2Provider) => MonotonicCache.get(configurations, id)

  const authorize = Effect.fn("OAuth2Client.authorize")(function* (id: string, publicUrl: string) {
    const provider = yield* find(id)
    const configuration = yield* configurationOf(provider)
    const state = client.randomState()
    const verifier = client.randomPKCECodeVerifier()
    const nonce = client.randomNonce()
    const scope = provider.scope ?? (hasEndpoints(provider) ? "" : "openid")
    const challenge = yield* Effect.promise(() => client.calculatePKCECodeChallenge(verifier))
    const uri = client.buildAuthorizationUrl(configuration, {
      redirect_uri: `${publicUrl}${callbackPath}`,
      state,
      code_challenge: challenge,
      code_challenge_method: "S256",
      ...(scope === "" ? {} : { scope }),
      ...(scope.split(" ").includes("openid") ? { nonce } : {})
    })
    return { state: Redacted.make(state), verifier, nonce, uri: uri.href }
  })

  const exchange = Effect.fn("OAuth2Client.exchange")(function* (back: Return) {
    const provider = yield* find(back.provider)
    const refuse = (reason: string) =>
      Effect.andThen(
        Effect.logInfo(`A login with the OAuth2 provider ${provider.id} failed: ${reason}`),
        Effect.fail(new Forbidden({ error: `${provider.name} did not confirm your identity` }))
      )
    const configuration = yield* configurationOf(provider)
    const url = new URL(`${back.publicUrl}${callbackPath}?${back.query}`)
    const openid = (provider.scope ?? (hasEndpoints(provider) ? "" : "openid")).split(" ").includes("openid")
    const subject = yield* Effect.tryPromise(async () => {
      const tokens = await client.authorizationCodeGrant(configuration, url, {
        expectedState: Redacted.value(back.state),
        pkceCodeVerifier: back.verifier,
        ...(openid ? { expectedNonce: back.nonce, idTokenExpected: true } : {})
      })
      return toSubject(await subjectOf(provider, configuration, tokens))
    }).pipe(
      whileStaying,
      Effect.catch((error) => refuse(describe(error.cause)))
    )
    if (subject === undefined) return yield* refuse("its answer has no subject")
    return { provider: provider.id, subject }
  })

  return { providers: providers.map(({ id, name }) => ({ id, name })), authorize, exchange }
})
