/**
 * A client of a home server by today's client API, for Effect programs in Node and in browsers:
 *
 *     const program = Effect.gen(function* () {
 *       const anonymous = yield* MatrixClient
 *       const alice = yield* anonymous.as(yield* anonymous.login({ user: "alice", password }))
 *       const { room_id } = yield* alice.createRoom({ preset: "public_chat", name: "Tea" })
 *       yield* alice.sendText(room_id, "Hello")
 *       yield* Stream.runForEach(alice.syncs(), ({ rooms }) => Console.log(rooms))
 *     })
 *     program.pipe(Effect.provide(MatrixClient.layer({ baseUrl: "https://example.org" })))
 *
 * Requests fail with the errors of the protocol, whose tags are the errcodes (`Effect.catchTag("M_FORBIDDEN", ...)`), or
 * with a `ConnectionError`. Idempotent requests are retried after failures of the connection, and all requests after the
 * pause that M_LIMIT_EXCEEDED names. `api` has every endpoint of the definitions, without retries. Messages are not encrypted.
 *
 * Source: the client-server specification.
 */
import { Context, Duration, Effect, Layer, Redacted } from "effect"
import { FetchHttpClient, HttpClient } from "effect/http"
import { makeMatrixAccounts } from "./internal/MatrixAccounts.ts"
import { makeMatrixContacts } from "./internal/MatrixContacts.ts"
import { makeMatrixMedia } from "./internal/MatrixMedia.ts"
import { makeMatrixRooms } from "./internal/MatrixRooms.ts"
import { makeMatrixSyncs } from "./internal/MatrixSyncs.ts"
import { type MatrixTransport, type MatrixTransportOptions, makeMatrixTransport } from "./internal/MatrixTransport.ts"

export type { MatrixLogin, MatrixRegistration } from "./internal/MatrixAccounts.ts"
export type { ContactMerge, ContactPageOptions } from "./internal/MatrixContacts.ts"
export type { MatrixFile, MatrixUpload } from "./internal/MatrixMedia.ts"
export type { MatrixMessagesOptions, MatrixReason } from "./internal/MatrixRooms.ts"
export type { SyncOptions } from "./internal/MatrixSyncs.ts"
export type { ClientError } from "./internal/Retry.ts"
export type { Once } from "./internal/RoomRequests.ts"

/** The address of a home server, and how it is asked. */
export interface MatrixClientOptions {
  /** `https://example.org`, with a path where a proxy adds one. */
  readonly baseUrl: string
  /** Absent for a client that registers or logs in. */
  readonly accessToken?: Redacted.Redacted
  /** The time for which a failing request is retried (default 30 seconds). */
  readonly retryTimeout?: Duration.Input
}

const makeAll = (transport: MatrixTransport) => ({
  ...makeMatrixAccounts(transport),
  ...makeMatrixRooms(transport),
  ...makeMatrixSyncs(transport),
  ...makeMatrixMedia(transport),
  ...makeMatrixContacts(transport),
  /** Every endpoint by group and name, without retries: `api["clientServer.profile"]`. */
  api: transport.api,
  newTransactionId: transport.newTransactionId
})

/** The methods of a client. */
export interface MatrixClientShape extends ReturnType<typeof makeAll> {
  /** A client of the same server with another access token, such as that of a login. */
  readonly as: (credentials: { readonly access_token: string }) => Effect.Effect<MatrixClientShape>
}

const fromOptions = (options: MatrixTransportOptions): Effect.Effect<MatrixClientShape, never, HttpClient.HttpClient> =>
  Effect.gen(function* () {
    const httpClient = yield* HttpClient.HttpClient
    return {
      ...makeAll(yield* makeMatrixTransport(options)),
      as: ({ access_token }) =>
        fromOptions({ ...options, accessToken: Redacted.make(access_token) }).pipe(
          Effect.provideService(HttpClient.HttpClient, httpClient)
        )
    }
  })

/** A client of today's client API. `MatrixClient.layer` provides one without an access token; `as` makes one of a user. */
export class MatrixClient extends Context.Service<MatrixClient, MatrixClientShape>()("greenroom/client/MatrixClient") {
  /** A client over the `HttpClient` of the environment. */
  static readonly make = (options: MatrixClientOptions) =>
    fromOptions({
      baseUrl: options.baseUrl.replace(/\/+$/, ""),
      accessToken: options.accessToken,
      retryTimeout: Duration.fromInputUnsafe(options.retryTimeout ?? "30 seconds")
    })

  /** A client over `fetch`. */
  static readonly layer = (options: MatrixClientOptions): Layer.Layer<MatrixClient> =>
    Layer.effect(MatrixClient, MatrixClient.make(options)).pipe(Layer.provide(FetchHttpClient.layer))
}
