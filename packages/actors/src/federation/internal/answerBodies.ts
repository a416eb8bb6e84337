/**
 * Reading the bodies of answers as they arrive. Large ones have to arrive at a minimum rate: others may wait for the permit or the memory
 * that they occupy.
 */
import type { IncomingMessage } from "node:http"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { smallRead } from "@greenroom/store/LargeReads"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { Deferred, Effect } from "effect"
import { ArrivingAnswers, CurrentAnswerBudget } from "../../runtime/AnswerBudget.ts"
import type { ArrivingBody } from "../../runtime/ArrivingBodies.ts"
import { ByteCollector } from "../../runtime/ByteCollector.ts"
import { RemoteInvalid, RemoteUnreachable } from "../RemoteError.ts"

/** The lowest rate of a large answer, in bytes per ms, and how long it may pause, in ms. */
const lowestRate = 16
const longestPause = 5_000

type ArrivalError = RemoteUnreachable | RemoteInvalid

/** Hands over the chunks of a body as they arrive, each with the size of the body up to there. */
const eachArriving = Effect.fnUntraced(function* <E>(
  destination: ServerName,
  response: IncomingMessage,
  maxBytes: number,
  take: (chunk: Buffer, size: number) => Effect.Effect<void, E>
): Effect.fn.Return<void, E | ArrivalError> {
  const chunks = response[Symbol.asyncIterator]() as AsyncIterator<Buffer>
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
    const next = yield* size > smallRead ? arrivingInTime : arriving
    if (next.done === true) return
    size += next.value.length
    if (size > maxBytes) {
      return yield* new RemoteInvalid({ destination, reason: `the answer is larger than ${maxBytes} bytes` })
    }
    yield* take(next.value, size)
  }
})

/**
 * Hands over a body whose parts are worked on as they arrive. What follows the first `smallRead` bytes waits, unread, until the work that
 * asks has its permit for large answers, and has it from then on.
 */
export const eachChunk = <E>(
  destination: ServerName,
  response: IncomingMessage,
  maxBytes: number,
  take: (chunk: Buffer) => Effect.Effect<void, E>
): Effect.Effect<void, E | ArrivalError> =>
  Effect.flatMap(CurrentAnswerBudget, (budget) =>
    eachArriving(destination, response, maxBytes, (chunk, size) =>
      size > smallRead && budget !== undefined ? Effect.andThen(budget.take(chunk.length), take(chunk)) : take(chunk)
    )
  )

/** The whole body. The work that asks waits for its permit when a large one has arrived. */
export const readBody = Effect.fnUntraced(function* (
  destination: ServerName,
  response: IncomingMessage,
  maxBytes: number
): Effect.fn.Return<Buffer, ArrivalError> {
  const budget = yield* CurrentAnswerBudget
  const among = yield* ArrivingAnswers
  const refused = Deferred.makeUnsafe<never, RemoteUnreachable>()
  const bytes = new ByteCollector()
  const body: ArrivingBody = {
    refuse: () => {
      among.remove(body)
      const reason = "too many large answers of other servers are arriving"
      Deferred.doneUnsafe(refused, Effect.fail(new RemoteUnreachable({ destination, reason })))
    }
  }
  const reading = Effect.gen(function* () {
    yield* eachArriving(destination, response, maxBytes, (chunk) =>
      Effect.sync(() => {
        bytes.add(chunk)
        among.add(body, chunk.length)
      })
    )
    if (bytes.length > smallRead && budget !== undefined) yield* budget.take(bytes.length)
  })
  yield* Effect.ensuring(
    Effect.raceFirst(reading, Deferred.await(refused)),
    Effect.sync(() => among.remove(body))
  )
  return bytes.take()
})
