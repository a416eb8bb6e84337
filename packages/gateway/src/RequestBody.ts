/**
 * Receives the bodies of requests: each up to a limit, and all that have not arrived whole up to another one. The memory for them is in
 * proportion to their bytes, however small the chunks are.
 */
import type { IncomingMessage } from "node:http"
import { ArrivingBodies } from "@greenroom/actors/runtime/ArrivingBodies"
import { ByteCollector } from "@greenroom/actors/runtime/ByteCollector"
import { BadRequest, LimitExceeded, TooLarge } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"

/** The refusal of a body over its limit, in bytes. */
export const tooLarge = (limit: number): TooLarge => new TooLarge({ error: `The body is larger than ${limit} bytes` })

const brokenOff = new BadRequest({ error: "The body could not be read" })

const tooMany = new LimitExceeded({
  error: "Too many requests are arriving at a time, try again later",
  retry_after_ms: 1_000
})

/** Why a body was not received. */
export type BodyError = TooLarge | BadRequest | LimitExceeded

/** The bodies of this process, which may hold 128 MiB: sixteen of the largest that servers send. */
const arriving = new ArrivingBodies(128 * 1024 * 1024)

/**
 * Waits for the end of a body of at most `limit` bytes. The server drains the rest of one that is refused. Errors: M_TOO_LARGE;
 * M_LIMIT_EXCEEDED if too many bytes of incomplete bodies are held; 400 if the connection ends.
 */
export const receiveBody = (
  source: IncomingMessage,
  limit: number,
  among: ArrivingBodies = arriving
): Effect.Effect<Buffer, BodyError> =>
  Effect.callback((resume) => {
    if (source.destroyed || source.readableEnded) return resume(Effect.fail(brokenOff))
    const bytes = new ByteCollector()
    const refuse = (error: BodyError) => {
      source.pause()
      stop()
      resume(Effect.fail(error))
    }
    const body = { bytes, refuse: () => refuse(tooMany) }
    const onData = (chunk: Buffer) => {
      bytes.add(chunk)
      among.add(body, chunk.length)
      if (bytes.length > limit) refuse(tooLarge(limit))
    }
    const onEnd = () => {
      stop()
      resume(Effect.succeed(bytes.take()))
    }
    const onClose = () => refuse(brokenOff)
    const stop = () => {
      among.remove(body)
      source.off("data", onData)
      source.off("end", onEnd)
      source.off("error", onClose)
      source.off("close", onClose)
    }
    source.on("data", onData)
    source.on("end", onEnd)
    source.on("error", onClose)
    source.on("close", onClose)
    return Effect.sync(stop)
  })
