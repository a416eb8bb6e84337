/**
 * Bounds the queues to other servers: drops what waits for a server that was away too long, and deletes what is known of transactions
 * and servers of the past. One node of the cluster does it.
 */
import { plural } from "@greenroom/protocol/Plural"
import { OutgoingEduStore } from "@greenroom/store/OutgoingEduStore"
import { OutgoingReceiptStore } from "@greenroom/store/OutgoingReceiptStore"
import { OutgoingStore } from "@greenroom/store/OutgoingStore"
import { Clock, Effect } from "effect"
import { periodicallyOnce } from "../../runtime/Singletons.ts"
import { Destinations } from "../Destinations.ts"

/**
 * How many PDUs wait for one destination at most, and how often that is looked to. A server that was away for longer finds
 * the gap by the newest ones, and requests the rest.
 */
const longestQueue = 50_000
const trimInterval = "10 minutes"

/** After how many attempts, over two hours, EDUs for a server that was never reached are dropped. */
const maxAttempts = 13

/** How many servers that were never reached are remembered, and for how long after the last attempt, in ms. */
const mostUnreached = 10_000
const unreachedFor = 86_400_000

/** The lifetimes of acknowledged transactions and of waiting receipts, in milliseconds, and how often the former are deleted. */
const keptFor = 7 * 86_400_000
const forgetInterval = "1 hour"

export const expireQueues = Effect.gen(function* () {
  const store = yield* OutgoingStore
  const edus = yield* OutgoingEduStore
  const receipts = yield* OutgoingReceiptStore
  const destinations = yield* Destinations

  const forget = Effect.flatMap(Clock.currentTimeMillis, (now) => store.forget(now - keptFor))
  yield* periodicallyOnce("Deleting acknowledged transactions", forgetInterval, forget, { atOnce: true })

  const trimEdus = Effect.flatMap(edus.trim(longestQueue, maxAttempts), (dropped) =>
    dropped === 0
      ? Effect.void
      : Effect.logWarning(`Dropped ${plural(dropped, "EDU")} for servers that were away too long`)
  )
  yield* periodicallyOnce("Trimming queues of EDUs", trimInterval, trimEdus)

  const forgetUnreached = Effect.flatMap(Clock.currentTimeMillis, (now) =>
    destinations.forgetUnreached(now - unreachedFor, mostUnreached)
  )
  yield* periodicallyOnce("Forgetting servers that were never reached", trimInterval, forgetUnreached)

  const trimReceipts = Effect.flatMap(Clock.currentTimeMillis, (now) => receipts.trim(now - keptFor))
  yield* periodicallyOnce("Trimming queues of receipts", trimInterval, trimReceipts)

  const trim = Effect.flatMap(store.trim(longestQueue), (dropped) =>
    Effect.forEach(
      dropped,
      ([destination, count]) =>
        Effect.logWarning(`${destination} has been away too long: dropped ${plural(count, "PDU")}`),
      { discard: true }
    )
  )
  yield* periodicallyOnce("Trimming queues to other servers", trimInterval, trim, { atOnce: true })
})
