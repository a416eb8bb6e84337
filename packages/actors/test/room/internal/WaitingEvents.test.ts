/** Events that wait for others: within bounds for each room, each server and all of them. */
import { assert, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import { maxBytes, maxBytesOfOrigin, maxEvents, WaitingEvents } from "../../../src/room/internal/WaitingEvents.ts"

const eventOf = (name: string, after: string, size = 0) =>
  ({
    event_id: `$${name}`,
    prev_events: [`$${after}`],
    auth_events: ["$create"],
    content: { x: "x".repeat(size) }
  }) as unknown as Event

const ids = (...names: ReadonlyArray<string>) => new Set(names.map((name) => `$${name}` as EventId))
const room = (name: string) => `!${name}` as RoomId
const server = (name: string) => name as ServerName

const test = (name: string, body: (waiting: WaitingEvents["Service"]) => void) =>
  it.effect(name, () => Effect.map(WaitingEvents, body).pipe(Effect.provide(WaitingEvents.layer)))

test("an event is returned once, when what it follows has come, in its room alone", (waiting) => {
  waiting.keep(room("a"), { event: eventOf("second", "first"), origin: server("evil") })
  assert.deepStrictEqual(waiting.takeAfter(room("b"), ids("first")), [])
  assert.deepStrictEqual(waiting.takeAfter(room("a"), ids("second")), [])
  const taken = waiting.takeAfter(room("a"), ids("first"))
  assert.deepStrictEqual(
    taken.map(({ event, origin }) => `${event.event_id} of ${origin}`),
    ["$second of evil"]
  )
  assert.deepStrictEqual(waiting.takeAfter(room("a"), ids("first")), [])
})

test("a room, a server and all of them have bounds", (waiting) => {
  for (let i = 0; i <= maxEvents; i++)
    waiting.keep(room("many"), { event: eventOf(`m${i}`, "first"), origin: server("a") })
  assert.strictEqual(waiting.takeAfter(room("many"), ids("first")).length, maxEvents)
  const large = (name: string, origin: string, roomName: string) =>
    waiting.keep(room(roomName), { event: eventOf(name, "first", maxBytesOfOrigin * 0.6), origin: server(origin) })
  large("one", "b", "large")
  large("two", "b", "large")
  large("three", "c", "large")
  const kept = waiting.takeAfter(room("large"), ids("first")).map(({ event }) => String(event.event_id))
  assert.deepStrictEqual(kept, ["$one", "$three"])
  const most = Math.floor(maxBytes / (maxBytesOfOrigin * 0.6))
  for (let i = 0; i <= most; i++) large(`l${i}`, `server${i}`, `room${i}`)
  assert.deepStrictEqual(waiting.takeAfter(room("room0"), ids("first")), [])
  assert.strictEqual(waiting.takeAfter(room(`room${most}`), ids("first")).length, 1)
  assert.strictEqual(waiting.takeAfter(room("room1"), ids("first")).length, 1)
})
