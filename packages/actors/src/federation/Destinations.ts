/**
 * The back-off of each other home server, for all nodes. It begins when the server cannot be reached, doubles with every
 * failure up to a day, and ends when the server answers or makes a request (`heardFrom`).
 *
 * `FederationClient` asks before every request and reports the outcome. What this node knows of a server is at most a few
 * seconds old.
 *
 * Source: "Federation" of the draft.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { type DestinationState, DestinationStore } from "@greenroom/store/DestinationStore"
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { Clock, Context, Effect, Layer, Option } from "effect"
import { RemoteUnreachable } from "./RemoteError.ts"

/** How long this node caches the state of a destination. */
const freshness = "5 seconds"

/** The most destinations whose state is cached. */
const capacity = 10_000

/** A server that is reached all the time is noted as such this often, in ms. */
const noteInterval = 60_000

type Known = Option.Option<DestinationState>

const make = Effect.gen(function* () {
  const store = yield* DestinationStore
  const known = yield* MonotonicCache.make<ServerName, Known>({ lookup: store.find, capacity, timeToLive: freshness })
  const forget = (destination: ServerName) => MonotonicCache.invalidate(known, destination)

  const check = Effect.fnUntraced(function* (destination: ServerName) {
    const state = yield* MonotonicCache.get(known, destination)
    if (Option.isNone(state)) return
    const { lastError, retryAt } = state.value
    if (retryAt <= (yield* Clock.currentTimeMillis)) return
    return yield* new RemoteUnreachable({ destination, reason: lastError ?? "the last attempt failed", retryAt })
  })

  const succeeded = Effect.fnUntraced(function* (destination: ServerName) {
    const state = Option.getOrUndefined(yield* MonotonicCache.get(known, destination))
    const now = yield* Clock.currentTimeMillis
    if (state !== undefined && state.failures === 0 && Math.abs(now - (state.lastSuccessAt ?? 0)) < noteInterval) return
    yield* store.succeeded(destination)
    yield* forget(destination)
  })

  const answers = (destination: ServerName) =>
    Effect.map(MonotonicCache.get(known, destination), (state) => Option.isSome(state) && state.value.failures === 0)

  const speaksDraft = Effect.fnUntraced(function* (destination: ServerName) {
    const state = yield* MonotonicCache.get(known, destination)
    return Option.isSome(state) && state.value.draftUntil > (yield* Clock.currentTimeMillis)
  })

  const noteDraft = (destination: ServerName) => Effect.andThen(store.speaksDraft(destination), forget(destination))

  const failed = Effect.fnUntraced(function* ({ destination, isOwnLimit = false, reason, retryAt }: RemoteUnreachable) {
    if (isOwnLimit || retryAt !== undefined) return
    const state = yield* store.failed(destination, reason)
    yield* MonotonicCache.set(known, destination, Option.some(state))
    yield* Effect.logInfo("A server could not be reached").pipe(
      Effect.annotateLogs({ destination, reason, failures: state.failures })
    )
  })

  const heardFrom = Effect.fnUntraced(function* (destination: ServerName) {
    const state = Option.getOrUndefined(yield* MonotonicCache.get(known, destination))
    if (state === undefined || state.failures === 0) return false
    yield* forget(destination)
    return yield* store.heardFrom(destination)
  })

  return Destinations.of({
    check,
    succeeded,
    answers,
    speaksDraft,
    noteDraft,
    failed,
    heardFrom,
    list: store.list,
    forgetUnreached: store.forgetUnreached
  })
})

/** The back-off of each other home server, for all nodes. */
export class Destinations extends Context.Service<
  Destinations,
  {
    /** Fails while the server is left alone, with the time of the next attempt. */
    readonly check: (destination: ServerName) => Effect.Effect<void, RemoteUnreachable>
    /** The server answered. */
    readonly succeeded: (destination: ServerName) => Effect.Effect<void>
    /** Whether the last attempt to reach the server succeeded. */
    readonly answers: (destination: ServerName) => Effect.Effect<boolean>
    /** Records that the server could not be reached, unless this server gave the request up, or did not make it. */
    readonly failed: (error: RemoteUnreachable) => Effect.Effect<void>
    /** Whether the server was found to speak the draft's dialect alone: by this node or another, in the last day. */
    readonly speaksDraft: (destination: ServerName) => Effect.Effect<boolean>
    /** The server has none of today's endpoints, and answers those of the draft. */
    readonly noteDraft: (destination: ServerName) => Effect.Effect<void>
    /** Records a request of the server. True if it was backed off until now: waiting requests can go. */
    readonly heardFrom: (destination: ServerName) => Effect.Effect<boolean>
    /** Forgets servers that were never reached and last tried before a time, and the oldest of more than `most`. */
    readonly forgetUnreached: (before: number, most: number) => Effect.Effect<void>
    /** Every server that this one has tried, for the operator. */
    readonly list: Effect.Effect<ReadonlyArray<DestinationState>>
  }
>()("greenroom/actors/Destinations") {
  static readonly layer: Layer.Layer<Destinations, never, DestinationStore> = Layer.effect(Destinations, make)
}
