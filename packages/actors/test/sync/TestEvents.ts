/**
 * Clients of the event stream, for its tests.
 */
import { assert } from "@effect/vitest"
import type { ClientEvent } from "@greenroom/protocol/Event"
import { Effect } from "effect"
import type { Session } from "../../src/runtime/Session.ts"
import type { StreamChunk } from "../../src/sync/EventStream.ts"
import { Events } from "../../src/sync/Events.ts"
import { bodies } from "../room/TestRoom.ts"

export const eventsOf = (chunk: StreamChunk): ReadonlyArray<ClientEvent> => JSON.parse(chunk.json)

export const ofType = (events: ReadonlyArray<ClientEvent>, type: string) =>
  events.filter((event) => event.type === type)

/** The end of a user's stream. */
export const endFor = Effect.fnUntraced(function* (session: Session) {
  return (yield* (yield* Events).poll(session, { timeout: 0 })).end
})

/** All events that are stored after a token. */
export const readAll = Effect.fnUntraced(function* (session: Session, from: string, limit = 1000) {
  const { poll } = yield* Events
  const read: Array<ClientEvent> = []
  let at = from
  while (true) {
    const chunk = yield* poll(session, { from: at, timeout: 0, limit })
    const events = eventsOf(chunk)
    read.push(...events)
    at = chunk.end
    if (events.every((event) => event.event_id === undefined)) return read
  }
})

/** Polls as a client does, until it has seen so many messages. */
export const pollUntil = Effect.fnUntraced(function* (session: Session, from: string, messages: number, limit: number) {
  const { poll } = yield* Events
  const read: Array<ClientEvent> = []
  let at = from
  while (bodies(read).length < messages) {
    const chunk = yield* poll(session, { from: at, timeout: 60_000, limit })
    assert.strictEqual(chunk.start, at)
    read.push(...eventsOf(chunk))
    at = chunk.end
  }
  return read
})
