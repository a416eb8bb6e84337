/**
 * A WebSocket client for tests: it sends requests, and queues answers and chunks of the event stream.
 */
import {
  decodeServerFrame,
  encodeRequest,
  type ServerFrame,
  type SocketAnswer,
  type SocketChunk,
  type Subprotocol
} from "@greenroom/protocol/SocketFrame"
import type { SocketCall } from "@greenroom/protocol/SocketMethod"
import { Effect, Queue, Result } from "effect"
import { type ClientOptions, WebSocket } from "ws"
import { Gateway } from "../../src/Gateway.ts"
import { prefix, type TestUser } from "../TestGateway.ts"

export interface TestSocket {
  readonly socket: WebSocket
  readonly ask: (id: number, call: SocketCall) => Effect.Effect<void>
  /** The next answer or refusal. */
  readonly answer: Effect.Effect<SocketAnswer>
  /** The next chunk of the event stream. */
  readonly chunk: Effect.Effect<SocketChunk>
  /** The code and the reason with which the server closes. */
  readonly closed: Effect.Effect<{ readonly code: number; readonly reason: string }>
}

/** The status and body with which the server refuses to open a socket. */
export interface Refused {
  readonly status: number
  readonly body: { readonly errcode: string; readonly error: string; readonly retry_after_ms: number }
}

const isChunk = (frame: ServerFrame): frame is SocketChunk => "chunk" in frame

const open = (socket: WebSocket) =>
  Effect.callback<void, Refused>((resume) => {
    socket.once("open", () => resume(Effect.void))
    socket.on("error", () => {})
    socket.once("unexpected-response", (_request, response) => {
      let text = ""
      response.on("data", (data) => {
        text += data
      })
      response.on("end", () => resume(Effect.fail({ status: response.statusCode ?? 0, body: JSON.parse(text) })))
    })
  })

/** Opens a socket, and closes it with the scope. Fails with the answer by which the server refuses it. */
export const connect = Effect.fnUntraced(function* (
  user: Pick<TestUser, "token">,
  subprotocol: Subprotocol | "m.other" | undefined,
  query = "",
  options: ClientOptions = {}
) {
  const { url } = yield* Gateway
  const answers = yield* Queue.unbounded<SocketAnswer>()
  const chunks = yield* Queue.unbounded<SocketChunk>()
  const target = `${url.replace("http", "ws")}${prefix}/socket?access_token=${user.token}${query}`
  const socket = yield* Effect.acquireRelease(
    Effect.sync(() => new WebSocket(target, subprotocol === undefined ? [] : [subprotocol], options)),
    (socket) => Effect.sync(() => socket.terminate())
  )
  const format = subprotocol === "m.msgpack" ? "m.msgpack" : "m.json"
  socket.on("message", (data: Buffer, isBinary) => {
    const frame = Result.getOrThrow(decodeServerFrame(format, isBinary ? data : data.toString()))
    if (isChunk(frame)) Queue.offerUnsafe(chunks, frame)
    else Queue.offerUnsafe(answers, frame)
  })
  yield* open(socket)
  const testSocket: TestSocket = {
    socket,
    ask: (id, call) => Effect.sync(() => socket.send(encodeRequest(format, { id, ...call }))),
    answer: Queue.take(answers),
    chunk: Queue.take(chunks),
    closed: Effect.callback((resume) => {
      socket.once("close", (code, reason) => resume(Effect.succeed({ code, reason: reason.toString() })))
    })
  }
  return testSocket
})
