import { assert, describe, it } from "@effect/vitest"
import { formatUserId, ServerName } from "@greenroom/protocol/Identifiers"
import { encodeRequest } from "@greenroom/protocol/SocketFrame"
import { Deferred, Effect, Queue } from "effect"
import { maxRequestsInFlight, serveConnection } from "../../src/socket/Connection.ts"
import type { Calls } from "../../src/socket/SocketMethods.ts"
import { socketPair } from "./SocketPair.ts"

const session = { userId: formatUserId("alice", ServerName.make("green.test")), tokenId: 1, deviceId: "phone" }

describe("Connection", () => {
  it.live("handles a limited number of requests of a socket at a time, and answers all", () =>
    Effect.gen(function* () {
      const { client, server } = yield* socketPair
      const started = yield* Queue.unbounded<Deferred.Deferred<void>>()
      let running = 0
      let most = 0
      const answer: Calls["answer"] = () =>
        Effect.gen(function* () {
          most = Math.max(most, ++running)
          const end = yield* Deferred.make<void>()
          yield* Queue.offer(started, end)
          yield* Deferred.await(end)
          running--
          return {}
        })
      const subscription = { next: Effect.never }
      const slot = () => ({ admission: Effect.void, end: () => {} })
      const unread = { add: () => () => {} }
      const options = { socket: server, session, subscription, calls: { answer, slot }, unread }
      yield* Effect.forkScoped(serveConnection({ ...options, subprotocol: "m.json" }))
      const answers = yield* Queue.unbounded<unknown>()
      client.on("message", (data) => Queue.offerUnsafe(answers, JSON.parse(data.toString()).id))
      const ids = Array.from({ length: maxRequestsInFlight * 5 }, (_, id) => id)
      for (const id of ids) client.send(encodeRequest("m.json", { id, method: "ping", params: {} }))
      const first = yield* Effect.forEach(Array.from({ length: maxRequestsInFlight }), () => Queue.take(started))
      for (const end of first) Deferred.doneUnsafe(end, Effect.void)
      for (let i = first.length; i < ids.length; i++) {
        Deferred.doneUnsafe(yield* Queue.take(started), Effect.void)
      }
      const answered = yield* Effect.forEach(ids, () => Queue.take(answers))
      assert.deepStrictEqual(new Set(answered), new Set(ids))
      assert.strictEqual(most, maxRequestsInFlight)
    }).pipe(Effect.scoped)
  )
})
