/**
 * One WebSocket of a client: pushes the event stream in order, and answers requests beside it.
 *
 * Bounded are: the size of a frame, the frames that one turn of the event loop handles (one, see `Sockets`), the requests in flight
 * (the socket is not read while there are too many), the requests of the user on all connections (`RequestSlots`), the bytes that
 * wait for the client (`Outbox`), and the number of invalid frames.
 */

import { databaseRefusal, isOfEndedAccount, isOfUnavailableNode } from "@greenroom/actors/runtime/NodeUnavailable"
import { ownAllowance, withAllowance } from "@greenroom/actors/runtime/RequestAllowance"
import type { Session } from "@greenroom/actors/runtime/Session"
import type { Subscription } from "@greenroom/actors/sync/EventStream"
import { type ErrorBody, isMatrixError, type MatrixError, toErrorBody } from "@greenroom/protocol/MatrixError"
import {
  closeCodes,
  decodeRequest,
  encodeChunk,
  encodeError,
  encodeResult,
  type FrameData,
  type SocketRequest,
  type Subprotocol
} from "@greenroom/protocol/SocketFrame"
import { Cause, Effect, FiberSet, Result, type Scope } from "effect"
import type { WebSocket } from "ws"
import { accountEnded, unavailable } from "../MatrixHttp.ts"
import type { UnreadAnswers } from "../UnreadAnswers.ts"
import { makeOutbox, type Outbox } from "./Outbox.ts"
import type { Calls } from "./SocketMethods.ts"

/** How many requests of one socket are answered at the same time. The others wait unread. */
export const maxRequestsInFlight = 32

/** How many invalid frames in a row a client may send before the socket is closed. */
const maxRefusedFrames = 20

export interface ConnectionOptions {
  readonly socket: WebSocket
  readonly subprotocol: Subprotocol
  readonly session: Session
  readonly subscription: Subscription
  readonly calls: Calls
  readonly unread: UnreadAnswers["Service"]
}

/** Serves the socket until it is closed, by whichever side. */
export const serveConnection: (options: ConnectionOptions) => Effect.Effect<void, never, Scope.Scope> =
  Effect.fnUntraced(function* (options) {
    const { socket, unread } = options
    const run = yield* FiberSet.makeRuntime<never>()
    const outbox = makeOutbox(socket, unread, () =>
      socket.close(closeCodes.slowConsumer, "The client reads too slowly")
    )
    const closed = Effect.callback<void>((resume) => {
      if (socket.readyState === socket.CLOSED) return resume(Effect.void)
      socket.once("close", () => resume(Effect.void))
    })
    readRequests(options, outbox, run)
    run(push(options, outbox))
    yield* closed
  })

type Run = (effect: Effect.Effect<void>) => unknown

/** Sends the event stream in chunks. The next chunk is read when the outbox has room for it. */
const push = ({ socket, subprotocol, subscription }: ConnectionOptions, outbox: Outbox): Effect.Effect<void> =>
  subscription.next.pipe(
    Effect.flatMap((chunk) => outbox.send(encodeChunk(subprotocol, chunk))),
    Effect.forever,
    Effect.catchTag("M_UNKNOWN_TOKEN", ({ error }) => Effect.sync(() => socket.close(closeCodes.unknownToken, error))),
    Effect.catchCause((cause) => (Cause.hasInterruptsOnly(cause) ? Effect.void : closeFailed(socket, cause)))
  )

/** Closes a socket whose event stream has failed. The client may connect again where the failure passes. */
const closeFailed = (socket: WebSocket, cause: Cause.Cause<unknown>): Effect.Effect<void> => {
  const goAway = Effect.sync(() => socket.close(closeCodes.goingAway, unavailable.error))
  if (isOfUnavailableNode(cause)) return goAway
  const refusal = databaseRefusal(cause)
  return refusal === undefined
    ? Effect.andThen(
        Effect.logError("The event stream of a socket failed", cause),
        Effect.sync(() => socket.close(closeCodes.internalError, "The event stream failed"))
      )
    : Effect.andThen(Effect.logError(`The event stream of a socket ended, because ${refusal}`), goAway)
}

/** Answers requests as they come. Requests beyond the limit in flight wait, and nothing more is read meanwhile. */
const readRequests = (options: ConnectionOptions, outbox: Outbox, run: Run): void => {
  const { socket, subprotocol } = options
  const backlog: Array<FrameData> = []
  let inFlight = 0
  let refused = 0

  const take = (frame: FrameData): void => {
    const request = decodeRequest(subprotocol, frame)
    if (Result.isSuccess(request)) {
      refused = 0
      const slot = options.calls.slot(options.session, request.success)
      start(answer(options, request.success, slot.admission), () => slot.end())
    } else if (++refused > maxRefusedFrames) {
      socket.close(closeCodes.tooManyRequests, "Too many invalid frames")
    } else {
      const { error, id } = request.failure
      start(Effect.succeed(encodeError(subprotocol, id, toErrorBody(error))))
    }
  }

  const start = (answer: Effect.Effect<FrameData>, onSent = () => {}): void => {
    inFlight++
    run(
      Effect.ensuring(
        Effect.flatMap(answer, outbox.send),
        Effect.sync(() => finish(onSent))
      )
    )
  }

  const finish = (onSent: () => void): void => {
    onSent()
    inFlight--
    proceed()
  }

  let isScheduled = false

  /** Handles the next frame of the backlog in another turn of the event loop, or resumes reading. */
  const proceed = () => {
    if (socket.readyState !== socket.OPEN || isScheduled || inFlight >= maxRequestsInFlight) return
    if (backlog.length === 0) {
      if (socket.isPaused) socket.resume()
      return
    }
    isScheduled = true
    setImmediate(() => {
      isScheduled = false
      const next = socket.readyState === socket.OPEN ? backlog.shift() : undefined
      if (next !== undefined) take(next)
      proceed()
    })
  }

  socket.on("message", (data: Buffer, isBinary) => {
    if (socket.readyState !== socket.OPEN) return
    if (isBinary !== (subprotocol === "m.msgpack")) {
      socket.close(closeCodes.wrongFrameType, `Frames of ${subprotocol} are ${isBinary ? "text" : "binary"}`)
      return
    }
    const frame = isBinary ? data : data.toString()
    if (inFlight < maxRequestsInFlight && backlog.length === 0) {
      take(frame)
    } else {
      backlog.push(frame)
      socket.pause()
    }
  })
}

/**
 * The frame that answers a request, once the request has its slot. If the database or another node is unreachable, the client may
 * try again (`unavailable`). Other defects are logged and answered as M_UNKNOWN.
 */
const answer = (
  { calls, session, subprotocol }: ConnectionOptions,
  request: SocketRequest,
  admission: Effect.Effect<void, MatrixError>
): Effect.Effect<FrameData> =>
  Effect.flatMap(admission, () =>
    Effect.withFiber((fiber) => {
      ownAllowance(fiber.context, session.userId)
      return calls.answer(session, request)
    })
  ).pipe(
    Effect.map((result) => encodeResult(subprotocol, request.id, result)),
    withAllowance,
    Effect.catch((error: MatrixError) => Effect.succeed(encodeError(subprotocol, request.id, toErrorBody(error)))),
    Effect.catchDefect((defect) =>
      Effect.map(bodyOfDefect(defect, request), (body) => encodeError(subprotocol, request.id, body))
    )
  )

const bodyOfDefect = (defect: unknown, { method }: SocketRequest): Effect.Effect<ErrorBody> => {
  if (isMatrixError(defect)) return Effect.succeed(toErrorBody(defect))
  const cause = Cause.die(defect)
  if (isOfUnavailableNode(cause)) return Effect.succeed(unavailable)
  if (isOfEndedAccount(cause)) return Effect.succeed(toErrorBody(accountEnded))
  const refusal = databaseRefusal(cause)
  const logged =
    refusal === undefined
      ? Effect.logError("Internal error while answering a request of a socket", cause)
      : Effect.logError(`A request of a socket was refused, because ${refusal}`)
  return logged.pipe(
    Effect.annotateLogs("method", method),
    Effect.as<ErrorBody>(refusal === undefined ? { errcode: "M_UNKNOWN", error: "Internal server error" } : unavailable)
  )
}
