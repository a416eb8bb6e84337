/**
 * `/sync` of today's client API, as single requests and as a stream.
 *
 * The next request of the stream starts when the last answer was consumed, with its `next_batch`; a request whose answer was
 * lost is repeated with the same token. A program that keeps the last `next_batch` continues there after a restart.
 *
 * Source: "Syncing" of the client-server specification.
 */
import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { SyncAnswer } from "@greenroom/protocol/client-server/SyncAnswer"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Duration, Effect, Stream } from "effect"
import type { MatrixTransport } from "./MatrixTransport.ts"
import type { ClientError } from "./Retry.ts"

/** What is synced, and how. */
export interface SyncOptions {
  /** The `next_batch` of an earlier answer. Absent: everything that the user has. */
  readonly since?: string
  /** How long the server waits for updates (default of `sync` 0, of the streams 30 seconds). */
  readonly timeout?: Duration.Input
  /** The ID of a filter, or the filter itself. */
  readonly filter?: string | JsonObject
  /** Whether the answer has the whole state of all rooms, even after a token. In streams: that of the first answer. */
  readonly fullState?: boolean
  readonly setPresence?: "online" | "offline" | "unavailable"
}

export const makeMatrixSyncs = ({ api, repeatable }: MatrixTransport) => {
  /** One answer. Errors: M_UNKNOWN_TOKEN, M_INVALID_PARAM. */
  const sync = ({
    filter,
    fullState,
    setPresence,
    since,
    timeout = 0
  }: SyncOptions = {}): Effect.Effect<SyncAnswer, ClientError> =>
    repeatable(
      api["clientServer.sync"].sync({
        query: {
          // Synapse refuses an empty `since`.
          ...(since === undefined ? {} : { since }),
          timeout: Math.round(Duration.toMillis(Duration.fromInputUnsafe(timeout))),
          filter: typeof filter === "object" ? JSON.stringify(filter) : filter,
          full_state: fullState === undefined ? undefined : `${fullState}`,
          set_presence: setPresence
        }
      })
    )

  /** Answer after answer. Without `since` the first one has everything that the user has. */
  const syncs = (options: SyncOptions = {}): Stream.Stream<SyncAnswer, ClientError> => {
    // The server answers requests for the whole state at once, without waiting for updates.
    const { fullState: _, ...further } = options
    const first: SyncOptions = options.since === undefined ? { ...options, timeout: 0 } : options
    return Stream.unfold(first, (request) =>
      Effect.map(
        sync({ timeout: "30 seconds", ...request }),
        (answer) => [answer, { ...further, since: answer.next_batch }] as const
      )
    )
  }

  /** The timelines of the joined rooms, event by event, from now on or from `since`. A gap (`limited`) is not filled. */
  const events = (
    options: SyncOptions = {}
  ): Stream.Stream<ClientServerEvent & { readonly room_id: string }, ClientError> => {
    const from =
      options.since === undefined ? Effect.map(sync(options), (now) => now.next_batch) : Effect.succeed(options.since)
    return Stream.unwrap(
      Effect.map(from, (since) =>
        Stream.flatMap(syncs({ ...options, since }), ({ rooms }) =>
          Stream.fromIterable(
            Object.entries(rooms?.join ?? {}).flatMap(([room_id, { timeline }]) =>
              (timeline?.events ?? []).map((event) => ({ ...event, room_id: room_id as never }))
            )
          )
        )
      )
    )
  }

  return { sync, syncs, events }
}
