/**
 * What the tests of the Room actor share.
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

export const timeline = Effect.fnUntraced(function* (session: Session, roomId: RoomId) {
  return (yield* (yield* Rooms).messages(session, roomId, { dir: "f", limit: 1000 })).chunk
})

export const bodies = (events: ReadonlyArray<ClientEvent>) =>
  events.filter(({ type }) => type === "m.room.message").map(({ content }) => String(content.body))

/** Every event follows the one before it, and is one deeper. */
export const assertOneChain = Effect.fnUntraced(function* (session: Session, roomId: RoomId) {
  const ids = (yield* timeline(session, roomId)).map(({ event_id }) => event_id)
  const stored = yield* (yield* EventStore).byIds(ids)
  const byId = new Map(stored.map(({ event }) => [event.event_id, event]))
  for (const [index, id] of ids.entries()) {
    const event = byId.get(id)!
    assert.deepStrictEqual(event.prev_events, index === 0 ? [] : [ids[index - 1]!])
    assert.strictEqual(event.depth, index + 1)
  }
})
