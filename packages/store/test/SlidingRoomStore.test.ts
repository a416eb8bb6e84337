import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SlidingRoomStore } from "../src/SlidingRoomStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { makeEvent, openRoom, store, stores } from "./support/TestRoom.ts"

layer(Layer.mergeAll(stores, SlidingRoomStore.layer).pipe(Layer.provideMerge(TestDatabase.layer)), {
  excludeTestServices: true
})("SlidingRoomStore", (it) => {
  it.effect(
    "finds rooms with hidden history, also where an event has characters that PostgreSQL's text cannot hold",
    () =>
      Effect.gen(function* () {
        const roomWith = Effect.fnUntraced(function* (name: string, content: { readonly [key: string]: string }) {
          const writer = yield* openRoom(name)
          yield* store(writer, [
            makeEvent(writer.roomId, { type: "m.room.history_visibility", state_key: "", content })
          ])
          return writer.roomNid
        })
        const shared = yield* roomWith("shared", { history_visibility: "shared" })
        const joined = yield* roomWith("joined", { history_visibility: "joined" })
        const nul = yield* roomWith("nul", { history_visibility: "joined", remark: "a\0b" })
        const surrogate = yield* roomWith("surrogate", { history_visibility: "invited", remark: "\ud800" })
        const { withHiddenHistory } = yield* SlidingRoomStore
        const hidden = yield* withHiddenHistory([shared, joined, nul, surrogate])
        assert.sameMembers([...hidden], [joined, nul, surrogate])
      })
  )
})
