/**
 * The meaning of an error that answers a transaction: whether and when to send it again.
 *
 * A transaction that is refused for good is split into its PDUs, so that a PDU which the server cannot handle does not block
 * the others. A single PDU that is refused for good is dropped. Every error becomes final after some attempts: otherwise a
 * PDU that the server always answers with 500 would block all later ones.
 */
import { doublingWait } from "@greenroom/store/Backoff"
import type { RemoteError } from "./RemoteError.ts"

/** How many refusals in a row end a transaction, where the answer does not show that the server has understood it: 5xx, or no JSON. */
const uncertainRefusals = 8

/** The same for 401 and for answers without an error code that explains the refusal. */
const unauthorisedRefusals = 4

/** The server asks to come again later: 408, 425, 429. */
const laterStatuses: ReadonlySet<number> = new Set([408, 425, 429])

/**
 * How many refusals in a row make this one final. A proxy in front of a server that is being set up answers 404 without
 * an error code of Matrix, and a server that could not get our keys 401: both may pass.
 */
export const refusalsUntilFinal = (error: Exclude<RemoteError, { readonly _tag: "RemoteUnreachable" }>): number => {
  if (error._tag === "RemoteInvalid" || error.status >= 500 || error.status < 400) return uncertainRefusals
  if (laterStatuses.has(error.status) || error.errcode === "M_LIMIT_EXCEEDED") return Number.POSITIVE_INFINITY
  if (error.status === 401) return unauthorisedRefusals
  return error.errcode === "M_UNKNOWN" || error.errcode === "M_UNRECOGNIZED" ? unauthorisedRefusals : 1
}

/** The longest wait after a refusal, in ms. */
const longestWait = 3_600_000

/** How many refusals in a row, of any kind, do not yet lengthen the wait. */
const freeRefusals = 2

/** The largest part by which chance shortens a wait. */
const jitter = 0.3

/**
 * The delay after so many refusals in a row, in ms. `isFinal`: the next item is another one, which may be accepted. `chance`
 * is from 0 to 1; `asked` is the delay that the server requested.
 */
export const waitAfterRefusal = (refusals: number, isFinal: boolean, chance: number, asked = 0): number => {
  const counted = isFinal ? refusals - freeRefusals : refusals
  const wait = counted <= 0 ? 0 : doublingWait(counted, 1_000, longestWait) * (1 - jitter * chance)
  return Math.max(wait, Math.min(asked, longestWait))
}
