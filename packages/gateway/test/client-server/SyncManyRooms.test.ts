import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, createRoom, gateway, register, sendText } from "../TestGateway.ts"
import { bodies, sync } from "./SyncClient.ts"

/** More than twice the rooms that the server reads at once for an answer. */
const total = 140

interface InitialRoom {
  readonly room_id: string
  readonly state: ReadonlyArray<{ readonly type: string; readonly content: { readonly name?: string } }>
  readonly messages: { readonly chunk: ReadonlyArray<{ readonly content: { readonly body?: string } }> }
}

layer(gateway, { excludeTestServices: true })("sync of many rooms", (it) => {
  it.effect("returns every room with its own timeline and state, and no rooms without updates", () =>
    Effect.gen(function* () {
      const alice = yield* register("many-alice")
      const rooms = yield* Effect.forEach(
        Array.from({ length: total }, (_, index) => index),
        (index) =>
          Effect.gen(function* () {
            const room = yield* createRoom(alice, { name: `Room ${index}` })
            yield* sendText(alice, room, `to ${index}`)
            return room
          }),
        { concurrency: 4 }
      )
      const filter = { room: { timeline: { limit: 1 } } }
      for (const options of [{}, { use_state_after: true }]) {
        const { join } = (yield* sync(alice, { filter, ...options })).rooms
        assert.sameMembers(Object.keys(join), rooms)
        for (const [index, room] of rooms.entries()) {
          assert.deepStrictEqual(bodies(join[room]), [`to ${index}`])
          const state = join[room]?.state_after ?? join[room]?.state
          const name = state?.events.find(({ type }) => type === "m.room.name")?.content.name
          assert.strictEqual(name, `Room ${index}`)
        }
      }
      const { body } = yield* as(alice)("GET", "/v3/initialSync?limit=1")
      const initial = new Map((body.rooms as ReadonlyArray<InitialRoom>).map((room) => [room.room_id, room]))
      for (const [index, room] of rooms.entries()) {
        assert.strictEqual(initial.get(room)?.messages.chunk.at(-1)?.content.body, `to ${index}`)
        const name = initial.get(room)?.state.find(({ type }) => type === "m.room.name")?.content.name
        assert.strictEqual(name, `Room ${index}`)
      }
      const { next_batch: since } = yield* sync(alice)
      yield* Effect.forEach(rooms, (room) => sendText(alice, room, "again"), { concurrency: 4 })
      const updates = (yield* sync(alice, { since })).rooms.join
      assert.sameMembers(Object.keys(updates), rooms)
      for (const room of rooms) assert.deepStrictEqual(bodies(updates[room]), ["again"])
      const noMessages = { room: { timeline: { not_types: ["m.room.message"] } } }
      assert.deepStrictEqual((yield* sync(alice, { since, filter: noMessages })).rooms.join, {})
    })
  )
})
