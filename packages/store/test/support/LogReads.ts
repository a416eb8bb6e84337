/** Reads for tests of the event log: stored events, and the log itself. */
import { assert } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { Effect } from "effect"
import { EventLog, type StreamedEvent } from "../../src/EventLog.ts"
import { EventStore } from "../../src/EventStore.ts"
import { comparePositions, type StreamPosition } from "../../src/StreamToken.ts"

export const idsOf = (events: ReadonlyArray<{ readonly event: Event } | Event>): ReadonlyArray<string> =>
  events.map((event) => ("event" in event ? (event.event as Event).event_id : (event as Event).event_id))

/** Which of the events are stored. */
export const storedOf = Effect.fnUntraced(function* (events: ReadonlyArray<Event>) {
  const found = yield* (yield* EventStore).byIds(events.map((event) => event.event_id))
  return new Set(found.map(({ event }) => event.event_id))
})

/** Everything after a position, in slices of at most `limit` events, until `count` were read. */
export const follow = Effect.fnUntraced(function* (position: StreamPosition, limit: number, count: number) {
  const log = yield* EventLog
  const read: Array<StreamedEvent> = []
  let at = position
  while (read.length < count) {
    const slice = yield* log.readAfter(at, limit)
    read.push(...slice.events)
    assert.isAtLeast(comparePositions(slice.upTo, at), 0, "the reader never goes back")
    at = slice.upTo
  }
  return { read, at }
})
