/**
 * Rate limits. Each kind of request has a rate; requests are counted by user if the session is known, else by network
 * address. Counts are token buckets in the memory of this node: `limit` requests at once, refilled evenly over `window`.
 * Each of several nodes lets its part of the rate pass, without asking the others; logins and registrations are counted in
 * the database there.
 *
 * Source: "API Standards" of the specification (M_LIMIT_EXCEEDED).
 */

import { LoginThrottle } from "@greenroom/actors/account/login/LoginThrottle"
import { addressKey } from "@greenroom/actors/runtime/AddressKey"
import { Nodes } from "@greenroom/actors/runtime/Nodes"
import { LimitExceeded } from "@greenroom/protocol/MatrixError"
import { Context, Duration, Effect, Layer, Schema, SchemaTransformation } from "effect"
import { RateLimiter } from "effect/persistence"
import { boundedStore } from "./internal/BoundedRateLimiterStore.ts"

/** `limit` requests per `window` milliseconds. */
export interface Rate {
  readonly limit: number
  readonly window: number
}

/** No rate: the kind is not limited. */
export const off = "off"
export type Off = typeof off

/** The rate of each kind of request. */
export interface Rates {
  /** Registrations, per address. */
  readonly registrations: Rate | Off
  /** Attempts to log in, per account name and address. */
  readonly logins: Rate | Off
  /** Requests that change something, such as events, state and memberships, per user. */
  readonly sends: Rate | Off
  /** Requests that only read, per user. */
  readonly requests: Rate | Off
  /** Requests without a valid access token, per address. */
  readonly anonymous: Rate | Off
}
export type RateKind = keyof Rates

/** The rates that count by the address of the client. */
export type AddressRateKind = "registrations" | "logins" | "anonymous"

/** Generous: they stop floods, not programs. */
export const defaultRates: Rates = {
  registrations: { limit: 600, window: 60_000 },
  logins: { limit: 100, window: 60_000 },
  sends: { limit: 500, window: 1_000 },
  requests: { limit: 1_000, window: 1_000 },
  anonymous: { limit: 500, window: 1_000 }
}

/** No limits: for benchmarks, and for a server whose users are all known. */
export const unlimited: Rates = { registrations: off, logins: off, sends: off, requests: off, anonymous: off }

const units = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 } as const
const ratePattern = /^([1-9][0-9]{0,8})\/([1-9][0-9]{0,5})?(ms|s|m|h)$/

const parseRate = (text: string): Rate | Off => {
  const [, limit, count, unit] = ratePattern.exec(text) ?? []
  return limit === undefined ? off : { limit: Number(limit), window: Number(count ?? 1) * units[unit as "s"] }
}

/** A rate as it is configured: `500/1s`, `20/m`, or `off`. */
export const RateFromString: Schema.Codec<Rate | Off, string> = Schema.String.check(
  Schema.makeFilter((text: string) => text === off || ratePattern.test(text) || "a rate such as 500/1s, or off")
).pipe(
  Schema.decodeTo(
    Schema.Union([Schema.Literal(off), Schema.Struct({ limit: Schema.Number, window: Schema.Number })]) as Schema.Codec<
      Rate | Off
    >,
    SchemaTransformation.transform({
      decode: parseRate,
      encode: (rate) => (rate === off ? off : `${rate.limit}/${rate.window}ms`)
    })
  )
)

export class RateLimit extends Context.Service<
  RateLimit,
  {
    /**
     * Counts one request of a user or a server. Errors: M_LIMIT_EXCEEDED with the time until the next one is welcome.
     */
    readonly take: (kind: Exclude<RateKind, AddressRateKind>, key: string) => Effect.Effect<void, LimitExceeded>
    /**
     * Counts one request from an address, by its network where it is an IPv6 address, and by `account` where that is given.
     * Errors: M_LIMIT_EXCEEDED, as `take`.
     */
    readonly takeFrom: (kind: AddressRateKind, address: string, account?: string) => Effect.Effect<void, LimitExceeded>
  }
>()("greenroom/gateway/RateLimit") {
  /** Of a server of one process, or of one node of several where all kinds are counted by each node. */
  static readonly layerOfProcess = (rates: Rates = defaultRates, nodes?: () => number): Layer.Layer<RateLimit> =>
    Layer.effect(
      RateLimit,
      Effect.map(makeLimiter(rates, nodes), (take) =>
        RateLimit.of({ take, takeFrom: (kind, address, account) => take(kind, keyOf(address, account)) })
      )
    )

  /** Of one node of several: logins and registrations are rare, and counted exactly. */
  private static readonly layerOfCluster = (rates: Rates): Layer.Layer<RateLimit, never, Nodes | LoginThrottle> =>
    Layer.effect(
      RateLimit,
      Effect.gen(function* () {
        const { count } = yield* Nodes
        const { take: takeOfAll } = yield* LoginThrottle
        const take = yield* makeLimiter(rates, count)
        const takeShared = (kind: "logins" | "registrations", key: string) => {
          const rate = rates[kind]
          return rate === off ? Effect.void : takeOfAll(`${kind} ${key}`, rate)
        }
        return RateLimit.of({
          take,
          takeFrom: (kind, address, account) =>
            kind === "anonymous" ? take(kind, addressKey(address)) : takeShared(kind, keyOf(address, account))
        })
      })
    )

  static readonly layer = (rates: Rates = defaultRates): Layer.Layer<RateLimit, never, Nodes | LoginThrottle> =>
    Layer.unwrap(
      Nodes.useSync(({ isCluster }) => (isCluster ? RateLimit.layerOfCluster(rates) : RateLimit.layerOfProcess(rates)))
    )
}

/** The key that counts an address, and an account requested from it. */
const keyOf = (address: string, account: string | undefined): string =>
  account === undefined ? addressKey(address) : `${addressKey(address)} ${account}`

/**
 * Counts requests against rates of any kinds, in the memory of this node. A request that counts more than once, such as a
 * list, takes as many `tokens`. Each of `nodes` nodes has its share of the rates. Errors: M_LIMIT_EXCEEDED.
 */
export const makeLimiter = <Kind extends string>(
  rates: {
    readonly [K in Kind]: Rate | Off
  },
  nodes: () => number = () => 1
): Effect.Effect<(kind: Kind, key: string, tokens?: number) => Effect.Effect<void, LimitExceeded>> =>
  Effect.map(RateLimiter.make, (limiter) => (kind: Kind, key: string, tokens = 1) => {
    const rate = rates[kind]
    if (rate === off) return Effect.void
    const limit = Math.ceil(rate.limit / nodes())
    return limiter
      .consume({ algorithm: "token-bucket", key: `${kind} ${key}`, limit, window: rate.window, tokens })
      .pipe(Effect.mapErrorEager(toLimitExceeded), Effect.asVoid)
  }).pipe(Effect.provideServiceEffect(RateLimiter.RateLimiterStore, Effect.sync(boundedStore)))

const toLimitExceeded = ({ reason }: RateLimiter.RateLimiterError): LimitExceeded =>
  new LimitExceeded({
    error: "Too many requests, try again later",
    retry_after_ms:
      reason._tag === "RateLimitExceeded" ? Math.max(1, Math.ceil(Duration.toMillis(reason.retryAfter))) : 1_000
  })
