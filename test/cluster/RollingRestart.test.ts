/**
 * Of three nodes behind nginx two are restarted one after the other, and the third is killed, while clients send and follow: they repeat
 * what was answered 503 or not at all, and in the end nothing is lost, doubled or out of order.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import type { Body } from "../support/Curl.ts"
import { type Person, roomOf, type Scene, sceneOf, succeeded } from "../support/Scene.ts"
import { type Cluster, freePorts, start } from "./support/Cluster.ts"
import { type Message, violations } from "./support/History.ts"
import * as LoadBalancer from "./support/LoadBalancer.ts"

const senders = 3
const lastWord = "That is all"

/** Asks until the answer is no error of a server on its way: 429, 502, 503, 504, or a connection that broke. */
const persistently = (ask: ReturnType<Person["ask"]>): ReturnType<Person["ask"]> =>
  Effect.flatMap(Effect.exit(ask), (exit) => {
    if (Exit.isSuccess(exit) && ![429, 502, 503, 504].includes(exit.value.status)) return exit
    return Effect.delay(
      Effect.suspend(() => persistently(ask)),
      "100 millis"
    )
  })

const toMessage = (event: Body): ReadonlyArray<Message> =>
  event.type === "m.room.message" ? [{ eventId: event.event_id, text: event.content.body }] : []

const world = Effect.gen(function* () {
  const ports = yield* freePorts(4)
  const scopes = new Map<number, Scope.Closeable>()
  const cluster: Cluster = yield* start(0)
  /** A node in a scope of its own. */
  const startNode = Effect.fnUntraced(function* (port: number) {
    const scope = yield* Scope.make()
    scopes.set(port, scope)
    return yield* Scope.provide(cluster.start(port), scope)
  })
  yield* Effect.addFinalizer(() => Effect.forEach(scopes.values(), (scope) => Scope.close(scope, Exit.void)))
  const nodePorts = ports.slice(1)
  const nodes = new Map<number, Scene>()
  const startAt = (port: number) => Effect.map(startNode(port), (node) => nodes.set(port, node))
  yield* Effect.forEach(nodePorts, startAt, { concurrency: "unbounded" })
  const url = yield* LoadBalancer.start(ports[0]!, nodePorts)
  const front = sceneOf({ ...nodes.get(nodePorts[0]!)!.gateway, url })
  return { front, nodePorts, nodes, startAt }
})

it.live(
  "a rolling restart and a kill lose, double and reorder nothing",
  () =>
    Effect.gen(function* () {
      const { front, nodePorts, nodes, startAt } = yield* world
      const alice = yield* front.register("alice")
      const bob = yield* front.register("bob")
      const room = yield* roomOf(alice, bob)
      const path = `/rooms/${encodeURIComponent(room)}`
      const acknowledged = new Map<string, string>()
      let isOver = false

      const say = (text: string) =>
        Effect.map(
          persistently(
            alice.ask("PUT", `${path}/send/m.room.message/${text.replaceAll(" ", "-")}`, {
              msgtype: "m.text",
              body: text
            })
          ),
          (answer) => acknowledged.set(text, succeeded(answer).body.event_id)
        )
      const send = (sender: number) =>
        Effect.gen(function* () {
          for (let i = 0; !isOver; i++) yield* Effect.delay(say(`${sender}.${i}`), "20 millis")
        })

      const follow = Effect.fnUntraced(function* (person: Person, from: string) {
        const got: Array<Message> = []
        for (let next = from; got.at(-1)?.text !== lastWord; ) {
          const { body } = succeeded(yield* persistently(person.ask("GET", `/events?from=${next}&timeout=10000`)))
          got.push(...body.chunk.flatMap(toMessage))
          next = body.end
        }
        return got
      })

      const { end } = succeeded(yield* bob.ask("GET", "/events?timeout=0")).body
      const following = yield* Effect.forEach([alice, bob, bob], (person) => Effect.forkChild(follow(person, end)))
      const sending = yield* Effect.forEach(
        Array.from({ length: senders }, (_, i) => i),
        (i) => Effect.forkChild(send(i))
      )
      const [first = 0, second = 0, third = 0] = nodePorts
      for (const port of [first, second]) {
        assert.strictEqual(yield* nodes.get(port)!.gateway.stop, 0)
        yield* startAt(port)
      }
      yield* nodes.get(third)!.gateway.kill
      yield* startAt(third)
      isOver = true
      for (const fiber of sending) yield* Fiber.join(fiber)
      yield* say(lastWord)
      const followers = yield* Effect.forEach(following, (fiber) => Fiber.join(fiber))

      const history: Array<Message> = []
      for (let from = end, more = true; more; ) {
        const { body } = succeeded(
          yield* persistently(alice.ask("GET", `${path}/messages?from=${from}&dir=f&limit=100`))
        )
        history.push(...body.chunk.flatMap(toMessage))
        more = body.chunk.length > 0
        from = body.end
      }
      assert.isAbove(acknowledged.size, 10)
      assert.deepStrictEqual(violations({ acknowledged, room: history, followers }), [])
    }).pipe(Effect.scoped),
  240_000
)
