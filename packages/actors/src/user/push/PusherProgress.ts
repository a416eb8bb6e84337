/**
 * How far a pusher was notified. The position in the log is stored, so that a node that takes over the user continues there.
 */
import { PusherStore, type StoredPusher } from "@greenroom/store/PusherStore"
import type { StreamPosition } from "@greenroom/store/StreamToken"
import { Clock, Effect } from "effect"

/** For how long a notification is tried, in ms. */
const giveUpAfter = 86_400_000

/** A pusher, the position up to which it was notified, and the state of its delivery. Pushers do not wait for each other. */
export interface PusherProgress {
  pusher: StoredPusher
  seen: StreamPosition
  failingSince: number | undefined
  /** The unread count that the pusher has; undefined if that is unknown. */
  badge: number | undefined
  /** Whether the user may have read something. */
  hasRead: boolean
  failures: number
  /** When to try again, by the monotonic clock. */
  retryAt: number
  /** The last attempt failed, or took long. */
  isSlow: boolean
  /** Ends the wait for the next attempt, or the next mail. */
  stopWaiting: () => void
  /** When a mail is due, by the monotonic clock; undefined if nothing is unread. */
  mailAt: number | undefined
  /** The time to the next mail after the last one, in ms. */
  lastMail: { readonly at: number; readonly interval: number } | undefined
}

export const makePusherProgress = Effect.gen(function* () {
  const store = yield* PusherStore

  /** Stores the position, and since when (ms since 1970) the pusher fails. */
  const note = (progress: PusherProgress, seen: StreamPosition, failingSince?: number) => {
    progress.seen = seen
    progress.failingSince = failingSince
    return store.noteProgress([progress.pusher.pusherId], seen, failingSince)
  }

  return {
    note,
    /** Stores that the pusher fails, since now if it did not fail before. */
    noteFailure: (progress: PusherProgress) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => note(progress, progress.seen, progress.failingSince ?? now)),
    /** Drops the notifications up to a position if they could not be sent for a day. */
    skipExpired: (progress: PusherProgress, upTo: StreamPosition) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        progress.failingSince !== undefined && now - progress.failingSince > giveUpAfter
          ? note(progress, upTo, now)
          : Effect.void
      )
  }
})
