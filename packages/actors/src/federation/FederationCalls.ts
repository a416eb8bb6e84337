/**
 * All requests to other home servers: signed with our key, their answers read within limits. A server in back-off is not
 * tried (`Destinations`), except if a user waits for a handshake with it.
 *
 * `FederationClient` makes its requests in the draft's dialect, `ServerServerClient` in today's. Where a request belongs to
 * no room, and so to no dialect, `callEither` tries today's first; all nodes remember for a day the servers that speak the draft's alone.
 *
 * Source: "Federation" of the draft; "Server discovery" and "Authentication" of the server-server specification.
 */
import { parse as parseExact } from "@greenroom/protocol/ExactJson"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { smallRead } from "@greenroom/store/LargeReads"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Context, Effect, Layer, Option } from "effect"
import { CurrentAnswerBudget, withAnswerBudget } from "../runtime/AnswerBudget.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { Destinations } from "./Destinations.ts"
import { FederationConfig } from "./FederationConfig.ts"
import {
  defaultRequestTimeout,
  FederationTransport,
  retryAfterOf,
  type TransportResponse
} from "./FederationTransport.ts"
import { asking, eachChunk, wholeBody } from "./internal/answerBodies.ts"
import { makeDestinationLimit } from "./internal/DestinationLimit.ts"
import { type ListEntry, ListReader } from "./internal/ListReader.ts"
import type { JsonSyntaxError } from "./JsonSyntaxError.ts"
import { type RemoteError, RemoteInvalid, RemoteRefused, RemoteUnreachable } from "./RemoteError.ts"
import { authorizationOf } from "./RequestSigning.ts"
import { encodeCanonicalJson, parseJson } from "./SlicedJson.ts"

/** The largest answers that are read, in bytes. */
export const answerLimits = {
  profile: 64 * 1024,
  small: 256 * 1024,
  transaction: 1024 * 1024,
  summaries: 2 * 1024 * 1024,
  pages: 8 * 1024 * 1024,
  wholeState: 50 * 1024 * 1024
}

/** How many request timeouts a small answer may take for which a user waits: a silent server must not hold them up. */
export const shortTimeoutFactor = 1 / 3

/** A request and how to read its answer. */
export interface Call<A> {
  readonly destination: ServerName
  readonly method: "GET" | "PUT" | "POST"
  /** Path and query, encoded. */
  readonly uri: string
  readonly content?: JsonObject
  /** The content as canonical JSON, instead of `content`. */
  readonly body?: Uint8Array
  readonly maxBytes: number
  /** The answer has PDUs, whose numbers are read by `ExactJson`. */
  readonly hasPdus?: boolean
  /** How many request timeouts it may take (default 1; a third where a user waits for a small answer). */
  readonly timeoutFactor?: number
  /** A user waits for it: it is tried even while the server is in back-off. */
  readonly isUrgent?: boolean
  /** The other server may take too long for it: an answer 502 to 504 of its proxy does not put the server into back-off. */
  readonly isCostly?: boolean
  /** Lists whose entries are handed over while the answer arrives. `read` gets them empty. */
  readonly lists?: StreamedLists
  /** The answer, undefined if it is not of the form that was asked for. */
  readonly read: (answer: JsonObject) => A | undefined
}

/** The long lists of an answer. */
export interface StreamedLists {
  readonly keys: ReadonlySet<string>
  /** Takes the next entries of the list with this key. The answer waits until they are taken. */
  readonly take: (key: string, entries: ReadonlyArray<Json>) => Effect.Effect<void>
}

/** How many entries of a streamed list are handed over at once. */
const takenAtOnce = 500

/** A path of encoded parts. */
export const pathOf = (...parts: ReadonlyArray<string>): string =>
  parts.map((part) => `/${encodeURIComponent(part)}`).join("")

/** The path with those of the parameters that have a value. */
export const withQuery = (path: string, query: ReadonlyArray<readonly [string, string | undefined]>): string => {
  const present = query.flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${encodeURIComponent(value)}`]))
  return present.length === 0 ? path : `${path}?${present.join("&")}`
}

/** The body, as canonical JSON. */
export const encodeContent = (destination: ServerName, content: JsonObject): Effect.Effect<Buffer, RemoteInvalid> =>
  Effect.mapError(
    encodeCanonicalJson(content),
    ({ reason }) =>
      new RemoteInvalid({ destination, reason: `what is sent has no canonical form: ${reason}`, isUnsent: true })
  )

/** The longest wait before another request that a server can ask for in the body of an answer, in ms. */
const longestWait = 3_600_000

/** A proxy answers so for a server that is not there. */
const unreachableStatuses: ReadonlySet<number> = new Set([502, 503, 504])

type Head = Pick<TransportResponse, "retryAfter" | "status">

const isProxied = ({ status }: Pick<Head, "status">): boolean => unreachableStatuses.has(status)

const isUnreached = ({ isCostly = false }: Pick<Call<unknown>, "isCostly">, head: Head): boolean =>
  isProxied(head) && !isCostly

const refusal = (
  call: Pick<Call<unknown>, "destination" | "isCostly">,
  head: Head,
  answer: JsonObject | undefined
): RemoteError => {
  const { destination } = call
  const { retryAfter, status } = head
  if (isUnreached(call, head)) {
    return new RemoteUnreachable({ destination, reason: `the server answered with status ${status}` })
  }
  const { errcode, error, retry_after_ms, room_version } = answer ?? {}
  const wait = typeof retry_after_ms === "number" ? Math.min(Math.max(0, retry_after_ms), longestWait) : retryAfter
  return new RemoteRefused({
    destination,
    status,
    errcode: typeof errcode === "string" ? errcode : "M_UNKNOWN",
    error: typeof error === "string" ? error.slice(0, 1_000) : `status ${status}`,
    ...(wait === undefined ? {} : { retryAfter: wait }),
    ...(typeof room_version === "string" ? { roomVersion: room_version.slice(0, 64) } : {})
  })
}

/** The server has no such endpoint. */
export const isUnrecognized = (error: RemoteError): boolean =>
  error._tag === "RemoteRefused" &&
  (error.status === 404 || error.status === 405 || error.status === 400) &&
  (error.errcode === "M_UNRECOGNIZED" || (error.errcode === "M_UNKNOWN" && error.status !== 400))

/** The first version of some endpoints answers with a pair of status and body. */
const unwrapped = (answer: Json): Json => (Array.isArray(answer) && answer.length === 2 ? answer[1]! : answer)

/** The entries by their lists. */
const runsOf = (entries: ReadonlyArray<ListEntry>): ReadonlyArray<readonly [string, ReadonlyArray<Json>]> =>
  [...Map.groupBy(entries, ({ list }) => list)].map(([key, of]) => [key, of.map(({ value }) => value)])

const make = Effect.gen(function* () {
  const { serverName: origin } = yield* HomeServerConfig
  const { requestTimeout = defaultRequestTimeout } = yield* FederationConfig
  const transport = yield* FederationTransport
  const destinations = yield* Destinations
  const signingKeys = yield* SigningKeys
  const limited = makeDestinationLimit()

  const timeoutOf = <A>({ timeoutFactor = 1 }: Call<A>): number => requestTimeout * timeoutFactor

  const signed = Effect.fnUntraced(function* <A>(call: Call<A>) {
    const { destination, method, uri } = call
    const body = call.content === undefined ? call.body : yield* encodeContent(destination, call.content)
    const head = { method, uri, origin, destination }
    const authorization = yield* authorizationOf(head, body, yield* signingKeys.current)
    return {
      destination,
      method,
      uri,
      headers: { authorization, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      ...(body === undefined ? {} : { body }),
      timeout: timeoutOf(call),
      // The other server should not make a large answer twice.
      mayRepeat: call.method !== "POST" && call.maxBytes <= answerLimits.transaction
    }
  })

  const lateAnswer = <A>(call: Call<A>) =>
    new RemoteUnreachable({
      destination: call.destination,
      reason: `no whole answer within ${timeoutOf(call)} ms`
    })

  const inTime =
    <A>(call: Call<A>) =>
    <B, E, R>(arriving: Effect.Effect<B, E, R>) =>
      Effect.timeoutOrElse(arriving, { duration: timeoutOf(call), orElse: () => Effect.fail(lateAnswer(call)) })

  /** The whole response, when it has arrived. One that may be large is read as a stream, so that its bytes are counted. */
  const exchange = Effect.fnUntraced(function* <A>(call: Call<A>, maxBytes: number) {
    const request = yield* signed(call)
    if (maxBytes <= smallRead) {
      const budget = yield* CurrentAnswerBudget
      return yield* Effect.tap(transport.request({ ...request, maxBytes }), ({ body }) =>
        Effect.sync(() => budget?.memory.add(body.length))
      )
    }
    const opened = Effect.gen(function* () {
      const response = yield* transport.open(request)
      const body = yield* wholeBody(call.destination, response, maxBytes)
      return { status: response.statusCode ?? 0, body, retryAfter: retryAfterOf(response) }
    })
    return yield* inTime(call)(Effect.scoped(opened))
  })

  /** The response, which counts against the budget of the work that asks. One that is too large has been read up to there. */
  const budgeted = Effect.fnUntraced(function* <A>(call: Call<A>) {
    const budget = yield* CurrentAnswerBudget
    if (budget === undefined) return yield* exchange(call, call.maxBytes)
    const maxBytes = Math.min(call.maxBytes, budget.left)
    if (maxBytes <= 0) {
      const reason = "the answers are too large together"
      return yield* new RemoteInvalid({ destination: call.destination, reason, isUnsent: true })
    }
    const spend = (bytes: number) => {
      budget.left -= bytes
    }
    return yield* exchange(call, maxBytes).pipe(
      Effect.tap(({ body }) => Effect.sync(() => spend(body.length))),
      Effect.tapErrorTag("RemoteInvalid", ({ isUnsent }) => Effect.sync(() => spend(isUnsent === true ? 0 : maxBytes)))
    )
  })

  /** The response, unless it is that of a proxy for a server that is not there. */
  const responded = <A>(call: Call<A>) =>
    Effect.flatMap(budgeted(call), (response) =>
      isUnreached(call, response) ? Effect.fail(refusal(call, response, undefined)) : Effect.succeed(response)
    )

  /**
   * Asks when few other requests to the server are under way, and notes whether it could be reached. Every answer shows that, but for
   * that of a proxy to a costly request, which shows nothing, as do an answer that was given up by a limit of ours and a request that
   * was not sent.
   */
  const inTurn = <A, B>(
    call: Call<A>,
    asked: Effect.Effect<B, RemoteError>,
    isOfProxy: (answer: B) => boolean = () => false
  ): Effect.Effect<B, RemoteError> => {
    const { destination } = call
    const succeeded = destinations.succeeded(destination)
    const noted = asked.pipe(
      Effect.tap((answer) => (isOfProxy(answer) ? Effect.void : succeeded)),
      Effect.tapError((error) => {
        if (error._tag === "RemoteUnreachable") return destinations.failed(error)
        const showsNothing = error._tag === "RemoteRefused" ? isProxied(error) : error.isUnsent === true
        return showsNothing ? Effect.void : succeeded
      })
    )
    if (call.isUrgent === true) return limited(destination, noted, timeoutOf(call))
    const check = destinations.check(destination)
    // Those before it may have found that the server is not there.
    return Effect.andThen(check, limited(destination, Effect.andThen(check, noted), timeoutOf(call)))
  }

  const malformed = <A>({ destination, method, uri }: Call<A>, reason = "it is of another form") =>
    new RemoteInvalid({ destination, reason: `the answer to ${method} ${uri} is malformed: ${reason}` })

  const readObject = <A>(call: Call<A>, object: JsonObject): Effect.Effect<A, RemoteInvalid> => {
    const read = call.read(object)
    return read === undefined ? Effect.fail(malformed(call)) : Effect.succeed(read)
  }

  const answer = Effect.fnUntraced(function* <A>(call: Call<A>): Effect.fn.Return<A, RemoteError> {
    const response = yield* asking(call.destination, inTurn(call, responded(call), isProxied))
    const json = yield* Effect.option(parseJson(response.body, call.hasPdus === true ? parseExact : undefined))
    const object = Option.filter(Option.map(json, unwrapped), isJsonObject)
    if (response.status >= 300) return yield* refusal(call, response, Option.getOrUndefined(object))
    return yield* Option.isNone(object) ? Effect.fail(malformed(call)) : readObject(call, object.value)
  })

  /** The same where lists of the answer are handed over while it arrives. */
  const streamedAnswer = <A>(call: Call<A>, lists: StreamedLists): Effect.Effect<A, RemoteError> =>
    Effect.scoped(
      Effect.gen(function* () {
        const { destination, maxBytes } = call
        const begun = yield* monotonicMillis
        const response = yield* transport.open(yield* signed(call))
        const status = response.statusCode ?? 0
        if (status >= 300) {
          const body = yield* inTime(call)(wholeBody(destination, response, answerLimits.small))
          const json = Option.getOrUndefined(Option.map(yield* Effect.option(parseJson(body)), unwrapped))
          return yield* refusal(
            call,
            { status, retryAfter: retryAfterOf(response) },
            isJsonObject(json) ? json : undefined
          )
        }
        const reader = new ListReader(lists.keys, call.hasPdus === true ? parseExact : JSON.parse)
        const handOver = Effect.suspend(() =>
          Effect.forEach(runsOf(reader.take()), ([key, entries]) => lists.take(key, entries), { discard: true })
        )
        const reading = <B>(step: () => B) =>
          Effect.try({ try: step, catch: (error) => malformed(call, (error as JsonSyntaxError).reason) })
        const timeout = timeoutOf(call) - ((yield* monotonicMillis) - begun)
        yield* eachChunk(destination, response, { maxBytes, timeout }, (chunk) =>
          Effect.flatMap(
            reading(() => reader.push(chunk)),
            // Chunks may have arrived already: each is read in a turn of its own.
            () => (reader.waiting < takenAtOnce ? Effect.yieldNow : Effect.andThen(handOver, Effect.yieldNow))
          )
        )
        const object = yield* reading(() => reader.end())
        yield* handOver
        return yield* readObject(call, object)
      })
    )

  /** A large answer to work without a budget is counted until it has been read. */
  const withinBudget = <A, E>({ destination, maxBytes }: Call<A>, asked: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.flatMap(CurrentAnswerBudget, (budget) =>
      budget === undefined ? withAnswerBudget(maxBytes, destination, asked) : asked
    )

  const call = <A>(call: Call<A>): Effect.Effect<A, RemoteError> => {
    const { destination, lists, maxBytes } = call
    if (destination === origin) {
      return Effect.fail(new RemoteUnreachable({ destination, reason: "that is this server itself" }))
    }
    const asked = lists === undefined ? answer(call) : inTurn(call, streamedAnswer(call, lists))
    return maxBytes <= smallRead ? asked : withinBudget(call, asked)
  }

  const callEither = Effect.fnUntraced(function* <A>(today: Call<A>, draft: Call<A>): Effect.fn.Return<A, RemoteError> {
    const { destination } = today
    if (yield* destinations.speaksDraft(destination)) return yield* call(draft)
    return yield* Effect.catchIf(call(today), isUnrecognized, (failure) =>
      Effect.tap(
        Effect.mapError(call(draft), (error) => (isUnrecognized(error) ? failure : error)),
        () => destinations.noteDraft(destination)
      )
    )
  })

  return FederationCalls.of({
    call: (entry) => Effect.withSpan(call(entry), "FederationCalls.call"),
    callEither
  })
})

/** Signed requests to other home servers, under limits of time and size. */
export class FederationCalls extends Context.Service<
  FederationCalls,
  {
    readonly call: <A>(call: Call<A>) => Effect.Effect<A, RemoteError>
    /** The same request in today's dialect and, where the server does not know it, in the draft's. */
    readonly callEither: <A>(today: Call<A>, draft: Call<A>) => Effect.Effect<A, RemoteError>
  }
>()("greenroom/actors/FederationCalls") {
  static readonly layer: Layer.Layer<
    FederationCalls,
    never,
    FederationConfig | FederationTransport | Destinations | SigningKeys | HomeServerConfig
  > = Layer.effect(FederationCalls, make)
}
