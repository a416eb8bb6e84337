import { setImmediate } from "node:timers/promises"
import { it } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Layer } from "effect"
import { Entity } from "effect/cluster"
import { TestClock } from "effect/testing"
import { makePeerWaking } from "../../src/federation/internal/PeerWaking.ts"
import { Peer } from "../../src/federation/PeerProtocol.ts"
import { runner } from "../support/People.ts"

/** How many destinations are sent to at once. */
const atOnce = 512

/** Destinations to which the actors have begun to send, in this order. Those that are silent take 30 seconds. */
const sentTo: Array<string> = []

const behaviour = Effect.gen(function* () {
  const destination = (yield* Entity.CurrentAddress).entityId as string
  const silence = Effect.as(Effect.sleep("30 seconds"), { backoff: 1_000 })
  return Peer.of({
    Drain: () =>
      Effect.suspend(() => {
        sentTo.push(destination)
        return destination.startsWith("silent") ? silence : Effect.succeed({ backoff: 0 })
      }),
    ReceiptsQueued: () => Effect.void,
    QueueEdus: () => Effect.void,
    HeardFrom: () => Effect.void
  })
})

/** Waits until a condition holds, while no time passes. */
const until = (holds: () => boolean) =>
  Effect.repeat(
    Effect.promise(() => setImmediate()),
    { until: holds }
  )

it.effect("events reach a server while more servers than are sent to at once stay silent again and again", () =>
  Effect.gen(function* () {
    const { wake } = yield* makePeerWaking
    const silent = Array.from({ length: atOnce + 100 }, (_, number) => `silent${number}.test` as ServerName)
    yield* wake(silent)
    yield* until(() => sentTo.length === atOnce)
    yield* TestClock.adjust("30 seconds")
    yield* until(() => sentTo.length === silent.length)
    yield* TestClock.adjust("1 second")
    // They are tried again.
    yield* until(() => sentTo.length > silent.length + 100)
    yield* wake(["honest.test" as ServerName])
    yield* until(() => sentTo.includes("honest.test"))
  }).pipe(Effect.provide(Peer.toLayer(behaviour, { concurrency: "unbounded" }).pipe(Layer.provideMerge(runner))))
)
