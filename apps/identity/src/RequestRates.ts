/**
 * The rates of requests to the identity server. `Requests` counts them.
 */
import type { Off, Rate } from "@greenroom/gateway/Rate"

export interface RequestRates {
  /** All requests. */
  readonly requests: Rate | Off
  /** Messages that are sent. */
  readonly messages: Rate | Off
  /** Tokens that are tried. */
  readonly tries: Rate | Off
  /** Addresses that are looked up, hashed or not. */
  readonly lookups: Rate | Off
}
export type RequestKind = keyof RequestRates

export const defaultRequestRates: RequestRates = {
  requests: { limit: 100, window: 1_000 },
  messages: { limit: 20, window: 3_600_000 },
  tries: { limit: 60, window: 600_000 },
  lookups: { limit: 5_000, window: 3_600_000 }
}
