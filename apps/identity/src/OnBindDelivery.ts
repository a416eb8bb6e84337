/**
 * Delivers the queued `OnBind` requests, which notify home servers that an invited address was bound. The status 200 completes a
 * request, 400 and 403 end it. All other outcomes are retried with back-off for a week.
 */

import { onBindPath } from "@greenroom/protocol/identity/OnBind"
import { keepRunning } from "@greenroom/store/Supervision"
import { Clock, Effect, Layer } from "effect"
import { backoff } from "./Backoff.ts"
import { HomeServers } from "./HomeServers.ts"
import { type DueOnBind, OnBindQueue } from "./OnBindQueue.ts"

/** The time after which an undelivered request is dropped, in ms. */
const giveUpAfter = 7 * 24 * 60 * 60_000

/** How many requests are sent at once. */
const concurrency = 8

/** The longest interval between reads of the queue, in ms: other nodes write to it too. */
const longestSleep = 30_000

const isFinal = (status: number): boolean => status === 400 || status === 403
const isDone = (status: number): boolean => status >= 200 && status < 300

const make = Effect.gen(function* () {
  const queue = yield* OnBindQueue
  const homeServers = yield* HomeServers

  const again = Effect.fnUntraced(function* (due: DueOnBind, why: string) {
    const now = yield* Clock.currentTimeMillis
    if (now - due.createdAt > giveUpAfter) {
      yield* Effect.logWarning(`Gave up notifying ${due.serverName} of a bound address: ${why}`)
      return yield* queue.remove(due.id)
    }
    // Only the first failure is a warning, because a home server may be unreachable for days.
    const log = due.attempts === 0 ? Effect.logWarning : Effect.logDebug
    yield* log(`${due.serverName} could not be informed of a bound address, trying again: ${why}`)
    yield* queue.postpone(due.id, now + (yield* backoff(due.attempts + 1)))
  })

  const deliver = (due: DueOnBind) =>
    homeServers.post(due.serverName, onBindPath, due.body).pipe(
      Effect.flatMap((status) => {
        if (isDone(status)) return queue.remove(due.id)
        if (!isFinal(status)) return again(due, `status ${status}`)
        return Effect.andThen(
          Effect.logWarning(`${due.serverName} refused the notification of a bound address: status ${status}`),
          queue.remove(due.id)
        )
      }),
      Effect.catch((error) => again(due, error.reason))
    )

  const untilNext = Effect.gen(function* () {
    const next = yield* queue.nextDue
    const wait = next === undefined ? longestSleep : next - (yield* Clock.currentTimeMillis)
    yield* Effect.raceFirst(queue.added.await, Effect.sleep(Math.min(longestSleep, Math.max(0, wait))))
  })

  const work = Effect.gen(function* () {
    yield* queue.added.close
    const due = yield* queue.takeDue
    yield* due === undefined ? untilNext : deliver(due)
  })
  for (let worker = 0; worker < concurrency; worker++) {
    yield* keepRunning("Notifying home servers of bound addresses", work)
  }
})

/** Runs until the layer closes. */
export const layer: Layer.Layer<never, never, OnBindQueue | HomeServers> = Layer.effectDiscard(make)
