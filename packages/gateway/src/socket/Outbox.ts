/**
 * The frames on their way to one client by WebSocket. At most `maxBuffered` bytes and one frame wait for the client; senders
 * wait until the client has read. The socket of a client that reads nothing for `slowClientTimeout` is closed. The client loses
 * nothing, because it resumes from the last chunk that it received.
 */
import { Effect } from "effect"
import type { WebSocket } from "ws"
import { smallestCounted, type UnreadAnswers } from "../UnreadAnswers.ts"

/** How many bytes may wait for one client. */
export const maxBuffered = 256 * 1024

/** How long a client with a full buffer may read nothing. */
const slowClientTimeout = "30 seconds"

export interface Outbox {
  /** Sends a frame, and returns when there is room for the next one. Never fails: a closed socket discards frames. */
  readonly send: (frame: string | Uint8Array) => Effect.Effect<void>
}

/** `onTooSlow` closes the socket. */
export const makeOutbox = (socket: WebSocket, unread: UnreadAnswers["Service"], onTooSlow: () => void): Outbox => {
  const waiting = new Set<() => void>()

  const onWritten = () => {
    if (socket.readyState === socket.OPEN && socket.bufferedAmount >= maxBuffered) return
    for (const resume of waiting) resume()
    waiting.clear()
  }
  socket.on("close", onWritten)

  const room = Effect.callback<void>((resume) => {
    const onRoom = () => resume(Effect.void)
    waiting.add(onRoom)
    return Effect.sync(() => waiting.delete(onRoom))
  }).pipe(Effect.timeoutOrElse({ duration: slowClientTimeout, orElse: () => Effect.sync(onTooSlow) }))

  /** Writes a frame. A large one is counted until it was written or the socket closed; `ws` calls back in both cases. */
  const write = (frame: string | Uint8Array) => {
    if (frame.length < smallestCounted) return socket.send(frame, onWritten)
    const written = unread.add(frame.length, () => socket.terminate())
    socket.send(frame, () => {
      written()
      onWritten()
    })
  }

  return {
    send: (frame) =>
      Effect.suspend(() => {
        if (socket.readyState !== socket.OPEN) return Effect.void
        write(frame)
        return socket.bufferedAmount < maxBuffered ? Effect.void : room
      })
  }
}
