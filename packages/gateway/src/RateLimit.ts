/**
 * Rate limits. Each kind of request has a rate; requests are counted by user if the session is known, else by network
 * address. Counts are token buckets in the memory of this node: `limit` requests at once, refilled evenly over `window`.
 * Each of several nodes lets its part of the rate pass, without asking the others; logins and registrations are counted in
 * the database there.
 *
 * Source: "API Standards" of the draft (M_LIMIT_EXCEEDED), "Rate limiting" of the client-server specification.
 */
import { LoginThrottle } from "@greenroom/actors/account/login/LoginThrottle"
import { addressKey } from "@greenroom/actors/runtime/AddressKey"
import { Nodes } from "@greenroom/actors/runtime/Nodes"
import { LimitExceeded } from "@greenroom/protocol/MatrixError"
import { Context, Duration, Effect, Layer } from "effect"
import { RateLimiter } from "effect/persistence"
import { boundedStore } from "./internal/BoundedRateLimiterStore.ts"
import { type AddressRateKind, defaultRates, type Off, off, type Rate, type RateKind, type Rates } from "./Rate.ts"

/** Counts requests, and refuses those above their rate. */
export class RateLimit extends Context.Service<
  RateLimit,
  {
    /**
     * Counts one request of a user or a server, against a rate of its own where one is given. Errors: M_LIMIT_EXCEEDED with the
     * time until the next one may come.
     */
    readonly take: (
      kind: Exclude<RateKind, AddressRateKind>,
      key: string,
      ownRate?: Rate
    ) => Effect.Effect<void, LimitExceeded>
    /**
     * Counts one request from an address, by its network where it is an IPv6 address, and by `account` if that is given.
     * Errors: M_LIMIT_EXCEEDED, as `take`.
     */
    readonly takeFrom: (kind: AddressRateKind, address: string, account?: string) => Effect.Effect<void, LimitExceeded>
  }
>()("greenroom/gateway/RateLimit") {
  /** For a server of one process, or for a node that counts all kinds itself. */
  static readonly layerOfProcess = (rates: Rates = defaultRates, nodes?: () => number): Layer.Layer<RateLimit> =>
    Layer.effect(
      RateLimit,
      Effect.map(makeLimiter(rates, nodes), (take) =>
        RateLimit.of({
          take: (kind, key, ownRate) => take(kind, key, 1, ownRate),
          takeFrom: (kind, address, account) => take(kind, keyOf(address, account))
        })
      )
    )

  /** For a node of a cluster. Logins and registrations are rare, and are counted in the database for all nodes together. */
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
          take: (kind, key, ownRate) => take(kind, key, 1, ownRate),
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
 * list, takes as many `tokens`. `ownRate` is of this key alone. Each of `nodes` nodes has its share of the rates. Errors:
 * M_LIMIT_EXCEEDED.
 */
export const makeLimiter = <Kind extends string>(
  rates: {
    readonly [K in Kind]: Rate | Off
  },
  nodes: () => number = () => 1
): Effect.Effect<(kind: Kind, key: string, tokens?: number, ownRate?: Rate) => Effect.Effect<void, LimitExceeded>> =>
  Effect.map(RateLimiter.make, (limiter) => (kind: Kind, key: string, tokens = 1, ownRate?: Rate) => {
    const rate = ownRate ?? rates[kind]
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
