import { assert, layer } from "@effect/vitest"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Option } from "effect"
import { EventLog } from "../src/EventLog.ts"
import { PublicRoomStore } from "../src/PublicRoomStore.ts"
import { RoomStore } from "../src/RoomStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { commitOf, makeEvent, stores } from "./support/TestRoom.ts"

const makeRoom = Effect.fnUntraced(function* (
  name: string,
  { members = 1, topic, visibility = "public" }: { members?: number; topic?: string; visibility?: "public" | "private" }
) {
  const rooms = yield* RoomStore
  const roomId = `!${name}:example.org` as RoomId
  yield* rooms.prepare(roomId, "0", visibility)
  const writer = { ...Option.getOrThrow(yield* rooms.open(roomId)), roomId }
  const commit = yield* commitOf(writer, [makeEvent(roomId)])
  yield* (yield* EventLog).append({
    ...commit,
    summary: { ...commit.summary, name, topic: topic ?? null, joinedMembers: members }
  })
})

/** The names of the rooms of all pages, from the beginning on. */
const readPages = Effect.fnUntraced(function* (limit: number) {
  const { page } = yield* PublicRoomStore
  const pages: Array<ReadonlyArray<string | undefined>> = []
  for (let next = undefined as Parameters<typeof page>[0], isLast = false; !isLast; isLast = next === undefined) {
    const read = yield* page(next, limit)
    pages.push(read.rooms.map(({ name }) => name))
    next = read.next
  }
  return pages
})

const database = () =>
  Layer.mergeAll(stores, PublicRoomStore.layer).pipe(Layer.provideMerge(Layer.fresh(TestDatabase.layer)))

layer(database())("PublicRoomStore", (it) => {
  it.effect("lists public rooms that have members, the largest first, each once", () =>
    Effect.gen(function* () {
      yield* makeRoom("small", { members: 1 })
      yield* makeRoom("large", { members: 9 })
      yield* makeRoom("as small", { members: 1 })
      yield* makeRoom("empty", { members: 0 })
      yield* makeRoom("hidden", { members: 5, visibility: "private" })
      assert.deepStrictEqual(yield* readPages(10), [["large", "small", "as small"]])
      assert.deepStrictEqual(yield* readPages(2), [["large", "small"], ["as small"]])
      assert.deepStrictEqual(yield* readPages(1), [["large"], ["small"], ["as small"]])
    })
  )
})

layer(database())("PublicRoomStore with long topics", (it) => {
  it.effect("pages are bounded in bytes", () =>
    Effect.gen(function* () {
      const topic = "x".repeat(60_000)
      for (let number = 0; number < 20; number++) yield* makeRoom(`room${number}`, { members: 100 - number, topic })
      const pages = yield* readPages(1000)
      assert.deepStrictEqual(
        pages.flat(),
        Array.from({ length: 20 }, (_, number) => `room${number}`)
      )
      assert.deepStrictEqual(
        pages.map((names) => names.length),
        [18, 2]
      )
    })
  )
})
