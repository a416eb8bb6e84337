import { assert, describe, it } from "@effect/vitest"
import { temporaryDirectory } from "@greenroom/store/testing/Loopback"
import { Effect } from "effect"
import { startExample } from "./startExample.ts"

describe("RoomBridge", () => {
  it.live(
    "copies the messages of each room into the other one, once and in order",
    () =>
      Effect.gen(function* () {
        const example = yield* startExample("RoomBridge", [yield* temporaryDirectory("example")])
        example.end("north: Hello\nsouth: Hello yourself\nnonsense\nnorth: Goodbye\n")
        assert.strictEqual(yield* example.exit, 0)
        assert.deepStrictEqual(example.output().trim().split("\n").slice(-3), [
          "south reads @nora:localhost: Hello",
          "north reads @sam:localhost: Hello yourself",
          "south reads @nora:localhost: Goodbye"
        ])
      }).pipe(Effect.scoped),
    180_000
  )
})
