/**
 * The open WebSockets of this node: upgrades connections, finds dead peers, and closes sockets whose access token has
 * ended.
 *
 * Source: docs/client-api.md, "WebSocket".
 */
import { type IncomingMessage, STATUS_CODES } from "node:http"
import type { Duplex } from "node:stream"
import { AccountStandings, lockedError } from "@greenroom/actors/account/AccountStandings"
import type { Accounts } from "@greenroom/actors/account/Accounts"
import type { AppServiceSessions } from "@greenroom/actors/app-service/AppServiceSessions"
import type { AppServices } from "@greenroom/actors/app-service/AppServices"
import { Presences } from "@greenroom/actors/presence/Presences"
import type { RoomReader } from "@greenroom/actors/room/RoomReader"
import type { Rooms } from "@greenroom/actors/room/Rooms"
import type { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { databaseRefusal, isOfUnavailableNode } from "@greenroom/actors/runtime/NodeUnavailable"
import type { Session } from "@greenroom/actors/runtime/Session"
import { SessionRevocations } from "@greenroom/actors/runtime/SessionRevocations"
import type { Subscription } from "@greenroom/actors/sync/EventStream"
import { Events } from "@greenroom/actors/sync/Events"
import type { Users } from "@greenroom/actors/user/Users"
import { canonicalUrl, clientPrefix } from "@greenroom/protocol/api/ClientApi"
import type { UserId } from "@greenroom/protocol/Identifiers"
import {
  BadRequest,
  LimitExceeded,
  type MatrixError,
  statusOf,
  toErrorBody,
  Unrecognized
} from "@greenroom/protocol/MatrixError"
import { closeCodes, maxRequestBytes, type Subprotocol, subprotocols } from "@greenroom/protocol/SocketFrame"
import { gauge } from "@greenroom/store/Measures"
import { periodically } from "@greenroom/store/Supervision"
import { Cause, Context, Effect, FiberSet, Layer, type Scope } from "effect"
import { type WebSocket, WebSocketServer } from "ws"
import { makeAuthenticate, readToken } from "../client-api/AccessToken.ts"
import { pagination } from "../client-api/Paging.ts"
import { unavailable } from "../MatrixHttp.ts"
import { writeError } from "../NodeServer.ts"
import type { RateLimit } from "../RateLimit.ts"
import type { RequestSlots } from "../RequestSlots.ts"
import type { Shutdown } from "../Shutdown.ts"
import type { TrustedProxies } from "../TrustedProxies.ts"
import { UnreadAnswers } from "../UnreadAnswers.ts"
import { makeTakeOfUser } from "../UserRates.ts"
import { ArrivingMessages, maxArrivingBytes } from "./ArrivingMessages.ts"
import { serveConnection } from "./Connection.ts"
import { maxBuffered } from "./Outbox.ts"
import { makeCalls } from "./SocketMethods.ts"

/** How often a peer is pinged. A peer that has not answered by the next ping is dead. */
const pingInterval = "30 seconds"

/** How many sockets a user may have open on this node, on all devices together. Further ones are M_LIMIT_EXCEEDED. */
export const maxSocketsPerUser = 50

/** The retry delay for users with too many sockets, in ms: about as long as a dead peer takes to be found. */
const retryAfter = 60_000

/** The most fragments of a message, and the most chunks in which a frame may arrive. */
const maxParts = 1_000

/** How long clients may take to answer the close frame when the server shuts down. */
const closingTimeout = "2 seconds"

/** The path of the socket, under the draft's prefix. */
const socketPath = `${clientPrefix}/socket`

/** All WebSockets of this node. */
export class Sockets extends Context.Service<
  Sockets,
  {
    /** For the `upgrade` event of the HTTP server. */
    readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void
    /** Closes the sockets of an access token that has ended. */
    readonly closeToken: (tokenId: number) => Effect.Effect<void>
    /** Closes the sockets of a user whose tokens have all ended. */
    readonly closeUser: (userId: UserId) => Effect.Effect<void>
    /** Closes all sockets because the server shuts down, and waits for the close frames of the clients. */
    readonly closeAll: Effect.Effect<void>
  }
>()("greenroom/gateway/Sockets") {
  static readonly layer = (
    proxies: TrustedProxies
  ): Layer.Layer<
    Sockets,
    never,
    | Accounts
    | AccountStandings
    | RoomReader
    | AppServices
    | AppServiceSessions
    | Events
    | HomeServerConfig
    | Presences
    | Rooms
    | Users
    | RateLimit
    | RequestSlots
    | SessionRevocations
    | Shutdown
    | UnreadAnswers
  > =>
    Layer.effect(
      Sockets,
      Effect.suspend(() => makeSockets(proxies))
    )
}

/** An open socket: its user, and whether it answered the last ping. */
interface Open {
  readonly session: Session
  isAlive: boolean
}

/** The parameters that are negotiated before the connection becomes a WebSocket. */
interface Accepted {
  readonly session: Session
  readonly subprotocol: Subprotocol
  readonly subscription: Subscription
}

const makeSockets = Effect.fnUntraced(function* (proxies: TrustedProxies) {
  const open = new Map<WebSocket, Open>()
  yield* gauge("greenroom_websockets", "Open WebSockets", () => open.size)
  const accept = yield* makeAccept(proxies)
  const calls = yield* makeCalls
  const unread = yield* UnreadAnswers
  const presences = yield* Presences
  const revocations = yield* SessionRevocations
  const arriving = new ArrivingMessages(maxArrivingBytes)
  const server = makeWebSocketServer()
  const connections = yield* FiberSet.make<void>()
  const run = yield* FiberSet.runtime(connections)<never>()

  const serve = Effect.fnUntraced(function* (socket: WebSocket, accepted: Accepted) {
    const entry: Open = { session: accepted.session, isAlive: true }
    const onAlive = () => {
      entry.isAlive = true
    }
    socket
      .on("error", ignore)
      .on("pong", onAlive)
      .on("message", onAlive)
      .on("ping", (data: Buffer) => answerPing(socket, data))
    yield* Effect.acquireRelease(
      Effect.sync(() => open.set(socket, entry)),
      () => Effect.sync(() => open.delete(socket))
    )
    yield* Effect.acquireRelease(
      Effect.sync(() => revocations.onEnd(accepted.session, () => closeEnded(socket))),
      (forget) => Effect.sync(forget)
    )
    yield* Effect.acquireRelease(presences.connect(accepted.session), () => presences.disconnect(accepted.session))
    yield* serveConnection({ ...accepted, socket, calls, unread })
  })

  const connect = (request: IncomingMessage, socket: Duplex, head: Buffer) =>
    Effect.flatMap(accept(request), (accepted) => {
      const webSocket = handshake(server, request, socket, head)
      if (webSocket === undefined) return Effect.void
      arriving.watch(webSocket, socket)
      return serve(webSocket, accepted)
    }).pipe(Effect.scoped)

  const closeOf = (isMeant: (session: Session) => boolean) => {
    for (const [socket, { session }] of open) if (isMeant(session)) closeEnded(socket)
  }

  const closeWhere = (isMeant: (session: Session) => boolean) => Effect.sync(() => closeOf(isMeant))

  yield* (yield* AccountStandings).observe(({ locked, userId }) => {
    if (locked) closeOf((session) => session.userId === userId)
  })

  yield* periodically(
    "Pinging sockets",
    pingInterval,
    Effect.sync(() => checkPeers(open))
  )

  return Sockets.of({
    upgrade: (request, socket, head) => {
      socket.on("error", ignore)
      run(Effect.catchCause(connect(request, socket, head), (cause) => refuse(socket, cause)))
    },
    closeToken: (tokenId) => closeWhere((session) => session.tokenId === tokenId),
    closeUser: (userId) => closeWhere((session) => session.userId === userId),
    closeAll: Effect.suspend(() => {
      for (const socket of open.keys()) socket.close(closeCodes.goingAway, "The server is shutting down")
      return FiberSet.awaitEmpty(connections).pipe(
        Effect.timeoutOption(closingTimeout),
        Effect.andThen(
          Effect.sync(() => {
            for (const socket of open.keys()) socket.terminate()
          })
        )
      )
    })
  })
})

const ignore = () => {}

/** Answers a ping, unless the client does not read. */
const answerPing = (socket: WebSocket, data: Buffer): void => {
  if (socket.readyState === socket.OPEN && socket.bufferedAmount < maxBuffered) socket.pong(data)
}

const closeEnded = (socket: WebSocket): void => socket.close(closeCodes.unknownToken, "The access token has ended")

const checkPeers = (open: ReadonlyMap<WebSocket, Open>): void => {
  for (const [socket, entry] of open) {
    if (!entry.isAlive) {
      socket.terminate()
      continue
    }
    entry.isAlive = false
    socket.ping()
  }
}

const offeredBy = (request: IncomingMessage): ReadonlyArray<string> =>
  (request.headers["sec-websocket-protocol"] ?? "")
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "")

const choose = (offered: ReadonlyArray<string>): Subprotocol | undefined =>
  subprotocols.find((name) => offered.includes(name))

/** The subprotocol that client and server speak; JSON for a client that asks for none. */
const negotiate = (request: IncomingMessage): Effect.Effect<Subprotocol, BadRequest> => {
  const offered = offeredBy(request)
  const chosen = offered.length === 0 ? "m.json" : choose(offered)
  return chosen === undefined
    ? Effect.fail(new BadRequest({ error: `Sec-WebSocket-Protocol: expected ${subprotocols.join(" or ")}` }))
    : Effect.succeed(chosen)
}

/** Counts a socket of a user until the scope closes. Errors: M_LIMIT_EXCEEDED if there are too many. */
const makeSlots = () => {
  const taken = new Map<UserId, number>()
  const take = (userId: UserId) => {
    const count = taken.get(userId) ?? 0
    if (count >= maxSocketsPerUser) {
      const error = `Expected at most ${maxSocketsPerUser} sockets of a user at a time`
      return Effect.fail(new LimitExceeded({ error, retry_after_ms: retryAfter }))
    }
    return Effect.sync(() => taken.set(userId, count + 1))
  }
  const giveBack = (userId: UserId) => {
    const count = taken.get(userId) ?? 0
    if (count > 1) taken.set(userId, count - 1)
    else taken.delete(userId)
  }
  return (userId: UserId) =>
    Effect.acquireRelease(
      Effect.suspend(() => take(userId)),
      () => Effect.sync(() => giveBack(userId))
    )
}

/** Checks that can fail, made while an HTTP response can still report the error. */
const makeAccept = Effect.fnUntraced(function* (proxies: TrustedProxies) {
  const events = yield* Events
  const take = yield* makeTakeOfUser
  const authenticate = yield* makeAuthenticate
  const standings = yield* AccountStandings
  const takeSlot = makeSlots()

  return Effect.fnUntraced(function* (request: IncomingMessage): Effect.fn.Return<Accepted, MatrixError, Scope.Scope> {
    const target = canonicalUrl(request.url ?? "/")
    const url = URL.canParse(target, "http://localhost") ? new URL(target, "http://localhost") : undefined
    if (url?.pathname !== socketPath) return yield* new Unrecognized({ error: "There is no WebSocket at this path" })
    const token = readToken(url.searchParams.get("access_token"), request.headers.authorization)
    const session = yield* authenticate(token, yield* proxies.addressOf(request), (name) => url.searchParams.get(name))
    if (standings.of(session.userId).locked) return yield* lockedError
    yield* take("requests", session)
    const subprotocol = yield* negotiate(request)
    yield* takeSlot(session.userId)
    const { from } = yield* pagination({ from: url.searchParams.get("from") ?? undefined })
    const subscription = yield* events.subscribe(session, from)
    return { session, subprotocol, subscription }
  })
})

const makeWebSocketServer = (): WebSocketServer => {
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: maxRequestBytes,
    // Small parts of a message take hundreds of times their bytes. Parts of the size of a packet are 200 of the largest message.
    maxFragments: maxParts,
    maxBufferedChunks: maxParts,
    // One frame of a socket in each turn of the event loop, so that a client that sends very many does not delay the others.
    allowSynchronousEvents: false,
    autoPong: false,
    handleProtocols: (offered) => choose([...offered]) ?? false
  })
  server.on("wsClientError", (error, socket) =>
    writeError(socket, "400 Bad Request", { errcode: "M_UNKNOWN", error: error.message })
  )
  return server
}

/** Undefined if the request was no WebSocket handshake, or the client went away. */
const handshake = (
  server: WebSocketServer,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer
): WebSocket | undefined => {
  let webSocket: WebSocket | undefined
  server.handleUpgrade(request, socket, head, (upgraded) => {
    webSocket = upgraded
  })
  return webSocket
}

/** Answers by HTTP with the reason why there is no WebSocket. */
const refuse = (socket: Duplex, cause: Cause.Cause<MatrixError>): Effect.Effect<void> => {
  const failure = cause.reasons.find(Cause.isFailReason)
  if (failure !== undefined) {
    const status = statusOf[failure.error._tag]
    return Effect.sync(() => writeError(socket, `${status} ${STATUS_CODES[status]}`, toErrorBody(failure.error)))
  }
  const answerUnavailable = Effect.sync(() =>
    writeError(socket, "503 Service Unavailable\r\nretry-after: 1", unavailable)
  )
  if (isOfUnavailableNode(cause)) return answerUnavailable
  const refusal = databaseRefusal(cause)
  if (refusal !== undefined) {
    return Effect.andThen(Effect.logError(`A socket was refused, because ${refusal}`), answerUnavailable)
  }
  return Effect.andThen(
    Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.logError("A socket failed", cause),
    Effect.sync(() => socket.destroy())
  )
}
