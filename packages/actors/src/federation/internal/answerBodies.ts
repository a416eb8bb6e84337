/**
 * Reading the bodies of answers as they arrive. What follows the first `smallRead` bytes waits, unread, until the work that asks may have
 * a large answer. From then on others wait for it, so it has to arrive at a minimum rate.
 */
import type { IncomingMessage } from "node:http"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { smallRead } from "@greenroom/store/LargeReads"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { Effect } from "effect"
import { CurrentAnswerBudget } from "../../runtime/AnswerBudget.ts"
import { ByteCollector } from "../../runtime/ByteCollector.ts"
import { RemoteInvalid, RemoteUnreachable } from "../RemoteError.ts"

/** The lowest rate of a large answer, in bytes per ms, and how long it may pause, in ms. */
const lowestRate = 16
const longestPause = 5_000

/** Hands over the body of an answer as it arrives. */
export const eachChunk = Effect.fnUntraced(function* <E>(
  destination: ServerName,
  response: IncomingMessage,
  maxBytes: number,
  take: (chunk: Buffer) => Effect.Effect<void, E>
): Effect.fn.Return<void, E | RemoteUnreachable | RemoteInvalid> {
  const chunks = response[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  const budget = yield* CurrentAnswerBudget
  const arriving = Effect.tryPromise({
    try: () => chunks.next(),
    catch: (error) => new RemoteUnreachable({ destination, reason: (error as Error).message })
  })
  const tooSlow = Effect.fail(new RemoteUnreachable({ destination, reason: "a large answer arrives too slowly" }))
  let size = 0
  /** How long the next part of a large answer may take. */
  let allowance = longestPause
  const arrivingInTime = Effect.gen(function* () {
    const begun = yield* monotonicMillis
    const next = yield* Effect.timeoutOrElse(arriving, { duration: allowance, orElse: () => tooSlow })
    const gained = (next.value?.length ?? 0) / lowestRate
    allowance = Math.min(longestPause, allowance - ((yield* monotonicMillis) - begun) + gained)
    return next
  })
  for (;;) {
    const next = yield* size > smallRead && budget !== undefined ? arrivingInTime : arriving
    if (next.done === true) return
    const { length } = next.value
    size += length
    if (size > maxBytes) {
      return yield* new RemoteInvalid({ destination, reason: `the answer is larger than ${maxBytes} bytes` })
    }
    if (size > smallRead && budget !== undefined) yield* budget.take(length)
    yield* take(next.value)
  }
})

/** The whole body. */
export const readBody = (destination: ServerName, response: IncomingMessage, maxBytes: number) =>
  Effect.suspend(() => {
    const bytes = new ByteCollector()
    return Effect.map(
      eachChunk(destination, response, maxBytes, (chunk) => Effect.sync(() => bytes.add(chunk))),
      () => bytes.take()
    )
  })
