import { assert, layer } from "@effect/vitest"
import { StateStore } from "@greenroom/store/StateStore"
import { Effect } from "effect"
import { vi } from "vitest"
import { as, createRoom, gateway, inPath, register, sendText } from "../TestGateway.ts"
import { list, sync } from "./SlidingSyncClient.ts"

/** The number of reads of the children of spaces. */
let reads = 0
const stateStore: { of: (store: StateStore["Service"]) => StateStore["Service"] } = StateStore
const make = stateStore.of
vi.spyOn(stateStore, "of").mockImplementation((store) =>
  make({
    ...store,
    read: (states, only) => {
      if (only?.types?.includes("m.space.child")) reads++
      return store.read(states, only)
    }
  })
)

layer(gateway, { excludeTestServices: true })("sliding sync of spaces", (it) => {
  it.effect("the children of a space are read again only after a change of its state", () =>
    Effect.gen(function* () {
      const alice = yield* register("spaces-alice")
      const [a, b] = [yield* createRoom(alice, { name: "a" }), yield* createRoom(alice, { name: "b" })]
      const { body } = yield* as(alice)("POST", "/v3/createRoom", { creation_content: { type: "m.space" } })
      const space = body.room_id as unknown as string
      const setChild = (room: string, content: object) =>
        as(alice)("PUT", `/v3/rooms/${inPath(space)}/state/m.space.child/${inPath(room)}`, content)
      const asked = list([[0, 9]], { filters: { spaces: [space] } })
      yield* setChild(a, { via: ["green.test"] })
      const first = yield* sync(alice, asked)
      assert.deepStrictEqual([Object.keys(first.rooms), first.lists.all?.count, reads], [[a], 1, 1])

      let { pos } = first
      for (const text of ["one", "two", "three"]) {
        for (const room of [a, b, space]) yield* sendText(alice, room, text)
        const next = yield* sync(alice, asked, pos)
        assert.deepStrictEqual([Object.keys(next.rooms), reads], [[a], 1])
        pos = next.pos
      }

      yield* setChild(b, { via: ["green.test"] })
      const added = yield* sync(alice, asked, pos)
      assert.deepStrictEqual([Object.keys(added.rooms), added.lists.all?.count, reads], [[b], 2, 2])
      yield* setChild(a, {})
      const removed = yield* sync(alice, asked, added.pos)
      assert.deepStrictEqual([removed.lists.all?.count, reads], [1, 3])

      yield* as(alice)("POST", `/v3/rooms/${inPath(space)}/leave`, {})
      const outside = yield* sync(alice, asked, removed.pos)
      assert.strictEqual(outside.lists.all?.count, 0)
    })
  )
})
