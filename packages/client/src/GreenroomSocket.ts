/**
 * A WebSocket to a home server, for Effect programs in Node and in browsers: the event stream as it happens, and
 * requests beside it.
 *
 *     const socket = yield* GreenroomSocket.connect(alice)
 *     yield* socket.request("send", { room_id, type: "m.room.message", content: { msgtype: "m.text", body: "Hello" } })
 *     yield* Stream.runForEach(socket.events, (event) => Console.log(event))
 *
 * After a lost connection the client connects again and continues the stream where it was: every event arrives once, in
 * order. Requests without an answer are sent again; those that must not happen twice carry a transaction ID, which the client
 * chooses where the caller gives none. The socket lives as long as its scope.
 *
 * Source: "Receiving live updates on a client" of the draft; the socket is Greenroom's.
 */
import type {
  CreatedRoom,
  EventStreamChunk,
  InitialSync,
  JoinedRoom,
  MessagePage,
  PresenceContent,
  RoomInitialSync,
  SentEvent,
  StreamedEvent
} from "@greenroom/protocol/api/Answers"
import type { Done } from "@greenroom/protocol/api/Body"
import type { ClientEvent } from "@greenroom/protocol/Event"
import type { JsonObject } from "@greenroom/protocol/Json"
import { TooLarge, UnknownToken } from "@greenroom/protocol/MatrixError"
import {
  closeCodes,
  decodeServerFrame,
  encodeRequest,
  type FrameData,
  maxRequestBytes,
  type ServerFrame,
  type SocketRequest,
  type Subprotocol
} from "@greenroom/protocol/SocketFrame"
import { type SocketMethod, type SocketParams, socketMethods } from "@greenroom/protocol/SocketMethod"
import { Cause, Deferred, Effect, Layer, Result, type Scope, Stream } from "effect"
import { Socket } from "effect/socket"
import { ConnectionError } from "./ConnectionError.ts"
import type { GreenroomClientShape } from "./GreenroomClient.ts"
import { type ChunkBuffer, makeChunkBuffer } from "./internal/ChunkBuffer.ts"
import { fromErrorBody } from "./internal/MatrixErrors.ts"
import { makePendingRequests, type PendingRequests } from "./internal/PendingRequests.ts"
import { type ClientError, pauseAfter, retrying } from "./internal/Retry.ts"
import { socketAddress } from "./internal/SocketAddress.ts"

/** Options of the stream: its beginning and its form. */
export interface GreenroomSocketOptions {
  /** A token, or `START`. Absent: from now on. */
  readonly from?: string
  /** Text frames of JSON, or binary frames of MessagePack (default `m.json`). */
  readonly subprotocol?: Subprotocol
}

/** The results of the methods. */
export interface SocketResults {
  readonly send: SentEvent
  readonly state: SentEvent | JsonObject | ReadonlyArray<ClientEvent>
  readonly join: JoinedRoom
  readonly leave: Done
  readonly invite: Done
  readonly kick: Done
  readonly ban: Done
  readonly unban: Done
  readonly typing: Done
  readonly presence: Done | PresenceContent
  readonly messages: MessagePage
  readonly initialSync: InitialSync | RoomInitialSync
  readonly members: MessagePage
  readonly createRoom: CreatedRoom
  readonly redact: SentEvent
  readonly profile: JsonObject
  readonly ping: Done
}

/** A connected WebSocket. */
export interface GreenroomSocket {
  /** Calls a method of the socket. Errors: those of the method, `ConnectionError` when the socket has ended. */
  readonly request: <Method extends SocketMethod & keyof SocketResults>(
    method: Method,
    params: SocketParams<Method>
  ) => Effect.Effect<SocketResults[Method], ClientError>
  /** The stream in non-empty chunks, each with the token to continue from. For one consumer. */
  readonly chunks: Stream.Stream<EventStreamChunk, ClientError>
  /** The stream, event by event. For one consumer. */
  readonly events: Stream.Stream<StreamedEvent, ClientError>
}

/** How often a silent connection is pinged, and how long it may take to answer. */
const keepAliveInterval = "30 seconds"
const keepAliveTimeout = "15 seconds"

interface State {
  readonly client: GreenroomClientShape
  readonly subprotocol: Subprotocol
  readonly socket: Socket.Socket
  readonly buffer: ChunkBuffer
  readonly pending: PendingRequests
  /** Writes frames to the connection that is open; undefined while there is none. */
  write: ((frame: FrameData) => Effect.Effect<void>) | undefined
  /** Ends the connection that is open, so that another is made. */
  drop: () => void
}

/**
 * Connects, and stays connected until the scope closes. The stream and all requests fail when the socket ends for good:
 * M_UNKNOWN_TOKEN, M_BAD_PAGINATION for a `from` that is no token, `ConnectionError` if the server is not reached within the
 * `retryTimeout` of the client.
 */
export const connectWith: (
  client: GreenroomClientShape,
  options?: GreenroomSocketOptions
) => Effect.Effect<GreenroomSocket, ClientError, Scope.Scope | Socket.WebSocketConstructor> = Effect.fnUntraced(
  function* (client, { from, subprotocol = "m.json" } = {}) {
    const buffer = yield* makeChunkBuffer(from ?? (yield* client.now))
    const socket = yield* Socket.makeWebSocket(
      Effect.sync(() => socketAddress(client.options, buffer.position())),
      { protocols: [subprotocol] }
    )
    const pending = makePendingRequests()
    const state: State = { client, subprotocol, socket, buffer, pending, write: undefined, drop: () => {} }
    yield* Effect.forkScoped(keepConnected(state))
    yield* Effect.forkScoped(keepAlive(state))
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => endWith(state, Cause.fail(new ConnectionError({ error: "Closed", transient: false }))))
    )
    const chunks = Stream.fromEffectRepeat(buffer.take(() => state.drop()))
    return {
      request: (method, params) => request(state, method, params),
      chunks,
      events: Stream.flatMap(chunks, ({ chunk }) => Stream.fromIterable(chunk))
    } satisfies GreenroomSocket
  }
)

/** `connectWith` over the WebSocket that browsers and Node have. */
export const connect = (
  client: GreenroomClientShape,
  options?: GreenroomSocketOptions
): Effect.Effect<GreenroomSocket, ClientError, Scope.Scope> =>
  Effect.scope.pipe(
    Effect.flatMap((scope) => Layer.buildWithScope(Socket.layerWebSocketConstructorGlobal, scope)),
    Effect.flatMap((context) => Effect.provideContext(connectWith(client, options), context))
  )

const endWith = ({ buffer, pending }: State, cause: Cause.Cause<ClientError>): void => {
  pending.fail(cause)
  buffer.fail(cause)
}

/** Connects again and again, until a failure that the next connection would have too. */
const keepConnected = (state: State): Effect.Effect<void> => {
  const attempt = (failures: number): Effect.Effect<never, ClientError> =>
    Effect.gen(function* () {
      const { opened, error } = yield* serve(state)
      const fatal = yield* diagnose(state, error, opened)
      if (fatal !== undefined) return yield* Effect.fail(fatal)
      if (failures >= maxRefusals) return yield* Effect.fail(refused)
      if (!opened) yield* Effect.sleep(yield* pauseAfter(failures))
      return yield* attempt(opened ? 0 : failures + 1)
    })
  return Effect.catchCause(attempt(0), (cause) =>
    Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.sync(() => endWith(state, cause))
  )
}

/** The reason why the next connection would fail too. Browsers hide why a handshake was refused, so it is requested by HTTP. */
const diagnose = (
  { buffer, client }: State,
  { reason }: Socket.SocketError,
  opened: boolean
): Effect.Effect<ClientError | undefined> => {
  if (reason._tag === "SocketCloseError") {
    const error = reason.closeReason || "The server closed the socket"
    if (reason.code === closeCodes.unknownToken) return Effect.succeed(new UnknownToken({ error }))
  }
  if (opened) return Effect.succeed(undefined)
  return client.poll({ from: buffer.position(), timeout: 0, limit: 1 }).pipe(
    Effect.as(undefined),
    Effect.catch((error) => Effect.succeed(error))
  )
}

/** Serves one connection until it ends. */
const serve = (state: State): Effect.Effect<{ readonly opened: boolean; readonly error: Socket.SocketError }> =>
  Effect.suspend(() => {
    let opened = false
    return Effect.gen(function* () {
      const { pull } = yield* state.socket.reader
      const { write } = yield* state.socket.writer
      opened = true
      state.buffer.reconnected()
      const dropped = Deferred.makeUnsafe<never, Socket.SocketError>()
      state.drop = () => Deferred.doneUnsafe(dropped, Effect.fail(closed))
      // A failed write means that the connection has ended, which the reader reports.
      state.write = (frame) => Effect.ignore(write(frame))
      yield* Effect.forEach(state.pending.frames(), state.write, { discard: true })
      const read = Effect.forever(Effect.flatMap(pull, (frames) => Effect.sync(() => takeAll(state, frames))))
      return yield* Effect.raceFirst(read, Deferred.await(dropped))
    }).pipe(
      Effect.ensuring(
        Effect.sync(() => {
          state.write = undefined
          state.drop = () => {}
        })
      ),
      Effect.scoped,
      Effect.catch((error) => Effect.succeed({ opened, error }))
    )
  })

/** How many handshakes in a row may fail while the server answers by HTTP. */
const maxRefusals = 10

const refused = new ConnectionError({ error: "The server opens no WebSocket", transient: false })

const closed = new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1000 }) })

const takeAll = (state: State, frames: ReadonlyArray<FrameData>): void => {
  for (const data of frames) {
    const frame = decodeServerFrame(state.subprotocol, data)
    if (Result.isSuccess(frame)) take(state, frame.success)
    else state.drop()
  }
}

const take = ({ buffer, pending }: State, frame: ServerFrame): void => {
  if ("chunk" in frame) buffer.offer(frame as unknown as EventStreamChunk)
  else if ("error" in frame) pending.answer(frame.id, Effect.fail(fromErrorBody(frame.error)))
  else pending.answer(frame.id, Effect.succeed(frame.result))
}

const isOnceOnly = (method: SocketMethod): boolean => "txn_id" in socketMethods[method].fields

const sizeOf = (frame: FrameData): number =>
  typeof frame === "string" ? new TextEncoder().encode(frame).length : frame.length

const request = <Method extends SocketMethod & keyof SocketResults>(
  state: State,
  method: Method,
  params: SocketParams<Method>
): Effect.Effect<SocketResults[Method], ClientError> =>
  Effect.suspend(() => {
    const { client, pending, subprotocol } = state
    const txn_id = client.newTransactionId()
    const once = isOnceOnly(method) ? { txn_id, ...params } : params
    const send = Effect.suspend(() => {
      const id = pending.newId()
      const frame = encodeRequest(subprotocol, { id, method, params: once } as unknown as SocketRequest)
      if (sizeOf(frame) > maxRequestBytes) {
        return Effect.fail(new TooLarge({ error: `The request is larger than ${maxRequestBytes} bytes` }))
      }
      return pending.add(
        id,
        frame,
        Effect.suspend(() => state.write?.(frame) ?? Effect.void)
      )
    })
    return retrying(send, { repeatable: false, retryTimeout: client.options.retryTimeout })
  }) as Effect.Effect<SocketResults[Method], ClientError>

/**
 * Replaces a connection that does not answer. It requests the user's own presence, since `ping` counts as activity of the
 * user.
 */
const keepAlive = (state: State): Effect.Effect<void> =>
  request(state, "presence", {}).pipe(
    Effect.timeout(keepAliveTimeout),
    Effect.catchTag("TimeoutError", () => Effect.sync(() => state.drop())),
    Effect.ignore,
    Effect.delay(keepAliveInterval),
    Effect.forever
  )
