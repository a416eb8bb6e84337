/**
 * Schedules the next requests for stale device lists of other servers. The times are in memory, with one timer for the
 * earliest. Nothing is read from the database while no list is stale.
 *
 * The node that runs the `RemoteDevices` actor of a server schedules its next request. At the start, and after nodes came or
 * went, one node reads the times of all servers from the table.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { RemoteDeviceListStore } from "@greenroom/store/RemoteDeviceListStore"
import { keepRunning } from "@greenroom/store/Supervision"
import { Clock, Context, Effect, Latch, Layer } from "effect"
import { latchOfChanges, Nodes } from "../runtime/Nodes.ts"
import { keepRunningOnce } from "../runtime/Singletons.ts"
import { Destinations } from "./Destinations.ts"
import { RemoteDevices } from "./RemoteDevicesProtocol.ts"

/** The retry delay of a server whose actor failed, in ms. */
const retryAfter = 30_000

const make = Effect.gen(function* () {
  const store = yield* RemoteDeviceListStore
  const destinations = yield* Destinations
  const nodes = yield* Nodes
  const actor = yield* RemoteDevices.client
  const scope = yield* Effect.scope
  /** The next time of each server, in ms of the monotonic clock. */
  const times = new Map<ServerName, number>()
  const isChanged = Latch.makeUnsafe(false)

  const plan = Effect.fnUntraced(function* (server: ServerName, at: number | undefined) {
    if (at === undefined) times.delete(server)
    else times.set(server, (yield* monotonicMillis) + at - (yield* Clock.currentTimeMillis))
    isChanged.openUnsafe()
  })

  const resync = (server: ServerName) =>
    Effect.catchCause(actor(server).Resync(), (cause) =>
      Effect.gen(function* () {
        if (!times.has(server)) yield* plan(server, (yield* Clock.currentTimeMillis) + retryAfter)
        yield* Effect.logDebug(`The devices of ${server} could not be fetched, trying again later`, cause)
      })
    )

  const begin = (server: ServerName) =>
    Effect.matchEffect(destinations.check(server), {
      onFailure: ({ retryAt }) => plan(server, retryAt),
      onSuccess: () => Effect.forkIn(resync(server), scope)
    })

  const nextStep = Effect.gen(function* () {
    const earliest = times.values().reduce((least, at) => Math.min(least, at), Number.POSITIVE_INFINITY)
    const wait = earliest - (yield* monotonicMillis)
    yield* Effect.raceFirst(
      isChanged.await,
      wait === Number.POSITIVE_INFINITY ? Effect.never : Effect.sleep(Math.max(0, wait))
    )
    isChanged.closeUnsafe()
    const now = yield* monotonicMillis
    for (const [server, at] of times) {
      if (at > now) continue
      times.delete(server)
      yield* begin(server)
    }
  })
  yield* keepRunning("Asking for changed devices of other servers", nextStep)

  const nodesChanged = yield* latchOfChanges(nodes)
  const readTimes = Effect.gen(function* () {
    for (const { at, server } of yield* store.stale) yield* plan(server, at)
  })
  yield* keepRunningOnce("Planning questions for devices of other servers", Effect.andThen(readTimes, nodesChanged))

  return DeviceResyncs.of({ plan })
})

/** Schedules requests for stale device lists. */
export class DeviceResyncs extends Context.Service<
  DeviceResyncs,
  {
    /** When the server may be asked for its stale lists, in ms since 1970; undefined if none is stale. */
    readonly plan: (server: ServerName, at: number | undefined) => Effect.Effect<void>
  }
>()("greenroom/actors/federation/DeviceResyncs") {
  static readonly layer = Layer.effect(DeviceResyncs, make)
}
