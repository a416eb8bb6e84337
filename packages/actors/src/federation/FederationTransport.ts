/**
 * HTTPS to other home servers: connections that are kept and used again, every target of a server name in turn until one
 * answers, limits in time and size. It signs nothing and knows no endpoint; `FederationClient` and `RemoteKeys` do.
 *
 * The certificate must be that of the server name, wherever SRV records or the configuration lead.
 *
 * Source: "Federation" of the draft, "TLS" of the server-server specification.
 */
import type { ClientRequest, IncomingMessage } from "node:http"
import { Agent, request as httpsRequest } from "node:https"
import type { Socket } from "node:net"
import { rootCertificates } from "node:tls"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Clock, Context, Data, Effect, identity, Layer, Option, type Scope } from "effect"
import { Bans } from "../runtime/Bans.ts"
import { ByteCollector } from "../runtime/ByteCollector.ts"
import { Departure } from "../runtime/Departure.ts"
import { refuseUpgrade } from "../runtime/refuseUpgrade.ts"
import { lookupAllowed } from "./AddressPolicy.ts"
import { addressPolicyOf, FederationConfig, talksWith } from "./FederationConfig.ts"
import { RemoteInvalid, RemoteUnreachable } from "./RemoteError.ts"
import { ServerDiscovery, type Target } from "./ServerDiscovery.ts"

/** A request to a server name. */
export interface TransportRequest {
  readonly destination: ServerName
  readonly method: "GET" | "PUT" | "POST"
  /** Path and query. */
  readonly uri: string
  readonly headers?: { readonly [name: string]: string }
  readonly body?: Uint8Array
  /** The largest answer that is read, in bytes. */
  readonly maxBytes: number
  /** How long all of it may take, in ms. */
  readonly timeout: number
  /** It may be sent twice where the first connection stays silent (default: no). */
  readonly mayRepeat?: boolean
}

/** A request whose caller reads the answer's body. `timeout` is for its head alone. */
export interface OpenRequest extends Omit<TransportRequest, "maxBytes"> {
  /** The answer is a file, which may take long: it must not hold the connections of other requests. */
  readonly isFile?: boolean
}

/** Where a request is. */
interface Progress {
  /** It waits until one of the connections of this node is free. */
  isQueued: boolean
}

/** The response of a home server. */
export interface TransportResponse {
  readonly status: number
  readonly body: Buffer
  /** The Retry-After header in ms, if there is one in seconds. */
  readonly retryAfter: number | undefined
}

const defaultConnectTimeout = 5_000
/** The time limit of a request, in ms. */
export const defaultRequestTimeout = 30_000

/** How long an idle connection is kept, in ms: shorter than servers keep theirs. */
const idleTimeout = 55_000

/**
 * How long a connection that is used again may be silent after a request, in ms. Behind a load balancer it may lead to a node that was
 * stopped, and a new one leads to another node.
 */
const defaultSilenceTimeout = 5_000

/** How long what waits for a server with which the operator wants no federation is left alone, in ms. A restart may change that. */
const deniedFor = 86_400_000

const maxSocketsPerTarget = 8
const maxSockets = 1_024

/** No answer from one target; the next may have one. */
class TargetFailed extends Data.TaggedError("TargetFailed")<{
  readonly reason: string
  /** The request used an idle connection, which the other side closed at the same moment, or which stayed silent. */
  readonly wasReused: boolean
}> {}

/** The answer is larger than was asked for. */
class AnswerTooLarge extends Data.TaggedError("AnswerTooLarge") {}

type SendError = TargetFailed | AnswerTooLarge

/** Ends the request if the connection does not stand in time. A connection that is used again stands already. */
const limitConnecting = (request: ClientRequest, timeout: number): void => {
  request.once("socket", (socket: Socket) => {
    if (request.reusedSocket) return
    const timer = setTimeout(() => request.destroy(new Error("the connection did not stand in time")), timeout)
    const stop = () => clearTimeout(timer)
    socket.once("secureConnect", stop)
    socket.once("close", stop)
  })
}

/** Closes the idle connections to where a connection leads: the next request has a new one. */
const closeIdle = (agent: Agent, { remoteAddress, remotePort }: Socket): void => {
  for (const idle of Object.values(agent.freeSockets).flatMap((sockets) => sockets ?? [])) {
    if (idle.remoteAddress === remoteAddress && idle.remotePort === remotePort) idle.destroy()
  }
}

/** How many bytes the system has taken of a connection, and given. */
const bytesMoved = (socket: Socket): number => socket.bytesRead + socket.bytesWritten - socket.writableLength

/**
 * Watches a connection that is used again: where nothing moves before the answer, the idle ones to the same place are closed, and
 * `onSilent` is called. A new connection has shown by its handshake that there is a process at its end.
 */
const watchSilence = (request: ClientRequest, agent: Agent, timeout: number, onSilent: () => void): void => {
  request.once("socket", (socket: Socket) => {
    if (!request.reusedSocket) return
    let moved = bytesMoved(socket)
    const timer = setInterval(() => {
      const before = moved
      moved = bytesMoved(socket)
      if (moved !== before) return
      stop()
      closeIdle(agent, socket)
      onSilent()
    }, timeout / 2)
    const stop = () => clearInterval(timer)
    request.once("response", stop)
    request.once("close", stop)
  })
}

/** Node gathers the failures of several addresses, whose message is empty then. */
const describe = (error: Error): string => {
  const first = error instanceof AggregateError ? (error.errors[0] as Error) : error
  return first.message || (first as NodeJS.ErrnoException).code || "the connection failed"
}

/** The Retry-After header in ms, if there is one in seconds. */
export const retryAfterOf = (response: IncomingMessage): number | undefined => {
  const seconds = response.headers["retry-after"]
  return seconds !== undefined && /^[0-9]{1,7}$/.test(seconds) ? Number(seconds) * 1_000 : undefined
}

/** Reads the answer up to its limit. */
const readAnswer = (
  response: IncomingMessage,
  maxBytes: number,
  done: (result: TransportResponse | AnswerTooLarge | Error) => void
): void => {
  const bytes = new ByteCollector()
  response.on("data", (chunk: Buffer) => {
    if (bytes.length + chunk.length <= maxBytes) return bytes.add(chunk)
    response.destroy()
    done(new AnswerTooLarge())
  })
  // A moment later, when the connection is free for the next request.
  response.once("end", () =>
    setImmediate(done, {
      status: response.statusCode ?? 0,
      body: bytes.take(),
      retryAfter: retryAfterOf(response)
    })
  )
  response.once("error", done)
}

const make = Effect.gen(function* () {
  const config = yield* FederationConfig
  const discovery = yield* ServerDiscovery
  // A client of the federation API that is not a whole home server has no bans, and no actors.
  const bans = Option.getOrUndefined(yield* Effect.serviceOption(Bans))
  const departure = Option.getOrUndefined(yield* Effect.serviceOption(Departure))
  const whileStaying: Departure["Service"]["whileStaying"] = departure?.whileStaying ?? identity
  const connectTimeout = config.connectTimeout ?? defaultConnectTimeout
  const silenceTimeout = config.silenceTimeout ?? defaultSilenceTimeout
  const { certificateAuthorities } = config
  const lookup = lookupAllowed(addressPolicyOf(config))
  const makeAgent = Effect.acquireRelease(
    Effect.sync(
      () =>
        new Agent({
          keepAlive: true,
          maxSockets: maxSocketsPerTarget,
          maxFreeSockets: 2,
          maxTotalSockets: maxSockets,
          scheduling: "lifo",
          timeout: idleTimeout,
          rejectUnauthorized: config.verifyCertificates ?? true,
          ...(certificateAuthorities === undefined ? {} : { ca: [...rootCertificates, ...certificateAuthorities] })
        })
    ),
    (agent) => Effect.sync(() => agent.destroy())
  )
  const requestsAgent = yield* makeAgent
  const filesAgent = yield* makeAgent

  const start = (target: Target, request: OpenRequest, progress: Progress): ClientRequest => {
    const agent = request.isFile === true ? filesAgent : requestsAgent
    progress.isQueued = true
    const outgoing = httpsRequest({
      agent,
      host: target.host,
      port: target.port,
      servername: target.tlsServerName,
      ...(target.isConfigured === true ? {} : { lookup }),
      method: request.method,
      path: request.uri,
      headers: {
        host: target.hostHeader ?? request.destination,
        ...request.headers,
        ...(request.body === undefined ? {} : { "content-length": request.body.length })
      }
    })
    outgoing.once("socket", () => {
      progress.isQueued = false
    })
    limitConnecting(outgoing, connectTimeout)
    refuseUpgrade(outgoing)
    watchSilence(outgoing, agent, silenceTimeout, () => {
      if (request.mayRepeat === true) outgoing.destroy(new Error("the connection stayed silent"))
    })
    return outgoing
  }

  const send = (
    target: Target,
    request: TransportRequest,
    progress: Progress
  ): Effect.Effect<TransportResponse, SendError> =>
    Effect.callback((resume) => {
      const outgoing = start(target, request, progress)
      const failed = (error: Error) =>
        resume(Effect.fail(new TargetFailed({ reason: describe(error), wasReused: outgoing.reusedSocket })))
      outgoing.on("error", failed)
      outgoing.once("response", (response) =>
        readAnswer(response, request.maxBytes, (result) => {
          if (result instanceof AnswerTooLarge) resume(Effect.fail(result))
          else if (result instanceof Error) failed(result)
          else resume(Effect.succeed(result))
        })
      )
      outgoing.end(request.body)
      return Effect.sync(() => outgoing.destroy())
    })

  /** The head of the answer. The body has not been read yet. */
  const openTarget = (
    target: Target,
    request: OpenRequest,
    progress: Progress
  ): Effect.Effect<IncomingMessage, TargetFailed> =>
    Effect.callback((resume) => {
      const outgoing = start(target, request, progress)
      outgoing.on("error", (error) =>
        resume(Effect.fail(new TargetFailed({ reason: describe(error), wasReused: outgoing.reusedSocket })))
      )
      outgoing.once("response", (response) => resume(Effect.succeed(response)))
      outgoing.end(request.body)
      return Effect.sync(() => outgoing.destroy())
    })

  /** Tries again where the connection that the first attempt used again was closed, or stayed silent. */
  const fresh = <A, E extends SendError>(attempt: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.catchIf(
      attempt,
      (error) => error._tag === "TargetFailed" && error.wasReused,
      () => attempt
    )

  const tooLarge = ({ destination, maxBytes }: TransportRequest) =>
    new RemoteInvalid({ destination, reason: `the answer is larger than ${maxBytes} bytes` })

  /** Tries the targets of a destination, until one answers or the time is over. */
  const tryTargets = <A, E>(
    { destination, timeout }: OpenRequest,
    attempt: (target: Target, progress: Progress) => Effect.Effect<A, TargetFailed | E>
  ): Effect.Effect<A, RemoteUnreachable | E> => {
    const progress: Progress = { isQueued: false }
    const tried = Effect.gen(function* () {
      progress.isQueued = false
      if (bans?.has("server", destination) === true) {
        return yield* new RemoteUnreachable({ destination, reason: "the server is banned by the administrators" })
      }
      if (!talksWith(config, destination)) {
        const retryAt = (yield* Clock.currentTimeMillis) + deniedFor
        return yield* new RemoteUnreachable({
          destination,
          reason: "federation with this server is switched off",
          retryAt
        })
      }
      let reason = ""
      for (const target of yield* discovery.find(destination)) {
        const result = yield* Effect.result(attempt(target, progress))
        if (result._tag === "Success") return result.success
        if (!(result.failure instanceof TargetFailed)) return yield* Effect.fail(result.failure as E)
        reason = result.failure.reason
      }
      yield* discovery.forget(destination)
      return yield* new RemoteUnreachable({ destination, reason })
    })
    const late = () =>
      progress.isQueued
        ? new RemoteUnreachable({ destination, reason: "too many connections are in use", isOwnLimit: true })
        : new RemoteUnreachable({ destination, reason: `no answer within ${timeout} ms` })
    return whileStaying(Effect.timeoutOrElse(tried, { duration: timeout, orElse: () => Effect.fail(late()) }))
  }

  const request = Effect.fn("FederationTransport.request")((request: TransportRequest) =>
    tryTargets(request, (target, progress) =>
      Effect.catchTag(fresh(send(target, request, progress)), "AnswerTooLarge", () => Effect.fail(tooLarge(request)))
    )
  )

  const open = (request: OpenRequest) =>
    Effect.acquireRelease(
      tryTargets<IncomingMessage, never>(request, (target, progress) => fresh(openTarget(target, request, progress))),
      (response) => Effect.sync(() => response.destroy()),
      { interruptible: true }
    )

  return FederationTransport.of({ request, open })
})

/** HTTPS connections to other home servers. Signs nothing. */
export class FederationTransport extends Context.Service<
  FederationTransport,
  {
    /** Sends a request to the first target of the destination that answers; whatever the status, that is the answer. */
    readonly request: (request: TransportRequest) => Effect.Effect<TransportResponse, RemoteUnreachable | RemoteInvalid>
    /** The same for an answer that is read as a stream, which ends with the scope. */
    readonly open: (request: OpenRequest) => Effect.Effect<IncomingMessage, RemoteUnreachable, Scope.Scope>
  }
>()("greenroom/actors/FederationTransport") {
  static readonly layer: Layer.Layer<FederationTransport, never, FederationConfig | ServerDiscovery> = Layer.effect(
    FederationTransport,
    make
  )
}
