/**
 * A client of a home server, for Effect programs in Node and in browsers.
 *
 *     const program = Effect.gen(function* () {
 *       const anonymous = yield* GreenroomClient
 *       const alice = yield* anonymous.as(yield* anonymous.login({ user: "alice", password }))
 *       const { room_id } = yield* alice.join(RoomAlias.make("#tea:example.org"))
 *       yield* alice.sendText(room_id, "Hello")
 *       yield* Stream.runForEach(alice.events(), (event) => Console.log(event))
 *     })
 *     program.pipe(Effect.provide(GreenroomClient.layer({ baseUrl: "https://example.org" })))
 *
 * Requests fail with the errors of the protocol, whose tags are the errcodes (`Effect.catchTag("M_FORBIDDEN", ...)`), or
 * with a `ConnectionError`. Idempotent requests are retried after failures of the connection, and all requests after the
 * pause that M_LIMIT_EXCEEDED names. `GreenroomSocket` is the same by WebSocket.
 */

import { clientPrefix, type laterClientPrefix } from "@greenroom/protocol/api/ClientApi"
import type { Credentials } from "@greenroom/protocol/api/LoginFlow"
import { Context, Duration, Effect, Layer, Redacted } from "effect"
import { FetchHttpClient, HttpClient } from "effect/http"
import { makeAccountRequests } from "./internal/AccountRequests.ts"
import { makeEventRequests } from "./internal/EventRequests.ts"
import { makePeopleRequests } from "./internal/PeopleRequests.ts"
import { makeRoomRequests } from "./internal/RoomRequests.ts"
import { makeTransport, type Transport, type TransportOptions } from "./internal/Transport.ts"

export type { PasswordLogin } from "./internal/AccountRequests.ts"
export type { FollowOptions } from "./internal/EventRequests.ts"
export type { ClientError } from "./internal/Retry.ts"
export type { MessagesOptions, Once } from "./internal/RoomRequests.ts"

/** The address of a home server, and how it is asked. */
export interface GreenroomClientOptions {
  /** `https://example.org`, with a path where a proxy adds one. */
  readonly baseUrl: string
  /** Absent for a client that registers or logs in. */
  readonly accessToken?: Redacted.Redacted
  /** The prefix of requests: the draft's, or its successor's (default: the draft's). */
  readonly prefix?: typeof clientPrefix | typeof laterClientPrefix
  /** The time for which a failing request is retried (default 30 seconds). */
  readonly retryTimeout?: Duration.Input
}

const makeRequests = (transport: Transport) => ({
  ...makeAccountRequests(transport),
  ...makeRoomRequests(transport),
  ...makePeopleRequests(transport),
  ...makeEventRequests(transport),
  /** Every endpoint by group and name, without retries. */
  api: transport.api,
  /** The options of this client. */
  options: transport.options,
  newTransactionId: transport.newTransactionId
})

/** The methods of a client. */
export interface GreenroomClientShape extends ReturnType<typeof makeRequests> {
  /** A client of the same server with another access token, such as that of a login. */
  readonly as: (credentials: Pick<Credentials, "access_token">) => Effect.Effect<GreenroomClientShape>
}

const fromTransport = (options: TransportOptions): Effect.Effect<GreenroomClientShape, never, HttpClient.HttpClient> =>
  Effect.gen(function* () {
    const httpClient = yield* HttpClient.HttpClient
    return {
      ...makeRequests(yield* makeTransport(options)),
      as: ({ access_token }) =>
        fromTransport({ ...options, accessToken: Redacted.make(access_token) }).pipe(
          Effect.provideService(HttpClient.HttpClient, httpClient)
        )
    }
  })

/** A client of the API of 2014. `GreenroomClient.layer` provides one without an access token; `as` makes one of a user. */
export class GreenroomClient extends Context.Service<GreenroomClient, GreenroomClientShape>()(
  "greenroom/client/GreenroomClient"
) {
  /** A client over the `HttpClient` of the environment. */
  static readonly make = (options: GreenroomClientOptions) =>
    fromTransport({
      baseUrl: options.baseUrl.replace(/\/+$/, ""),
      prefix: options.prefix ?? clientPrefix,
      accessToken: options.accessToken,
      retryTimeout: Duration.fromInputUnsafe(options.retryTimeout ?? "30 seconds")
    })

  /** A client over `fetch`. */
  static readonly layer = (options: GreenroomClientOptions): Layer.Layer<GreenroomClient> =>
    Layer.effect(GreenroomClient, GreenroomClient.make(options)).pipe(Layer.provide(FetchHttpClient.layer))
}
