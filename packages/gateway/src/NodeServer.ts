/**
 * The HTTP server of Node that the gateway listens with: its limits in time and size, its answers to bytes that are not
 * HTTP, and its shutdown.
 */
import type { EventEmitter } from "node:events"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { AddressInfo, Socket } from "node:net"
import type { Duplex } from "node:stream"
import type { ErrorBody } from "@greenroom/protocol/MatrixError"
import { Deferred, Duration, Effect, type Scope } from "effect"
import { ListenError } from "./ListenError.ts"
import { corsHeaders } from "./MatrixHttp.ts"

/** How long a client may take to send the headers of a request, and a body that is no upload, in ms. */
const headersTimeout = 20_000
const bodyTimeout = 60_000

/** Uploads have limits of their own, which go by their size (`media/internal/Receive.ts`). */
const uploadPath = /^\/_?matrix\/(?:media\/|content(?:[/?]|$))/

/** How long a connection may be idle between requests, in ms: longer than reverse proxies keep theirs. */
const keepAliveTimeout = 75_000

/** The longest head of a request, in bytes. */
const maxHeaderSize = 16 * 1024

/**
 * How long a connection is kept after the answer to bytes that are not HTTP, in ms. If it ended while they arrive, its client would be
 * reset before it reads the answer.
 */
const lingerTime = 2_000

/** How many requests of a connection may wait for the answer to an earlier one. */
const maxPipelined = 32

/** The most connections at a time. */
const maxConnections = 32_768

/** Requests that offer another protocol, such as h2c, are answered by HTTP/1.1, and so are those that are refused for their Host. */
const isWebSocketUpgrade = (request: IncomingMessage): boolean =>
  request.headers.upgrade?.toLowerCase() === "websocket" && !hasWrongHost(request)

/** Long polls wait without a limit: nothing here cuts the answer of a complete request. */
export const makeNodeServer = (): Server => {
  const server = createServer({
    headersTimeout,
    requestTimeout: 0,
    keepAliveTimeout,
    maxHeaderSize,
    requireHostHeader: false,
    connectionsCheckingInterval: 5_000,
    shouldUpgradeCallback: isWebSocketUpgrade
  })
  server.maxConnections = maxConnections
  server.on("clientError", answerClientError)
  return server
}

/** Listens until the scope closes. Errors: `ListenError`. */
export const listen = (
  server: Server,
  options: { readonly host: string; readonly port: number }
): Effect.Effect<AddressInfo, ListenError, Scope.Scope> => {
  const sockets = new Set<Socket>()
  // One listener for all: with `once`, each waiting client would hold two closures of its own.
  function forget(this: Socket) {
    sockets.delete(this)
  }
  return Effect.acquireRelease(
    Effect.callback<AddressInfo, ListenError>((resume) => {
      server.on("connection", (socket: Socket) => {
        sockets.add(socket)
        socket.on("close", forget)
      })
      const onError = (error: NodeJS.ErrnoException) =>
        resume(Effect.fail(new ListenError({ code: error.code ?? error.message, ...options })))
      server.once("error", onError)
      server.listen({ host: options.host, port: options.port, backlog: 4_096 }, () => {
        server.off("error", onError)
        resume(Effect.succeed(server.address() as AddressInfo))
      })
    }),
    () => close(server, sockets)
  )
}

/** Fails as `listen` would, before anything else is started. */
export const checkListen = (options: {
  readonly host: string
  readonly port: number
}): Effect.Effect<void, ListenError> =>
  Effect.scoped(Effect.asVoid(Effect.suspend(() => listen(createServer(), options))))

/** Ends all connections. `closeAllConnections` does not know those in their TLS handshake, which would delay the end. */
const close = (server: Server, sockets: ReadonlySet<Socket>): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    server.close(() => resume(Effect.void))
    for (const socket of sockets) socket.destroy()
  })

/** How long a body may pause during a shutdown. */
const bodyPause = Duration.seconds(1)

/** Counts the requests being answered, so that a shutdown can wait for them. */
export interface InFlight {
  readonly track: (response: ServerResponse) => void
  /** The same for a request whose body has not arrived whole. */
  readonly trackBody: (request: IncomingMessage, response: ServerResponse) => void
  /** Waits until nothing is being answered. A request whose body pauses gets 503. Connections end with the answers of further requests. */
  readonly drained: Effect.Effect<void>
}

/** A counter of requests for one server. */
export const makeInFlight = (): InFlight => {
  let count = 0
  let isDraining = false
  let waiting: Deferred.Deferred<void> | undefined
  const onClose = () => {
    count--
    if (count === 0 && waiting !== undefined) Deferred.doneUnsafe(waiting, Effect.void)
  }
  const bodies = new Map<IncomingMessage, ServerResponse>()
  /** The bytes of each connection that had arrived at the last check. */
  const arrived = new WeakMap<IncomingMessage, number>()
  const refusePaused = Effect.sync(() => {
    for (const [request, response] of bodies) {
      if (request.complete) continue
      const { bytesRead } = request.socket
      if (arrived.get(request) === bytesRead) refuseLate(request.socket, response)
      arrived.set(request, bytesRead)
    }
  })
  return {
    track: (response) => {
      count++
      // A connection that is kept would bring another request, which would hold up the end.
      if (isDraining) response.shouldKeepAlive = false
      response.on("close", onClose)
    },
    trackBody: (request, response) => {
      bodies.set(request, response)
      request.once("close", () => bodies.delete(request))
    },
    drained: Effect.suspend(() => {
      isDraining = true
      if (count === 0) return Effect.void
      waiting = Deferred.makeUnsafe<void>()
      const refusing = Effect.forever(Effect.andThen(refusePaused, Effect.sleep(bodyPause)))
      return Effect.raceFirst(Deferred.await(waiting), refusing)
    })
  }
}

/** Answers a request whose body has not arrived when the server goes down, and ends its connection. */
const refuseLate = (socket: Socket, response: ServerResponse): void => {
  if (!response.headersSent && socket.writable) {
    const error = { errcode: "M_UNKNOWN", error: "The server is shutting down, try again later" } as const
    writeError(socket, "503 Service Unavailable\r\nretry-after: 1", error)
  }
  socket.destroySoon()
}

/** Answers a request that no endpoint sees, and closes the connection: its body may not have been sent. */
const refuse = (response: ServerResponse, status: number, error: string): void => {
  const body = JSON.stringify({ errcode: "M_UNKNOWN", error } satisfies ErrorBody)
  const length = Buffer.byteLength(body)
  const headers = { "content-type": "application/json", "content-length": length, connection: "close" }
  response.writeHead(status, { ...headers, ...corsHeaders }).end(body)
}

/** A name or an address, with a port or without one: the characters of RFC 3986, section 3.2.2. */
const hostPattern = /^(?:[\w.~!$&'()*+,;=%-]+|\[[\da-f:.]+\])(?::\d*)?$/i

/**
 * Whether Host is missing in a request of HTTP/1.1, where Node would refuse it without a body, is no host, or is given twice. A proxy in
 * front might have read the other one.
 *
 * Source: RFC 9112, section 3.2.
 */
const hasWrongHost = ({ headers, httpVersionMajor, httpVersionMinor, rawHeaders }: IncomingMessage): boolean => {
  if (headers.host === undefined) return httpVersionMajor === 1 && httpVersionMinor === 1
  if (!hostPattern.test(headers.host)) return true
  let count = 0
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index]!
    if (name.length === 4 && name.toLowerCase() === "host") count++
  }
  return count > 1
}

/** Ends a request whose body does not arrive in time. For uploads the time starts with an answer before the end of the body. */
export const limitBodyTime = (request: IncomingMessage, response: ServerResponse): void => {
  const start = () => {
    if (request.complete) return
    const late = Object.assign(new Error(), { code: "ERR_HTTP_REQUEST_TIMEOUT" })
    const timer = setTimeout(() => answerClientError(late, request.socket), bodyTimeout)
    request.once("close", () => clearTimeout(timer))
  }
  if (uploadPath.test(request.url ?? "")) response.once("finish", start)
  else start()
}

type RequestListener = (request: IncomingMessage, response: ServerResponse) => void

/** Hooks of `answerRequests`. */
export interface AnswerOptions {
  /** Gets each request when it arrives. */
  readonly onRequest?: RequestListener | undefined
  /** Gets each request whose body has not arrived whole, before `handle`. */
  readonly onIncomplete?: RequestListener | undefined
  /**
   * Whether the process began or came back a moment ago (`Leases.isBack`). Requests whose clients have gone are not handled then:
   * what they ask for may have been changed at another node since.
   */
  readonly isBack?: (() => boolean) | undefined
}

/**
 * Answers the requests of a server by `handle`: first all requests of one turn of the event loop are read, then they are
 * handled one after the other. Small bodies have arrived by then and are read without waiting, and the code of each of
 * the two steps stays in the caches of the processor. The server must have `requireHostHeader: false`.
 */
export const answerRequests = (
  server: EventEmitter,
  inFlight: InFlight,
  handle: RequestListener,
  { isBack = () => false, onIncomplete, onRequest }: AnswerOptions = {}
): void => {
  let arrived: Array<readonly [IncomingMessage, ServerResponse]> = []
  const answer = () => {
    const batch = arrived
    arrived = []
    // The end of a connection is read in the turn after its request.
    if (isBack()) setImmediate(() => setImmediate(answerAll, batch))
    else answerAll(batch)
  }
  const answerAll = (batch: typeof arrived) => {
    for (const [request, response] of batch) {
      if (response.destroyed || request.socket.destroyed) continue
      if (!request.complete) {
        inFlight.trackBody(request, response)
        onIncomplete?.(request, response)
      }
      handle(request, response)
    }
  }
  const take = (request: IncomingMessage, response: ServerResponse) => {
    inFlight.track(response)
    onRequest?.(request, response)
    if (hasWrongHost(request)) return refuse(response, 400, "Host: expected the name of the server, once")
    if (arrived.push([request, response]) === 1) setImmediate(answer)
  }
  const waiting = new WeakMap<Socket, number>()
  server.on("request", (request: IncomingMessage, response: ServerResponse) => {
    if (response.socket !== null) return take(request, response)
    // The connection still writes an earlier response. A response that waits for it does not learn when it closes.
    const { socket } = request
    const ahead = waiting.get(socket) ?? 0
    if (ahead === maxPipelined) return socket.destroy()
    waiting.set(socket, ahead + 1)
    response.once("socket", () => {
      waiting.set(socket, (waiting.get(socket) ?? 1) - 1)
      take(request, response)
    })
  })
  server.on("checkExpectation", (_request: IncomingMessage, response: ServerResponse) =>
    refuse(response, 417, "Expect: expected 100-continue")
  )
}

const cors = Object.entries(corsHeaders)
  .map(([name, value]) => `${name}: ${value}\r\n`)
  .join("")

/** A whole HTTP response with an error of the protocol, for a connection that is not answered otherwise. */
export const writeError = (socket: Duplex, status: string, error: ErrorBody): void => {
  const body = JSON.stringify(error)
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n` +
      `${cors}connection: close\r\n\r\n${body}`
  )
}

/** Ends the connection once its client has had time to read the answer. What the client still sends is dropped. */
const endSoon = (socket: Duplex): void => {
  const timer = setTimeout(() => socket.destroy(), lingerTime)
  socket.once("close", () => clearTimeout(timer))
}

/** Answers bytes that are not HTTP, too slow or too many. */
export const answerClientError = (error: NodeJS.ErrnoException, socket: Duplex): void => {
  if (error.code === "ECONNRESET" || socket.destroyed) return void socket.destroy()
  // More bytes of what was answered before.
  if (!socket.writable) return
  endSoon(socket)
  if (error.code === "HPE_HEADER_OVERFLOW") {
    writeError(socket, "431 Request Header Fields Too Large", {
      errcode: "M_TOO_LARGE",
      error: "The request headers are too large"
    })
  } else if (error.code === "ERR_HTTP_REQUEST_TIMEOUT") {
    writeError(socket, "408 Request Timeout", { errcode: "M_UNKNOWN", error: "The request did not arrive in time" })
  } else {
    writeError(socket, "400 Bad Request", { errcode: "M_UNKNOWN", error: "The request is not valid HTTP" })
  }
}
