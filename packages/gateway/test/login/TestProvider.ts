/**
 * An OAuth2 provider for tests (OpenID Connect), on a free port. Visitors log in there as `provider.subject`, or are refused.
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import type { LoginOptions, OAuth2Provider } from "@greenroom/actors/account/login/LoginOptions"
import { callbackPath } from "@greenroom/actors/account/login/OAuth2Client"
import { serveHttp } from "@greenroom/store/testing/Loopback"
import { Effect, Redacted, type Scope } from "effect"
import Provider from "oidc-provider"
import { Gateway } from "../../src/Gateway.ts"
import { type LoginGateway, loginGateway } from "./TestLogin.ts"
import type { UserAgent } from "./UserAgent.ts"

export interface TestProvider {
  readonly issuer: string
  /** The account at the provider that logs in next. Undefined: the login is refused. */
  subject: string | undefined
  /** Registers the gateway at a URL as a client. */
  readonly allow: (gatewayUrl: string) => void
  /** The authorization headers of the requests to the token endpoint. */
  readonly tokenRequests: Array<string>
}

const clientId = "greenroom"
const clientSecret = "a secret of the client/+:%"

/** The configuration of a gateway for the provider. */
export const providerOptions = (provider: TestProvider, more: Partial<OAuth2Provider> = {}): OAuth2Provider => ({
  id: "test",
  name: "Test Service",
  issuer: provider.issuer,
  clientId,
  clientSecret: Redacted.make(clientSecret),
  allowHttp: true,
  ...more
})

const makeProvider = (issuer: string, gatewayUrl: string) =>
  new Provider(issuer, {
    clients: [{ client_id: clientId, client_secret: clientSecret, redirect_uris: [`${gatewayUrl}${callbackPath}`] }],
    features: { devInteractions: { enabled: false }, userinfo: { enabled: true } },
    pkce: { required: () => true },
    interactions: { url: (_, { uid }) => `/interaction/${uid}` },
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: id, email: `${id}@mail.test`, email_verified: false })
    }),
    loadExistingGrant: async (ctx) => {
      const { client, provider, session } = ctx.oidc
      if (client === undefined || session?.accountId === undefined) return undefined
      const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId })
      grant.addOIDCScope("openid")
      await grant.save()
      return grant
    }
  })

const page = (uid: string) => `<!DOCTYPE html><html lang="en"><head><title>Test Service</title></head><body>
<h1>Test Service</h1><form method="post" action="/interaction/${uid}"><button>Allow</button></form></body></html>`

/** Starts a provider. */
export const testProvider: Effect.Effect<TestProvider, never, Scope.Scope> = Effect.gen(function* () {
  let oidc: Provider | undefined
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    if (oidc === undefined) return void response.writeHead(503).end()
    const uid = /^\/interaction\/([\w-]+)$/.exec(request.url ?? "")?.[1]
    if (uid === undefined) {
      if (request.url === "/token") {
        provider.tokenRequests.push(String(request.headers.authorization))
      }
      return void oidc.callback()(request, response)
    }
    if (request.method === "GET") return void response.writeHead(200, { "content-type": "text/html" }).end(page(uid))
    const result =
      provider.subject === undefined
        ? { error: "access_denied", error_description: "No" }
        : { login: { accountId: provider.subject, remember: false } }
    await oidc.interactionFinished(request, response, result, { mergeWithLastSubmission: false })
  }
  const issuer = yield* serveHttp((request, response) => {
    answer(request, response).catch(() => response.writeHead(500).end())
  })
  const provider: TestProvider = {
    issuer,
    subject: undefined,
    tokenRequests: [],
    allow: (gatewayUrl) => {
      oidc = makeProvider(issuer, gatewayUrl)
    }
  }
  return provider
})

/** Visits an authorization URI, and allows it. Returns where the provider redirects to. */
export const authorize = Effect.fnUntraced(function* ({ visit }: UserAgent, uri: string) {
  let next = yield* visit(uri)
  for (let count = 0; count < 6; count++) {
    if (next.location === undefined) throw new Error(`The provider stopped: ${next.status} ${next.text}`)
    if (next.location.includes(callbackPath)) return next.location
    next = yield* visit(next.location, next.location.includes("/interaction/") ? { method: "POST" } : {})
  }
  throw new Error("The provider redirects without end")
})

/** Runs a test with a provider and a gateway that uses it. */
export const withProvider = <A, E>(
  options: LoginOptions,
  use: (provider: TestProvider, url: string) => Effect.Effect<A, E, LoginGateway>
) =>
  Effect.gen(function* () {
    const provider = yield* testProvider
    return yield* Effect.gen(function* () {
      const { url } = yield* Gateway
      provider.allow(url)
      return yield* use(provider, url)
    }).pipe(Effect.provide(loginGateway({ providers: [providerOptions(provider)], ...options })))
  }).pipe(Effect.scoped)
