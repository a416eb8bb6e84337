import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { gateway, register } from "../TestGateway.ts"
import { connect } from "./TestSocket.ts"

describe("Sockets", () => {
  it.effect("a client that does not answer pings is disconnected, and one that answers is not", () =>
    Effect.gen(function* () {
      const alice = yield* register("alice")
      const dead = yield* connect(alice, "m.json", "", { autoPong: false })
      const alive = yield* connect(alice, "m.json")
      const pinged = new Promise((resolve) => alive.socket.once("ping", resolve))
      const closed = new Promise<number>((resolve) => dead.socket.once("close", resolve))
      yield* TestClock.adjust("30 seconds")
      yield* Effect.promise(() => pinged)
      yield* alive.ask(1, { method: "ping", params: {} })
      yield* alive.answer
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual(yield* Effect.promise(() => closed), 1006)
      yield* alive.ask(2, { method: "ping", params: {} })
      assert.deepStrictEqual(yield* alive.answer, { id: 2, result: {} })
    }).pipe(Effect.scoped, Effect.provide(gateway))
  )
})
