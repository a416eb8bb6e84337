/**
 * Requests of a socket without an answer yet. After a lost connection they are sent again on the next one.
 */
import type { FrameData } from "@greenroom/protocol/SocketFrame"
import { type Cause, Deferred, Effect } from "effect"
import type { ClientError } from "./Retry.ts"

interface Pending {
  readonly frame: FrameData
  readonly answer: Deferred.Deferred<unknown, ClientError>
}

export interface PendingRequests {
  readonly newId: () => number
  /** Waits for the answer to the request with this ID. `onAdded` sends it. */
  readonly add: (id: number, frame: FrameData, onAdded: Effect.Effect<void>) => Effect.Effect<unknown, ClientError>
  readonly answer: (id: unknown, answer: Effect.Effect<unknown, ClientError>) => void
  /** The requests to send on a new connection. */
  readonly frames: () => ReadonlyArray<FrameData>
  /** Fails all requests, and those to come. */
  readonly fail: (cause: Cause.Cause<ClientError>) => void
}

export const makePendingRequests = (): PendingRequests => {
  const pending = new Map<unknown, Pending>()
  let count = 0
  let failed: Cause.Cause<ClientError> | undefined

  return {
    newId: () => ++count,
    add: (id, frame, onAdded) =>
      Effect.suspend(() => {
        if (failed !== undefined) return Effect.failCause(failed)
        const answer = Deferred.makeUnsafe<unknown, ClientError>()
        pending.set(id, { frame, answer })
        return Effect.andThen(onAdded, Deferred.await(answer))
      }).pipe(Effect.ensuring(Effect.sync(() => pending.delete(id)))),
    answer: (id, answer) => {
      const entry = pending.get(id)
      if (entry !== undefined) Deferred.doneUnsafe(entry.answer, answer)
    },
    frames: () => Array.from(pending.values(), ({ frame }) => frame),
    fail: (cause) => {
      failed = cause
      for (const { answer } of pending.values()) Deferred.doneUnsafe(answer, Effect.failCause(cause))
    }
  }
}
