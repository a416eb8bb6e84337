/** Clients that do not send what they have announced. */
import { once } from "node:events"
import { connect } from "node:net"
import { setImmediate } from "node:timers/promises"
import { assert, layer, vi } from "@effect/vitest"
import { Effect } from "effect"
import { IdentityHttp } from "../src/IdentityHttp.ts"
import { identity } from "./support/TestIdentity.ts"

const minute = 60_000

layer(identity, { excludeTestServices: true })("slow bodies", (it) => {
  it.effect("a request whose body does not arrive within a minute is refused, and its connection ends", () =>
    Effect.gen(function* () {
      const { port } = yield* IdentityHttp
      const socket = connect(port, "127.0.0.1")
      yield* Effect.addFinalizer(() => Effect.sync(() => socket.destroy()))
      yield* Effect.promise(() => once(socket, "connect"))
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] })
      yield* Effect.addFinalizer(() => Effect.sync(() => vi.useRealTimers()))
      socket.write("POST /_matrix/identity/v2/account/register HTTP/1.1\r\nhost: id.test\r\ncontent-length: 9\r\n\r\n{")
      let text = ""
      socket.on("data", (chunk) => {
        text += chunk
      })
      yield* Effect.promise(async () => {
        for (let turn = 0; turn < 2_000 && !socket.readableEnded; turn++) {
          await setImmediate()
          if (turn % 100 === 99) vi.advanceTimersByTime(minute)
        }
      })
      assert.match(text, /^HTTP\/1.1 408 /)
      assert.isTrue(socket.readableEnded)
    })
  )
})
