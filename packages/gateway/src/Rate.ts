/**
 * How often requests of each kind may come, and how an operator writes it. `RateLimit` counts them.
 */
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"

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
/** A kind of request that has a rate. */
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
