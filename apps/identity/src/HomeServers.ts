/**
 * Requests to home servers: to the configured URL of the name, else by HTTPS to the addresses that `ServerDiscovery` finds, with a
 * certificate for the name, or for the one that it delegates to. A configured URL may be in a private network. Redirects are not
 * followed.
 *
 * Source: "Federation" of the draft, "Server discovery" of the server-server specification.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import type { AddressPolicy } from "@greenroom/actors/federation/AddressPolicy"
import { FederationConfig } from "@greenroom/actors/federation/FederationConfig"
import { FederationTransport } from "@greenroom/actors/federation/FederationTransport"
import { ServerDiscovery } from "@greenroom/actors/federation/ServerDiscovery"
import { answerText } from "@greenroom/actors/runtime/AnswerText"
import { Departure } from "@greenroom/actors/runtime/Departure"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Context, Data, Effect, Layer } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { failureReason } from "./FailureReason.ts"
import { IdentityOptions, type IdentityOptionsShape } from "./IdentityOptions.ts"

/** No address of the server answered. */
export class HomeServerUnreachable extends Data.TaggedError("HomeServerUnreachable")<{
  readonly serverName: ServerName
  readonly reason: string
}> {}

/** The largest answer that is read, in bytes. */
const maxBytes = 16 * 1024

/** How long a home server may take to answer, whatever number of addresses it has, in ms. */
const timeout = 30_000

/** The addresses allowed for home servers that the configuration does not name. */
export const addressPolicyOf = ({ privateAddresses }: IdentityOptionsShape): AddressPolicy =>
  privateAddresses ? "any" : "public"

/** How home servers are reached that the configuration does not name. */
export const federationConfig: Layer.Layer<FederationConfig, never, IdentityOptions> = Layer.effect(
  FederationConfig,
  Effect.map(IdentityOptions, (options) => ({
    addressPolicy: addressPolicyOf(options),
    verifyCertificates: options.verifyCertificates
  }))
)

/** The client for configured URLs. */
const makeClient = ({ verifyCertificates }: IdentityOptionsShape) =>
  Effect.flatMap(NodeHttpClient.makeAgent({ keepAlive: false, rejectUnauthorized: verifyCertificates }), (agent) =>
    Effect.provideService(NodeHttpClient.makeNodeHttp, NodeHttpClient.HttpAgent, agent)
  )

const make = Effect.gen(function* () {
  const options = yield* IdentityOptions
  const transport = yield* FederationTransport
  const { whileStaying } = yield* Departure
  const client = yield* makeClient(options)

  /** A request to a configured URL. It is not traced, because the query of one contains a secret. */
  const ask = (serverName: ServerName, request: HttpClientRequest.HttpClientRequest, readsText: boolean) =>
    client.execute(request).pipe(
      Effect.flatMap((response) =>
        Effect.map(readsText ? answerText(response, maxBytes) : Effect.succeed(""), (text) => ({
          status: response.status,
          text
        }))
      ),
      Effect.scoped,
      Effect.timeout(timeout),
      whileStaying,
      Effect.provideService(HttpClient.TracerDisabledWhen, () => true),
      Effect.mapError((error) => new HomeServerUnreachable({ serverName, reason: failureReason(error) }))
    )

  const unreachable = ({ destination, reason }: { readonly destination: ServerName; readonly reason: string }) =>
    new HomeServerUnreachable({ serverName: destination, reason })

  const post: HomeServers["Service"]["post"] = Effect.fn("HomeServers.post")(function* (serverName, path, json) {
    const url = options.homeServers.get(serverName)
    if (url !== undefined) {
      const request = HttpClientRequest.bodyText(HttpClientRequest.post(`${url}${path}`), json, "application/json")
      return (yield* ask(serverName, request, false)).status
    }
    const headers = { "content-type": "application/json" }
    const body = Buffer.from(json)
    const response = transport.open({ destination: serverName, method: "POST", uri: path, headers, body, timeout })
    return yield* Effect.scoped(Effect.map(response, ({ statusCode = 0 }) => statusCode)).pipe(
      Effect.mapError(unreachable)
    )
  })

  const get: HomeServers["Service"]["get"] = Effect.fn("HomeServers.get")(function* (serverName, path) {
    const url = options.homeServers.get(serverName)
    if (url !== undefined) return yield* ask(serverName, HttpClientRequest.get(`${url}${path}`), true)
    const request = { destination: serverName, method: "GET", uri: path, maxBytes, timeout, mayRepeat: true } as const
    const { body, status } = yield* Effect.mapError(transport.request(request), unreachable)
    return { status, text: body.toString() }
  })

  return HomeServers.of({ post, get })
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
  static readonly layer: Layer.Layer<HomeServers, never, IdentityOptions | FederationConfig | Departure> = Layer.effect(
    HomeServers,
    make
  ).pipe(Layer.provide(FederationTransport.layer), Layer.provide(ServerDiscovery.layer))
}
