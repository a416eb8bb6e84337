/** A WebSocket of the client API, without the typed client. */
import { clientPrefix } from "@greenroom/protocol/api/ClientApi"
import * as MessagePack from "@greenroom/protocol/MessagePack"
import type { Subprotocol } from "@greenroom/protocol/SocketFrame"
import { Effect, Queue, Result, type Scope } from "effect"
import type { Body } from "./Curl.ts"

export interface RawSocket {
  readonly protocol: string
  readonly send: (frame: unknown) => Effect.Effect<void>
  readonly sendRaw: (data: string | Uint8Array<ArrayBuffer>) => Effect.Effect<void>
  /** The next frame, of whatever kind. Dies when the socket is closed. */
  readonly next: Effect.Effect<Body>
  /** Sends a request. Returns the answer; chunks that arrive before it stay in the queue. */
  readonly request: (method: string, params: unknown) => Effect.Effect<Body>
  /** The next matching event of the stream. Other events stay available. */
  readonly event: (matches: (event: Body) => boolean) => Effect.Effect<Body>
  /** The `end` of the last chunk that `event` looked at. */
  readonly position: () => string
  /** The close code, once it is closed. */
  readonly closed: Effect.Effect<number>
  readonly close: Effect.Effect<void>
}

const decode = (data: string | ArrayBuffer): Body =>
  typeof data === "string" ? JSON.parse(data) : Result.getOrThrow(MessagePack.decode(new Uint8Array(data)))

export interface OpenOptions {
  readonly subprotocol?: Subprotocol
  readonly token: string
  readonly from?: string
  readonly prefix?: string
}

const address = (url: string, { from, prefix = clientPrefix, token }: OpenOptions): string => {
  const position = from === undefined ? "" : `&from=${encodeURIComponent(from)}`
  return `${url.replace("http", "ws")}${prefix}/socket?access_token=${token}${position}`
}

/** Opens a socket, which is closed with the scope. Dies if the server refuses it. */
export const open: (url: string, options: OpenOptions) => Effect.Effect<RawSocket, never, Scope.Scope> =
  Effect.fnUntraced(function* (url, options) {
    const socket = new WebSocket(address(url, options), options.subprotocol ?? "m.json")
    socket.binaryType = "arraybuffer"
    const answers = yield* Queue.make<Body>()
    const chunks = yield* Queue.make<Body>()
    const frames = yield* Queue.make<Body>()
    socket.addEventListener("message", ({ data }) => {
      const frame = decode(data)
      Queue.offerUnsafe(frames, frame)
      Queue.offerUnsafe("chunk" in frame ? chunks : answers, frame)
    })
    const closed = new Promise<number>((resolve) => socket.addEventListener("close", ({ code }) => resolve(code)))
    yield* Effect.promise(
      () =>
        new Promise<void>((resolve, reject) => {
          socket.addEventListener("open", () => resolve())
          socket.addEventListener("error", () => reject(new Error("The server refused the socket")))
        })
    )
    const close = Effect.sync(() => socket.close())
    yield* Effect.addFinalizer(() => close)

    const encode = (frame: unknown) =>
      options.subprotocol === "m.msgpack"
        ? (MessagePack.encode(frame) as Uint8Array<ArrayBuffer>)
        : JSON.stringify(frame)
    const sendRaw: RawSocket["sendRaw"] = (data) => Effect.sync(() => socket.send(data))
    const send: RawSocket["send"] = (frame) => Effect.suspend(() => sendRaw(encode(frame)))

    let count = 0
    let position = options.from ?? "END"
    const waiting: Array<Body> = []
    const event = (matches: (event: Body) => boolean): Effect.Effect<Body> =>
      Effect.suspend(() => {
        const index = waiting.findIndex(matches)
        if (index >= 0) return Effect.succeed(waiting.splice(index, 1)[0])
        return Effect.flatMap(Queue.take(chunks), ({ chunk, end }) => {
          waiting.push(...chunk)
          position = end
          return event(matches)
        })
      })
    const answerTo = (id: number): Effect.Effect<Body> =>
      Effect.flatMap(Queue.take(answers), (answer) => (answer.id === id ? Effect.succeed(answer) : answerTo(id)))

    return {
      protocol: socket.protocol,
      send,
      sendRaw,
      next: Queue.take(frames),
      request: (method, params) =>
        Effect.suspend(() => {
          const id = ++count
          return Effect.andThen(send({ id, method, params }), answerTo(id))
        }),
      event,
      position: () => position,
      closed: Effect.promise(() => closed),
      close
    }
  })
