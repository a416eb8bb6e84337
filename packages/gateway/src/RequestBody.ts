/**
 * Receives the body of a request, up to a limit. The memory for it is in proportion to its bytes, however small the chunks are.
 */
import type { IncomingMessage } from "node:http"
import { ByteCollector } from "@greenroom/actors/runtime/ByteCollector"
import { BadRequest, TooLarge } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"

/** The refusal of a body over its limit, in bytes. */
export const tooLarge = (limit: number): TooLarge => new TooLarge({ error: `The body is larger than ${limit} bytes` })

const brokenOff = new BadRequest({ error: "The body could not be read" })

/**
 * Waits for the end of a body of at most `limit` bytes. The server drains the rest of one that is too large. Errors: M_TOO_LARGE;
 * 400 if the connection ends.
 */
export const receiveBody = (source: IncomingMessage, limit: number): Effect.Effect<Buffer, TooLarge | BadRequest> =>
  Effect.callback((resume) => {
    if (source.destroyed || source.readableEnded) return resume(Effect.fail(brokenOff))
    const bytes = new ByteCollector()
    const finish = (result: Effect.Effect<Buffer, TooLarge | BadRequest>) => {
      stop()
      resume(result)
    }
    const refuse = (error: TooLarge | BadRequest) => {
      source.pause()
      finish(Effect.fail(error))
    }
    const onData = (chunk: Buffer) => {
      bytes.add(chunk)
      if (bytes.length > limit) refuse(tooLarge(limit))
    }
    const onEnd = () => finish(Effect.succeed(bytes.take()))
    const onClose = () => refuse(brokenOff)
    const stop = () => {
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
