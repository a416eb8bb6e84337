/**
 * The event stream by long poll.
 *
 * A poll is asked for only when the one before was consumed, and from where that ended; a poll whose answer was lost is
 * repeated from the same place. So the stream has every event exactly once, in order, and whoever keeps the `end` of
 * the last chunk goes on there after a restart.
 *
 * Source: "Receiving live updates on a client" of the specification.
 */
import type { EventStreamChunk, StreamedEvent } from "@greenroom/protocol/api/Answers"
import { Duration, Effect, Stream } from "effect"
import type { ClientError } from "./Retry.ts"
import type { Transport } from "./Transport.ts"

/** Where and how to follow the stream. */
export interface FollowOptions {
  /** A token, or `START`. Absent: from now on. */
  readonly from?: string
  /** How long the server waits before it answers that nothing happened (default 30 seconds). */
  readonly timeout?: Duration.Input
  /** The most events in a chunk. */
  readonly limit?: number
}

const asText = (value: number | undefined) => (value === undefined ? undefined : String(value))

export const makeEventRequests = ({ api, repeatable }: Transport) => {
  /** One poll: what happened after `from`, or what happens within `timeout`. */
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

  /** Where the stream is now. */
  const now = Effect.map(poll({ timeout: 0 }), ({ end }) => end)

  /** The stream in parts that are not empty, each with the token to go on from. */
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

  /** All rooms of the user with `limit` messages each (default 10), and where the stream goes on. */
  const initialSync = (limit?: number) => repeatable(api.events.initialSync({ query: { limit: asText(limit) } }))

  return { poll, now, chunks, events, initialSync }
}
