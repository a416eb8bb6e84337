import { connect } from "node:net"
import { setTimeout as delay } from "node:timers/promises"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { Gateway } from "../src/Gateway.ts"
import { capacities, RequestSlots } from "../src/RequestSlots.ts"
import { ask, askToday, gateway, register, type TestUser } from "./TestGateway.ts"

/** Sends a long poll on a connection of its own. */
const openPoll = Effect.fnUntraced(function* ({ token }: TestUser) {
  const { port } = yield* Gateway
  return yield* Effect.acquireRelease(
    Effect.sync(() => {
      const socket = connect(port, "127.0.0.1")
      socket.write(
        `GET /matrix/client/api/v1/events?timeout=60000&from=END&access_token=${token} HTTP/1.1\r\nHost: a\r\n\r\n`
      )
      return socket
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )
})

layer(gateway, { excludeTestServices: true })("the long polls of a user", (it) => {
  it.effect("are limited in number, and another is accepted when one ends", () =>
    Effect.gen(function* () {
      const [alice, bob] = [yield* register("polls-alice"), yield* register("polls-bob")]
      const polls = []
      for (let index = 0; index < capacities.polls.active; index++) polls.push(yield* openPoll(alice))
      const pollOnce = ask("GET", "/events?timeout=0", { token: alice.token })
      let refused = yield* pollOnce
      while (refused.status === 200) {
        // A long poll that arrived during this request was refused: this request had its slot. So the next one gets time to arrive.
        polls.push(yield* openPoll(alice))
        yield* Effect.promise(() => delay(100))
        refused = yield* pollOnce
      }
      assert.strictEqual(refused.status, 429)
      assert.strictEqual(refused.body.errcode, "M_LIMIT_EXCEEDED")
      assert.isAbove(refused.body.retry_after_ms, 0)
      assert.strictEqual((yield* ask("GET", "/initialSync", { token: alice.token })).status, 200)
      assert.strictEqual((yield* ask("GET", "/events?timeout=0", { token: bob.token })).status, 200)
      for (const poll of polls.slice(0, 30)) poll.destroy()
      yield* Effect.repeat(pollOnce, { until: ({ status }) => status === 200 })
    }).pipe(Effect.scoped)
  )
})

const withSlots = gateway.pipe(Layer.provideMerge(RequestSlots.layer))

layer(withSlots, { excludeTestServices: true })("requests of a user who has as many reads as they may", (it) => {
  it.effect("are refused if they are the first of a client, and answered if they wait for what is new", () =>
    Effect.gen(function* () {
      const { enter } = yield* RequestSlots
      const alice = yield* register("first-alice")
      const { token } = alice
      const sliding = (query: string, body: object = {}) =>
        askToday("POST", `/unstable/org.matrix.simplified_msc3575/sync${query}`, { token, json: body })
      const sync = (query: string) => askToday("GET", `/v3/sync${query}`, { token })
      const since = (yield* sync("")).body.next_batch
      const { pos } = (yield* sliding("")).body
      const { reads } = capacities
      const slots = Array.from({ length: reads.active + reads.waiting }, () => enter("reads", alice.id))
      const first = [
        sync(""),
        sync("?timeout=30000"),
        sync(`?since=${since}&full_state=true`),
        sliding(""),
        sliding("?timeout=30000"),
        askToday("GET", "/v3/initialSync", { token }),
        ask("GET", "/initialSync", { token })
      ]
      for (const request of first) assert.strictEqual((yield* request).status, 429)
      for (const query of ["", "&timeout=1"]) assert.strictEqual((yield* sync(`?since=${since}${query}`)).status, 200)
      const next = yield* sliding(`?pos=${pos}`)
      assert.strictEqual(next.status, 200)
      assert.strictEqual((yield* sliding("", { pos: next.body.pos, timeout: 1 })).status, 200)
      for (const slot of slots) slot.end()
      for (const request of first) assert.strictEqual((yield* request).status, 200)
    })
  )
})

describe("RequestSlots", () => {
  it.effect("requests of a user beyond the limit wait in order; requests of others do not wait", () =>
    Effect.gen(function* () {
      const { enter } = yield* RequestSlots
      const first = Array.from({ length: capacities.reads.active }, () => enter("reads", "alice"))
      yield* Effect.forEach(first, ({ admission }) => admission)
      yield* enter("reads", "bob").admission
      yield* enter("sends", "alice").admission
      const order: Array<number> = []
      const later = [0, 1, 2].map((number) => ({ number, slot: enter("reads", "alice") }))
      const waiting = yield* Effect.forEach(later, ({ number, slot }) =>
        Effect.forkChild(
          Effect.map(slot.admission, () => order.push(number)),
          { startImmediately: true }
        )
      )
      assert.deepStrictEqual(order, [])
      first[0]!.end()
      first[0]!.end()
      yield* Fiber.join(waiting[0]!)
      assert.deepStrictEqual(order, [0])
      later[1]!.slot.end()
      first[1]!.end()
      yield* Fiber.join(waiting[2]!)
      assert.deepStrictEqual(order, [0, 2])
      yield* Fiber.interruptAll(waiting)
    }).pipe(Effect.provide(RequestSlots.layer))
  )

  it.effect("a user with too many waiting requests is refused with a retry time", () =>
    Effect.gen(function* () {
      const { enter } = yield* RequestSlots
      const all = capacities.reads.active + capacities.reads.waiting
      const slots = Array.from({ length: all }, () => enter("reads", "alice"))
      assert.strictEqual((yield* Effect.flip(enter("reads", "alice").admission))._tag, "M_LIMIT_EXCEEDED")
      for (const slot of slots) slot.end()
      yield* enter("reads", "alice").admission
    }).pipe(Effect.provide(RequestSlots.layer))
  )
})
