/**
 * Messages and timelines, for tests of rooms and of the event stream.
 */
import { assert } from "@effect/vitest"
import type { ClientEvent } from "@greenroom/protocol/Event"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { EventStore } from "@greenroom/store/EventStore"
import { Effect } from "effect"
import { Rooms } from "../../src/room/Rooms.ts"
import type { Session } from "../../src/runtime/Session.ts"

export const message = (body: string) => ({ msgtype: "m.text", body })

export const numbered = (count: number) => Array.from({ length: count }, (_, index) => String(index))

/** Sends a message, and gives its event ID. */
export const say = Effect.fnUntraced(function* (session: Session, roomId: RoomId, body: string) {
  return (yield* (yield* Rooms).send(session, roomId, "m.room.message", message(body))).event_id
})

export const timeline = Effect.fnUntraced(function* (session: Session, roomId: RoomId) {
  return (yield* (yield* Rooms).messages(session, roomId, { dir: "f", limit: 1000 })).chunk
})

export const bodies = (events: ReadonlyArray<ClientEvent>) =>
  events.filter(({ type }) => type === "m.room.message").map(({ content }) => String(content.body))

/** Every event follows the one before it, and is one deeper. */
export const assertOneChain = Effect.fnUntraced(function* (session: Session, roomId: RoomId) {
  const ids = (yield* timeline(session, roomId)).map(({ event_id }) => event_id)
  assert.isNotEmpty(ids)
  const stored = yield* (yield* EventStore).byIds(ids)
  const byId = new Map(stored.map(({ event }) => [event.event_id, event]))
  for (const [index, id] of ids.entries()) {
    const event = byId.get(id)!
    assert.deepStrictEqual(event.prev_events, index === 0 ? [] : [ids[index - 1]!])
    assert.strictEqual(event.depth, index + 1)
  }
})
