/** Waits for an event by long polls, each from the end of the one before. */
import { Effect } from "effect"
import type { Answer, Body } from "./Curl.ts"

export interface Found {
  readonly event: Body
  /** The `end` of the poll that had the event. */
  readonly end: string
}

/** The first matching event after `from`. `poll` sends a GET request to a path of the client API. */
export const waitFor = (
  poll: (path: string) => Effect.Effect<Answer>,
  from: string,
  matches: (event: Body) => boolean
): Effect.Effect<Found> =>
  Effect.flatMap(poll(`/events?from=${encodeURIComponent(from)}&timeout=30000`), ({ body, status, text }) => {
    if (status !== 200) return Effect.die(new Error(`A poll was answered with ${status}: ${text}`))
    const event = body.chunk.find(matches)
    return event === undefined ? waitFor(poll, body.end, matches) : Effect.succeed({ event, end: body.end })
  })
