/** A user whose devices are connected to several nodes: each of them reports its own devices alone. */
import { assert, layer } from "@effect/vitest"
import { Clock, Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { EphemeralStream } from "../../src/presence/EphemeralStream.ts"
import * as Presence from "../../src/presence/Presence.ts"
import { Presence as PresenceEntity } from "../../src/presence/PresenceProtocol.ts"
import * as LocalRunner from "../../src/runtime/LocalRunner.ts"
import { Nodes } from "../../src/runtime/Nodes.ts"
import { ephemeralStream, signUp, stores } from "../support/People.ts"

const here = "10.0.0.1:1/a"
const there = "10.0.0.2:1/b"

/** The nodes that are alive. */
const alive = new Set([here, there])

const nodes = Nodes.of({
  name: here,
  isCluster: true,
  addresses: Effect.succeed([]),
  count: () => alive.size,
  isReady: () => true,
  isAlive: (name) => alive.has(name),
  onChange: () => Effect.void
})

const presences = Presence.layer().pipe(
  Layer.provideMerge(ephemeralStream),
  Layer.provideMerge(Layer.merge(LocalRunner.layer(), Layer.succeed(Nodes, nodes)))
)

layer(stores)("presence of a user at two nodes", (it) => {
  const scene = Effect.gen(function* () {
    const { userId } = yield* signUp(`user-${Math.random().toString(36).slice(2)}`)
    const actor = (yield* PresenceEntity.client)(userId)
    const stream = yield* EphemeralStream
    const report = Effect.fnUntraced(function* (node: string, connected: boolean) {
      const now = yield* Clock.currentTimeMillis
      yield* actor.Report({ node, devices: [{ connected, last_active_at: now, changed_at: now }] })
      return stream.presence(userId)?.presence
    })
    const pass = (seconds: number) => TestClock.adjust(seconds * 1000)
    return { pass, report }
  })

  it.effect(
    "a user who disconnects from one node is online while connected to another, however old its report is",
    () =>
      Effect.gen(function* () {
        const { pass, report } = yield* scene
        assert.strictEqual(yield* report(here, true), "online")
        yield* pass(20)
        yield* report(there, true)
        yield* pass(60)
        assert.strictEqual(yield* report(here, false), "online")
        yield* pass(20)
        assert.strictEqual(yield* report(there, false), "offline")
      }).pipe(Effect.provide(Layer.fresh(presences)))
  )

  it.effect("an actor that is new at a node waits for the reports of the others before it says offline", () =>
    Effect.gen(function* () {
      const { pass, report } = yield* scene
      assert.strictEqual(yield* report(there, true), "online")
      yield* pass(11 * 60)
      assert.strictEqual(yield* report(here, false), "online")
      yield* pass(11)
      assert.strictEqual(yield* report(here, false), "offline")
    }).pipe(Effect.provide(Layer.fresh(presences)))
  )

  it.effect("devices of a lost node do not count", () =>
    Effect.gen(function* () {
      const { pass, report } = yield* scene
      assert.strictEqual(yield* report(there, true), "online")
      yield* pass(20)
      alive.delete(there)
      assert.strictEqual(yield* report(here, false), "offline")
      alive.add(there)
    }).pipe(Effect.provide(Layer.fresh(presences)))
  )
})
