/**
 * The one way to ask another home server: a request signed with our key, its answer read within limits. A server that could
 * not be reached lately is not tried (`Destinations`), except where a user waits for a handshake with it.
 *
 * `FederationClient` makes its requests in the draft's dialect, `ServerServerClient` in today's. Where a request belongs to
 * no room, and so to no dialect, `callEither` tries today's first; all nodes remember for a day the servers that speak the draft's alone.
 *
 * Source: "Federation" of the draft; "Server discovery" and "Authentication" of the server-server specification.
 */
import { parse as parseExact } from "@greenroom/protocol/ExactJson"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Context, Effect, Layer, Option } from "effect"
import { CurrentAnswerBudget } from "../runtime/AnswerBudget.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { Destinations } from "./Destinations.ts"
import { FederationConfig } from "./FederationConfig.ts"
import { defaultRequestTimeout, FederationTransport, type TransportResponse } from "./FederationTransport.ts"
import { makeDestinationLimit } from "./internal/DestinationLimit.ts"
import { type RemoteError, RemoteInvalid, RemoteRefused, RemoteUnreachable } from "./RemoteError.ts"
import { authorizationOf } from "./RequestSigning.ts"
import { encodeCanonicalJson, parseJson } from "./SlicedJson.ts"

/** The largest answers that are read, in bytes. */
export const answerLimits = {
  small: 256 * 1024,
  transaction: 1024 * 1024,
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
  /** The answer, undefined where it is not of the form that was asked for. */
  readonly read: (answer: JsonObject) => A | undefined
}

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
    ({ reason }) => new RemoteInvalid({ destination, reason: `what is sent has no canonical form: ${reason}` })
  )

/** A proxy answers so for a server that is not there. */
const unreachableStatuses: ReadonlySet<number> = new Set([502, 503, 504])

const refusal = (destination: ServerName, response: TransportResponse, answer: JsonObject | undefined) => {
  const { retryAfter, status } = response
  if (unreachableStatuses.has(status)) {
    return new RemoteUnreachable({ destination, reason: `the server answered with status ${status}` })
  }
  const { errcode, error, retry_after_ms, room_version } = answer ?? {}
  const wait = typeof retry_after_ms === "number" ? retry_after_ms : retryAfter
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

const make = Effect.gen(function* () {
  const { serverName: origin } = yield* HomeServerConfig
  const { requestTimeout = defaultRequestTimeout } = yield* FederationConfig
  const transport = yield* FederationTransport
  const destinations = yield* Destinations
  const signingKeys = yield* SigningKeys
  const limited = makeDestinationLimit()

  const exchange = Effect.fnUntraced(function* <A>(call: Call<A>, maxBytes: number) {
    const { destination, method, uri } = call
    const body = call.content === undefined ? call.body : yield* encodeContent(destination, call.content)
    const head = { method, uri, origin, destination }
    const authorization = yield* authorizationOf(head, body, yield* signingKeys.current)
    return yield* transport.request({
      destination,
      method,
      uri,
      headers: { authorization, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      ...(body === undefined ? {} : { body }),
      maxBytes,
      timeout: requestTimeout * (call.timeoutFactor ?? 1)
    })
  })

  /** The response, which counts against the budget of the work that asks. One that is too large has been read up to there. */
  const budgeted = Effect.fnUntraced(function* <A>(call: Call<A>) {
    const budget = yield* CurrentAnswerBudget
    if (budget === undefined) return yield* exchange(call, call.maxBytes)
    const maxBytes = Math.min(call.maxBytes, budget.left)
    if (maxBytes <= 0) {
      return yield* new RemoteInvalid({ destination: call.destination, reason: "the answers are too large together" })
    }
    const spend = (bytes: number) => {
      budget.left -= bytes
    }
    return yield* exchange(call, maxBytes).pipe(
      Effect.tap(({ body }) => Effect.sync(() => spend(body.length))),
      Effect.tapErrorTag("RemoteInvalid", () => Effect.sync(() => spend(maxBytes)))
    )
  })

  const answer = Effect.fnUntraced(function* <A>(call: Call<A>) {
    const { destination } = call
    const response = yield* budgeted(call)
    const json = yield* Effect.option(parseJson(response.body, call.hasPdus === true ? parseExact : undefined))
    const object = Option.filter(Option.map(json, unwrapped), isJsonObject)
    if (response.status >= 300) return yield* refusal(destination, response, Option.getOrUndefined(object))
    const read = Option.isNone(object) ? undefined : call.read(object.value)
    if (read !== undefined) return read
    return yield* new RemoteInvalid({ destination, reason: `the answer to ${call.method} ${call.uri} is malformed` })
  })

  const isUnreachable = (error: RemoteError): error is RemoteUnreachable => error._tag === "RemoteUnreachable"

  /** Every answer shows that the server can be reached. */
  const noted = <A>(destination: ServerName, effect: Effect.Effect<A, RemoteError>) =>
    effect.pipe(
      Effect.tap(() => destinations.succeeded(destination)),
      Effect.tapError((error) =>
        isUnreachable(error) ? destinations.failed(destination, error.reason) : destinations.succeeded(destination)
      )
    )

  const call = <A>(call: Call<A>): Effect.Effect<A, RemoteError> => {
    const { destination } = call
    if (destination === origin) {
      return Effect.fail(new RemoteUnreachable({ destination, reason: "that is this server itself" }))
    }
    const limit = limited(destination, noted(destination, answer(call)))
    return call.isUrgent === true ? limit : Effect.andThen(destinations.check(destination), limit)
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
