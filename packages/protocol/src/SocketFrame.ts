/**
 * The frames of the WebSocket: requests of the client and their answers, and the event stream.
 *
 *     client                                        server
 *     {id, method, params}              ->
 *                                       <-          {id, result}  or  {id, error: {errcode, error}}
 *                                       <-          {chunk, start, end}     unrequested, in order
 *
 * The subprotocol `m.json` has text frames of JSON, `m.msgpack` binary frames of the same objects in MessagePack.
 * Answers may come in another order than the requests. `SocketMethod` says which methods there are.
 *
 * Source: "Receiving live updates on a client" of the draft; the socket is Greenroom's.
 */
import { Result, Schema } from "effect"
import { isJsonObject, type Json, type JsonObject } from "./Json.ts"
import { maxRequestValues, shapeProblem } from "./JsonShape.ts"
import { BadJson, type BadPagination, type ErrorBody, NotJson, TooLarge, Unrecognized } from "./MatrixError.ts"
import * as MessagePack from "./MessagePack.ts"
import { decodeParams, isSocketMethod, type SocketCall } from "./SocketMethod.ts"

/** The subprotocols, in the order in which the server prefers them. */
export const subprotocols = ["m.msgpack", "m.json"] as const
/** The name of a subprotocol. */
export type Subprotocol = (typeof subprotocols)[number]

/** The largest frame that the server takes, in bytes. */
export const maxRequestBytes = 262_144

/**
 * The reasons for which the server closes a socket. No update is lost: the client reconnects with the last `end` as `from`.
 */
export const closeCodes = {
  /** The server stops or restarts: reconnect. */
  goingAway: 1001,
  /** A text frame on `m.msgpack`, or a binary frame on `m.json`. */
  wrongFrameType: 1003,
  /** More requests at once, or faster, than the server allows. */
  tooManyRequests: 1008,
  /** A frame over `maxRequestBytes`. */
  tooBig: 1009,
  /** The server failed: reconnect. */
  internalError: 1011,
  /** The client reads too slowly: its frames would outgrow the buffer. */
  slowConsumer: 4000,
  /** The access token is unknown, was revoked or has expired: log in again. */
  unknownToken: 4001
} as const

/** The client's ID of a request: text of at most 255 characters, or an integer. */
export type FrameId = string | number

/** A request: its ID, its method, and the parameters of that method. */
export type SocketRequest = { readonly id: FrameId } & SocketCall

/** A frame without a known request. `id` is null if the frame has none. */
export interface RefusedFrame {
  readonly id: FrameId | null
  readonly error: NotJson | BadJson | BadPagination | TooLarge | Unrecognized
}

/** The answer to a request. */
export type SocketAnswer =
  | { readonly id: FrameId; readonly result: unknown }
  | { readonly id: FrameId | null; readonly error: ErrorBody }

/** A part of the event stream. */
export interface SocketChunk {
  readonly chunk: ReadonlyArray<JsonObject>
  readonly start: string
  readonly end: string
}

/** The frames of the server. */
export type ServerFrame = SocketAnswer | SocketChunk

/** A frame as the socket carries it: text for `m.json`, bytes for `m.msgpack`. */
export type FrameData = string | Uint8Array

const notJson = (error: string) => new NotJson({ error })

const parseJson = (text: string): Result.Result<Json, NotJson> =>
  Result.try({ try: () => JSON.parse(text) as Json, catch: () => notJson("The frame is not JSON") })

const decodeFrame = (
  subprotocol: Subprotocol,
  data: FrameData,
  maxValues?: number
): Result.Result<Json, NotJson | BadJson | TooLarge> => {
  if (subprotocol === "m.json") {
    return typeof data === "string" ? parseJson(data) : Result.fail(notJson("Expected a text frame"))
  }
  return typeof data === "string"
    ? Result.fail(notJson("Expected a binary frame"))
    : MessagePack.decode(data, maxValues)
}

const encodeFrame = (subprotocol: Subprotocol, frame: unknown): FrameData =>
  subprotocol === "m.json" ? JSON.stringify(frame) : MessagePack.encode(frame)

const isFrameId = (value: unknown): value is FrameId =>
  typeof value === "string" ? value.length <= 255 : Number.isSafeInteger(value)

/** The ID of a frame that is refused as a whole, where it can be read. */
const idOf = (data: FrameData): FrameId | null => {
  const id = typeof data === "string" ? undefined : MessagePack.readScalar(data, "id")
  return isFrameId(id) ? id : null
}

const refuse = (id: FrameId | null, error: RefusedFrame["error"]): Result.Result<never, RefusedFrame> =>
  Result.fail({ id, error })

/** Reads a frame of a client. Faulty frames are answered with `encodeError`; the socket stays open. */
export const decodeRequest = (
  subprotocol: Subprotocol,
  data: FrameData
): Result.Result<SocketRequest, RefusedFrame> => {
  if (data.length > maxRequestBytes) {
    return refuse(null, new TooLarge({ error: `Expected frames of at most ${maxRequestBytes} bytes` }))
  }
  const problem = typeof data === "string" ? shapeProblem(data) : undefined
  if (problem !== undefined) return refuse(null, problem)
  const frame = decodeFrame(subprotocol, data, maxRequestValues)
  if (Result.isFailure(frame)) return refuse(idOf(data), frame.failure)
  if (!isJsonObject(frame.success)) return refuse(null, new BadJson({ error: "The frame is not a JSON object" }))
  const { id, method, params = {} } = frame.success
  if (!isFrameId(id)) return refuse(null, new BadJson({ error: "id: expected short text or an integer" }))
  if (typeof method !== "string") return refuse(id, new BadJson({ error: "method: expected a string" }))
  if (!isSocketMethod(method)) return refuse(id, new Unrecognized({ error: "method: no such method" }))
  return Result.mapBoth(decodeParams(method, params), {
    onSuccess: (call) => ({ id, ...call }),
    onFailure: (error) => ({ id, error })
  })
}

/** The frame of a request, for clients. */
export const encodeRequest = (subprotocol: Subprotocol, request: SocketRequest): FrameData =>
  encodeFrame(subprotocol, request)

/** The frame of a result, for servers. */
export const encodeResult = (subprotocol: Subprotocol, id: FrameId, result: unknown): FrameData =>
  encodeFrame(subprotocol, { id, result })

/** The frame of an error, for servers. `id` is null if the request had none. */
export const encodeError = (subprotocol: Subprotocol, id: FrameId | null, error: ErrorBody): FrameData =>
  encodeFrame(subprotocol, { id, error })

/** A part of the event stream whose events are encoded already: the array `chunk` as JSON text and as MessagePack. */
export interface EncodedChunk {
  readonly json: string
  readonly packed: Uint8Array
  readonly start: string
  readonly end: string
}

/** Reads only that form of the events which the subprotocol needs. */
export const encodeChunk = (subprotocol: Subprotocol, chunk: EncodedChunk): FrameData => {
  const { end, start } = chunk
  return subprotocol === "m.json"
    ? `{"chunk":${chunk.json},"start":${JSON.stringify(start)},"end":${JSON.stringify(end)}}`
    : MessagePack.joinMap({ chunk: chunk.packed, start: MessagePack.encode(start), end: MessagePack.encode(end) })
}

const ErrorShape = Schema.Struct({ errcode: Schema.String, error: Schema.String })
const isError = Schema.is(ErrorShape)

/** Reads a frame of a server, for clients. Errors: M_NOT_JSON, M_BAD_JSON. */
export const decodeServerFrame = (
  subprotocol: Subprotocol,
  data: FrameData
): Result.Result<ServerFrame, NotJson | BadJson | TooLarge> =>
  Result.flatMap(decodeFrame(subprotocol, data), (frame): Result.Result<ServerFrame, BadJson> => {
    if (isJsonObject(frame)) {
      if (Array.isArray(frame.chunk) && typeof frame.start === "string" && typeof frame.end === "string") {
        return Result.succeed(frame as unknown as SocketChunk)
      }
      const known = isFrameId(frame.id) && "result" in frame
      const failed = (isFrameId(frame.id) || frame.id === null) && isError(frame.error)
      if (known || failed) return Result.succeed(frame as unknown as SocketAnswer)
    }
    return Result.fail(new BadJson({ error: "Expected an answer or a part of the event stream" }))
  })
