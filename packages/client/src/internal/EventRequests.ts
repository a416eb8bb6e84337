/**
 * The event stream by long poll.
 *
 * The next poll starts when the last chunk was consumed, from the end of that chunk; a poll whose answer was lost is
 * repeated from the same position. So the stream has every event exactly once, in order, and a program that keeps the `end`
 * of the last chunk can continue there after a restart.
 *
 * Source: "Receiving live updates on a client" of the draft.
 */
import type { EventStreamChunk, StreamedEvent } from "@greenroom/protocol/api/Answers"
import { Duration, Effect, Stream } from "effect"
import type { ClientError } from "./Retry.ts"
import type { Transport } from "./Transport.ts"

/** Options of the event stream. */
export interface FollowOptions {
  /** A token, or `START`. Absent: from now on. */
  readonly from?: string
  /** How long the server waits for an event (default 30 seconds). */
  readonly timeout?: Duration.Input
  /** The most events in a chunk. */
  readonly limit?: number
}

const asText = (value: number | undefined) => (value === undefined ? undefined : String(value))

export const makeEventRequests = ({ api, repeatable }: Transport) => {
  /** One poll: the updates after `from`, or those that come within `timeout`. */
  const poll = ({ from, limit, timeout }: FollowOptions = {}): Effect.Effect<EventStreamChunk, ClientError> =>
    repeatable(
      api.events.poll({
        query: {
          from,
          limit: asText(limit),
          timeout: asText(timeout === undefined ? undefined : Math.round(Duration.toMillis(timeout)))
        }
      })
    )

  /** The current end of the stream. */
  const now = Effect.map(poll({ timeout: 0 }), ({ end }) => end)

  /** The stream in non-empty chunks, each with the token to continue from. */
  const chunks = (options: FollowOptions = {}): Stream.Stream<EventStreamChunk, ClientError> => {
    const next = (from: string): Effect.Effect<readonly [EventStreamChunk, string], ClientError> =>
      Effect.flatMap(poll({ ...options, from }), (chunk) =>
        chunk.chunk.length === 0 ? next(chunk.end) : Effect.succeed([chunk, chunk.end] as const)
      )
    return Stream.unwrap(
      Effect.map(options.from === undefined ? now : Effect.succeed(options.from), (from) => Stream.unfold(from, next))
    )
  }

  /** The stream, event by event. */
  const events = (options?: FollowOptions): Stream.Stream<StreamedEvent, ClientError> =>
    Stream.flatMap(chunks(options), ({ chunk }) => Stream.fromIterable(chunk))

  /** All rooms of the user with `limit` messages each (default 10), and the token at which the stream continues. */
  const initialSync = (limit?: number) => repeatable(api.events.initialSync({ query: { limit: asText(limit) } }))

  return { poll, now, chunks, events, initialSync }
}
