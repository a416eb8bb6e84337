/**
 * Requests to home servers: to the configured URL of the name, else by HTTPS to the addresses that `ServerDiscovery` finds, with a
 * certificate for the name. A configured URL may be in a private network. Redirects are not followed.
 *
 * Source: "Federation" of the specification.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { type AddressPolicy, lookupAllowed } from "@greenroom/actors/federation/AddressPolicy"
import { ServerDiscovery, type Target } from "@greenroom/actors/federation/ServerDiscovery"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { ByteSize, Context, Data, Effect, Layer, type Scope } from "effect"
import { HttpClient, HttpClientRequest, HttpIncomingMessage } from "effect/http"
import { failureReason } from "./FailureReason.ts"
import { IdentityOptions, type IdentityOptionsShape } from "./IdentityOptions.ts"

/** No address of the server answered. */
export class HomeServerUnreachable extends Data.TaggedError("HomeServerUnreachable")<{
  readonly serverName: ServerName
  readonly reason: string
}> {}

/** The largest answer that is read. */
const maxAnswer = ByteSize.fromInputUnsafe(16 * 1024)

/** How long a home server may take to answer. */
const requestTimeout = "30 seconds"

/** An address at which a home server may answer. */
interface Attempt {
  readonly url: string
  /** The Host header, by which the certificate is checked too. */
  readonly host: string
  readonly client: HttpClient.HttpClient
}

/** The addresses allowed for home servers that the configuration does not name. */
export const addressPolicyOf = ({ privateAddresses }: IdentityOptionsShape): AddressPolicy =>
  privateAddresses ? "any" : "public"

const toUrl = ({ host, port }: Target): string => `https://${host.includes(":") ? `[${host}]` : host}:${port}`

const clientFor = (
  { verifyCertificates }: IdentityOptionsShape,
  policy: AddressPolicy
): Effect.Effect<HttpClient.HttpClient, never, Scope.Scope> =>
  Effect.flatMap(
    NodeHttpClient.makeAgent({
      keepAlive: false,
      rejectUnauthorized: verifyCertificates,
      lookup: lookupAllowed(policy)
    }),
    (agent) => Effect.provideService(NodeHttpClient.makeNodeHttp, NodeHttpClient.HttpAgent, agent)
  )

const make = Effect.gen(function* () {
  const options = yield* IdentityOptions
  const discovery = yield* ServerDiscovery
  const configured = yield* clientFor(options, "any")
  const open = yield* clientFor(options, addressPolicyOf(options))

  const send = ({ client, host, url }: Attempt, path: string, json: string) =>
    client
      .execute(
        HttpClientRequest.post(`${url}${path}`).pipe(
          HttpClientRequest.setHeader("host", host),
          HttpClientRequest.bodyText(json, "application/json")
        )
      )
      .pipe(
        Effect.map(({ status }) => status),
        Effect.scoped,
        Effect.timeout(requestTimeout)
      )

  const ask = ({ client, host, url }: Attempt, path: string) =>
    client.execute(HttpClientRequest.get(`${url}${path}`).pipe(HttpClientRequest.setHeader("host", host))).pipe(
      Effect.flatMap((response) => Effect.map(response.text, (text) => ({ status: response.status, text }))),
      Effect.scoped,
      Effect.timeout(requestTimeout),
      Effect.provideService(HttpIncomingMessage.MaxBodySize, maxAnswer),
      // Not traced, because the query contains a secret.
      Effect.provideService(HttpClient.TracerDisabledWhen, () => true)
    )

  const attempts = Effect.fnUntraced(function* (serverName: ServerName) {
    const url = options.homeServers.get(serverName)
    if (url !== undefined) return [{ url, host: new URL(url).host, client: configured }]
    const targets = yield* discovery.find(serverName)
    return targets.map((target): Attempt => ({ url: toUrl(target), host: serverName, client: open }))
  })

  /** Tries the addresses of a server one after the other. */
  const atFirst = <A, E extends { readonly _tag: string }>(
    serverName: ServerName,
    reach: (attempt: Attempt) => Effect.Effect<A, E>
  ): Effect.Effect<A, HomeServerUnreachable> =>
    Effect.gen(function* () {
      let reason = ""
      for (const attempt of yield* attempts(serverName)) {
        const result = yield* Effect.result(reach(attempt))
        if (result._tag === "Success") return result.success
        reason = failureReason(result.failure as never)
      }
      return yield* new HomeServerUnreachable({ serverName, reason })
    }).pipe(
      Effect.catchTag("RemoteUnreachable", ({ destination, reason }) =>
        Effect.fail(new HomeServerUnreachable({ serverName: destination, reason }))
      )
    )

  return HomeServers.of({
    post: Effect.fn("HomeServers.post")((serverName, path, json) =>
      atFirst(serverName, (attempt) => send(attempt, path, json))
    ),
    get: Effect.fn("HomeServers.get")((serverName, path) => atFirst(serverName, (attempt) => ask(attempt, path)))
  })
})

export class HomeServers extends Context.Service<
  HomeServers,
  {
    /** Sends a JSON text. Returns the status of the answer, whose body is not read. Errors: `HomeServerUnreachable`. */
    readonly post: (serverName: ServerName, path: string, json: string) => Effect.Effect<number, HomeServerUnreachable>
    /** Sends a GET request. The answer has a few kilobytes at most. Errors: `HomeServerUnreachable`. */
    readonly get: (
      serverName: ServerName,
      path: string
    ) => Effect.Effect<{ readonly status: number; readonly text: string }, HomeServerUnreachable>
  }
>()("greenroom/identity/HomeServers") {
  static readonly layer: Layer.Layer<HomeServers, never, IdentityOptions | ServerDiscovery> = Layer.effect(
    HomeServers,
    make
  )
}
