/**
 * What is on its way to one client by WebSocket. At most `maxBuffered` bytes wait for it; whoever sends more waits until
 * the client has read. A client that reads nothing for `patience` is too slow, and is closed: it loses nothing, because
 * it resumes from the last chunk that it saw.
 */
import { Effect } from "effect"
import type { WebSocket } from "ws"

/** How many bytes may wait for a client to read. */
export const maxBuffered = 1024 * 1024

/** How long a client with a full buffer may read nothing. */
export const patience = "30 seconds"

export interface Outbox {
  /** Sends a frame, and returns when there is room for the next one. Never fails: a closed socket takes all. */
  readonly send: (frame: string | Uint8Array) => Effect.Effect<void>
}

/** `onTooSlow` closes the socket. */
export const makeOutbox = (socket: WebSocket, onTooSlow: () => void): Outbox => {
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
  }).pipe(Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.sync(onTooSlow) }))

  return {
    send: (frame) =>
      Effect.suspend(() => {
        if (socket.readyState !== socket.OPEN) return Effect.void
        socket.send(frame, onWritten)
        return socket.bufferedAmount < maxBuffered ? Effect.void : room
      })
  }
}
