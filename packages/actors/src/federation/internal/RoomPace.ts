/**
 * The pace of what goes to all servers of a room and may be gathered: receipts, typing and presence. Each server gets a transaction.
 * A room with many servers is therefore sent less often, and what happens in between goes together. The servers get
 * theirs in portions, so that other work goes on meanwhile.
 */
import { Array as Arr, Effect } from "effect"

/** How many transactions a second a room may cause on average. */
const transactionsPerSecond = 50

/** How many servers are sent something at once, and the wait before the next ones. */
const portion = 25
const portionInterval = "50 millis"

/** For how long nothing further is sent to a room after it was sent to so many servers, in ms. */
export const roomInterval = (servers: number): number => (servers * 1_000) / transactionsPerSecond

/** Runs `send` for each of the items, a portion of them at a time. Takes a tenth of the `roomInterval`. */
export const inPortions = <A>(items: Iterable<A>, send: (item: A) => Effect.Effect<void>): Effect.Effect<void> =>
  Effect.forEach(
    Arr.chunksOf(items, portion),
    (together, index) =>
      Effect.andThen(
        index === 0 ? Effect.void : Effect.sleep(portionInterval),
        Effect.forEach(together, send, { discard: true })
      ),
    { discard: true }
  )
