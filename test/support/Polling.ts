/**
 * Waiting for an event by long poll, as a simple client does: poll after poll, each from where the last one ended.
 */
import { Effect } from "effect"
import type { Answer, Body } from "./Curl.ts"

export interface Found {
  readonly event: Body
  /** The `end` of the poll that had the event. */
  readonly end: string
}

/** The next event after `from` for which this holds. `poll` asks for a path of the client API. */
export const waitFor = (
  poll: (path: string) => Effect.Effect<Answer>,
  from: string,
  isMeant: (event: Body) => boolean
): Effect.Effect<Found> =>
  Effect.flatMap(poll(`/events?from=${encodeURIComponent(from)}&timeout=30000`), ({ body, status, text }) => {
    if (status !== 200) return Effect.die(new Error(`A poll was answered with ${status}: ${text}`))
    const event = body.chunk.find(isMeant)
    return event === undefined ? waitFor(poll, body.end, isMeant) : Effect.succeed({ event, end: body.end })
  })
