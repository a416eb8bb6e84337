/**
 * Reading the bodies of answers as they arrive. Large ones have to arrive at a minimum rate: they hold memory that others may need.
 */
import type { IncomingMessage } from "node:http"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { smallRead } from "@greenroom/store/LargeReads"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { Effect } from "effect"
import { type AnswerGivenUp, CurrentAnswerBudget } from "../../runtime/AnswerBudget.ts"
import { ByteCollector } from "../../runtime/ByteCollector.ts"
import { type RemoteError, RemoteInvalid, RemoteUnreachable } from "../RemoteError.ts"

/** The lowest rate of a large answer, in bytes per ms, and how long it may pause, in ms. */
const lowestRate = 16
const longestPause = 5_000

type ArrivalError = RemoteUnreachable | RemoteInvalid

/** The chunks of a body, one after the other; undefined at its end. The waits for them may take `timeout` ms together. */
const chunksOf = (
  destination: ServerName,
  response: IncomingMessage,
  maxBytes: number,
  timeout?: number
): Effect.Effect<Buffer | undefined, ArrivalError> => {
  const chunks = response[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  const arriving = Effect.tryPromise({
    try: () => chunks.next(),
    catch: (error) => new RemoteUnreachable({ destination, reason: (error as Error).message })
  })
  const late = () =>
    Effect.fail(new RemoteUnreachable({ destination, reason: `the answer did not arrive within ${timeout} ms` }))
  const tooSlow = () => Effect.fail(new RemoteUnreachable({ destination, reason: "a large answer arrives too slowly" }))
  let size = 0
  let left = timeout
  /** How long the next part of a large answer may take. */
  let allowance = longestPause
  return Effect.gen(function* () {
    const begun = yield* monotonicMillis
    const isLarge = size > smallRead
    const inTime =
      left === undefined ? arriving : Effect.timeoutOrElse(arriving, { duration: Math.max(0, left), orElse: late })
    const next = yield* isLarge ? Effect.timeoutOrElse(inTime, { duration: allowance, orElse: tooSlow }) : inTime
    if (next.done === true) return undefined
    const { length } = next.value
    const waited = (yield* monotonicMillis) - begun
    if (left !== undefined) left -= waited
    if (isLarge) allowance = Math.min(longestPause, allowance - waited + length / lowestRate)
    size += length
    if (size > maxBytes) {
      return yield* new RemoteInvalid({ destination, reason: `the answer is larger than ${maxBytes} bytes` })
    }
    const budget = yield* CurrentAnswerBudget
    budget?.memory.add(length)
    return next.value
  })
}

/** A question to a server. The work that asks goes on when it has the permit that it needs for what has arrived. */
export const asking = <A>(
  destination: ServerName,
  question: Effect.Effect<A, RemoteError>
): Effect.Effect<A, RemoteError> =>
  Effect.flatMap(CurrentAnswerBudget, (budget) =>
    budget === undefined
      ? question
      : Effect.catchTag(budget.memory.asking(question), "AnswerGivenUp", ({ reason }: AnswerGivenUp) =>
          Effect.fail(new RemoteUnreachable({ destination, reason, isOwnLimit: true }))
        )
  )

/**
 * Hands over a body whose parts are worked on as they arrive: what follows the first `smallRead` bytes with the permit for large answers.
 * `timeout` is how long all of it may take to arrive, in ms.
 */
export const eachChunk = Effect.fnUntraced(function* <E>(
  destination: ServerName,
  response: IncomingMessage,
  limits: { readonly maxBytes: number; readonly timeout: number },
  take: (chunk: Buffer) => Effect.Effect<void, E>
): Effect.fn.Return<void, E | RemoteError> {
  const next = asking(destination, chunksOf(destination, response, limits.maxBytes, limits.timeout))
  for (let chunk = yield* next; chunk !== undefined; chunk = yield* next) yield* take(chunk)
})

/** The whole body, when it has arrived. */
export const wholeBody = Effect.fnUntraced(function* (
  destination: ServerName,
  response: IncomingMessage,
  maxBytes: number
): Effect.fn.Return<Buffer, ArrivalError> {
  const next = chunksOf(destination, response, maxBytes)
  const bytes = new ByteCollector()
  for (let chunk = yield* next; chunk !== undefined; chunk = yield* next) bytes.add(chunk)
  return bytes.take()
})

/** The whole body, where nothing but its arrival is waited for with `asking`. */
export const readBody = (
  destination: ServerName,
  response: IncomingMessage,
  maxBytes: number
): Effect.Effect<Buffer, RemoteError> => asking(destination, wholeBody(destination, response, maxBytes))
