/**
 * The chunks of the event stream that the program has not consumed yet. When the buffer is full, further chunks are
 * dropped; once it is consumed, the socket reconnects from where the buffer ends. So answers to requests are read whether or
 * not the program consumes events, and no event is lost.
 */
import type { EventStreamChunk } from "@greenroom/protocol/api/Answers"
import { type Cause, Effect, Queue } from "effect"
import type { ClientError } from "./Retry.ts"

/** The capacity of the buffer, in chunks. */
export const maxBufferedChunks = 256

export interface ChunkBuffer {
  /** The position at the end of the buffer, from which to connect. */
  readonly position: () => string
  readonly offer: (chunk: EventStreamChunk) => void
  /** The next chunk. `onGap` runs when the buffer is empty and chunks were dropped. */
  readonly take: (onGap: () => void) => Effect.Effect<EventStreamChunk, ClientError>
  /** A new connection begins at `position`. */
  readonly reconnected: () => void
  readonly fail: (cause: Cause.Cause<ClientError>) => void
}

export const makeChunkBuffer: (from: string) => Effect.Effect<ChunkBuffer> = Effect.fnUntraced(function* (from) {
  const queue = yield* Queue.make<EventStreamChunk, ClientError>()
  let position = from
  let gap = false
  return {
    position: () => position,
    offer: (chunk) => {
      if (gap) return
      if (Queue.sizeUnsafe(queue) >= maxBufferedChunks) {
        gap = true
        return
      }
      position = chunk.end
      Queue.offerUnsafe(queue, chunk)
    },
    take: (onGap) =>
      Effect.suspend(() => {
        if (gap && Queue.sizeUnsafe(queue) === 0) onGap()
        return Queue.take(queue)
      }),
    reconnected: () => {
      gap = false
    },
    fail: (cause) => {
      Queue.failCauseUnsafe(queue, cause)
    }
  }
})
