import { createServer } from "node:http"
import { connect } from "node:net"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Deferred, Effect } from "effect"
import { listen } from "../../src/NodeServer.ts"
import { streamPdus } from "../../src/server-server/PduStream.ts"
import { UnreadAnswers } from "../../src/UnreadAnswers.ts"

/** More than the buffers of a connection hold. */
const state = Array.from({ length: 4_000 }, (_, index) => ({ index, text: "x".repeat(8_000) })) as unknown
const bytes = JSON.stringify(state).length

describe("PduStream", () => {
  it.live("an answer ends for this server though its reader waits, who gets it whole", () =>
    Effect.gen(function* () {
      const ended = yield* Deferred.make<void>()
      const counted: Array<number> = []
      const unread = UnreadAnswers.of({
        add: (bytes) => {
          counted.push(bytes)
          return () => counted.pop()
        }
      })
      const answer = Effect.ensuring(
        streamPdus(unread, { origin: "red.test" }, { state: state as ReadonlyArray<Event> }, (events) =>
          Effect.succeed(events as unknown as ReadonlyArray<JsonObject>)
        ),
        Deferred.succeed(ended, undefined)
      )
      const server = createServer()
      server.on("request", yield* NodeHttpServer.makeHandler(answer, { scope: yield* Effect.scope }))
      const { port } = yield* listen(server, { host: "127.0.0.1", port: 0 })
      const socket = connect(port, "127.0.0.1").pause()
      yield* Effect.addFinalizer(() => Effect.sync(() => socket.destroy()))
      socket.write("GET / HTTP/1.0\r\nHost: red.test\r\n\r\n")
      yield* Deferred.await(ended)
      assert.isAbove(counted[0] ?? 0, bytes / 4)
      const text = yield* Effect.callback<string>((resume) => {
        const parts: Array<Buffer> = []
        socket.on("data", (part: Buffer) => parts.push(part))
        socket.on("end", () => resume(Effect.succeed(Buffer.concat(parts).toString())))
        socket.resume()
      })
      const body = JSON.parse(text.slice(text.indexOf("\r\n\r\n")))
      assert.deepStrictEqual(body, { origin: "red.test", state })
      assert.deepStrictEqual(counted, [])
    }).pipe(Effect.scoped)
  )
})
