/**
 * The chunks of the event stream that wait for the program. When they are too many, further ones are let go: the stream
 * has a gap then, which the socket closes by connecting anew from where the buffer ends, once it is consumed. So answers
 * to requests are read whether the program consumes events or not, and no event is lost.
 */
import type { EventStreamChunk } from "@greenroom/protocol/api/Answers"
import { type Cause, Effect, Queue } from "effect"
import type { ClientError } from "./Retry.ts"

/** How many chunks may wait. */
export const maxBufferedChunks = 256

export interface ChunkBuffer {
  /** Where the chunks in the buffer end: the place to connect from. */
  readonly position: () => string
  readonly offer: (chunk: EventStreamChunk) => void
  /** The next chunk. `onGap` runs when the buffer is empty and the stream went on without it. */
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
