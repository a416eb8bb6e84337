/**
 * The client of the server-server API, for rooms of versions 1 to 12: one method for each endpoint. Where an endpoint has
 * two versions, servers that lack the second are asked by the first.
 *
 * Every method may fail with a `RemoteError`. Nothing in an answer is verified here but its form: PDUs come as they are, for
 * `PduVerification`.
 *
 * Its endpoints are in `internal/serverServerTransactions.ts`, `serverServerEvents.ts`, `serverServerHandshakes.ts` and
 * `serverServerQueries.ts`.
 *
 * Source: the server-server specification.
 */
import { Context, Effect, Layer } from "effect"
import { FederationCalls } from "./FederationCalls.ts"
import { eventEndpoints } from "./internal/serverServerEvents.ts"
import { handshakes } from "./internal/serverServerHandshakes.ts"
import { queries } from "./internal/serverServerQueries.ts"
import { transactions } from "./internal/serverServerTransactions.ts"

const endpoints = (calls: FederationCalls["Service"]) => ({
  ...transactions(calls),
  ...eventEndpoints(calls),
  ...handshakes(calls),
  ...queries(calls)
})

const make = Effect.map(FederationCalls, (calls) => ServerServerClient.of(endpoints(calls)))

/** The endpoints of other home servers in today's dialect. Errors: `RemoteError`. */
export class ServerServerClient extends Context.Service<ServerServerClient, ReturnType<typeof endpoints>>()(
  "greenroom/actors/ServerServerClient"
) {
  static readonly layer: Layer.Layer<ServerServerClient, never, FederationCalls> = Layer.effect(
    ServerServerClient,
    make
  )
}
