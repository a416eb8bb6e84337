import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { EventStore } from "../src/EventStore.ts"
import { SlidingRoomStore } from "../src/SlidingRoomStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { makeEvent, openRoom, store, stores } from "./support/TestRoom.ts"

layer(Layer.mergeAll(stores, SlidingRoomStore.layer).pipe(Layer.provideMerge(TestDatabase.layer)), {
  excludeTestServices: true
})("SlidingRoomStore", (it) => {
  it.effect(
    "a history counts as hidden if it ever was, whatever characters are in it, or if its events are large or many",
    () =>
      Effect.gen(function* () {
        const roomWith = Effect.fnUntraced(function* (name: string, content: { readonly [key: string]: string }) {
          const writer = yield* openRoom(name)
          yield* store(writer, [
            makeEvent(writer.roomId, { type: "m.room.history_visibility", state_key: "", content })
          ])
          return writer.roomNid
        })
        const shared = yield* roomWith("shared", {
          history_visibility: "shared",
          remark: '\0"history_visibility":"joined"'
        })
        const joined = yield* roomWith("joined", { history_visibility: "joined" })
        const nul = yield* roomWith("nul", { history_visibility: "joined", remark: "a\0b" })
        const surrogate = yield* roomWith("surrogate", { history_visibility: "invited", remark: "\ud800" })
        const large = yield* roomWith("large", { history_visibility: "shared", remark: "a".repeat(60_000) })
        const often = yield* openRoom("often")
        for (const remark of Array.from({ length: 50 }, (_, index) => `${index}`)) {
          const content = { history_visibility: "shared", remark }
          yield* store(often, [makeEvent(often.roomId, { type: "m.room.history_visibility", state_key: "", content })])
        }
        const { withHiddenHistory } = yield* SlidingRoomStore
        const hidden = yield* withHiddenHistory([shared, joined, nul, surrogate, large, often.roomNid])
        assert.sameMembers([...hidden], [joined, nul, surrogate, large, often.roomNid])
        const { stateHistories } = yield* EventStore
        const histories = yield* stateHistories([shared, large, often.roomNid], "m.room.history_visibility", "")
        assert.deepStrictEqual(
          Array.from(histories.values(), ({ events, isWhole }) => [events.length, isWhole]),
          [
            [1, true],
            [0, false],
            [11, false]
          ]
        )
      })
  )
})
